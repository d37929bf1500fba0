"""Training report: an HTML page on a model's training and its predictions for labelled texts.

It quotes texts of the corpus; `pipelines.reports.model_card` does not.
"""

import math
from typing import TYPE_CHECKING

from pipelines.console.terminal import percent
from pipelines.reports.evaluation_results import (
    COMPARISON_COLUMNS,
    INTERVALS,
    MODEL,
    EvaluationResults,
    format_number,
    metric_notes,
)
from pipelines.reports.page import GREY, Section, Table, draw_chart, page
from pipelines.reports.prediction_sections import (
    calibration,
    classes,
    curves,
    format_percent,
    lengths,
)
from pipelines.reports.quoted_texts import by_probability, mistakes
from pipelines.reports.training_run import TrainingRun, rows_warning, train_command
from pipelines.reports.verdict import majority_warning, verdict

if TYPE_CHECKING:  # Loads where a chart is drawn.
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def training_report(results: EvaluationResults) -> bytes:
    """Render the page, UTF-8."""
    metrics = results.metrics[MODEL]
    subject = "Training report" if results.held_out else "Evaluation"
    facts = [
        ("accuracy", percent(metrics.accuracy)),
        ("macro-F1", percent(metrics.macro_f1)),
        ("AUC", format_number(metrics.auc, ".3f")),
        ("log loss", format_number(metrics.log_loss, ".3f")),
        ("calibration error", format_number(metrics.calibration_error, ".3f")),
        (results.kind, f"{metrics.rows:,}"),
    ]
    sections = [
        _comparison(results),
        *curves(results),
        classes(results),
        calibration(results),
        lengths(results),
        by_probability(results),
        *mistakes(results),
        _training(results),
        _model(results),
        _flags(results.run),
    ]
    return page(f"{subject}: {results.name}", _lead(results), sections, facts)


def _lead(results: EvaluationResults) -> str:
    names, threshold = results.classes.names, results.classes.threshold or 0.5
    rule = "A text is answered with its most probable class."
    if len(names) == 2:
        rule = f"A text is answered {names[1]} from a probability of {threshold:g}."
    rows = results.metrics[MODEL].rows
    text = (
        f"{verdict(results)} It is {results.name}, measured on {rows:,} "
        f"{results.kind} of {results.source or results.data_dir}. {rule}"
    )
    warning = rows_warning(results.run, results.data_dir, results.held_out, rows)
    return " ".join(filter(None, (text, results.sample_note, warning)))


def _model(results: EvaluationResults) -> Section:
    notes = (
        "Rows are split by a hash of their text, so that equal texts are always on the same side. "
        "The model hash identifies weights, vocabulary, stop words and classes; scored files carry "
        "it."
    )
    facts = results.model_facts(str(results.run.flags["data_dir"]))
    table = Table("The model and its corpus", ("what", "value"), facts, "ll")
    text = "What the model is, and what it was trained on."
    return Section("Model", text, tables=[table], notes=notes, is_narrow=True)


def _training(results: EvaluationResults) -> Section:
    run = results.run
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
        axes.set_ylim(bottom=0)
        finish(axes)

    def draw_accuracy(figure: "Figure") -> None:
        # The whole scale: a cut one makes a leap of a point.
        axes = figure.add_subplot(ylabel="accuracy", ylim=(0, 1.03))
        values = [point.validation_accuracy for point in validations]
        axes.plot(validated_steps, values, "o-", label="validation")
        if counts := _validated(run):
            majority = max(counts) / max(sum(counts), 1)
            axes.axhline(majority, color=GREY, linestyle="--", label="majority class")
        format_percent(axes)
        finish(axes)

    caption = f"Mean cross-entropy. Guessing gives {math.log(len(results.classes)):.2f}."
    charts = [draw_chart("Loss by step", caption, draw_losses)]
    if validations:
        also = " and the training rows, cross-fitted" if run.cross_fitted else ""
        caption = f"Accuracy of the most probable class on the validation rows{also}."
        if threshold := results.classes.threshold:
            caption += f" The model's threshold, {threshold:g}, does not count here."
        charts.append(draw_chart("Validation accuracy by step", caption, draw_accuracy))
    text = "The weights are those with the lowest validation loss."
    notes = (
        "If the validation loss rises while the training loss falls, the model overfits. Training "
        "losses are averaged over neighbouring steps and measured with dropout: dropout makes them "
        "higher than validation losses of the same weights, overfitting lower."
    )
    if run.cross_fitted:
        notes += (
            " Few rows validate, so the training rows do, too: other models answer them that were "
            "trained without them."
        )
    return Section("Training", text, charts, notes=notes, is_narrow=True)


def _validated(run: TrainingRun) -> list[int]:
    """Rows of each class that a validation is of."""
    if not run.cross_fitted:
        return list(run.labels.validation)
    return [sum(pair) for pair in zip(run.labels.validation, run.labels.train, strict=True)]


def _comparison(results: EvaluationResults) -> Section:
    text = (
        "Predictions of simpler models for the same texts. Where intervals overlap widely, more "
        "labelled texts are needed to tell the models apart."
    )
    notes = (
        "The majority class predicts the shares of the classes in the training rows for every "
        f"text. {INTERVALS} {metric_notes(results.classes)}"
    )
    heading = "Comparison with simpler models"
    table = Table(heading, COMPARISON_COLUMNS, results.comparison, "lrrrrrrrr")
    warnings = [warning] if (warning := majority_warning(results)) else []
    return Section(heading, text, tables=[table], warnings=warnings, notes=notes)


def _flags(run: TrainingRun) -> Section:
    text = "All flags of training. The same rows and flags give the same model, bit for bit."
    code = [" \\\n    ".join(train_command(run.flags))]
    return Section("Flags", text, code=code, is_narrow=True)
