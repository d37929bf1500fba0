"""Validation: the rows that are validated, loss and accuracy on them, and early stopping."""

from collections.abc import Sequence
from typing import TypedDict

import numpy as np

from pipelines.training.batches import CachedRows
from pipelines.training.calibration import cross_entropy, temperature
from sentiment.text.bigrams import Bigrams

MAX_ROWS = 10_000
"""Rows of a validation at most: enough for half a percent of accuracy."""

BATCH_ROWS = 512
"""Rows of a validation batch, over all workers."""


class Validation(TypedDict):
    """The result of one validation, as it stands in JSON files."""

    step: int
    validation_loss: float
    """Mean cross-entropy (nats), of the calibrated model with `--calibrate`; rows count by their
    class's weight."""
    validation_accuracy: float
    """Of the most probable class, whatever threshold the model will have."""
    validation_temperature: float
    """See `calibration.temperature`; used only by `--calibrate`, when the model is saved."""


class ValidationRows:
    """The rows that are validated, and one worker's share of their batches."""

    def __init__(self, rows: CachedRows, bigrams: Bigrams | None, rank: int, workers: int) -> None:
        """Args:
        rows: of the validation split; the first MAX_ROWS are used.
        bigrams: finds the bigrams of the vocabulary; None: the vocabulary has none.
        rank: number of this worker, from 0.
        workers: number of workers.
        """
        batches = rows.by_length(BATCH_ROWS, MAX_ROWS)
        self.targets: np.ndarray = np.concatenate([batch.targets for batch in batches])
        """float32[n, K] of the rows of all workers, as in `Batch`."""
        self.worker_batches = [
            batch.for_worker(rank, workers, batch.bigram_ids(bigrams) if bigrams else None)
            for batch in batches
        ]


def measure(step: int, targets: np.ndarray, logits: np.ndarray, calibrate: bool) -> Validation:
    """Loss, accuracy and temperature after a step.

    Args:
        step: the last step that is done.
        targets: float32[n, K], as in `Batch`. A row's label is its largest.
        logits: float32[n, K].
        calibrate: whether the model will be calibrated. Then its loss is that of the calibrated
            one: a model that goes on learning is often right more often, and too sure of itself.
    """
    divisor = temperature(targets, logits)
    return {
        "step": step,
        "validation_loss": cross_entropy(targets, logits / (divisor if calibrate else 1.0)),
        "validation_accuracy": float((logits.argmax(axis=1) == targets.argmax(axis=1)).mean()),
        "validation_temperature": divisor,
    }


def macro_f1(targets: np.ndarray, logits: np.ndarray) -> float:
    """Mean F1 of the classes that are labelled; arguments as for `measure`.

    Where a class is rare, accuracy does not show whether it is found.
    """
    classes = logits.shape[1]
    labels, answers = targets.argmax(axis=1), logits.argmax(axis=1)
    right = np.bincount(labels[labels == answers], minlength=classes)
    labelled = np.bincount(labels, minlength=classes)
    total = labelled + np.bincount(answers, minlength=classes)
    is_labelled = labelled > 0
    return float((2 * right[is_labelled] / total[is_labelled]).mean())


def is_over(validations: Sequence[Validation], patience: int | None) -> bool:
    """Whether the last `patience` validations are all worse than the best one before them."""
    if patience is None or not validations:
        return False
    losses = [validation["validation_loss"] for validation in validations]
    return len(losses) - 1 - int(np.argmin(losses)) >= patience
