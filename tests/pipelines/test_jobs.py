"""Submitted to a cluster that wants a token: what arrives, what comes back, and how to stop it.

The jobs find the package installed on the cluster, as in its image; one test uploads it, too.
"""

import json
import os
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from pipelines.cluster.ray_train_internals import SNAPSHOT
from testing.generated import save_checkpoint, write_shards
from testing.programs import scoring, undated
from testing.waiting import free_ports, wait_until

pytestmark = [pytest.mark.slow(45), pytest.mark.ray, pytest.mark.process]

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent

STEPS, EVERY = 600, 20
"""Of training: many more steps than it takes until the first checkpoint is seen, and acted upon."""

PART_ROWS, PARTS = 1_000, 60
"""Of scoring: more parts than are done until the first ones are seen, and acted upon."""


@dataclass(frozen=True)
class Head:
    """A head node on this machine, and what the user who submits jobs to it has."""

    root: Path
    """Two corpora and a model are below it, and what jobs write."""
    environment: dict[str, str]
    """Has the head's address and token."""

    def job(self, *words: object, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run `ray job ...`."""
        return subprocess.run(
            [BIN / "ray", "job", *map(str, words)],
            env=self.environment | environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=400,
            check=False,
        )

    def submit(self, *words: object, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run `python ...` as a job, to its end."""
        return self.job("submit", "--", "python", *words, **environment)

    def stop(self, words: tuple[object, ...], begun: Callable[[], bool]) -> str:
        """Run `python ...` as a job, stop it when `begun` is true, and return its output."""
        name = secrets.token_hex(4)
        flags = (f"--submission-id={name}", "--no-wait")
        assert self.job("submit", *flags, "--", "python", *words).returncode == 0
        wait_until(begun, 200, f"what job {' '.join(map(str, words))} does first")
        assert self.job("stop", name).returncode == 0
        return self.job("logs", name).stdout


def start_head(environment: dict[str, str], log: Path) -> tuple[subprocess.Popen[bytes], str]:
    """Start a head node; the second value is the address of its dashboard, which takes jobs."""
    gcs, dashboard, *others = free_ports(5)
    names = ("ray-client-server-port", "dashboard-agent-listen-port", "metrics-export-port")
    ports = [f"--{name}={port}" for name, port in zip(names, others, strict=True)]
    command = [BIN / "ray", "start", "--head", "--block", f"--port={gcs}", "--num-cpus=2"]
    command += [f"--dashboard-port={dashboard}", "--dashboard-host=127.0.0.1", *ports]
    command += ["--disable-usage-stats", "--node-ip-address=127.0.0.1"]
    with log.open("w") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file, env=environment)
    return process, f"http://127.0.0.1:{dashboard}"


@pytest.fixture(scope="module")
def head(tmp_path_factory) -> Iterator[Head]:
    root = tmp_path_factory.mktemp("jobs")
    save_checkpoint(root / "model", hidden=64)
    write_shards(root / "corpus", rows=PART_ROWS * PARTS, shards=3)
    write_shards(root / "labelled", rows=3_000, shards=2)
    environment = os.environ | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    environment |= {"PATH": f"{BIN}:{os.environ['PATH']}", "RAY_ADDRESS": ""}
    # `ray job stop` kills what has not ended after three seconds: few, where tests run beside it.
    environment["RAY_JOB_STOP_WAIT_TIME_S"] = "60"
    # Ray notes below it that there is a cluster, for others to find; Ray refuses a long path.
    environment["RAY_TMPDIR"] = tempfile.mkdtemp(prefix="ray-", dir="/tmp")
    process, address = start_head(environment, root / "head.log")
    head = Head(root, environment | {"RAY_ADDRESS": address})

    def answers() -> bool:
        assert process.poll() is None, (root / "head.log").read_text()
        return head.job("list").returncode == 0

    try:
        wait_until(answers, 120, "the head's answer", poll_seconds=0.5)
        yield head
    finally:
        family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(True)]
        process.terminate()
        _, alive = psutil.wait_procs(family, timeout=5)
        for process in alive:
            process.kill()
        psutil.wait_procs(alive, timeout=5)
        shutil.rmtree(environment["RAY_TMPDIR"], ignore_errors=True)


def score(root: Path, output: str, *more: object) -> tuple[object, ...]:
    return ("-m", "pipelines.score", *scoring(root, root / output, PART_ROWS), *more)


def train(root: Path, *more: object) -> tuple[object, ...]:
    return (
        *("-m", "pipelines.train", "--data_dir", root / "labelled", "--stopwords_file", "None"),
        *("--cache_dir", root / "cache", "--summaries_dir", root / "logs"),
        *("--checkpoints_root", root / "models", "--run_name", "run", "--hidden_size", 12),
        *("--train_steps", STEPS, "--validate_every", EVERY, *more),
    )


