"""What Ray Train is told of a checkpoint."""

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
