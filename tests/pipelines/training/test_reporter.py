"""TensorBoard shows what the model that is saved will answer."""

import queue
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.special import softmax
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import plugin_data_pb2
from tensorboard.util import tensor_util

from pipelines.training.reporter import Reporter
from pipelines.training.resume_state import RunProgress
from pipelines.training.validation import Validation, measure


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


TARGETS, LOGITS = np.eye(2, dtype="f4"), np.eye(2, dtype="f4")


def validated(reporter: Reporter, step: int) -> Validation:
    """Take the steps until this one, and validate."""
    reporter.steps(step, [0.5], 0.01)
    validation = measure(step, TARGETS, LOGITS, False)
    reporter.validation(validation, TARGETS, LOGITS, {})
    return validation


def shown_flags(directory) -> dict[str, float]:
    """The only record of flags that TensorBoard finds."""
    (content,) = read(directory).PluginTagToContent("hparams").values()
    session = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info
    return {name: value.number_value for name, value in session.hparams.items()}


@pytest.mark.parametrize("cross_fits", [False, True])
def test_the_rows_of_a_validation_are_said(tmp_path, cross_fits):
    validated(begin(tmp_path, cross_fits=cross_fits), 10)
    also = " and the training rows, cross-fitted" if cross_fits else ""
    said = f"On the validation rows{also}. Accuracy is that of the most probable class."
    for tag in ("validation/accuracy", "validation/loss", "validation/pr_curves"):
        assert read(tmp_path).SummaryMetadata(tag).summary_description == said


def test_flags_are_those_of_the_last_start(tmp_path):
    first = validated(begin(tmp_path), 10)
    assert shown_flags(tmp_path) == {"train_steps": 10}
    progress = RunProgress().after(first)
    for steps in (10, 20):
        reporter = begin(tmp_path, progress, steps=steps, flags={"train_steps": steps})
        assert shown_flags(tmp_path) == {"train_steps": steps}
    validated(reporter, 20)
    assert shown_flags(tmp_path) == {"train_steps": 20}
    assert [event.step for event in read(tmp_path).Tensors("validation/loss")] == [10, 20]
    files = sorted(path.name[-3:] for path in tmp_path.glob("events*"))
    assert files == ["000", "010", "020"]
