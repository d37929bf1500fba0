"""Submitted to a cluster that wants a token: what arrives, what comes back, and how to stop it."""

import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from pipelines.cluster.ray_train_internals import SNAPSHOT
from testing.generated import save_checkpoint, write_shards
from testing.programs import scoring

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent

STEPS, EVERY = 600, 20
"""Of training: many more steps than it takes until the first checkpoint is seen, and acted upon."""


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


@pytest.fixture(scope="module")
def head(tmp_path_factory):
    """A head node; the environment that its users have, and two corpora and a model."""
    root = tmp_path_factory.mktemp("jobs")
    save_checkpoint(root / "model", hidden=64)
    write_shards(root / "corpus", rows=60_000, shards=3)
    write_shards(root / "labelled", rows=3_000, shards=2)
    gcs, dashboard, *others = free_ports(5)
    address = f"http://127.0.0.1:{dashboard}"
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    path = {"PATH": f"{BIN}:{os.environ['PATH']}", "RAY_ADDRESS": ""}
    # `ray job stop` kills what has not ended after three seconds: few, where tests run beside it.
    path["RAY_JOB_STOP_WAIT_TIME_S"] = "60"
    # Ray notes below it that there is a cluster, for others to find; a long path is none of its.
    temporary = tempfile.mkdtemp(prefix="ray-", dir="/tmp")
    environment = os.environ | token | path | {"RAY_TMPDIR": temporary}
    names = ("ray-client-server-port", "dashboard-agent-listen-port", "metrics-export-port")
    ports = [f"--{name}={port}" for name, port in zip(names, others, strict=True)]
    command = [BIN / "ray", "start", "--head", "--block", f"--port={gcs}", "--num-cpus=2"]
    command += [f"--dashboard-port={dashboard}", "--dashboard-host=127.0.0.1", *ports]
    command += ["--disable-usage-stats", "--node-ip-address=127.0.0.1"]
    with (root / "head.log").open("w") as log:
        started = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
    environment |= {"RAY_ADDRESS": address}
    try:
        end = time.monotonic() + 120
        while ray(environment, "list").returncode:
            assert started.poll() is None, (root / "head.log").read_text()
            assert time.monotonic() < end
            time.sleep(1)
        yield root, environment
    finally:
        family = [psutil.Process(started.pid), *psutil.Process(started.pid).children(True)]
        started.terminate()
        _, alive = psutil.wait_procs(family, timeout=5)
        for process in alive:
            process.kill()
        psutil.wait_procs(alive, timeout=5)
        shutil.rmtree(temporary, ignore_errors=True)


def ray(environment: dict[str, str], *words: object) -> subprocess.CompletedProcess[str]:
    """`ray job ...`, as its user sees it."""
    command = [str(word) for word in (BIN / "ray", "job", *words)]
    return subprocess.run(
        command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=400, check=False
    )


def submit(environment: dict[str, str], *words: object, wait: bool = True):
    name = f"--submission-id={secrets.token_hex(4)}"
    return ray(
        environment,
        *("submit", "--working-dir", ".", name, *([] if wait else ["--no-wait"])),
        *("--", "python", "-m", *words),
    ), name.partition("=")[2]


def stop(environment: dict[str, str], name: str, begun: Callable[[], bool]) -> None:
    """Stop a job once something of it is there."""
    # The first job has its code compiled, where it was unpacked.
    end = time.monotonic() + 300
    while not begun():
        assert time.monotonic() < end, ray(environment, "logs", name).stdout
        time.sleep(0.1)
    assert ray(environment, "stop", name).returncode == 0


def score(root: Path, output: str, *more: object) -> tuple[object, ...]:
    return ("pipelines.score", *scoring(root, root / output, 1000), *more)


def train(root: Path, *more: object) -> tuple[object, ...]:
    return (
        *("pipelines.train", "--data_dir", root / "labelled", "--stopwords_file", "None"),
        *("--cache_dir", root / "cache", "--summaries_dir", root / "logs"),
        *("--checkpoints_root", root / "models", "--run_name", "run", "--hidden_size", 12),
        *("--train_steps", STEPS, "--validate_every", EVERY, *more),
    )


def said(done: subprocess.CompletedProcess[str]) -> list[str]:
    """The lines of the program itself."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout)
    return [line for line in plain.splitlines() if line.strip()]


@pytest.mark.timeout(900)
def test_scoring(head):
    root, environment = head
    nobody = environment | {"RAY_AUTH_TOKEN": "wrong"}
    refused, _ = submit(nobody, *score(root, "refused"))
    assert refused.returncode
    assert not (root / "refused").exists()

    # Stopped, a job leaves what it has done; the same again does the rest.
    _, name = submit(environment, *score(root, "scored"), wait=False)
    stop(environment, name, lambda: len(list((root / "scored").glob("part-*.parquet"))) >= 3)
    assert not (root / "scored" / "_SUCCESS").exists()
    done = len(list((root / "scored").glob("part-*.parquet")))
    assert done < 60
    again, name = submit(environment, *score(root, "scored"))
    assert again.returncode == 0, again.stdout + again.stderr
    assert any(f"{60 - done} parts" in line for line in said(again)), again.stdout
    assert any("60,000 rows scored" in line for line in said(again)[-6:])
    assert (root / "scored" / "_SUCCESS").exists()

    # What is uploaded is the code.
    found = Path(environment["RAY_TMPDIR"]).rglob("working_dir_files/_ray_pkg_*")
    (uploaded,) = {path.resolve() for path in found if path.is_dir()}
    # Not what was compiled there since.
    files = [path for path in uploaded.rglob("*.*") if path.parent.name != "__pycache__"]
    assert {"pipelines", "sentiment"} < {path.relative_to(uploaded).parts[0] for path in files}
    assert uploaded / "data" / "stopwords.txt" in files
    assert sum(path.stat().st_size for path in files) < 2**20

    # Its exit code and its last line come back.
    misuse, _ = submit(environment, *score(root, "scored", "--max_tokens", 0))
    assert misuse.returncode
    assert any(line.startswith("error: --max_tokens is 0") for line in said(misuse))


@pytest.mark.timeout(900)
def test_training(head):
    root, environment = head
    run, model = root / "models" / "_runs" / "run", root / "models" / "run"

    # Stopped, a job leaves its last checkpoint; the same again goes on from there.
    _, name = submit(environment, *train(root), wait=False)
    stop(environment, name, (run / SNAPSHOT).exists)
    log = ray(environment, "logs", name).stdout
    assert log.rstrip().endswith("interrupted; the same command with --run_name run goes on"), log
    assert not model.exists()
    again, _ = submit(environment, *train(root))
    assert again.returncode == 0, again.stdout + again.stderr
    resumed = next(line for line in said(again) if line.startswith("going on after step "))
    assert int(resumed.split()[-1]) in range(EVERY, STEPS, EVERY)
    assert f"Model saved in: {model}" in said(again)[-4:]
    assert (model / "weights.safetensors").exists()

    # Every step is there once.
    metrics = (root / "logs" / "run" / "metrics.jsonl").read_text()
    lines = [json.loads(line) for line in metrics.splitlines()]
    assert [line["step"] for line in lines if "loss" in line] == list(range(1, STEPS + 1))
    validated = [line["step"] for line in lines if "validation_loss" in line]
    assert validated == list(range(EVERY, STEPS + 1, EVERY))

    misuse, _ = submit(environment, *train(root, "--epocs", 2))
    assert misuse.returncode
    assert "error: there is no flag --epocs: did you mean --epochs?" in said(misuse)
