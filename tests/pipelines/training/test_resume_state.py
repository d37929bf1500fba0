"""Checkpoints of a run: what is damaged is named before any worker starts."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import ray.train
import safetensors.numpy

from pipelines.training.resume_state import PROGRESS, STATE, RunProgress, require_whole, save
from pipelines.training.run_directory import INITIAL
from sentiment.errors import InputError

LISTED, UNLISTED = "checkpoint_2026-01-02_03-04-05.678901", "checkpoint_2026-01-02_03-04-06.000000"
SNAPSHOT = "checkpoint_manager_snapshot.json"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / SNAPSHOT).write_text(json.dumps({"results": [{"name": LISTED}]}))
    for name in (LISTED, UNLISTED):
        (tmp_path / name).mkdir()
        (tmp_path / name / PROGRESS).write_text(json.dumps({"step": 1, "validations": []}))
        state = {"model/embedding": np.ones((40, 9), np.float32)}
        (tmp_path / name / STATE).write_bytes(safetensors.numpy.save(state))
    (tmp_path / INITIAL).write_bytes(safetensors.numpy.save(state))
    return tmp_path


def test_what_is_whole_is_left_to_ray_train(run):
    require_whole(str(run))
    require_whole(str(run / "none"))
    # What Ray Train does not list was left by a process that died.
    os.truncate(run / UNLISTED / STATE, 40)
    require_whole(str(run))


@pytest.mark.parametrize("name", [f"{LISTED}/{STATE}", f"{LISTED}/{PROGRESS}", SNAPSHOT, INITIAL])
@pytest.mark.parametrize("size", [0, 3, 90])
def test_what_is_damaged_is_named_with_the_remedy(run, name, size):
    path = run / name
    path.write_bytes(path.read_bytes()[:size] if path.stat().st_size > size else b"\xff{")
    damaged = name.partition("/")[0]
    with pytest.raises(InputError, match=rf"{damaged} is damaged \(.*choose another --run_name"):
        require_whole(str(run))


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_ray_train_can_compare_a_loss_that_is_none(monkeypatch, loss):
    """It keeps what is reported as JSON, where NaN would be null, which no number is above."""
    reported = []
    monkeypatch.setattr(ray.train, "report", reported.append)
    validation = {"step": 1, "validation_loss": loss, "validation_accuracy": 0.5}
    save(None, RunProgress().after(validation), rank=1)
    (metrics,) = reported
    assert 1e300 < metrics["validation_loss"] < float("inf")
    assert metrics["step"] == 1


def test_a_checkpoint_that_is_lost_is_named(run):
    """Ray Train takes it off the list before it removes it, and fails at one that is missing."""
    shutil.rmtree(run / LISTED)
    with pytest.raises(InputError, match=rf"{LISTED} is damaged \(it is missing\): choose another"):
        require_whole(str(run))
