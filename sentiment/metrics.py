"""Metrics of predicted probabilities against labels: accuracy, F1, AUC, log loss, calibration.

All but AUC follow from `Counts`, which can be added, so texts may come in blocks.

Throughout, `labels: int[n]` are numbers of classes, 0 to K - 1, `probabilities: float[n, K]` are of
each class, and n >= 1.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit
from scipy.stats import binomtest, norm

from sentiment.classes import Classes

BINS = 15
"""Number of equally wide bins of a calibration, as in Guo et al. 2017, "On Calibration of Modern
Neural Networks"."""

CONFIDENCE = 0.95
"""Confidence level of all intervals."""

_QUANTILE = float(norm.ppf((1 + CONFIDENCE) / 2))


@dataclass(frozen=True)
class Metrics:
    """How well probabilities fit labels."""

    rows: int
    accuracy: float
    accuracy_interval: tuple[float, float]
    """Confidence interval: Wilson's score."""
    macro_f1: float
    """Mean F1 of the classes that are labelled: the same ones for all models of the same texts."""
    macro_f1_interval: tuple[float, float]
    """By the delta method. (NaN, NaN) if `macro_f1` is 0 or 1."""
    auc: float
    """Area under the ROC curve: of the second of two classes; of more classes, the mean of
    `class_auc` over those that are labelled. NaN if only one class is labelled."""
    auc_interval: tuple[float, float]
    """By DeLong's variance. (NaN, NaN) if there are too few texts to tell."""
    log_loss: float
    """Mean cross-entropy in nats."""
    calibration_error: float
    """See `count`."""
    confusion: np.ndarray
    """int[K, K]: rows by label, columns by answer."""
    precision: np.ndarray
    """float64[K]; NaN for a class that is never answered."""
    recall: np.ndarray
    """float64[K]; NaN for a class that is never labelled."""
    f1: np.ndarray
    """float64[K]; NaN for a class that is neither labelled nor answered."""
    class_auc: np.ndarray
    """float64[K]: area under the ROC curve of each class against all others; NaN for a class of no
    or all rows."""


@dataclass(frozen=True)
class Counts:
    """What accuracy, F1, log loss and calibration need of any number of texts; can be added."""

    confusion: np.ndarray
    """int64[K, K]: rows by label, columns by answer."""
    losses: float
    """Sum of the cross-entropies in nats."""
    bin_rows: np.ndarray
    """int64[BINS]: texts in each bin of a calibration."""
    bin_probability: np.ndarray
    """float64[BINS]: sum of their probabilities."""
    bin_true: np.ndarray
    """int64[BINS]: texts where it came true."""

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(
            self.confusion + other.confusion,
            self.losses + other.losses,
            self.bin_rows + other.bin_rows,
            self.bin_probability + other.bin_probability,
            self.bin_true + other.bin_true,
        )

    @property
    def rows(self) -> int:
        """Number of texts."""
        return int(self.confusion.sum())

    @property
    def calibration(self) -> "Calibration":
        """The calibration of these texts."""
        with np.errstate(invalid="ignore"):  # 0 / 0 for an empty bin.
            return Calibration(
                self.bin_rows, self.bin_probability / self.bin_rows, self.bin_true / self.bin_rows
            )


@dataclass(frozen=True)
class Calibration:
    """Mean probability and share of texts where it came true, in `BINS` equal bins of [0, 1]."""

    rows: np.ndarray
    """int[BINS]: texts in each bin."""
    probability: np.ndarray
    """float64[BINS]: mean probability; NaN for an empty bin."""
    share: np.ndarray
    """float64[BINS]: share of texts where it came true; NaN for an empty bin."""

    @property
    def error(self) -> float:
        """Expected calibration error (Naeini et al. 2015), from 0 (best) to 1.

        |mean probability - share| of each bin, weighted by the bin's rows.
        """
        differences = np.abs(self.probability - self.share)
        return float(np.nansum(self.rows * differences) / self.rows.sum())


