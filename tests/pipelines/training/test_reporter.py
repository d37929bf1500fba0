"""TensorBoard shows what the model that is saved will answer."""

import queue
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.special import softmax
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util import tensor_util

from pipelines.training.reporter import Reporter
from pipelines.training.resume_state import RunProgress
from pipelines.training.validation import measure


def begin(directory, progress: RunProgress | None = None, **settings: object) -> Reporter:
    """The reporter of a run, whose logs are in the directory."""
    usual = {"steps": 10, "calibrate": False, "cross_fits": False, "flags": {"train_steps": 10}}
    usual |= {"summaries": str(directory), "batch_size": 2}
    usual["corpus"] = SimpleNamespace(classes=("negative", "positive"))
    graph = SimpleNamespace(graph=lambda: b"")
    settings = SimpleNamespace(**usual | settings)
    return Reporter(settings, queue.Queue(), graph, progress or RunProgress(), workers=1)


def read(directory) -> EventAccumulator:
    return EventAccumulator(str(directory), size_guidance={"tensors": 0}).Reload()


@pytest.mark.parametrize("calibrate", [False, True])
def test_precision_recall_curves_are_of_the_probabilities_of_the_model_that_is_saved(
    tmp_path, calibrate
):
    random = np.random.default_rng(0)
    labels = random.integers(0, 2, 500)
    targets = np.eye(2, dtype="f4")[labels]
    logits = (random.normal(0, 2, (500, 2)) + targets * 3).astype("f4")
    validation = measure(10, targets, logits, calibrate)
    divisor = validation["validation_temperature"] if calibrate else 1.0
    assert validation["validation_temperature"] > 1.2
    begin(tmp_path, calibrate=calibrate).validation(validation, targets, logits, {})
    (event,) = read(tmp_path).Tensors("validation/pr_curves")
    true, false, *_ = tensor_util.make_ndarray(event.tensor_proto)
    probabilities = softmax(logits.astype("f8") / divisor, axis=1)[:, 1]
    for number in (20, 100, 180):
        positive = probabilities >= number / (len(true) - 1)
        assert true[number] == labels[positive].sum()
        assert false[number] == (1 - labels[positive]).sum()
