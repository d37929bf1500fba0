"""A checkpoint and its answers to labelled texts -> the report of both, as a page.

`pipelines.evaluate` has the answers; `pipelines.reports.model_card` says the same for a model hub.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.reports.page import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    Section,
    Table,
    chart,
    page,
    shorten,
)
from sentiment import storage
from sentiment.checkpoint import Checkpoint, lstms
from sentiment.errors import on_one_line
from sentiment.metrics import (
    Calibration,
    Metrics,
    auc_interval,
    calibrate,
    measure,
    share_interval,
)

if TYPE_CHECKING:  # Loads where a chart is drawn.
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MODEL = "this model"

WORST = 20
"""Texts that are quoted, of those the model is most wrong about."""

QUOTED = 280
"""Characters of a text that are quoted."""

POINTS = 300
"""Most points of a curve: more than a chart can show."""


@dataclass(frozen=True)
class Evaluation:
    """A checkpoint, n labelled texts, n >= 1, and the answers of the model and of simpler ones."""

    name: str
    """Of the model: its directory's."""
    checkpoint: Checkpoint
    data_dir: str
    held_out: bool
    """Whether the texts are those its training run held out, not others."""
    texts: Sequence[str]
    labels: np.ndarray
    """int (n,), 0 or 1."""
    tokens: np.ndarray
    """int (n,): the length of each text."""
    answers: Mapping[str, np.ndarray]
    """Probabilities of label 1, float (n,), by the name of who gives them: `MODEL` is the first."""

    @property
    def probabilities(self) -> np.ndarray:
        """This model's, float (n,)."""
        return self.answers[MODEL]

    @property
    def kind(self) -> str:
        """What the rows are."""
        return "held-out rows" if self.held_out else "rows"

    @cached_property
    def metrics(self) -> dict[str, Metrics]:
        """How good the answers are, by the same names."""
        return {name: measure(self.labels, answers) for name, answers in self.answers.items()}

    @cached_property
    def compared(self) -> list[tuple[str, ...]]:
        """A row of `COMPARED` for the model, and for each that is simpler."""
        rows = []
        for name, metrics in self.metrics.items():
            right = int(np.trace(metrics.confusion))
            area = auc_interval(metrics.ranking)
            rows.append(
                (
                    name,
                    _show(metrics.accuracy, ".1%"),
                    _interval(share_interval(right, metrics.rows), ".1%"),
                    _show(metrics.auc, ".3f"),
                    _interval(area, ".3f"),
                    _show(metrics.log_loss, ".3f"),
                    _show(metrics.calibration_error, ".3f"),
                )
            )
        return rows


def report(evaluation: Evaluation) -> bytes:
    """The page, UTF-8. It quotes texts of the corpus."""
    metrics = evaluation.metrics[MODEL]
    subject = "Training report" if evaluation.held_out else "Evaluation"
    of_rows = f"{metrics.rows:,} {evaluation.kind} of {evaluation.data_dir}"
    facts = [
        ("accuracy", _show(metrics.accuracy, ".1%")),
        ("AUC", _show(metrics.auc, ".3f")),
        ("log loss", _show(metrics.log_loss, ".3f")),
        ("calibration error", _show(metrics.calibration_error, ".3f")),
        (evaluation.kind, f"{metrics.rows:,}"),
    ]
    sections = [
        _of_training(evaluation),
        _curves(evaluation.checkpoint.training),
        _comparison(evaluation),
        _thresholds(evaluation),
        _confusion(metrics),
        _calibration(calibrate(evaluation.labels, evaluation.probabilities)),
        _lengths(evaluation),
        _worst(evaluation),
        _flags(evaluation.checkpoint.training),
    ]
    lead = (
        f"What became of training the model {evaluation.name}, measured on {of_rows}. "
        "A text counts as positive from a probability of 0.5 on."
    )
    learnt_from = storage.absolute(evaluation.checkpoint.training["flags"]["data_dir"])
    if not evaluation.held_out and storage.absolute(evaluation.data_dir) == learnt_from:
        lead += " These are the rows of its own corpus, most of which it has learnt from."
    return page(f"{subject}: {evaluation.name}", lead, sections, facts)