@dataclass(frozen=True)
class PairedAccuracy:
    """How two models, measured on the same rows, differ in accuracy."""

    difference: float
    """Accuracy of the second model minus that of the first."""
    interval: tuple[float, float]
    """Confidence interval of the difference (Bonett and Price 2012)."""
    only_first: int
    """Rows that only the first model answers rightly."""
    only_second: int
    p_value: float
    """Of McNemar's exact test: the chance of so uneven counts if both are equally good."""


def measure(
    labels: np.ndarray, probabilities: np.ndarray, classes: Classes, counts: Counts | None = None
) -> Metrics:
    """Compute all metrics; `classes` says which class each text is answered with.

    With `counts` of more texts, `labels` and `probabilities` are a random sample of them, and only
    the areas under ROC curves and their interval are of the sample.
    """
    counts = counts or count(labels, probabilities, classes)
    confusion, rows = counts.confusion, counts.rows
    right, labelled, answered = np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0)
    with np.errstate(invalid="ignore"):  # 0 / 0: NaN.
        precision, recall = right / answered, right / labelled
        f1 = 2 * right / (labelled + answered)
    class_auc, auc, auc_interval = _areas(labels, probabilities)
    return Metrics(
        rows=rows,
        accuracy=float(right.sum() / rows),
        accuracy_interval=share_interval(right.sum(), rows),
        macro_f1=float(f1[labelled > 0].mean()),
        macro_f1_interval=_macro_f1_interval(confusion),
        auc=auc,
        auc_interval=auc_interval,
        log_loss=counts.losses / rows,
        calibration_error=counts.calibration.error,
        confusion=confusion,
        precision=precision,
        recall=recall,
        f1=f1,
        class_auc=class_auc,
    )


def count(labels: np.ndarray, probabilities: np.ndarray, classes: Classes) -> Counts:
    """The counts of some texts; the arguments are those of `measure`.

    A calibration bins the texts by a probability: of two classes that of the second, of more that
    of the answer. scikit-learn's `calibration_curve` gives no counts.
    """
    answers, number = classes.winners(probabilities), len(classes)
    # float32 rows sum to one but for rounding.
    of_label = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    of_label /= probabilities.sum(axis=1, dtype=np.float64)
    if number == 2:
        probability, true = probabilities[:, 1], labels == 1
    else:
        probability, true = probabilities[np.arange(len(labels)), answers], answers == labels
    probability = probability.astype(np.float64)
    bins = np.minimum((probability * BINS).astype(int), BINS - 1)
    pairs = np.bincount(labels.astype(np.int64) * number + answers, minlength=number**2)
    return Counts(
        pairs.reshape(number, number),
        float(np.log(1 / np.maximum(of_label, np.finfo(np.float64).eps)).sum()),
        np.bincount(bins, minlength=BINS),
        np.bincount(bins, probability, BINS),
        np.bincount(bins[true], minlength=BINS),
    )


def calibrate(labels: np.ndarray, probabilities: np.ndarray, classes: Classes) -> Calibration:
    """How often a probability came true; see `count`."""
    return count(labels, probabilities, classes).calibration


def only_right(labels: np.ndarray, first: np.ndarray, second: np.ndarray) -> tuple[int, int]:
    """Texts that only the first or only the second model answers rightly; `int[n]` answers."""
    is_first, is_second = first == labels, second == labels
    return int((is_first & ~is_second).sum()), int((is_second & ~is_first).sum())


def compare_answers(labels: np.ndarray, first: np.ndarray, second: np.ndarray) -> PairedAccuracy:
    """Compare two models by their answers, `int[n]` numbers of classes."""
    return compare_counts(*only_right(labels, first, second), len(labels))


def compare_counts(only_first: int, only_second: int, texts: int) -> PairedAccuracy:
    """Compare two models by the texts that only one of them answers rightly, of all `texts`."""
    uneven = only_first + only_second
    rows = texts + 2
    lost, won = (only_first + 1) / rows, (only_second + 1) / rows
    margin = _QUANTILE * np.sqrt((won + lost - (won - lost) ** 2) / rows)
    return PairedAccuracy(
        (only_second - only_first) / texts,
        (float(won - lost - margin), float(won - lost + margin)),
        only_first,
        only_second,
        float(binomtest(only_second, uneven).pvalue) if uneven else 1.0,
    )


