"""Training runs, checkpoints and evaluation results for tests of reports and evaluation."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from pydantic import TypeAdapter

from pipelines.reports.evaluation_results import MODEL, EvaluationResults
from pipelines.reports.training_run import TrainingRun
from sentiment import checkpoint
from sentiment.checkpoint import Checkpoint
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
    "positive": {"train": 300, "validation": 15, "test": 80},
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
) -> EvaluationResults:
    """The model's predictions for texts, and those of the majority class."""
    labels = np.array(labels, np.int8)
    probabilities = {
        MODEL: np.array(probabilities, np.float32),
        "majority class": np.full(len(labels), 0.4),
    }
    lengths = np.array([len(text.split()) for text in texts])
    return EvaluationResults(
        name, model, run, data_dir, held_out, texts, labels, lengths, probabilities
    )


def save_trained(directory: str, corpus: Path) -> Checkpoint:
    """Save a checkpoint as if trained on a corpus that is split as training splits it."""
    save_checkpoint(corpus.parent / "seed")
    seed = checkpoint.load(str(corpus.parent / "seed"))
    flags = TRAINING["flags"] | {"data_dir": str(corpus)}
    trained = replace(seed, training=TRAINING | {"flags": flags})
    checkpoint.save(trained, directory)
    return trained
