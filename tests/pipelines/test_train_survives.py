"""Killed at any moment, training ends with the bytes of a run that was left alone."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.generated import write_shards

STEPS, EVERY = 240, 20


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("survives")
    write_shards(root / "corpus", rows=3000, shards=3)
    return root


def start(root: Path, name: str) -> subprocess.Popen:
    """A run of two workers."""
    command = [sys.executable, "-m", "pipelines.train", "--data_dir", root / "corpus"]
    command += ["--checkpoints_root", root / "checkpoints", "--summaries_dir", root / "logs"]
    command += ["--cache_dir", root / "cache", "--stopwords_file", "None", "--run_name", name]
    command += ["--num_workers", 2, "--train_steps", STEPS, "--validate_every", EVERY]
    command += ["--hidden_size", 12, "--embedding_size", 12]
    log = (root / f"{name}.log").open("a")
    return subprocess.Popen(list(map(str, command)), stdout=log, stderr=log)


def steps_done(root: Path, name: str) -> int:
    """Steps up to the last validation that is written down."""
    path = root / "logs" / name / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    # None where a worker has died before the first checkpoint was known: training begins again.
    return json.loads(lines[-1])["step"] if lines else 0


def wait_for_step(root: Path, name: str, job: subprocess.Popen, step: int) -> None:
    end = time.monotonic() + 200
    while steps_done(root, name) < step:
        assert job.poll() is None, (root / f"{name}.log").read_text()
        assert time.monotonic() < end
        time.sleep(0.05)


def workers(job: subprocess.Popen) -> list[psutil.Process]:
    processes = psutil.Process(job.pid).children(recursive=True)
    return [process for process in processes if "ray::RayTrainWorker" in process.name()]


def result(root: Path, name: str) -> dict[str, bytes]:
    runs = root / "checkpoints" / "_runs" / name
    last = max(
        runs.glob("checkpoint_*/progress.json"), key=lambda p: json.loads(p.read_text())["step"]
    )
    return {
        "weights": (root / "checkpoints" / name / "weights.safetensors").read_bytes(),
        "state": last.with_name("state.safetensors").read_bytes(),
        "metrics": (root / "logs" / name / "metrics.jsonl").read_bytes(),
    }


@pytest.mark.timeout(900)
def test_a_worker_and_then_the_driver_killed(root):
    assert start(root, "whole").wait(timeout=200) == 0
    job = start(root, "killed")
    ray = []
    try:
        wait_for_step(root, "killed", job, 2 * EVERY)
        workers(job)[-1].kill()
        wait_for_step(root, "killed", job, 5 * EVERY)
        ray = psutil.Process(job.pid).children(recursive=True)
    finally:
        job.send_signal(signal.SIGKILL)
    assert job.wait(timeout=60) == -signal.SIGKILL
    psutil.wait_procs(ray, timeout=60)
    assert steps_done(root, "killed") < STEPS

    assert start(root, "killed").wait(timeout=200) == 0
    found, expected = result(root, "killed"), result(root, "whole")
    assert found == expected
    lines = (root / "killed.log").read_text().splitlines()
    (trouble,) = [line for line in lines if "try 2 of 4" in line]
    assert trouble.startswith("worker ")
    known = (
        "Preparing",
        "Run",
        f"{STEPS} steps",
        "step",
        "validation",
        "going on",
        "Model",
        trouble,
    )
    assert [line for line in lines if not line.startswith(known)] == []

    accumulator = EventAccumulator(str(root / "logs" / "killed"), size_guidance={"tensors": 0})
    accumulator.Reload()
    assert [e.step for e in accumulator.Tensors("train/loss")] == list(range(1, STEPS + 1))
    validated = [e.step for e in accumulator.Tensors("validation/pr_curves")]
    assert validated == list(range(EVERY, STEPS + 1, EVERY))
    assert accumulator.Graph().node
