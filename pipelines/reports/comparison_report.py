"""Comparison report: an HTML page on several runs, measured on the same labelled texts.

It quotes texts of the corpus.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from pipelines.console.terminal import percent
from pipelines.reports.evaluation_results import (
    COMPARISON_COLUMNS,
    INTERVALS,
    Totals,
    comparison_row,
    metric_notes,
    sample_note,
)
from pipelines.reports.page import Section, Table, page, shorten
from pipelines.reports.training_run import TrainingRun, origin_warning, rows_warning
from pipelines.reports.verdict import format_p, paired_verdict
from sentiment.checkpoint import Checkpoint
from sentiment.classes import Classes
from sentiment.errors import on_one_line
from sentiment.metrics import Metrics, PairedAccuracy, compare_answers, compare_counts, measure

PAIRED_COLUMNS = (
    "model",
    "accuracy",
    "interval",
    "macro-F1",
    "only the first right",
    "only this right",
    "McNemar",
)
"""Columns of `ComparisonResults.paired_rows`."""

DISAGREEMENTS = 10
"""Texts that are quoted for each pair of models and each that is right."""

QUOTED_CHARACTERS = 280


@dataclass(frozen=True)
class ComparedModel:
    """What a model predicts for n texts."""

    probabilities: np.ndarray
    """float[n, K]."""
    classes: Classes
    run: TrainingRun | None = None
    """How it was trained; None for a baseline."""
    checkpoint: Checkpoint | None = None


@dataclass(frozen=True)
class ComparisonResults:
    """Two or more models, measured on the same n >= 1 texts; the others against the first."""

    models: Mapping[str, ComparedModel]
    """By name; the first one comes first. They have the same classes."""
    data_dir: str
    """Directory or URI of the texts."""
    held_out: bool
    """Whether the texts are those that the first run held out."""
    texts: Sequence[str]
    labels: np.ndarray
    """int[n]."""
    totals: Totals | None = None
    """Of all texts, if these are a sample; None: these are all."""
    source: str = ""
    """Where the texts are from, and how they were read if not as in training; "": `data_dir`."""

    @property
    def first(self) -> str:
        """Name of the model that the others are compared with."""
        return next(iter(self.models))

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the classes."""
        return self.models[self.first].classes.names

    @cached_property
    def metrics(self) -> dict[str, Metrics]:
        """Metrics by the model's name."""
        return {
            name: measure(
                self.labels,
                model.probabilities,
                model.classes,
                self.totals.counts[name] if self.totals else None,
            )
            for name, model in self.models.items()
        }

    @cached_property
    def answers(self) -> dict[str, np.ndarray]:
        """int[n], number of the class that each text is answered with, by the model's name."""
        return {
            name: model.classes.winners(model.probabilities) for name, model in self.models.items()
        }

    @cached_property
    def paired(self) -> dict[str, PairedAccuracy]:
        """Each other model against the first, by its name."""
        first, *others = self.answers
        if self.totals is not None:
            rows = self.metrics[first].rows
            return {name: compare_counts(*self.totals.only_right[name], rows) for name in others}
        return {
            name: compare_answers(self.labels, self.answers[first], self.answers[name])
            for name in others
        }

    @property
    def warnings(self) -> list[str]:
        """Sentences on runs that have learnt these rows, or may have, and on held-out rows that are
        others now; names of the runs come first."""
        names: dict[str, list[str]] = {}
        rows = self.metrics[self.first].rows
        for name, model in self.models.items():
            if model.run is None:
                continue
            if self.held_out and name != self.first:  # It may have held out others.
                warning = origin_warning(model.run.flags)
            else:
                warning = rows_warning(model.run, self.data_dir, self.held_out, rows)
            if warning:
                names.setdefault(warning, []).append(name)
        return [f"{', '.join(runs)}: {warning}" for warning, runs in names.items()]

    @property
    def paired_rows(self) -> list[tuple[str, ...]]:
        """A row of `PAIRED_COLUMNS` for each other model: differences from the first, in points."""
        f1 = self.metrics[self.first].macro_f1
        return [
            (
                name,
                f"{100 * paired.difference:+z.1f}",
                "{:+z.1f} to {:+z.1f}".format(*(100 * end for end in paired.interval)),
                f"{100 * (self.metrics[name].macro_f1 - f1):+z.1f}",
                f"{paired.only_first:,}",
                f"{paired.only_second:,}",
                format_p(paired.p_value),
            )
            for name, paired in self.paired.items()
        ]


