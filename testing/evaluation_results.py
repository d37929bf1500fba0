"""Training runs, checkpoints and evaluation results for tests of reports and evaluation."""

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
from pydantic import TypeAdapter

from pipelines.evaluation.held_out import LabelledCorpus, LabelledTexts
from pipelines.reports.evaluation_results import MAJORITY, MODEL, EvaluationResults
from pipelines.reports.training_run import ClassCounts, TrainingRun
from sentiment import checkpoint
from sentiment.checkpoint import Checkpoint
from sentiment.classes import Classes
from testing.generated import save_checkpoint

TRAINING = {
    "flags": {
        "data_dir": "corpora/tweets",
        "text_column": "SentimentText",
        "label_column": "Sentiment",
        "encoding": "utf-8",
        "random_state": 0,
        "test_size": 0.2,
        "run_name": None,
        "bidirectional": True,
        "calibrate": False,
    },
    "rows": {"train": 760, "validation": 40, "test": 200},
    "classes": ["negative", "positive"],
    "labels": {"train": [460, 300], "validation": [25, 15], "test": [120, 80]},
    "sample_below": None,
    "longest": 20,
    "best": {"step": 200, "validation_accuracy": 0.8, "validation_loss": 0.5},
    "losses": [{"step": 2 * n, "loss": 1 / n} for n in range(1, 151)],
    "validations": [
        {"step": step, "validation_accuracy": 0.8, "validation_loss": loss}
        for step, loss in ((100, 0.6), (200, 0.5), (300, 0.55))
    ],
    "versions": {"keras": "3.15.1"},
}
"""The content of a training.json."""

RUN: TrainingRun = TypeAdapter(TrainingRun).validate_python(TRAINING)


def evaluated(
    model: Checkpoint,
    texts: list[str],
    labels: list[int] | np.ndarray,
    probabilities: list[float] | np.ndarray,
    *,
    run: TrainingRun = RUN,
    name: str = "tweets",
    data_dir: str = "corpora/tweets",
    held_out: bool = True,
    by_model: Mapping[str, np.ndarray] | None = None,
) -> EvaluationResults:
    """The model's predictions for texts, and those of the majority class.

    Of two classes, `probabilities` may be those of the second one. `by_model` replaces them by
    those of several models.
    """
    labels, predicted = np.array(labels), np.array(probabilities, np.float32)
    if predicted.ndim == 1:
        predicted = np.stack([1 - predicted, predicted], axis=1)
    shares = np.array(run.labels.train) / sum(run.labels.train)
    by_model = by_model or {MODEL: predicted, MAJORITY: np.tile(shares, (len(labels), 1))}
    lengths = np.array([len(text.split()) for text in texts])
    return EvaluationResults(name, model, run, data_dir, held_out, texts, labels, lengths, by_model)


def with_classes(model: Checkpoint, classes: Classes) -> Checkpoint:
    """The model with these classes, and random weights for them."""
    hidden = len(model.weights["dense/kernel"])
    kernel = np.random.default_rng(0).normal(size=(hidden, len(classes))).astype("f4")
    dense = {"dense/kernel": kernel, "dense/bias": np.zeros(len(classes), "f4")}
    training = dict(model.training)
    if training:
        training |= {"classes": list(classes.names), "labels": asdict(run_of(classes).labels)}
    return replace(model, weights={**model.weights, **dense}, classes=classes, training=training)


def run_of(classes: Classes, rows: int = 1000) -> TrainingRun:
    """A run that trained these classes, the first of which are the most frequent."""
    shares = np.arange(len(classes), 0, -1) / np.arange(len(classes) + 1).sum()
    labels = {
        part: (shares * rows * share).round().astype(int).tolist()
        for part, share in (("train", 0.76), ("validation", 0.04), ("test", 0.2))
    }
    return replace(RUN, classes=classes.names, labels=ClassCounts(**labels))


def save_trained(
    directory: str, corpus: Path, classes: Classes | None = None, seed: int = 0, **flags: object
) -> Checkpoint:
    """Save a checkpoint as if trained on a corpus that is split as training splits it.

    Args:
        classes: Of the model; None: negative and positive.
        seed: Of its weights.
        flags: That differ from those of `TRAINING`.
    """
    save_checkpoint(corpus.parent / "seed", seed)
    model = checkpoint.load(str(corpus.parent / "seed"))
    flags = TRAINING["flags"] | {"data_dir": str(corpus)} | flags
    trained = replace(model, training=TRAINING | {"flags": flags})
    if classes is not None:
        trained = with_classes(trained, classes)
    checkpoint.save(trained, directory)
    return trained


def blocks_of(corpus: LabelledCorpus) -> list[LabelledTexts]:
    """All rows of a corpus, in order."""
    return [block for blocks in corpus.each_piece("Reading", list) for block in blocks]
