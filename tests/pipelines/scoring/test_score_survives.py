"""Scoring as a user runs it: doubled, interrupted, on small machines and out of room."""

import io
import json
import os
import re
import resource
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable
from contextlib import redirect_stdout, suppress
from pathlib import Path

import numpy as np
import psutil
import pyarrow.dataset as pads
import pyarrow.parquet as pq
import pytest
import ray

from pipelines.errors import Failure
from pipelines.scoring.config import ScoreConfig
from pipelines.scoring.job import main
from pipelines.scoring.part_data import PartCounts
from sentiment import checkpoint
from testing.generated import write_job
from testing.programs import contents, run, scoring, start, wait_for_parts, words
from testing.waiting import wait_until

pytestmark = [pytest.mark.slow(14), pytest.mark.ray, pytest.mark.process]


PARTS = 88
"""Parts of the job: shards of about 100 rows each, and those of one that is Parquet."""


@pytest.fixture(scope="module")
def job(tmp_path_factory, local_ray):
    """A corpus with rows to reject, and what one run makes of it."""
    root = tmp_path_factory.mktemp("job")
    write_job(root)
    with redirect_stdout(io.StringIO()) as said:
        main(config(root, "whole"))
    last = said.getvalue().splitlines()[-1]
    shares = r"\d+\.\d% negative, \d+\.\d% positive"
    assert re.fullmatch(rf"This run: 9,950 rows scored, {shares}, 50 rejected, in \d+\.\d s", last)
    return root


def config(root: Path, output: str, **more: object) -> ScoreConfig:
    """That of `scoring`, in 100 parts, for this process and its Ray."""
    paths = {"checkpoints_dir": str(root / "model"), "output": str(root / output)}
    flags = {"text_column": "SentimentText", "keep_columns": ("id",), "part_rows": 100}
    return ScoreConfig(**{"input": (str(root / "corpus"),)} | paths | flags | more)


def test_the_manifest_tells_all_of_a_run(job):
    (path,) = (job / "whole" / "_manifest").glob("run-*.json")
    record = json.loads(path.read_text())
    totals = json.loads((job / "whole" / "_SUCCESS").read_text())
    del totals["plans_sha256"]
    assert totals.pop("warnings") == []
    labels = totals.pop("labels")
    assert record["labels"] == labels
    assert labels["positive"] == totals["positive"] == totals["rows"] - labels["negative"]
    assert record["counts"] == totals
    assert record["notes"] == [
        "Column 'id' is string in the output: it is string and int64 in the shards"
    ]
    assert record["totals"] == totals
    assert totals["rows"] + totals["rejected"] == record["rows"] == 10_000
    assert set(totals) == set(vars(PartCounts()))
    assert record["left"] == {"parts": 0, "rows": 0}
    assert record["parts"] == PARTS
    assert record["rows/s"] > 0
    assert record["model_hash"] == checkpoint.load(str(job / "model")).model_hash
    assert record["flags"]["text_column"] == "SentimentText"
    pieces = pq.read_table(job / "whole" / "_manifest" / "plan-00000.parquet")
    planned = pieces.group_by(["path", "bytes", "modified"]).aggregate([("rows", "sum")])
    for path, size, modified, rows in zip(*planned.to_pydict().values(), strict=True):
        stat = os.stat(path)
        assert (size, modified) == (stat.st_size, stat.st_mtime_ns)
        assert rows == (100 if path.endswith("short.csv") else 3_300)


def test_two_drivers_at_once_make_what_one_makes(job):
    flags = [*scoring(job, job / "two", 100), "--num_actors", 1]
    address = ray.get_runtime_context().gcs_address
    both = [start("score", *flags, RAY_ADDRESS=address) for _ in range(2)]
    for driver in both:
        said = "\n".join(driver.communicate(timeout=150))
        assert driver.returncode == 0, said
    assert contents(job / "two") == contents(job / "whole")


SLOW_DISK = """
import os, time
fsync = os.fsync

def slow(descriptor):
    name = os.readlink(f"/proc/self/fd/{descriptor}")
    if "/.staging-" in name and "/part-" in name and "-000000." not in name:
        time.sleep(60)
    fsync(descriptor)

os.fsync = slow
"""
"""What every process of a job begins with: of the parts only the first gets to the disk soon."""


