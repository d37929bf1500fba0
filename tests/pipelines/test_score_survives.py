"""Scoring as a user runs it: doubled, interrupted, on small machines and out of room."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import uuid
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
import pyarrow.dataset as pads
import pytest

from pipelines.output import COUNTS
from sentiment import checkpoint
from tests.generated import write_job
from tests.programs import run

SESSIONS = """
import resource, sys, ray
from pipelines import cli
from pipelines.score import ScoreConfig, main

def limit():
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))

arguments = sys.argv[1:]
while arguments:
    cpus, gpus, limited, *arguments = arguments
    end = arguments.index(";")
    flags, arguments = arguments[:end], arguments[end + 1 :]
    hook = {"worker_process_setup_hook": limit} if int(limited) else None
    ray.init(
        "local", num_cpus=int(cpus), num_gpus=int(gpus), runtime_env=hook,
        include_dashboard=False, log_to_driver=False, logging_level="ERROR",
    )
    sys.argv[1:] = flags
    try:
        cli.run(main, ScoreConfig)
    except SystemExit as end:
        print("exit code", end.code)
    ray.shutdown()
"""
"""Runs scoring several times: CPUs, GPUs, whether files end at 5,000 bytes; the flags, and `;`."""


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    """A corpus with rows to reject, and what one run makes of it."""
    root = tmp_path_factory.mktemp("job")
    write_job(root)
    said = run("score", *flags(root, root / "whole")).stdout
    assert said.splitlines()[-1].startswith("50 rows and 0 shards could not be scored: see ")
    return root


def flags(root: Path, output: Path, corpus: str = "corpus") -> list[str]:
    named = {"--checkpoints_dir": root / "model", "--input": root / corpus, "--output": output}
    named |= {"--text_column": "SentimentText", "--keep_columns": "id", "--part_rows": 100}
    return [str(word) for flag in named.items() for word in flag]


def contents(directory: Path) -> dict[str, bytes]:
    """What a reader sees, and the rejected rows."""
    assert (directory / "_SUCCESS").exists()
    files = [*directory.glob("*.parquet"), *directory.glob("_rejected/*"), directory / "_SUCCESS"]
    return {str(path.relative_to(directory)): path.read_bytes() for path in files}


def start(*command: object, **environment: str) -> subprocess.Popen:
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [*map(str, command)],
        stdout=pipe,
        stderr=pipe,
        text=True,
        env=os.environ | environment,
        start_new_session=True,
    )


def test_the_manifest_tells_all_of_a_run(job):
    (path,) = (job / "whole" / "_manifest").glob("run-*.json")
    record = json.loads(path.read_text())
    totals = json.loads((job / "whole" / "_SUCCESS").read_text())
    assert record["totals"] == totals
    assert totals["rows"] + totals["rejected"] == record["rows"] == 10_000
    assert set(totals) == set(COUNTS)
    assert record["left"] == {"parts": 0, "rows": 0}
    assert record["parts"] == 100
    assert record["rows/s"] > 0
    assert record["model_hash"] == checkpoint.load(str(job / "model")).model_hash
    assert record["flags"]["text_column"] == "SentimentText"
    planned = json.loads((job / "whole" / "_manifest" / "plan-00000.json").read_text())
    for path, size, modified, rows in planned["shards"]:
        stat = os.stat(path)
        assert (size, modified) == (stat.st_size, stat.st_mtime_ns)
        assert rows == (100 if path.endswith("short.csv") else 3_300)


def test_two_drivers_at_once_make_what_one_makes(job):
    command = [sys.executable, "-m", "pipelines.score", *flags(job, job / "two")]
    both = [start(*command), start(*command)]
    for driver in both:
        said = "\n".join(driver.communicate(timeout=150))
        assert driver.returncode == 0, said
    assert contents(job / "two") == contents(job / "whole")


def test_an_interrupt_is_one_line_and_leaves_no_process_and_nothing_half(job):
    mark, output = uuid.uuid4().hex, job / "interrupted"
    command = [sys.executable, "-m", "pipelines.score", *flags(job, output)]
    driver = start(*command, MARK_OF_THE_TEST=mark)
    while driver.poll() is None and not list(output.glob("part-*")):
        time.sleep(0.01)
    # As a terminal does: to every process in the foreground.
    os.killpg(driver.pid, signal.SIGINT)
    _, said = driver.communicate(timeout=60)
    assert (driver.returncode, said) == (
        130,
        "error: interrupted; the same command again goes on\n",
    )
    assert not (output / "_SUCCESS").exists()
    whole = contents(job / "whole")
    parts = [path.name for path in output.glob("part-*")]
    assert 0 < len(parts) < 100
    assert all((output / name).read_bytes() == whole[name] for name in parts)
    (record,) = (output / "_manifest").glob("run-*.json")
    assert json.loads(record.read_text())["left"]["parts"] >= 100 - len(parts)
    deadline = time.monotonic() + 15
    while (left := marked(mark)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert left == []
    run("score", *flags(job, output))
    assert contents(output) == whole


def marked(mark: str) -> list[str]:
    """The processes, save those that have ended, that descend from one with that environment."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            if process.environ().get("MARK_OF_THE_TEST") == mark:
                found.append(" ".join(process.cmdline()))
    return found