def most_confused(confusion: np.ndarray, number: int) -> list[tuple[int, int, int]]:
    """The most frequent mistakes in `confusion: int[K, K]`: label, answer and rows of each."""
    wrong = confusion.copy()
    np.fill_diagonal(wrong, 0)
    flat = wrong.ravel()
    order = np.argsort(-flat, kind="stable")[:number]
    return [(*divmod(int(at), len(wrong)), int(flat[at])) for at in order if flat[at]]


def share_interval(hits: int, rows: int) -> tuple[float, float]:
    """Wilson's score interval of the share `hits / rows`; rows >= 1."""
    interval = binomtest(int(hits), int(rows)).proportion_ci(CONFIDENCE, "wilson")
    return float(interval.low), float(interval.high)


def _macro_f1_interval(confusion: np.ndarray) -> tuple[float, float]:
    """Confidence interval of the macro-F1 of `confusion: int[K, K]`, by the delta method.

    Takahashi et al. 2022, "Confidence interval for micro-averaged F1 and macro-averaged F1 scores",
    here on the logit scale, which keeps it between 0 and 1. (NaN, NaN) for a macro-F1 of 0 or 1.
    """
    labelled = confusion.sum(axis=1)
    totals = np.maximum(labelled + confusion.sum(axis=0), 1)
    f1, classes = 2 * np.diag(confusion) / totals, np.count_nonzero(labelled)
    # What a row of each label and answer adds to the sum of all F1, to first order.
    slope = f1 / totals
    influence = np.diag(2 / totals) - slope[:, None] - slope
    variance = (confusion * influence**2).sum() / classes**2
    return _logit_interval(float(f1.sum() / classes), float(variance))


def _areas(
    labels: np.ndarray, probabilities: np.ndarray
) -> tuple[np.ndarray, float, tuple[float, float]]:
    """`Metrics.class_auc`, `.auc` and `.auc_interval`.

    The variance is that of DeLong et al. 1988, of a mean over classes where there are more than
    two. It is unknown, and the interval (NaN, NaN), if a class, or all that is not of it, has fewer
    than two texts, or if the area is 0 or 1.
    """
    texts, number = probabilities.shape
    by_class = np.full(number, np.nan)
    if labels.min() == labels.max():
        return by_class, np.nan, (np.nan, np.nan)
    averaged = np.array([1]) if number == 2 else np.unique(labels)
    influence = np.zeros(texts)
    """Of each text on the sum of the averaged areas, to first order."""
    for k in np.unique(labels):
        of_class = labels == k
        rows, others = int(of_class.sum()), int((~of_class).sum())
        own, other = probabilities[of_class, k], probabilities[~of_class, k]
        below_own, below_other = _share_below(own, other), _share_below(other, own)
        by_class[k] = below_own.mean()
        if k in averaged:
            with np.errstate(divide="ignore", invalid="ignore"):  # A single text: NaN.
                influence[of_class] += (below_own - by_class[k]) / np.sqrt(rows * (rows - 1))
                influence[~of_class] -= (below_other - below_other.mean()) / np.sqrt(
                    others * (others - 1)
                )
    auc = float(by_class[averaged].mean())
    variance = float((influence**2).sum()) / len(averaged) ** 2
    return by_class, auc, _logit_interval(auc, variance)


def _share_below(values: np.ndarray, others: np.ndarray) -> np.ndarray:
    """For each value the share of others that are smaller; an equal one counts half."""
    others = np.sort(others)
    smaller = np.searchsorted(others, values, "left")
    return (smaller + np.searchsorted(others, values, "right")) / (2 * len(others))


def _logit_interval(value: float, variance: float) -> tuple[float, float]:
    """The interval around a value between 0 and 1, computed on the logit scale."""
    if value <= 0 or value >= 1:
        return np.nan, np.nan
    margin = _QUANTILE * np.sqrt(variance) / (value * (1 - value))
    return float(expit(logit(value) - margin)), float(expit(logit(value) + margin))
