"""Sections of the training report: curves, thresholds, classes, calibration, lengths."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from sklearn.metrics import precision_recall_curve, precision_recall_fscore_support, roc_curve

from pipelines.console.terminal import percent
from pipelines.reports.class_shares import chart_names
from pipelines.reports.evaluation_results import (
    MODEL,
    EvaluationResults,
    format_interval,
    format_number,
)
from pipelines.reports.page import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    Section,
    Table,
    draw_chart,
)
from sentiment.metrics import BINS, most_confused, share_interval

if TYPE_CHECKING:  # Loads where a chart is drawn.
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CURVE_POINTS = 300
"""Most points of a curve; a chart cannot show more."""

CURVE_CLASSES = 5
"""Most classes whose curves can be told apart in a chart."""

_LINES = ((BLUE, "-"), (ORANGE, "-"), (GREEN, "-"), (PURPLE, "-"), (BLUE, "-."))
"""Colour and style of each curve."""

MATRIX_CLASSES = 20
"""Most classes whose confusion matrix can be read; else the most frequent confusions are shown."""

CONFUSIONS = 30

THRESHOLDS = tuple(number / 10 for number in range(1, 10))


def curves(results: EvaluationResults) -> list[Section]:
    """ROC and precision-recall curves, of each model for two classes and of each class for more;
    thresholds for two classes; nothing for more than `CURVE_CLASSES`.
    """
    labels, classes = results.labels, results.classes
    if len(classes) > CURVE_CLASSES:
        return []
    is_binary = len(classes) == 2
    heading = "Thresholds" if is_binary else "Each class against the others"
    tables = [_threshold_table(results)] if is_binary else []
    if labels.min() == labels.max():
        only = classes.names[labels[0]]
        text = f"All texts are labelled {only}: no curve to draw."
        return [Section(heading, text, tables=tables)]
    names = chart_names(classes.names)
    # A constant prediction, as of the majority class, is the line of chance.
    lines = (
        [
            (model, labels == 1, probabilities[:, 1].astype(np.float64))
            for model, probabilities in results.probabilities_by_model.items()
            if probabilities[:, 1].min() != probabilities[:, 1].max()
        ]
        if is_binary
        else [
            (names[k], labels == k, results.probabilities[:, k].astype(np.float64))
            for k in np.unique(labels)
        ]
    )

    def draw_roc(figure: "Figure") -> None:
        axes = figure.add_subplot(xlabel="false positive rate", ylabel="true positive rate")
        for (color, style), (name, of_class, scores) in zip(_LINES, lines, strict=False):
            false_positives, true_positives, _ = roc_curve(of_class, scores)
            points = _thinned(false_positives, true_positives)
            axes.plot(*points, style, color=color, label=name)
        axes.plot([0, 1], [0, 1], "--", color=GREY, label="chance")
        axes.legend()

    def draw_precision(figure: "Figure") -> None:
        axes = figure.add_subplot(xlabel="recall", ylabel="precision", ylim=(0, 1.03))
        for (color, style), (name, of_class, scores) in zip(_LINES, lines, strict=False):
            precision, recall, _ = precision_recall_curve(of_class, scores)
            axes.plot(*_thinned(recall, precision), style, color=color, label=name)
        if is_binary:
            axes.axhline((labels == 1).mean(), linestyle="--", color=GREY, label="chance")
        axes.legend(loc="lower left")

    subject = f"{classes.names[1]} texts" if is_binary else "a class's texts"
    text = f"A lower threshold has a higher recall of {subject}, and a lower precision."
    if not is_binary:
        text = "How well the probability of each class tells its texts from all others."
    notes = (
        "Recall, or true positive rate: the share of the class's texts that are answered so. "
        "Precision: the share of the texts answered so that are of the class. False positive rate: "
        "the share of other texts that are answered so. ROC (receiver operating characteristic) "
        "curves are better the nearer they come to the upper left corner, precision-recall curves "
        "the nearer they come to the upper right. For a rare class, look at precision and recall."
    )
    if names != tuple(classes.names):
        numbered = (f"{short} is {name}" for short, name in zip(names, classes.names, strict=True))
        text += f" In charts, {', '.join(numbered)}."
    charts = [
        draw_chart("ROC curve", "Receiver operating characteristic.", draw_roc),
        draw_chart("Precision and recall", "Precision at each recall.", draw_precision),
    ]
    return [Section(heading, text, charts, tables, notes=notes)]


def _threshold_table(results: EvaluationResults) -> Table:
    """What the threshold of two classes would give, had it another value."""
    labels, scores = results.labels == 1, results.probabilities[:, 1]
    rows = []
    for threshold in sorted({*THRESHOLDS, results.classes.threshold or 0.5}):
        answers = scores >= threshold
        values = precision_recall_fscore_support(
            labels, answers, average="binary", zero_division=np.nan
        )[:3]
        shares = [*values, (answers == labels).mean(), answers.mean()]
        shown = (percent(float(share)) for share in shares)
        rows.append((f"{threshold:g}", *shown))
    second = results.classes.names[1]
    columns = ("threshold", "precision", "recall", "F1", "accuracy", f"answered {second}")
    caption = f"Each threshold; precision, recall and F1 are of {second}"
    return Table(caption, columns, rows, "rrrrrr")


def classes(results: EvaluationResults) -> Section:
    """Precision, recall and F1 of each class, and which classes are taken for which."""
    metrics, names = results.metrics[MODEL], results.classes.names
    confusion = metrics.confusion
    rows = []
    for k, name in enumerate(names):
        mistakes = confusion[k].copy()
        mistakes[k] = 0
        taken_for = int(mistakes.argmax())
        shares = (metrics.precision[k], metrics.recall[k], metrics.f1[k])
        rows.append(
            (
                name,
                f"{confusion[k].sum():,}",
                f"{confusion[:, k].sum():,}",
                *(percent(value) for value in shares),
                format_number(metrics.class_auc[k], ".3f"),
                f"{names[taken_for]} ({mistakes[taken_for]:,})" if mistakes.any() else "–",
            )
        )
    columns = (
        *("class", "labelled", "answered", "precision", "recall", "F1", "AUC"),
        "most often taken for",
    )
    text = "How well each class is recognized, and which classes are taken for which."
    notes = (
        "Precision is the share of texts answered with a class that are labelled so, recall the "
        "share of texts of a class that are answered so; F1 is their harmonic mean; AUC is the "
        "area under the ROC curve of the class against the others."
    )
    tables = [Table("Each class", columns, rows, "lrrrrrrl")]
    if len(names) <= MATRIX_CLASSES:
        notes += (
            " In the confusion matrix, a row holds the texts of a label; shares and colours are of "
            "the row: blue is right, orange wrong."
        )
        tables.append(_matrix(confusion, names))
    elif confused := most_confused(confusion, CONFUSIONS):
        cells = [(names[label], names[answer], f"{rows:,}") for label, answer, rows in confused]
        tables.append(Table("Most frequent confusions", ("label", "answer", "texts"), cells, "llr"))
    return Section("Right and wrong predictions", text, tables=tables, notes=notes)


def _matrix(confusion: np.ndarray, names: Sequence[str]) -> Table:
    """The confusion matrix as a heat map: right answers blue, wrong ones orange."""
    shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    # By the root, since a few percent of mistakes are worth a look.
    shades = np.where(np.eye(len(names), dtype=bool), shares, -np.sqrt(shares))
    has_room = len(names) <= CURVE_CLASSES
    cells = [
        [
            f"{rows:,} · {percent(share)}" if has_room else f"{rows:,}"
            for rows, share in zip(*row, strict=True)
        ]
        for row in zip(confusion, shares, strict=True)
    ]
    return Table(
        "Confusion matrix: rows by label, columns by answer",
        ("", *names),
        [(name, *row) for name, row in zip(names, cells, strict=True)],
        "l" + "r" * len(names),
        [[0, *row] for row in shades.tolist()],
    )


def calibration(results: EvaluationResults) -> Section:
    """The reliability diagram: how often a probability came true."""
    calibrated = results.calibration
    bins = np.flatnonzero(calibrated.rows)
    rows, shares = calibrated.rows[bins], calibrated.share[bins]
    hits = np.rint(shares * rows)
    intervals = [share_interval(*counts) for counts in zip(hits, rows, strict=True)]
    is_binary = len(results.classes) == 2
    name = chart_names(results.classes.names)[1]

    def draw(figure: "Figure") -> None:
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        upper.plot([0, 1], [0, 1], "--", color=GREY, label="perfect calibration")
        errors = _errors(shares, intervals)
        upper.errorbar(calibrated.probability[bins], shares, errors, fmt="o-", label=MODEL)
        upper.set(ylabel=f"share {name}" if is_binary else "share right")
        upper.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03))
        upper.legend()
        lower.bar((np.arange(BINS) + 0.5) / BINS, calibrated.rows, 0.9 / BINS)
        of = f"{name} probability" if is_binary else "probability of the answer"
        lower.set(xlabel=of, ylabel="texts")
        lower.yaxis.set_major_formatter("{x:,.0f}")

    second = results.classes.names[1]
    example = (
        f"70% of the texts with a {second} probability of 0.7 are {second}"
        if is_binary
        else "70% of the answers with a probability of 0.7 are right"
    )
    text = (
        f"If the model is well calibrated, {example}. The expected calibration error is "
        f"{calibrated.error:.3f}."
    )
    notes = (
        "Above the diagonal the probabilities are too low, below it too high. Bars are 95% "
        "intervals (Wilson). The expected calibration error is the mean distance from the diagonal "
        "weighted by texts; it says nothing of how many answers are right."
    )
    caption = f"{BINS} bins of equal width, and the texts in each."
    chart = draw_chart("Reliability diagram", caption, draw, 320)
    tables = [] if is_binary else [_sure_answers(results)]
    return Section("Calibration", text, [chart], tables, notes=notes, is_narrow=True)


def _sure_answers(results: EvaluationResults) -> Table:
    """How many texts keep their answer, had it to be as probable as a threshold, and how right."""
    sure = results.probabilities.max(axis=1)
    right = results.answers[MODEL] == results.labels
    rows = []
    for threshold in THRESHOLDS:
        is_sure = sure >= threshold
        accuracy = right[is_sure].mean() if is_sure.any() else np.nan
        shown = (percent(float(share)) for share in (is_sure.mean(), accuracy))
        rows.append((f"{threshold:g}", *shown))
    columns = ("probability from", "texts", "accuracy")
    return Table("Only answers of at least this probability", columns, rows, "rrr")


def lengths(results: EvaluationResults) -> Section:
    """Accuracy of short and long texts."""
    bins = list(by_length(results.lengths, results.answers[MODEL] == results.labels))
    names = [name for name, _, _ in bins]
    hits, texts = np.array([counts for _, *counts in bins]).T
    intervals = [share_interval(*counts) for counts in zip(hits, texts, strict=True)]

    def draw(figure: "Figure") -> None:
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        places = np.arange(len(names))
        upper.errorbar(places, hits / texts, _errors(hits / texts, intervals), fmt="o")
        upper.set(ylabel="accuracy", xticks=places, xticklabels=names, ylim=(0, 1.03))
        format_percent(upper)
        lower.bar(places, texts, 0.8)
        lower.set(xlabel="tokens", ylabel="texts")
        lower.yaxis.set_major_formatter("{x:,.0f}")

    rows = [
        (name, f"{n:,}", percent(k / n), format_interval(interval, ".1%"))
        for name, k, n, interval in zip(names, hits, texts, intervals, strict=True)
    ]
    text = "Accuracy by the number of a text's tokens."
    notes = (
        "Tokens without stop words; tokens that are not in the vocabulary count. Each bin is twice "
        "as wide as the one before. All texts without tokens get the same probabilities. Bars are "
        "95% intervals (Wilson)."
    )
    table = Table("Accuracy by length", ("tokens", "texts", "accuracy", "interval"), rows, "lrrr")
    chart = draw_chart("Accuracy by length", "Accuracy by tokens in a text.", draw, 320)
    return Section("Short and long texts", text, [chart], [table], notes=notes, is_narrow=True)


def by_length(lengths: np.ndarray, right: np.ndarray) -> Iterator[tuple[str, int, int]]:
    """Count texts by length: 0, 1, 2 to 3, 4 to 7, ... tokens; empty bins are left out.

    Args:
        lengths: int[n], tokens.
        right: bool[n], whether the prediction is right.

    Yields:
        The bin's name, its right predictions, its texts.
    """
    bins = np.frexp(lengths)[1]
    for power in np.unique(bins):
        first, last = 2**power // 2, 2**power - 1
        members = right[bins == power]
        name = f"{first}" if first == last else f"{first}–{last}"
        yield name, int(members.sum()), len(members)


def format_percent(axes: "Axes") -> None:
    """Show the values of the y-axis as percentages."""
    from matplotlib.ticker import PercentFormatter

    axes.yaxis.set_major_formatter(PercentFormatter(1))


def _thinned(*curves: np.ndarray) -> list[np.ndarray]:
    """At most `CURVE_POINTS` of each curve's points, ends included."""
    kept = np.unique(np.linspace(0, len(curves[0]) - 1, CURVE_POINTS).round().astype(int))
    return [curve[kept] for curve in curves]


def _errors(values: np.ndarray, intervals: Sequence[tuple[float, float]]) -> np.ndarray:
    """float64[2, n]: how far intervals reach below and above their values."""
    low, high = np.array(intervals).T
    return np.maximum([values - low, high - values], 0)