def test_an_interrupt_is_one_line_and_leaves_no_process_and_nothing_half(job, tmp_path):
    """Ctrl-C, then SIGTERM to the same command again, then the same command to its end."""
    (tmp_path / "sitecustomize.py").write_text(SLOW_DISK)
    output = job / "interrupted"
    # Ctrl-C goes to every process in the foreground. SIGTERM to all of them would end the
    # program's Ray before the program has an answer.
    interrupt_while_scoring(job, output, signal.SIGINT, os.killpg, tmp_path)
    interrupt_while_scoring(job, output, signal.SIGTERM, os.kill, tmp_path)
    assert len(list((output / "_manifest").glob("run-*.json"))) == 2
    main(config(job, "interrupted"))
    assert contents(output) == contents(job / "whole")


def interrupt_while_scoring(
    job: Path,
    output: Path,
    number: signal.Signals,
    send: Callable[[int, int], None],
    python_path: Path,
) -> None:
    mark = uuid.uuid4().hex
    environment = {"MARK_OF_THE_TEST": mark, "PYTHONPATH": str(python_path)}
    driver = start("score", *scoring(job, output, 100), **environment)
    wait_for_parts(output, driver, 1)
    # The driver writes its records there, too, before it begins to score.
    wait_until(lambda: partial(output, "part-*"), 50, "a part in work", poll_seconds=0.02)
    send(driver.pid, number)
    _, said = driver.communicate(timeout=60)
    interrupted = "error: interrupted; the same command again goes on\n"
    assert (driver.returncode, said) == (128 + number, interrupted)
    require_a_clean_stop(job, output)
    wait_until(lambda: not marked(mark), 15, "the end of every process", poll_seconds=0.1)


def require_a_clean_stop(job: Path, output: Path) -> None:
    """Some parts, each of them whole, and records that say how many are left."""
    assert not (output / "_SUCCESS").exists()
    whole = contents(job / "whole")
    parts = [path.name for path in output.glob("part-*")]
    assert 0 < len(parts) < PARTS
    assert all((output / name).read_bytes() == whole[name] for name in parts)
    assert partial(output) == []
    for record in (output / "_manifest").glob("run-*.json"):
        assert json.loads(record.read_text())["left"]["parts"] >= PARTS - len(parts)


def test_a_failure_leaves_no_thread_that_may_ask_for_ray(job):
    """One that does while Ray ends would end the program, before it has said what was wrong."""
    (job / "taken" / "_rejected" / "part-000000.parquet").mkdir(parents=True)
    before = set(threading.enumerate())
    with pytest.raises(Failure, match=r"part-000000 of .* cannot be written"):
        main(config(job, "taken", max_attempts=1))
    assert [thread.name for thread in set(threading.enumerate()) - before] == []


DEADLY = """
import importlib.util, os, signal, sys

class Finder:
    def find_spec(self, name, path, target=None):
        if name != "pipelines.scoring.reader":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        run = spec.loader.exec_module

        def exec_module(module):
            run(module)
            call = module.PartReader.__call__

            def deadly(self, task):
                if task.name in os.environ["DEADLY_PARTS"].split():
                    os.kill(os.getpid(), signal.SIGSEGV)
                return call(self, task)

            module.PartReader.__call__ = deadly

        spec.loader.exec_module = exec_module
        return spec

sys.meta_path.insert(0, Finder())
"""
"""What every process of a job begins with: some parts crash whatever reads them."""