def test_no_machine_is_too_small(job):
    shard = "corpus/shard-1.parquet"
    machines = {
        "1 CPU": (1, 0),
        "a growing pool": (2, 0, "--num_actors", 1, 3),
        "2 GPUs": (2, 2, "--use_gpu", "--part_rows", 1100),
    }
    words: list[object] = []
    for name, (cpus, gpus, *more) in machines.items():
        words += [cpus, gpus, 0, *flags(job, job / name, shard), *more, ";"]
    driver = start(sys.executable, "-c", SESSIONS, *words)
    said, wrong = driver.communicate(timeout=270)
    assert said.count("exit code 0") == len(machines), said + wrong
    one, *others, gpu = machines
    expected = contents(job / one)
    assert len(expected) == 34
    for name in others:
        assert contents(job / name) == expected
    tables = [pads.dataset(job / name, format="parquet").to_table() for name in (one, gpu)]
    assert tables[0]["id"] == tables[1]["id"]
    scores = [table["positive_probability"].to_numpy() for table in tables]
    np.testing.assert_allclose(*scores, atol=1e-5)


def test_files_that_cannot_grow_are_one_line_and_no_part(job):
    """`RLIMIT_FSIZE` ends every write at 5,000 bytes, as a full disk ends it, for any user."""
    output = job / "limited"
    same = [*flags(job, output, "corpus/shard-1.parquet"), "--part_rows", 1100, ";"]
    driver = start(sys.executable, "-c", SESSIONS, 2, 0, 1, *same, 2, 0, 0, *same)
    said, wrong = driver.communicate(timeout=150)
    (line,) = [line for line in wrong.splitlines() if line.startswith("error: ")]
    assert re.match(r"error: part-0000\d\d could not be written: \[Errno 27\]", line)
    assert "Traceback" not in wrong
    assert re.findall(r"^exit code (\d+)$", said, re.MULTILINE) == ["1", "0"]
    assert len(contents(output)) == 4


FULL_DISK = """
mount -t tmpfs -o size=100k tmpfs "$1" && cd "$1" && shift
"$@"; echo "exit code $?"; find . -type f | sort
mount -o remount,size=64m . && "$@" >/dev/null; echo "exit code $?"
cd .. && cp -r full kept
"""


def test_a_full_disk_is_one_line_and_no_part(job):
    """A file system of 100 KiB, where a user may mount one; else the test above stands for it."""
    if subprocess.run(["unshare", "-rm", "true"], capture_output=True, check=False).returncode:
        test_files_that_cannot_grow_are_one_line_and_no_part(job)
        return
    output = job / "full"
    output.mkdir()
    command = [sys.executable, "-m", "pipelines.score", *flags(job, output)]
    driver = start(
        *("unshare", "-rm", "bash", "-c", FULL_DISK, "-", output, *command), PYTHONPATH=os.getcwd()
    )
    said, wrong = driver.communicate(timeout=150)
    assert wrong.startswith("error: part-0000")
    assert "No space left on device" in wrong
    assert wrong.count("\n") == 1
    _, listed = said.split("exit code 1\n")
    *files, last = listed.splitlines()
    assert last == "exit code 0"
    assert "./part-000000.parquet" in files
    assert not [name for name in files if "/." in name or name == "./_SUCCESS"]
    assert contents(job / "kept") == contents(job / "whole")