def training_facts(checkpoint: Checkpoint) -> list[tuple[str, str]]:
    """What the model is and what it was trained on: names and values."""
    training, weights = checkpoint.training, checkpoint.weights
    flags = training["flags"]
    ways = "read both ways" if len(lstms(weights)) == 2 else "read from the beginning"
    names = {"train": "rows to train", "validation": "rows to validate", "test": "rows held out"}
    counts = [
        (said, f"{training['rows'][part]:,} ({_share(training, part)} positive)")
        for part, said in names.items()
    ]
    return [
        ("corpus", flags["data_dir"]),
        ("columns", f"{flags['text_column']} (texts), {flags['label_column']} (labels)"),
        *counts,
        ("vocabulary", f"{len(checkpoint.words):,} tokens, {len(checkpoint.bigrams):,} bigrams"),
        ("stop words", f"{len(checkpoint.stop_words):,}"),
        ("longest text", f"{training.get('longest', '?')} tokens"),
        ("embedding", f"{weights['embedding'].shape[1]} numbers a token"),
        ("LSTM", f"{weights['lstm/recurrent_kernel'].shape[0]} units, {ways}"),
        ("weights", f"{sum(value.size for value in weights.values()):,} numbers"),
        ("step of the best validation", f"{training.get('best', {}).get('step', '?')}"),
        *((f"version of {name}", known) for name, known in training.get("versions", {}).items()),
        ("model hash", checkpoint.model_hash),
    ]


COMPARED = ("model", "accuracy", "interval", "AUC", "interval", "log loss", "calibration error")
"""The columns of `Evaluation.compared`."""

INTERVALS = (
    "95% intervals hold the true value 95 times in 100: of accuracy by Wilson's score, of the area "
    "under the ROC curve (AUC) by DeLong's variance on the scale of log odds; – where the texts do "
    "not say. The calibration error is the expected one, over 15 bins of equal width."
)


def _of_training(evaluation: Evaluation) -> Section:
    text = (
        "Rows are split by a hash of their text, so equal texts are never on both sides. The model "
        "hash names weights, vocabulary and stop words: what is scored with it carries it."
    )
    facts = training_facts(evaluation.checkpoint)
    table = Table("The model and its corpus", ("what", "value"), facts, "ll")
    return Section("What was trained", text, tables=[table])


def _curves(training: Mapping[str, Any]) -> Section:
    losses, validations = training.get("losses", []), training.get("validations", [])
    if not losses and not validations:
        return Section("Training", "The checkpoint holds no history of its training.")
    best = training.get("best", {}).get("step")

    def best_step(axes: "Axes") -> None:
        if best is not None:
            axes.axvline(best, color=GREY, linestyle=":", label="the model's step")
        axes.set_xlabel("step")
        axes.legend()

    def draw_losses(figure: "Figure") -> None:
        axes = figure.add_subplot(ylabel="loss (nats)")
        # One point is no line.
        if losses:
            marker = "." if len(losses) == 1 else None
            axes.plot(*_columns(losses, "loss"), marker=marker, color=GREY, label="training")
        if validations:
            axes.plot(*_columns(validations, "validation_loss"), "o-", label="validation")
        best_step(axes)

    def draw_accuracy(figure: "Figure") -> None:
        axes = figure.add_subplot(ylabel="accuracy")
        axes.plot(*_columns(validations, "validation_accuracy"), "o-", label="validation")
        _percent(axes)
        best_step(axes)

    charts = [chart("Loss by step", "Mean cross-entropy; guessing gives 0.69.", draw_losses)]
    if validations:
        said = "Accuracy on the validation rows."
        charts.append(chart("Validation accuracy by step", said, draw_accuracy))
    text = (
        "The model is that of the validation with the lowest loss. A validation loss that rises "
        "while the training loss falls means that the model learns its texts by heart. Training "
        "losses are means over neighbouring steps and are measured with dropout, which makes them "
        "higher than validation losses of the same model."
    )
    return Section("Training", text, charts)


def _comparison(evaluation: Evaluation) -> Section:
    text = (
        "What simpler models answer to the same texts. The majority class answers every text with "
        "the share of positive texts in training. Where intervals overlap widely, more labelled "
        f"texts would have to tell the difference. {INTERVALS}"
    )
    table = Table("Beside simpler models", COMPARED, evaluation.compared, "lrrrrrr")
    return Section("Beside simpler models", text, tables=[table])


