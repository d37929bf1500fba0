"""What Ray Train is told of a checkpoint."""

import errno
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import ray.train

from pipelines.training.resume_state import RunProgress, save


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


@pytest.mark.parametrize("is_local", [False, True])
def test_a_full_disk_is_named(monkeypatch, is_local):
    """The system says of a write to one only that there is no space left."""

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    if is_local:
        monkeypatch.setattr(Path, "write_bytes", full)
    monkeypatch.setattr(ray.train, "report", full)
    validation = {"step": 1, "validation_loss": 0.5, "validation_accuracy": 0.5}
    trainer = SimpleNamespace(state=lambda: {"model/embedding": np.ones((2, 3), np.float32)})
    place = "the temporary directory /.*" if is_local else "--checkpoints_root"
    with pytest.raises(OSError, match=rf"^{place} cannot be written: .*No space left on device$"):
        save(trainer, RunProgress().after(validation), rank=0)
