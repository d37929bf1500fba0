"""Training report: an HTML page on a model's training and its predictions for labelled texts.

It quotes texts of the corpus; `pipelines.reports.model_card` does not.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from sklearn.metrics import (
    precision_recall_curve,
    precision_recall_fscore_support,
    roc_curve,
)

from pipelines.reports.evaluation_results import (
    COMPARISON_COLUMNS,
    INTERVALS,
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
    Section,
    Table,
    draw_chart,
    page,
    shorten,
)
from pipelines.reports.training_run import TrainingRun, train_command
from sentiment import storage
from sentiment.errors import on_one_line
from sentiment.metrics import BINS, calibrate, share_interval

if TYPE_CHECKING:  # Loads where a chart is drawn.
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WORST_TEXTS = 20
"""Wrongly predicted texts that are quoted."""

QUOTED_CHARACTERS = 280

CURVE_POINTS = 300
"""Most points of a curve; a chart cannot show more."""

CLASSES = ("negative", "positive")


def training_report(results: EvaluationResults) -> bytes:
    """Render the page, UTF-8."""
    metrics = results.metrics[MODEL]
    subject = "Training report" if results.held_out else "Evaluation"
    facts = [
        ("accuracy", format_number(metrics.accuracy, ".1%")),
        ("AUC", format_number(metrics.auc, ".3f")),
        ("log loss", format_number(metrics.log_loss, ".3f")),
        ("calibration error", format_number(metrics.calibration_error, ".3f")),
        (results.kind, f"{metrics.rows:,}"),
    ]
    sections = [
        _model(results),
        _training(results.run),
        _comparison(results),
        _thresholds(results),
        _confusion(results),
        _calibration(results),
        _lengths(results),
        _worst(results),
        _flags(results.run),
    ]
    return page(f"{subject}: {results.name}", _lead(results), sections, facts)


def _lead(results: EvaluationResults) -> str:
    text = (
        f"The model {results.name}, measured on {len(results.labels):,} {results.kind} of "
        f"{results.data_dir}. A text is predicted positive from a probability of 0.5."
    )
    training_dir = storage.absolute(str(results.run.flags["data_dir"]))
    if not results.held_out and storage.absolute(results.data_dir) == training_dir:
        text += " The model was trained on most of these rows, so the metrics are too good."
    return text


def _model(results: EvaluationResults) -> Section:
    text = (
        "Rows are split by a hash of their text, so that equal texts are always on the same side. "
        "The model hash identifies weights, vocabulary and stop words; scored files carry it."
    )
    facts = results.model_facts(str(results.run.flags["data_dir"]))
    table = Table("The model and its corpus", ("what", "value"), facts, "ll")
    return Section("Model", text, tables=[table])


def _training(run: TrainingRun) -> Section:
    losses, validations = run.losses, run.validations
    if not losses and not validations:
        return Section("Training", "The checkpoint holds no history of its training.")
    validated_steps = [point.step for point in validations]

    def finish(axes: "Axes") -> None:
        if run.best is not None:
            axes.axvline(run.best.step, color=GREY, linestyle=":", label="best validation")
        axes.set_xlabel("step")
        axes.legend()

    def draw_losses(figure: "Figure") -> None:
        axes = figure.add_subplot(ylabel="loss (nats)")
        if losses:
            marker = "." if len(losses) == 1 else None  # One point makes no line.
            steps, values = [point.step for point in losses], [point.loss for point in losses]
            axes.plot(steps, values, marker=marker, color=GREY, label="training")
        if validations:
            values = [point.validation_loss for point in validations]
            axes.plot(validated_steps, values, "o-", label="validation")
        finish(axes)

    def draw_accuracy(figure: "Figure") -> None:
        axes = figure.add_subplot(ylabel="accuracy")
        values = [point.validation_accuracy for point in validations]
        axes.plot(validated_steps, values, "o-", label="validation")
        _format_percent(axes)
        finish(axes)

    charts = [
        draw_chart("Loss by step", "Mean cross-entropy. Guessing gives 0.69.", draw_losses),
    ]
    if validations:
        caption = "Accuracy on the validation rows."
        charts.append(draw_chart("Validation accuracy by step", caption, draw_accuracy))
    text = (
        "The weights are those with the lowest validation loss. If the validation loss rises while "
        "the training loss falls, the model overfits. Training losses are averaged over "
        "neighbouring steps and measured with dropout, so they are higher than validation losses "
        "of the same weights."
    )
    return Section("Training", text, charts)


def _comparison(results: EvaluationResults) -> Section:
    text = (
        "Predictions of simpler models for the same texts. The majority class predicts the share "
        "of positive training rows for every text. Where intervals overlap widely, more labelled "
        f"texts are needed to tell the models apart. {INTERVALS}"
    )
    heading = "Comparison with simpler models"
    table = Table(heading, COMPARISON_COLUMNS, results.comparison, "lrrrrrr")
    return Section(heading, text, tables=[table])


def _thresholds(results: EvaluationResults) -> Section:
    labels, heading = results.labels, "Thresholds other than 0.5"
    if labels.min() == labels.max():
        return Section(heading, f"All texts are labelled {CLASSES[labels[0]]}: no curve to draw.")
    # A constant prediction, as of the majority class, is the line of chance.
    predictions = [
        (name, probabilities.astype(np.float64))
        for name, probabilities in results.probabilities_by_model.items()
        if probabilities.min() != probabilities.max()
    ]
    colors = (BLUE, ORANGE, GREEN)

    def draw_roc(figure: "Figure") -> None:
        axes = figure.add_subplot(xlabel="false positive rate", ylabel="true positive rate")
        for color, (name, probabilities) in zip(colors, predictions, strict=False):
            false_positives, true_positives, _ = roc_curve(labels, probabilities)
            axes.plot(*_thinned(false_positives, true_positives), color=color, label=name)
        axes.plot([0, 1], [0, 1], "--", color=GREY, label="chance")
        axes.legend()

    def draw_precision(figure: "Figure") -> None:
        axes = figure.add_subplot(xlabel="recall", ylabel="precision", ylim=(0, 1.03))
        for color, (name, probabilities) in zip(colors, predictions, strict=False):
            precision, recall, _ = precision_recall_curve(labels, probabilities)
            axes.plot(*_thinned(recall, precision), color=color, label=name)
        axes.axhline(labels.mean(), linestyle="--", color=GREY, label="chance")
        axes.legend(loc="lower left")

    text = (
        "A lower threshold finds more of the positive texts (true positive rate, recall) and takes "
        "more negative texts for positive. The ROC curve is better the nearer it comes to the "
        "upper left corner, the other curve the nearer it comes to the upper right. If few texts "
        "are positive, look at precision and recall."
    )
    charts = [
        draw_chart("ROC curve", "Receiver operating characteristic.", draw_roc),
        draw_chart("Precision and recall", "Precision at each recall.", draw_precision),
    ]
    return Section(heading, text, charts)


def _confusion(results: EvaluationResults) -> Section:
    confusion = results.metrics[MODEL].confusion

    def draw(figure: "Figure") -> None:
        axes = figure.add_subplot(xlabel="predicted", ylabel="labelled")
        for (label, predicted), rows in np.ndenumerate(confusion):
            share = rows / max(confusion[label].sum(), 1)
            color = BLUE if label == predicted else ORANGE
            axes.bar(predicted, 1, 1, label - 0.5, color=color, alpha=0.08 + 0.5 * share)
            axes.text(predicted, label, f"{rows:,}\n{share:.1%}", ha="center", va="center")
        axes.set(xticks=(0, 1), xticklabels=CLASSES, yticks=(0, 1), yticklabels=CLASSES)
        axes.set(xlim=(-0.5, 1.5), ylim=(1.5, -0.5))
        axes.grid(visible=False)

    text = (
        "In the matrix, shares are of the row. Precision is the share of texts predicted as a "
        "class that are labelled so, recall the share of texts of a class that are predicted so; "
        "F1 is their harmonic mean."
    )
    scores = precision_recall_fscore_support(
        results.labels, results.probabilities >= 0.5, labels=[0, 1], zero_division=np.nan
    )
    rows = []
    for name, precision, recall, f1, labelled, predicted in zip(
        CLASSES, *scores, confusion.sum(axis=0), strict=True
    ):
        shares = (format_number(value, ".1%") for value in (precision, recall, f1))
        rows.append((name, f"{labelled:,}", f"{predicted:,}", *shares))
    columns = ("class", "labelled", "predicted", "precision", "recall", "F1")
    charts = [draw_chart("Confusion matrix", "Texts by label and predicted class.", draw)]
    table = Table("Each class", columns, rows, "lrrrrr")
    return Section("Right and wrong predictions", text, charts, [table])


def _calibration(results: EvaluationResults) -> Section:
    calibration = calibrate(results.labels, results.probabilities)
    bins = np.flatnonzero(calibration.rows)
    rows, positive = calibration.rows[bins], calibration.positive[bins]
    hits = np.rint(positive * rows)
    intervals = [share_interval(*counts) for counts in zip(hits, rows, strict=True)]

    def draw(figure: "Figure") -> None:
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        upper.plot([0, 1], [0, 1], "--", color=GREY, label="perfect calibration")
        errors = _errors(positive, intervals)
        upper.errorbar(calibration.probability[bins], positive, errors, fmt="o-", label=MODEL)
        upper.set(ylabel="share positive", xlim=(-0.03, 1.03), ylim=(-0.03, 1.03))
        upper.legend()
        lower.bar((np.arange(BINS) + 0.5) / BINS, calibration.rows, 0.9 / BINS)
        lower.set(xlabel="positive probability", ylabel="texts")
        lower.yaxis.set_major_formatter("{x:,.0f}")

    text = (
        "If the model is well calibrated, 70% of the texts with a positive probability of 0.7 are "
        "positive. Above the diagonal the probabilities are too low, below it too high. Bars are "
        "95% intervals (Wilson). The expected calibration error, the mean distance from the "
        f"diagonal weighted by texts, is {calibration.error:.3f}."
    )
    caption = f"{BINS} bins of equal width, and the texts in each."
    return Section("Calibration", text, [draw_chart("Reliability diagram", caption, draw, 320)])


def _lengths(results: EvaluationResults) -> Section:
    right = (results.probabilities >= 0.5) == (results.labels == 1)
    bins = list(_by_length(results.lengths, right))
    names = [name for name, _, _ in bins]
    hits, texts = np.array([counts for _, *counts in bins]).T
    intervals = [share_interval(*counts) for counts in zip(hits, texts, strict=True)]

    def draw(figure: "Figure") -> None:
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        places = np.arange(len(names))
        upper.errorbar(places, hits / texts, _errors(hits / texts, intervals), fmt="o")
        upper.set(ylabel="accuracy", xticks=places, xticklabels=names)
        _format_percent(upper)
        lower.bar(places, texts, 0.8)
        lower.set(xlabel="tokens", ylabel="texts")
        lower.yaxis.set_major_formatter("{x:,.0f}")

    rows = [
        (name, f"{n:,}", f"{k / n:.1%}", format_interval(interval, ".1%"))
        for name, k, n, interval in zip(names, hits, texts, intervals, strict=True)
    ]
    text = (
        "Tokens without stop words; tokens that are not in the vocabulary count. Each bin is twice "
        "as wide as the one before. All texts without tokens get the same probability. Bars are "
        "95% intervals (Wilson)."
    )
    table = Table("Accuracy by length", ("tokens", "texts", "accuracy", "interval"), rows, "lrrr")
    chart = draw_chart("Accuracy by length", "Accuracy by tokens in a text.", draw, 320)
    return Section("Short and long texts", text, [chart], [table])


def _worst(results: EvaluationResults) -> Section:
    labels, probabilities = results.labels, results.probabilities.astype(np.float64)
    wrong = np.flatnonzero((probabilities >= 0.5) != (labels == 1))
    errors = np.abs(probabilities[wrong] - labels[wrong])
    rows = [
        (
            f"{labels[i]}",
            f"{probabilities[i]:.3f}",
            shorten(on_one_line(results.texts[i]), QUOTED_CHARACTERS),
        )
        for i in wrong[np.argsort(-errors, kind="stable")][:WORST_TEXTS]
    ]
    if not rows:
        return Section("Worst mistakes", "All predictions are right.")
    text = (
        "The wrong predictions with the highest confidence. Look for wrong labels, irony and mixed "
        f"feelings. Texts are cut at {QUOTED_CHARACTERS} characters."
    )
    table = Table("Worst first", ("label", "probability", "text"), rows, "rrl")
    return Section("Worst mistakes", text, tables=[table])


def _flags(run: TrainingRun) -> Section:
    text = "All flags of training. The same rows and flags give the same model, bit for bit."
    return Section("Flags", text, code=[" \\\n    ".join(train_command(run.flags))])


def _by_length(lengths: np.ndarray, right: np.ndarray) -> Iterator[tuple[str, int, int]]:
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


def _format_percent(axes: "Axes") -> None:
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
