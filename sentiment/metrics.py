"""Probabilities and labels -> metrics, by scikit-learn."""

from dataclasses import dataclass

import numpy as np
import sklearn.metrics


@dataclass(frozen=True)
class Metrics:
    """How well probabilities fit labels."""

    rows: int
    accuracy: float
    auc: float
    """Area under the ROC curve; NaN where only one class is there."""
    log_loss: float
    """Mean cross-entropy in nats."""
    confusion: np.ndarray
    """int (2, 2): rows by label, columns by answer, negative first."""


def measure(labels: np.ndarray, probabilities: np.ndarray) -> Metrics:
    """The metrics of probabilities of class 1, float (n,), for labels 0/1, int (n,); n >= 1.

    A text is taken for positive from 0.5 on.
    """
    answers = probabilities >= 0.5
    both = labels.min() != labels.max()
    return Metrics(
        rows=len(labels),
        accuracy=float(sklearn.metrics.accuracy_score(labels, answers)),
        auc=float(sklearn.metrics.roc_auc_score(labels, probabilities)) if both else float("nan"),
        log_loss=float(
            sklearn.metrics.log_loss(labels, probabilities.astype(np.float64), labels=[0, 1])
        ),
        confusion=sklearn.metrics.confusion_matrix(labels, answers, labels=[0, 1]),
    )