def _thresholds(evaluation: Evaluation) -> Section:
    labels = evaluation.labels
    if labels.min() == labels.max():
        only = "positive" if labels[0] else "negative"
        text = f"Every text is labelled {only}: there is nothing to tell it from."
        return Section("Other thresholds than 0.5", text)
    # The constant answer of the majority class is the diagonal, and the share.
    rankings = {name: metrics.ranking for name, metrics in evaluation.metrics.items()}
    drawn = [(name, ranking) for name, ranking in rankings.items() if len(ranking.positive) > 2]
    colors = (BLUE, ORANGE, GREEN)

    def draw_roc(figure: "Figure") -> None:
        axes = figure.add_subplot(xlabel="negative texts taken for positive")
        axes.set_ylabel("positive texts found")
        for color, (name, ranking) in zip(colors, drawn, strict=False):
            negative, positive = ranking.negative, ranking.positive
            # Of each straight line its ends.
            turns = (np.diff(negative, 2) != 0) | (np.diff(positive, 2) != 0)
            ends = np.concatenate([[True], turns, [True]])
            negative, positive = _thinned(negative[ends], positive[ends])
            axes.plot(negative / negative[-1], positive / positive[-1], color=color, label=name)
        axes.plot([0, 1], [0, 1], "--", color=GREY, label="chance")
        axes.legend()

    def draw_precision(figure: "Figure") -> None:
        axes = figure.add_subplot(xlabel="positive texts found (recall)", ylim=(0, 1.03))
        axes.set_ylabel("right of those found (precision)")
        for color, (name, ranking) in zip(colors, drawn, strict=False):
            negative, positive = _thinned(ranking.negative[::-1], ranking.positive[::-1])
            # Of no answer, which comes last, all are right.
            precision = np.append(positive[:-1] / (positive + negative)[:-1], 1)
            axes.plot(positive / positive[0], precision, color=color, label=name)
        axes.axhline(labels.mean(), linestyle="--", color=GREY, label="chance")
        axes.legend(loc="lower left")

    text = (
        "A lower threshold finds more of the positive texts, and more that are none. The "
        "first curve is better the nearer it comes to the upper left corner, the second the nearer "
        "to the upper right one. Where few texts are positive, look at the second."
    )
    charts = [
        chart("ROC curve", "Receiver operating characteristic.", draw_roc),
        chart("Precision and recall", "Precision at each recall.", draw_precision),
    ]
    return Section("Other thresholds than 0.5", text, charts)


def _confusion(metrics: Metrics) -> Section:
    confusion, names = metrics.confusion, ("negative", "positive")

    def draw(figure: "Figure") -> None:
        axes = figure.add_subplot(xlabel="answered", ylabel="labelled")
        for (label, answer), rows in np.ndenumerate(confusion):
            share = rows / max(confusion[label].sum(), 1)
            color = BLUE if label == answer else ORANGE
            axes.bar(answer, 1, 1, label - 0.5, color=color, alpha=0.08 + 0.5 * share)
            said = f"{rows:,}\n{share:.1%}"
            axes.text(answer, label, said, ha="center", va="center")
        axes.set(xticks=(0, 1), xticklabels=names, yticks=(0, 1), yticklabels=names)
        axes.set(xlim=(-0.5, 1.5), ylim=(1.5, -0.5))
        axes.grid(visible=False)

    text = (
        "Rows are labels and columns answers; a cell's share is of its row. Precision is how many "
        "of the answers of a class are right, recall how many of its texts are found; F1 is their "
        "harmonic mean."
    )
    rows = []
    for index, name in enumerate(names):
        right, answered, labelled = (
            int(confusion[index, index]),
            int(confusion[:, index].sum()),
            int(confusion[index].sum()),
        )
        quotients = ((right, answered), (right, labelled), (2 * right, answered + labelled))
        shares = (_show(a / b if b else math.nan, ".1%") for a, b in quotients)
        rows.append((name, f"{labelled:,}", f"{answered:,}", *shares))
    columns = ("class", "labelled", "answered", "precision", "recall", "F1")
    charts = [chart("Confusion matrix", "Texts by label and answer.", draw)]
    return Section("Right and wrong", text, charts, [Table("Each class", columns, rows, "lrrrrr")])


def _calibration(calibration: Calibration) -> Section:
    bins = np.flatnonzero(calibration.rows)
    rows, x, y = calibration.rows[bins], calibration.probability[bins], calibration.positive[bins]
    intervals = [
        share_interval(positive, n) for positive, n in zip(np.rint(y * rows), rows, strict=True)
    ]

    def draw(figure: "Figure") -> None:
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        upper.plot([0, 1], [0, 1], "--", color=GREY, label="as said")
        upper.errorbar(x, y, _errors(y, intervals), fmt="o-", label=MODEL)
        upper.set(ylabel="share positive", xlim=(-0.03, 1.03), ylim=(-0.03, 1.03))
        upper.legend()
        width = 1 / len(calibration.rows)
        centres = (np.arange(len(calibration.rows)) + 0.5) * width
        lower.bar(centres, calibration.rows, 0.9 * width)
        lower.set(xlabel="positive probability", ylabel="texts")
        lower.yaxis.set_major_formatter("{x:,.0f}")

    text = (
        f"Of the texts that the model says are positive with probability 0.7, 70% should be. Above "
        f"the diagonal it says too little, below too much. Bars are 95% intervals (Wilson). The "
        f"expected calibration error, the distance from the diagonal in the mean over texts, is "
        f"{calibration.error:.3f}."
    )
    caption = f"{len(calibration.rows)} bins of equal width, and the texts in each."
    return Section("Calibration", text, [chart("Reliability diagram", caption, draw, 320)])