def comparison_report(results: ComparisonResults) -> bytes:
    """Render the page, UTF-8."""
    sentences = [
        paired_verdict(name, results.first, paired) for name, paired in results.paired.items()
    ]
    kind = f"rows that {results.first} held out" if results.held_out else "rows"
    rows = results.metrics[results.first].rows
    sentences.append(f"Measured on {rows:,} {kind}, of {results.source or results.data_dir}.")
    if note := sample_note(len(results.labels), rows):
        sentences.append(note)
    sentences += results.warnings
    sections = [
        _side_by_side(results),
        _against_first(results),
        _classes(results),
        _differences(results),
        _disagreements(results),
    ]
    return page(f"Comparison: {', '.join(results.models)}", " ".join(sentences), sections)


def _side_by_side(results: ComparisonResults) -> Section:
    rows = [comparison_row(name, metrics) for name, metrics in results.metrics.items()]
    table = Table("All models", COMPARISON_COLUMNS, rows, "lrrrrrrrr")
    notes = metric_notes(results.models[results.first].classes)
    text = "Each model's metrics on the same texts."
    return Section("Side by side", text, tables=[table], notes=f"{INTERVALS} {notes}")


def _against_first(results: ComparisonResults) -> Section:
    text = f"Differences from {results.first}, in points."
    notes = (
        "The interval is the 95% interval of the difference in accuracy "
        "(Bonett and Price 2012). All models answer the same texts, so their own intervals may "
        "overlap where the difference is sure. McNemar's exact test compares the texts that only "
        "one of two models answers rightly: p is the chance of counts as uneven if both are "
        "equally good. It is not adjusted for the number of models: of twenty that are as good as "
        "the first, one has p < 0.05."
    )
    align = "l" + "r" * (len(PAIRED_COLUMNS) - 1)
    table = Table(f"Against {results.first}", PAIRED_COLUMNS, results.paired_rows, align)
    return Section(f"Against {results.first}", text, tables=[table], notes=notes)


def _classes(results: ComparisonResults) -> Section:
    rows = [
        (
            name,
            f"{results.metrics[results.first].confusion[k].sum():,}",
            *(percent(metrics.f1[k]) for metrics in results.metrics.values()),
        )
        for k, name in enumerate(results.names)
    ]
    columns = ("class", "rows", *results.models)
    table = Table("F1 by class", columns, rows, "l" + "r" * (len(columns) - 1))
    text = "F1 is the harmonic mean of precision and recall."
    return Section("Each class", text, tables=[table], is_narrow=True)


def _differences(results: ComparisonResults) -> Section:
    """Flags of training with other values, and the models themselves."""
    runs = {name: model.run for name, model in results.models.items() if model.run is not None}
    models = [model.checkpoint for model in results.models.values() if model.checkpoint is not None]
    rows = [
        (f"--{flag}", *values)
        for flag in sorted({flag for run in runs.values() for flag in run.flags})
        if len(set(values := [str(run.flags.get(flag, "–")) for run in runs.values()])) > 1
    ]
    rows += [
        ("tokens in the vocabulary", *(f"{model.network.words:,}" for model in models)),
        ("bigrams in the vocabulary", *(f"{len(model.network.bigrams):,}" for model in models)),
        ("weights", *(f"{sum(w.size for w in model.weights.values()):,}" for model in models)),
        ("model hash", *(model.model_hash[:12] for model in models)),
    ]
    columns = ("", *runs)
    table = Table("What differs", columns, rows, "l" * len(columns))
    text = "Flags of training with other values, and the models."
    return Section("What differs", text, tables=[table], is_narrow=True)


def _disagreements(results: ComparisonResults) -> Section:
    first, *others = results.models
    tables = []
    for other in others:
        rows = []
        for right, wrong in ((other, first), (first, other)):
            for i in _only_right(results, right, wrong)[:DISAGREEMENTS]:
                answers = (results.answers[name][i] for name in (first, other))
                rows.append(
                    (
                        right,
                        results.names[results.labels[i]],
                        *(results.names[answer] for answer in answers),
                        shorten(on_one_line(results.texts[i]), QUOTED_CHARACTERS),
                    )
                )
        columns = ("right", "label", first, other, "text")
        if rows:
            tables.append(Table(f"{first} and {other}", columns, rows, "llllt"))
    text = (
        f"At most {DISAGREEMENTS} texts that only one of two models answers rightly, those first "
        "whose label's probability differs most."
    )
    return Section("Where they disagree", text, tables=tables)


def _only_right(results: ComparisonResults, right: str, wrong: str) -> np.ndarray:
    """Texts that only one of two models answers rightly: int[m], by how much they differ."""
    labels = results.labels
    is_only_right = (results.answers[right] == labels) & (results.answers[wrong] != labels)
    chosen: np.ndarray = np.flatnonzero(is_only_right)
    of_label = [
        results.models[name].probabilities[chosen, labels[chosen]].astype(np.float64)
        for name in (wrong, right)
    ]
    return np.take(chosen, np.argsort(of_label[0] - of_label[1], kind="stable"))