def said(done: subprocess.CompletedProcess[str]) -> list[str]:
    """The lines of the program itself, without their dates."""
    plain = undated(re.sub(r"\x1b\[[0-9;]*m", "", done.stdout))
    return [line for line in plain.splitlines() if line.strip()]


def test_who_has_another_token_submits_nothing(head):
    refused = head.submit(*score(head.root, "refused"), RAY_AUTH_TOKEN="wrong")
    assert refused.returncode
    assert not (head.root / "refused").exists()


@pytest.mark.timeout(600)
def test_scoring_that_is_stopped_leaves_what_it_has_done_and_the_same_again_does_the_rest(head):
    output = head.root / "scored"

    def parts() -> int:
        return len(list(output.glob("part-*.parquet")))

    head.stop(score(head.root, "scored"), lambda: parts() >= 3)
    assert not (output / "_SUCCESS").exists()
    done = parts()
    assert done < PARTS
    again = head.submit(*score(head.root, "scored"))
    assert again.returncode == 0, again.stdout + again.stderr
    assert any(f"{PARTS - done} parts" in line for line in said(again)), again.stdout
    assert any(f"{PART_ROWS * PARTS:,} rows scored" in line for line in said(again)[-6:])
    assert (output / "_SUCCESS").exists()


@pytest.mark.timeout(600)
def test_training_that_is_stopped_leaves_a_checkpoint_and_the_same_again_goes_on_there(head):
    root = head.root
    model = root / "models" / "run"
    log = head.stop(train(root), (root / "models" / "_runs" / "run" / SNAPSHOT).exists)
    said_last = "interrupted; the same command with --run_name run resumes it"
    assert log.rstrip().endswith(said_last), log
    assert not model.exists()
    # Ray Train does not write its list at once, so a job that is stopped may leave this.
    (root / "models" / "_runs" / "run" / SNAPSHOT).write_bytes(b"")
    again = head.submit(*train(root))
    assert again.returncode == 0, again.stdout + again.stderr
    assert any(f"{SNAPSHOT} is damaged (" in line for line in said(again)), again.stdout
    resumed = next(line for line in said(again) if line.startswith("resuming after step "))
    assert int(resumed.split()[-1]) in range(EVERY, STEPS, EVERY)
    assert f"Model saved in: {model}" in said(again)[-4:]
    assert (model / "weights.safetensors").exists()

    # Every step is there once.
    metrics = (root / "logs" / "run" / "metrics.jsonl").read_text()
    lines = [json.loads(line) for line in metrics.splitlines()]
    assert [line["step"] for line in lines if "loss" in line] == list(range(1, STEPS + 1))
    validated = [line["step"] for line in lines if "validation_loss" in line]
    assert validated == list(range(EVERY, STEPS + 1, EVERY))


WHERE_CODE_IS = """
import ray
import pipelines, sentiment

def files():
    return pipelines.__file__, sentiment.__file__

ray.init()
print("found:", *files(), *ray.get(ray.remote(files).remote()))
"""
"""Prints where the driver of a job, and a task of it, find our packages."""


def test_what_is_uploaded_is_the_code_and_runs_there(head):
    """A program of it, whose exit code and last line come back; its driver and its workers."""
    upload = ("submit", "--working-dir", ".", "--", "python")
    misuse = head.job(*upload, *train(head.root, "--epocs", 2))
    assert misuse.returncode == 1
    assert "error: there is no flag --epocs: did you mean --epochs?" in said(misuse)
    assert "failed with exit code 2" in misuse.stdout + misuse.stderr

    temporary = Path(head.environment["RAY_TMPDIR"])
    packages = temporary.rglob("working_dir_files/_ray_pkg_*")
    (uploaded,) = {path.resolve() for path in packages if path.is_dir()}
    # Not what was compiled there since.
    files = [path for path in uploaded.rglob("*.*") if path.parent.name != "__pycache__"]
    assert {"pipelines", "sentiment"} < {path.relative_to(uploaded).parts[0] for path in files}
    assert uploaded / "pipelines" / "training" / "stopwords.txt" in files
    assert sum(path.stat().st_size for path in files) < 2**21

    lost = head.job(*upload, *train(head.root, "--checkpoints_root", "models"))
    assert lost.returncode
    refusal = "error: --checkpoints_root models would be in Ray's copy of this job's code, "
    assert any(line.startswith(f"{refusal}{uploaded}/models,") for line in said(lost))

    where = temporary / "where.py"
    where.write_text(WHERE_CODE_IS)
    done = head.job(*upload, "-c", f"exec(open({str(where)!r}).read())")
    assert done.returncode == 0, done.stdout + done.stderr
    (line,) = [line for line in said(done) if line.startswith("found: ")]
    ours = [str(uploaded / package / "__init__.py") for package in ("pipelines", "sentiment")]
    assert [str(Path(path).resolve()) for path in line.split()[1:]] == [*ours, *ours]
