"""A worker that dies costs a line on the terminal and some seconds, and no step is lost."""

import json
import subprocess
import sys

import psutil
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.generated import write_shards


def test_a_killed_worker_is_one_line_and_no_step_is_lost_or_repeated(tmp_path):
    write_shards(tmp_path / "corpus", rows=1500, shards=2)
    flags = {
        "--data_dir": tmp_path / "corpus",
        "--checkpoints_root": tmp_path / "checkpoints",
        "--summaries_dir": tmp_path / "logs",
        "--run_name": "struck",
        "--num_workers": 2,
        "--train_steps": 120,
        "--validate_every": 20,
        "--hidden_size": 8,
        "--embedding_size": 8,
        "--stopwords_file": "None",
    }
    command = [sys.executable, "-m", "pipelines.train", *(str(x) for f in flags.items() for x in f)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    lines, struck = [], False
    with subprocess.Popen(command, **pipes) as driver:
        for line in driver.stdout:
            lines.append(line.strip())
            if line.startswith("validation after step 40:") and not struck:
                struck = True  # Once: the step may come again.
                children = psutil.Process(driver.pid).children(recursive=True)
                workers = [p for p in children if "ray::RayTrainWorker" in " ".join(p.cmdline())]
                workers[-1].kill()
        complaints = driver.stderr.read()
    assert (driver.returncode, complaints) == (0, "")
    assert lines[-1] == f"Model saved in: {tmp_path}/checkpoints/struck"
    (trouble,) = [line for line in lines if "try 2 of 4" in line]
    assert trouble.startswith("worker ")
    known = ("Preparing", "Run", "120 steps", "step", "validation", "going on", "Model", trouble)
    assert [line for line in lines if not line.startswith(known)] == []

    logs = tmp_path / "logs" / "struck"
    metrics = [json.loads(line) for line in (logs / "metrics.jsonl").open()]
    assert [line["step"] for line in metrics if "loss" in line] == list(range(1, 121))
    validated = [line["step"] for line in metrics if "validation_loss" in line]
    assert validated == list(range(20, 121, 20))
    accumulator = EventAccumulator(str(logs), size_guidance={"tensors": 0})
    accumulator.Reload()
    assert [e.step for e in accumulator.Tensors("train/loss")] == list(range(1, 121))
    assert [e.step for e in accumulator.Tensors("validation/pr_curves")] == validated
    assert accumulator.Graph().node
