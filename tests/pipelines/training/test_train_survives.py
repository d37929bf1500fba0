"""Killed at any moment, training ends with the bytes of a run that was left alone.

One run has its rows in one shard, and all its files on the disk; the other has three shards, and
all its files in a bucket, whose server slows down and goes away. That makes no difference either.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import psutil
import pyarrow.fs as pafs
import pytest
import safetensors.numpy
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from sentiment import checkpoint, storage
from testing.bucket_servers import Troubled
from testing.generated import write_shards
from testing.programs import end
from testing.waiting import wait_until

STEPS, EVERY = 80, 10


@contextmanager
def running(
    root: str, log: Path, workers: int = 2, every: int = EVERY, **environment: str
) -> Iterator[subprocess.Popen]:
    """A run of some workers, killed with its Ray at the end of the block, if it still runs.

    All it reads and writes is below a directory or URI.
    """
    command = [sys.executable, "-m", "pipelines.train", "--data_dir", f"{root}/corpus"]
    command += ["--checkpoints_root", f"{root}/models", "--summaries_dir", f"{root}/logs"]
    command += ["--cache_dir", f"{root}/cache", "--stopwords_file", "None", "--run_name", "run"]
    command += ["--num_workers", workers, "--train_steps", STEPS, "--validate_every", every]
    command += ["--hidden_size", 6, "--embedding_size", 6, "--keep_checkpoints", 1]
    command += ["--bigrams", 200, "--bidirectional", "--initial_vectors", "cooccurrence"]
    command += ["--word_keep_prob", 0.9, "--calibrate"]
    with log.open("a") as file:
        environment = os.environ | environment
        job = subprocess.Popen(list(map(str, command)), stdout=file, stderr=file, env=environment)
    try:
        yield job
    finally:
        ray = psutil.Process(job.pid).children(recursive=True) if job.poll() is None else []
        # It first: it would start others in their place.
        job.kill()
        job.wait(timeout=60)
        end(ray)


def metrics(root: str) -> list[dict[str, float]]:
    path = f"{root}/logs/run/metrics.jsonl"
    lines = storage.read(path).splitlines() if storage.exists(path) else []
    return [json.loads(line) for line in lines]


def steps_done(root: str) -> int:
    """Steps up to the last validation that is written down."""
    # None where a worker has died before the first checkpoint was known: training begins again.
    return max((line["step"] for line in metrics(root)), default=0)


def wait_for_step(root: str, job: subprocess.Popen, step: int) -> None:
    def is_done() -> bool:
        assert job.poll() is None, "the run has ended"
        # In a bucket it may be written again, shorter, while Arrow, which has asked for its length,
        # reads it.
        with suppress(ValueError):
            return steps_done(root) >= step
        return False

    wait_until(is_done, 200, f"step {step}", poll_seconds=0.2)


def workers(job: subprocess.Popen) -> list[psutil.Process]:
    processes = psutil.Process(job.pid).children(recursive=True)
    return [process for process in processes if "ray::RayTrainWorker" in process.name()]


def kept(root: Path) -> dict[int, Path]:
    """The states that a run has kept, by their step."""
    found = (root / "models" / "_runs" / "run").glob("checkpoint_*/progress.json")
    return {
        json.loads(path.read_text())["step"]: path.with_name("state.safetensors") for path in found
    }


def result(root: Path) -> dict[str, bytes]:
    return {
        "weights": (root / "models" / "run" / "weights.safetensors").read_bytes(),
        "state": kept(root)[STEPS].read_bytes(),
        "metrics": (root / "logs" / "run" / "metrics.jsonl").read_bytes(),
    }


@pytest.mark.slow(120)
@pytest.mark.ray
@pytest.mark.timeout(900)
def test_a_worker_and_then_the_driver_killed(tmp_path, s3):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    write_shards(whole / "corpus", rows=3000, shards=1)
    with running(str(whole), tmp_path / "whole.log") as job:
        assert job.wait(timeout=200) == 0

    write_shards(killed / "corpus", rows=3000, shards=3)
    bucket = s3.uri("killed")
    pafs.copy_files(str(killed), storage.resolve(bucket)[1], None, storage.resolve(bucket)[0])
    with Troubled(s3) as server:
        server.slow = True
        with running(bucket, tmp_path / "killed.log", AWS_ENDPOINT_URL=server.address) as job:
            wait_for_step(bucket, job, 2 * EVERY)
            workers(job)[-1].kill()
            wait_for_step(bucket, job, 4 * EVERY)
        assert job.returncode == -signal.SIGKILL
        done = steps_done(bucket)
        assert done < STEPS - EVERY
        assert server.slowed > 5

        with running(bucket, tmp_path / "killed.log", AWS_ENDPOINT_URL=server.address) as job:
            wait_for_step(bucket, job, done + 1)
            server.away = True
            # Left alone, Arrow asks three times.
            wait_until(lambda: server.cut >= 10, 100, "10 requests that are cut off")
            assert job.poll() is None
            server.away = False
            assert job.wait(timeout=200) == 0
        server.shutdown()
    pafs.copy_files(storage.resolve(bucket)[1], str(killed), storage.resolve(bucket)[0])
    found, expected = result(killed), result(whole)
    assert found == expected

    # The model is that of the best validation; that one and the last are kept.
    losses = {
        line["step"]: line["validation_loss"]
        for line in metrics(str(whole))
        if "validation_loss" in line
    }
    best = min(losses, key=losses.get)
    assert kept(killed).keys() == {best, STEPS}
    state = safetensors.numpy.load_file(kept(killed)[best])
    saved = checkpoint.load(f"{bucket}/models/run")
    np.testing.assert_array_equal(saved.weights["embedding"], state["model/embedding"])
    heat = saved.training["best"]["validation_temperature"]
    assert heat != 1
    kernel = state["model/dense/kernel"] / np.float32(heat)
    np.testing.assert_array_equal(saved.weights["dense/kernel"], kernel)
    assert len(saved.bigrams) == 200

    lines = (tmp_path / "killed.log").read_text().splitlines()
    (trouble,) = [line for line in lines if "attempt 2 of 4" in line]
    assert trouble.startswith("worker ")
    known = ("Preparing", "Run", f"{STEPS} steps", "no worker", "step", "validation", "resuming")
    known += ("Best validation: ", "Next: ", "Model saved in: ", "error: this program was killed")
    assert [line for line in lines if not line.startswith((*known, trouble))] == []

    accumulator = EventAccumulator(str(killed / "logs" / "run"), size_guidance={"tensors": 0})
    accumulator.Reload()
    assert [e.step for e in accumulator.Tensors("train/loss")] == list(range(1, STEPS + 1))
    validated = [e.step for e in accumulator.Tensors("validation/pr_curves")]
    assert validated == list(range(EVERY, STEPS + 1, EVERY))
    assert accumulator.Graph().node


@pytest.mark.slow(40)
@pytest.mark.ray
@pytest.mark.process
def test_ctrl_c_twice_does_not_wait_for_training_to_stop(tmp_path):
    write_shards(tmp_path / "corpus", rows=3000, shards=1)
    log = tmp_path / "log"
    with running(str(tmp_path), log, workers=1, every=1) as job:
        wait_for_step(str(tmp_path), job, 1)
        ray = psutil.Process(job.pid).children(recursive=True)
        try:
            for _ in range(2):
                job.send_signal(signal.SIGINT)
                time.sleep(0.3)
            assert job.wait(timeout=5) == 130
        finally:
            end(ray)
    assert log.read_text().splitlines()[-1] == "error: interrupted twice"
