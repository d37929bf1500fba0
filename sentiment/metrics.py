"""Metrics of predicted probabilities against 0/1 labels: accuracy, AUC, log loss, calibration.

scikit-learn and SciPy compute what they have. Throughout, `labels: int[n]` are 0 or 1,
`probabilities: float[n]` are of label 1, and n >= 1.
"""

from dataclasses import dataclass

import numpy as np
import sklearn.metrics
from scipy.special import expit, logit
from scipy.stats import binomtest, norm, rankdata

BINS = 15
"""Number of equally wide bins of a calibration, as in Guo et al. 2017, "On Calibration of Modern
Neural Networks"."""

CONFIDENCE = 0.95
"""Confidence level of all intervals."""


@dataclass(frozen=True)
class Metrics:
    """How well probabilities fit labels."""

    rows: int
    accuracy: float
    auc: float
    """Area under the ROC curve; NaN if only one class occurs."""
    log_loss: float
    """Mean cross-entropy in nats."""
    calibration_error: float
    """See `Calibration.error`."""
    confusion: np.ndarray
    """int[2, 2]: rows by label, columns by predicted class, negative first."""


@dataclass(frozen=True)
class Calibration:
    """Mean probability and share of positive texts in `BINS` equally wide bins of [0, 1]."""

    rows: np.ndarray
    """int[BINS]: texts in each bin."""
    probability: np.ndarray
    """float64[BINS]: mean probability; NaN for an empty bin."""
    positive: np.ndarray
    """float64[BINS]: share of texts labelled positive; NaN for an empty bin."""

    @property
    def error(self) -> float:
        """Expected calibration error (Naeini et al. 2015), from 0 (best) to 1.

        |mean probability - share of positive texts| of each bin, weighted by the bin's rows.
        """
        differences = np.abs(self.probability - self.positive)
        return float(np.nansum(self.rows * differences) / self.rows.sum())


def measure(labels: np.ndarray, probabilities: np.ndarray) -> Metrics:
    """Compute all metrics. A text is predicted positive from a probability of 0.5."""
    probabilities = probabilities.astype(np.float64)
    predicted = (probabilities >= 0.5).astype(int)
    both_classes = labels.min() != labels.max()
    return Metrics(
        rows=len(labels),
        accuracy=float(sklearn.metrics.accuracy_score(labels, predicted)),
        auc=float(sklearn.metrics.roc_auc_score(labels, probabilities)) if both_classes else np.nan,
        log_loss=float(sklearn.metrics.log_loss(labels, probabilities, labels=[0, 1])),
        calibration_error=calibrate(labels, probabilities).error,
        confusion=sklearn.metrics.confusion_matrix(labels, predicted, labels=[0, 1]),
    )


def calibrate(labels: np.ndarray, probabilities: np.ndarray) -> Calibration:
    """Bin the texts by probability. scikit-learn's `calibration_curve` gives no counts."""
    probabilities = probabilities.astype(np.float64)
    bins = np.minimum((probabilities * BINS).astype(int), BINS - 1)
    rows = np.bincount(bins, minlength=BINS)
    with np.errstate(invalid="ignore"):  # 0 / 0 for an empty bin.
        return Calibration(
            rows,
            np.bincount(bins, probabilities, BINS) / rows,
            np.bincount(bins, labels, BINS) / rows,
        )


def share_interval(hits: int, rows: int) -> tuple[float, float]:
    """Wilson's score interval of the share `hits / rows`; rows >= 1."""
    interval = binomtest(int(hits), int(rows)).proportion_ci(CONFIDENCE, "wilson")
    return float(interval.low), float(interval.high)


def auc_interval(labels: np.ndarray, probabilities: np.ndarray) -> tuple[float, float]:
    """Confidence interval of the area under the ROC curve: DeLong et al. 1988, on the logit scale.

    The logit scale keeps it between 0 and 1. (NaN, NaN) if a class has fewer than two texts, or if
    every positive text is above (or below) every negative one: the variance is unknown then.
    """
    positive, negative = probabilities[labels == 1], probabilities[labels == 0]
    if min(len(positive), len(negative)) < 2:
        return np.nan, np.nan
    # By ranks (Sun and Xu 2014). For each positive text the share of negative texts below it, for
    # each negative text the share of positive texts below it; a tie counts half.
    ranks = rankdata(probabilities)
    below_positive = (ranks[labels == 1] - rankdata(positive)) / len(negative)
    below_negative = (ranks[labels == 0] - rankdata(negative)) / len(positive)
    auc = below_positive.mean()
    if auc in (0, 1):
        return np.nan, np.nan
    variance = below_positive.var(ddof=1) / len(positive)
    variance += below_negative.var(ddof=1) / len(negative)
    margin = norm.ppf((1 + CONFIDENCE) / 2) * np.sqrt(variance) / (auc * (1 - auc))
    return float(expit(logit(auc) - margin)), float(expit(logit(auc) + margin))