def test_parts_that_end_their_process_are_named_and_the_others_are_done(job, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(DEADLY)
    output = job / "deadly"
    environment = {"PYTHONPATH": str(tmp_path), "DEADLY_PARTS": "part-000003 part-000040"}
    flags = [*scoring(job, output, 100), "--max_attempts", 2]
    driver = start("score", *flags, **environment)
    said, complained = driver.communicate(timeout=120)
    assert driver.returncode == 1, said
    assert "died" in said  # While it happens.
    assert re.fullmatch(
        r"error: 2 of \d+ parts failed; the first: part-0000(03|40) of .*/shard-.*: the process "
        r"died each time that it worked on this part \(attempts: 2\).*: run the same command .*\n",
        complained,
    )
    whole = {name for name in contents(job / "whole") if name.startswith("part-")}
    missing = {"part-000003.parquet", "part-000040.parquet"}
    assert {path.name for path in output.glob("part-*")} == whole - missing
    assert not (output / "_SUCCESS").exists()
    main(config(job, "deadly"))
    assert contents(output) == contents(job / "whole")


def partial(output: Path, name: str = "*") -> list[Path]:
    """Files that are, or were, being written."""
    return [path for path in output.glob(f"_manifest/.staging-*/{name}") if path.is_file()]


def marked(mark: str) -> list[str]:
    """The processes, save those that have ended, that descend from one with that environment."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            if process.environ().get("MARK_OF_THE_TEST") == mark:
                found.append(" ".join(process.cmdline()))
    return found


def test_a_pool_that_grows_makes_what_any_makes(job):
    main(config(job, "grown", num_actors=(1, 3)))
    assert contents(job / "grown") == contents(job / "whole")


SMALLEST = """
import sys
from pathlib import Path
import ray
from pipelines.scoring.job import main
from tests.pipelines.scoring.test_score_survives import config

ray.init("local", num_cpus=1, num_gpus=1, include_dashboard=False, logging_level="ERROR")
main(config(Path(sys.argv[1]), "CPU"))
main(config(Path(sys.argv[1]), "GPU", use_gpu=True, part_rows=5000))
"""


def test_no_machine_is_too_small(job):
    smallest = [sys.executable, "-c", SMALLEST, job]
    subprocess.run(smallest, capture_output=True, timeout=270, check=True)
    assert contents(job / "CPU") == contents(job / "whole")
    tables = [pads.dataset(job / name, format="parquet").to_table() for name in ("CPU", "GPU")]
    assert tables[0]["id"] == tables[1]["id"]
    scores = [table["positive_probability"].to_numpy() for table in tables]
    np.testing.assert_allclose(*scores, atol=1e-5)


def test_files_that_cannot_grow_are_one_line_and_no_part(job):
    """`RLIMIT_FSIZE` ends every write at 5,000 bytes, as a full disk ends it, for any user."""
    flags = scoring(job, job / "limited", 20_000)
    limited = subprocess.run(
        # Pauses between attempts would take ten seconds.
        words("score", *flags, "--max_attempts", 1),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000)),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert limited.returncode == 1
    wanted = r"error: 1 of 1 part failed; the first: part-000000 of .* it cannot be written: .*\n"
    assert re.fullmatch(wanted, limited.stderr)
    assert contents(job / "limited").keys() <= {"_rejected/part-000000.parquet"}
    run("score", *flags)
    assert len(contents(job / "limited")) == 3


FULL_DISK = """
mount -t tmpfs -o size=100k tmpfs "$1" && cd "$1" && shift
"$@"; echo "exit code $?"; find . -type f | sort
cp -r . ../kept
"""


def test_a_full_disk_is_one_line_and_no_part(job):
    """A file system of 100 KiB, which the job's own Ray sees."""
    if subprocess.run(["unshare", "-rm", "true"], capture_output=True, check=False).returncode:
        pytest.skip("this user may not mount a file system")
    output = job / "full"
    output.mkdir()
    mounted = ["unshare", "-rm", "bash", "-c", FULL_DISK, "-", output]
    done = subprocess.run(
        # Pauses between attempts would take a minute.
        [*mounted, *words("score", *scoring(job, output, 100), "--max_attempts", 1)],
        env=os.environ | {"PYTHONPATH": os.getcwd()},
        capture_output=True,
        text=True,
        timeout=150,
        check=True,
    )
    said, wrong = done.stdout, done.stderr
    # Ten in a row, and perhaps some before the last part that was small enough.
    assert re.match(r"error: [1-4]\d of 88 parts failed, and the rest was not tried; the f", wrong)
    assert "No space left on device" in wrong
    assert wrong.count("\n") == 1
    _, listed = said.split("exit code 1\n")
    files = listed.splitlines()
    assert "./part-000000.parquet" in files
    assert not [
        name for name in files if "/part-" in name.partition("staging-")[2] or name == "./_SUCCESS"
    ]
    # With room, the same goes on.
    main(config(job, "kept"))
    assert contents(job / "kept") == contents(job / "whole")