def _lengths(evaluation: Evaluation) -> Section:
    right = (evaluation.probabilities >= 0.5) == (evaluation.labels == 1)
    found = list(_by_length(evaluation.tokens, right))
    names = [name for name, _, _ in found]
    shares = np.array([hits / rows for _, hits, rows in found])
    intervals = [share_interval(hits, rows) for _, hits, rows in found]

    def draw(figure: "Figure") -> None:
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        places = np.arange(len(found))
        upper.errorbar(places, shares, _errors(shares, intervals), fmt="o")
        upper.set(ylabel="accuracy", xticks=places, xticklabels=names)
        _percent(upper)
        lower.bar(places, [rows for _, _, rows in found], 0.8)
        lower.set(xlabel="tokens", ylabel="texts")
        lower.yaxis.set_major_formatter("{x:,.0f}")

    rows = [
        (name, f"{rows:,}", f"{hits / rows:.1%}", _interval(interval, ".1%"))
        for (name, hits, rows), interval in zip(found, intervals, strict=True)
    ]
    text = (
        "Tokens are what is left of a text without stop words; tokens that are not in the "
        "vocabulary count. Each bin is twice as wide as the one before it. A text of no tokens "
        "gets the same probability as any other of none. Bars are 95% intervals (Wilson)."
    )
    table = Table("Accuracy by length", ("tokens", "texts", "accuracy", "interval"), rows, "lrrr")
    drawn = chart("Accuracy by length", "Accuracy by tokens in a text.", draw, 320)
    return Section("Short and long texts", text, [drawn], [table])


def _worst(evaluation: Evaluation) -> Section:
    labels, probabilities = evaluation.labels, evaluation.probabilities.astype(np.float64)
    wrong = np.flatnonzero((probabilities >= 0.5) != (labels == 1))
    off = np.abs(probabilities[wrong] - labels[wrong])
    rows = [
        (
            f"{labels[i]}",
            f"{probabilities[i]:.3f}",
            shorten(on_one_line(evaluation.texts[i]), QUOTED),
        )
        for i in wrong[np.argsort(-off, kind="stable")][:WORST]
    ]
    if not rows:
        return Section("Most wrong", "Every answer is right.")
    text = (
        "The wrong answers that the model is surest of. Look for labels that are wrong, and for "
        f"texts that are ironic or of mixed feelings. Texts are cut at {QUOTED} characters."
    )
    table = Table("Most wrong first", ("label", "probability", "text"), rows, "rrl")
    return Section("Most wrong", text, tables=[table])


def _flags(training: Mapping[str, Any]) -> Section:
    rows = [(f"--{name}", value) for name, value in sorted(training["flags"].items())]
    text = "Of pipelines.train: with the same rows they give the same model, to the bit."
    return Section("Flags", text, tables=[Table("Every flag", ("flag", "value"), rows, "ll")])


def _by_length(tokens: np.ndarray, right: np.ndarray) -> Iterator[tuple[str, int, int]]:
    """For lengths of 0, 1, 2 to 3, 4 to 7, ... that occur: a name, right answers, texts."""
    bins = np.frexp(tokens)[1]
    for power in np.unique(bins):
        first, last = 2**power // 2, 2**power - 1
        here = right[bins == power]
        yield (f"{first}" if first == last else f"{first}–{last}"), int(here.sum()), len(here)


def _percent(axes: "Axes") -> None:
    from matplotlib.ticker import PercentFormatter

    axes.yaxis.set_major_formatter(PercentFormatter(1))


def _share(training: Mapping[str, Any], part: str) -> str:
    rows = training["rows"][part]
    return _show(training["positive"][part] / rows if rows else math.nan, ".1%")


def _columns(history: Sequence[Mapping[str, float]], name: str) -> tuple[list[float], list[float]]:
    return [point["step"] for point in history], [point[name] for point in history]


def _thinned(*curves: np.ndarray) -> list[np.ndarray]:
    kept = np.unique(np.linspace(0, len(curves[0]) - 1, POINTS).round().astype(int))
    return [curve[kept] for curve in curves]


def _errors(values: np.ndarray, intervals: Sequence[tuple[float, float]]) -> np.ndarray:
    """float (2, n): how far intervals reach below and above their values."""
    low, high = np.array(intervals).T
    return np.maximum([values - low, high - values], 0)


def _show(value: float, form: str) -> str:
    return "–" if math.isnan(value) else format(value, form)


def _interval(interval: tuple[float, float], form: str) -> str:
    low, high = interval
    return "–" if math.isnan(low) else f"{low:{form}} to {high:{form}}"
