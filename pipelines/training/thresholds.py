"""The threshold of a model of two classes, chosen for precision or recall on validation rows."""

from dataclasses import dataclass

import numpy as np
from sklearn.metrics import precision_recall_curve

from pipelines.training.batches import CachedRows
from pipelines.training.threshold_rule import ThresholdRule
from pipelines.training.validation import MAX_ROWS
from sentiment.model.inference import inference
from sentiment.network import Network
from sentiment.text.tokenizer import heads


@dataclass(frozen=True)
class ChosenThreshold:
    """A threshold, and what it reaches on the validation rows."""

    threshold: float
    precision: float
    recall: float
    accuracy: float
    rows: int


def choose_threshold(
    rule: ThresholdRule, labels: np.ndarray, probabilities: np.ndarray
) -> ChosenThreshold | None:
    """The threshold that keeps the rule and costs the other metric least; None: none keeps it.

    Args:
        rule: for precision the threshold with the highest recall is chosen, and the other way.
        labels: int[n], 0 or 1.
        probabilities: float32[n], of class 1.
    """
    if not labels.any():
        return None
    precision, recall, thresholds = precision_recall_curve(labels, probabilities)
    # The curve ends with a point that no threshold reaches.
    metric, other = (precision, recall) if rule.metric == "precision" else (recall, precision)
    usable = (metric[:-1] >= rule.least) & (thresholds > 0) & (thresholds < 1)
    if not usable.any():
        return None
    best = np.flatnonzero(usable)[np.argmax(other[:-1][usable])]
    return ChosenThreshold(
        float(thresholds[best]),
        float(precision[best]),
        float(recall[best]),
        float(((probabilities >= thresholds[best]) == labels).mean()),
        len(labels),
    )


def validation_answers(
    rows: CachedRows, longest: int, network: Network
) -> tuple[np.ndarray, np.ndarray]:
    """Labels and probabilities of the validation rows, as scoring computes them.

    Args:
        rows: of the validation split; the first MAX_ROWS are used.
        longest: tokens to keep of a text.
        network: of the model that is saved.

    Returns:
        int64[n], the class of each row, and float32[n, K].
    """
    labels, lengths, ids = rows.ranges([(0, min(len(rows), MAX_ROWS))])
    kept = np.minimum(lengths, longest)
    texts = heads(ids, np.concatenate([[0], np.cumsum(lengths)]), kept)
    offsets = np.concatenate([[0], np.cumsum(kept)])
    if labels.ndim == 2:
        labels = labels.argmax(axis=1)
    return labels, inference(network)(texts, offsets)
