"""Probabilities and labels -> metrics."""

from dataclasses import dataclass

import numpy as np
import sklearn.metrics
from scipy.special import expit, logit
from scipy.stats import binomtest, norm

BINS = 15
"""Of a calibration: as many, and as wide as each other, as in Guo et al. 2017, "On Calibration of
Modern Neural Networks"."""

CONFIDENCE = 0.95
"""Of every interval."""


@dataclass(frozen=True)
class Ranking:
    """How labels lie in the order of probabilities, of which k are distinct: all that thresholds
    can tell apart, from one sort."""

    positive: np.ndarray
    """int (k + 1,): positive texts with at least each probability, from the highest on; 0 first."""
    negative: np.ndarray
    """int (k + 1,): the same of negative ones."""

    @property
    def auc(self) -> float:
        """Area under the ROC curve; NaN where only one class is there."""
        pairs = int(self.positive[-1]) * int(self.negative[-1])
        return float(np.trapezoid(self.positive, self.negative) / pairs) if pairs else float("nan")


@dataclass(frozen=True)
class Metrics:
    """How well probabilities fit labels."""

    rows: int
    accuracy: float
    auc: float
    """See `Ranking`."""
    log_loss: float
    """Mean cross-entropy in nats."""
    calibration_error: float
    """How far, in the mean over rows, a bin's probabilities are from its share of positive texts:
    see `Calibration`."""
    confusion: np.ndarray
    """int (2, 2): rows by label, columns by answer, negative first."""
    ranking: Ranking


@dataclass(frozen=True)
class Calibration:
    """Rows in `BINS` bins of the positive probability, equally wide; the last one holds 1 too."""

    rows: np.ndarray
    """int (BINS,)."""
    probability: np.ndarray
    """float (BINS,): their mean probability; NaN where there are no rows."""
    positive: np.ndarray
    """float (BINS,): the share labelled positive; NaN where there are no rows."""

    @property
    def error(self) -> float:
        """The expected calibration error (Naeini et al. 2015): 0 at best, at most 1.

        The mean over all rows of what their bin's mean probability and its share of positive texts
        differ by.
        """
        apart = np.abs(self.probability - self.positive)
        return float(np.nansum(self.rows * apart) / self.rows.sum())


def measure(labels: np.ndarray, probabilities: np.ndarray) -> Metrics:
    """The metrics of probabilities of class 1, float (n,), for labels 0/1, int (n,); n >= 1.

    A text is taken for positive from 0.5 on.
    """
    confusion = sklearn.metrics.confusion_matrix(labels, probabilities >= 0.5, labels=[0, 1])
    ranking = rank(labels, probabilities)
    return Metrics(
        rows=len(labels),
        accuracy=float(np.trace(confusion) / len(labels)),
        auc=ranking.auc,
        log_loss=float(
            sklearn.metrics.log_loss(labels, probabilities.astype(np.float64), labels=[0, 1])
        ),
        calibration_error=calibrate(labels, probabilities).error,
        confusion=confusion,
        ranking=ranking,
    )


def rank(labels: np.ndarray, probabilities: np.ndarray) -> Ranking:
    """The ranking of probabilities of class 1, float (n,), for labels 0/1, int (n,); n >= 1."""
    order = np.argsort(probabilities)[::-1]
    # The last text of each probability.
    ends = np.flatnonzero(np.diff(probabilities[order], append=np.nan))
    positive = np.concatenate([[0], np.cumsum(labels[order])[ends]])
    return Ranking(positive, np.concatenate([[0], ends + 1]) - positive)


def calibrate(labels: np.ndarray, probabilities: np.ndarray) -> Calibration:
    """How probabilities of class 1, float (n,), agree with labels 0/1, int (n,); n >= 1."""
    probabilities = probabilities.astype(np.float64)
    bins = np.minimum((probabilities * BINS).astype(int), BINS - 1)
    rows, sums, positive = (
        np.bincount(bins, weights, BINS) for weights in (None, probabilities, labels)
    )
    with np.errstate(invalid="ignore"):
        return Calibration(rows, sums / rows, positive / rows)


def share_interval(hits: int, rows: int) -> tuple[float, float]:
    """What a share, `hits` of `rows`, may really be: Wilson's score interval; rows >= 1."""
    interval = binomtest(int(hits), int(rows)).proportion_ci(CONFIDENCE, "wilson")
    return float(interval.low), float(interval.high)


def auc_interval(ranking: Ranking) -> tuple[float, float]:
    """What the area under the ROC curve may really be, by the variance of DeLong et al. 1988.

    It is computed from ranks (Sun and Xu 2014) and taken on the scale of log odds, which keeps it
    between 0 and 1. (NaN, NaN) with fewer than two texts of a class, and where every positive text
    is above, or below, every negative one: then nothing is known of the variance.
    """
    positives, negatives = int(ranking.positive[-1]), int(ranking.negative[-1])
    auc = ranking.auc
    if min(positives, negatives) < 2 or auc in (0, 1):
        return float("nan"), float("nan")
    # For each positive text the share of negative ones below it, for each negative one of the
    # positive ones above it; ties count half. Texts of one probability have the same.
    positive, negative = np.diff(ranking.positive), np.diff(ranking.negative)
    below = 1 - (ranking.negative[1:] - negative / 2) / negatives
    above = (ranking.positive[1:] - positive / 2) / positives
    variance = positive @ (below - auc) ** 2 / (positives - 1) / positives
    variance += negative @ (above - auc) ** 2 / (negatives - 1) / negatives
    margin = norm.ppf((1 + CONFIDENCE) / 2) * np.sqrt(variance) / (auc * (1 - auc))
    return float(expit(logit(auc) - margin)), float(expit(logit(auc) + margin))
