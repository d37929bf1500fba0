"""EvaluationResults: a checkpoint and its predictions for labelled texts, as reports take them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from pipelines.console.terminal import percent
from pipelines.reports.training_run import TrainingRun
from sentiment.checkpoint import Checkpoint
from sentiment.classes import Classes
from sentiment.metrics import (
    Calibration,
    Counts,
    Metrics,
    PairedAccuracy,
    calibrate,
    compare_answers,
    compare_counts,
    measure,
)

MODEL, REGRESSION, MAJORITY = "this model", "TF-IDF + logistic regression", "majority class"
"""Names of models. The majority class predicts the training rows' share of each class."""

COMPARISON_COLUMNS = (
    "model",
    "accuracy",
    "interval",
    "macro-F1",
    "interval",
    "AUC",
    "interval",
    "log loss",
    "calibration error",
)
"""Columns of `comparison_row`."""

CLASS_COLUMNS = ("class", "precision", "recall", "F1", "rows")
"""Columns of `class_rows`."""

INTERVALS = (
    "Intervals are 95% confidence intervals: of accuracy by Wilson's score, of macro-F1 by the "
    "delta method, of AUC by DeLong's variance, both on the logit scale. – means that there are "
    "too few texts to tell. Macro-F1 is the mean F1 of the classes that are labelled."
)
"""Explains the columns, with `metric_notes`."""

WORST_TEXTS = 200
"""Wrongly predicted texts in which words are weighed."""

SHOWN_SHARES = 5
"""Most classes whose share is shown on one line."""


@dataclass(frozen=True)
class Weight:
    """A token, or two neighbours with a blank between, and what they weigh in a text's answer."""

    words: str
    probability: float
    """Of the answer, without them."""
    fall: float
    """By how much the log-odds of the answer fall without them, in nats."""


@dataclass(frozen=True)
class Totals:
    """What is counted of all texts, where the results hold a random sample of them."""

    counts: Mapping[str, Counts]
    """By the model's name."""
    only_right: Mapping[str, tuple[int, int]]
    """Texts that only the first model answers rightly, and only this one; by this one's name."""


@dataclass(frozen=True)
class EvaluationResults:
    """A checkpoint, n >= 1 labelled texts, and what the model and simpler models predict."""

    name: str
    """Of the model: the name of its directory."""
    checkpoint: Checkpoint
    run: TrainingRun
    data_dir: str
    """Directory or URI of the texts."""
    held_out: bool
    """Whether the texts are those that training held out."""
    texts: Sequence[str]
    labels: np.ndarray
    """int[n]: number of each text's class."""
    lengths: np.ndarray
    """int[n]: tokens of each text."""
    probabilities_by_model: Mapping[str, np.ndarray]
    """float[n, K], by the model's name; `MODEL` comes first."""
    weights: Sequence[Sequence[Weight]] = ()
    """What each of the `worst` answers rests on, the heaviest first; empty: not measured."""
    totals: Totals | None = None
    """Of all texts, if these are a sample; None: these are all."""
    source: str = ""
    """Where the texts are from, and how they were read if not as in training; "": `data_dir`."""

    @property
    def classes(self) -> Classes:
        """The model's K classes."""
        return self.checkpoint.classes

    @property
    def probabilities(self) -> np.ndarray:
        """float[n, K]: what this model predicts."""
        return self.probabilities_by_model[MODEL]

    @cached_property
    def answers(self) -> dict[str, np.ndarray]:
        """int[n]: number of the class that each text is answered with, by the model's name."""
        return {
            name: self._classes_for(name).winners(probabilities)
            for name, probabilities in self.probabilities_by_model.items()
        }

    @cached_property
    def worst(self) -> list[int]:
        """Indices of the wrong answers to whose label the model gives the least probability, the
        worst first, at most `WORST_TEXTS`."""
        wrong = np.flatnonzero(self.answers[MODEL] != self.labels)
        of_label = self.probabilities[wrong, self.labels[wrong]]
        worst: list[int] = wrong[np.argsort(of_label, kind="stable")][:WORST_TEXTS].tolist()
        return worst

    @property
    def kind(self) -> str:
        """What the rows are called."""
        return "held-out rows" if self.held_out else "rows"

    @cached_property
    def metrics(self) -> dict[str, Metrics]:
        """Metrics by the model's name."""
        return {
            name: measure(
                self.labels,
                probabilities,
                self._classes_for(name),
                self.totals.counts[name] if self.totals else None,
            )
            for name, probabilities in self.probabilities_by_model.items()
        }

    def against(self, rival: str) -> PairedAccuracy:
        """How this model's accuracy differs from another one's."""
        if self.totals is None:
            return compare_answers(self.labels, self.answers[rival], self.answers[MODEL])
        only_model, only_rival = self.totals.only_right[rival]
        return compare_counts(only_rival, only_model, self.metrics[MODEL].rows)

    @property
    def calibration(self) -> Calibration:
        """This model's."""
        if self.totals is None:
            return calibrate(self.labels, self.probabilities, self.classes)
        return self.totals.counts[MODEL].calibration

    @property
    def sample_note(self) -> str:
        """A sentence that says what is of a sample; "" if nothing is."""
        return sample_note(len(self.labels), self.metrics[MODEL].rows)

    @cached_property
    def comparison(self) -> list[tuple[str, ...]]:
        """A row of `COMPARISON_COLUMNS` for each model."""
        return [comparison_row(name, metrics) for name, metrics in self.metrics.items()]

    def _classes_for(self, model: str) -> Classes:
        # The threshold is one for this model's probabilities.
        return self.classes if model == MODEL else replace(self.classes, threshold=None)

    def model_facts(self, corpus: str) -> list[tuple[str, str]]:
        """Names and values: what the model is and what it was trained on.

        Args:
            corpus: How to name the training corpus.
        """
        checkpoint, run, flags = self.checkpoint, self.run, self.run.flags
        network = checkpoint.network
        reads = "reads texts forwards"
        if len(network.lstms) == 2:
            reads = "reads texts forwards and backwards"
        names, labels = self.classes.names, run.labels
        crossed = ", and the training rows, cross-fitted" if run.cross_fitted else ""
        return [
            ("corpus", corpus),
            ("columns", f"{flags['text_column']} (texts), {flags['label_column']} (labels)"),
            ("training rows", _count(labels.train, names)),
            ("validation rows", _count(labels.validation, names) + crossed),
            ("held-out rows", _count(labels.test, names)),
            ("vocabulary", f"{network.words:,} tokens, {len(network.bigrams):,} bigrams"),
            ("stop words", f"{len(checkpoint.stop_words):,}"),
            ("longest text", "?" if run.longest is None else f"{run.longest} tokens"),
            ("embedding size", f"{network.embedding_size}"),
            ("LSTM", f"{network.units} units, {reads}"),
            ("weights", f"{sum(value.size for value in network.weights.values()):,} numbers"),
            ("step of the best validation", "?" if run.best is None else f"{run.best.step}"),
            *((f"{library} version", version) for library, version in run.versions.items()),
            ("model hash", checkpoint.model_hash),
        ]


def sample_note(sample: int, rows: int) -> str:
    """A sentence that says what is of a sample of so many rows; "" if it is all of them."""
    if sample == rows:
        return ""
    return (
        f"AUC, curves, thresholds, lengths and quoted texts are of a random sample of {sample:,} "
        "of them, all else of all."
    )


def comparison_row(name: str, metrics: Metrics) -> tuple[str, ...]:
    """The cells of `COMPARISON_COLUMNS`."""
    return (
        name,
        percent(metrics.accuracy),
        format_interval(metrics.accuracy_interval, ".1%"),
        percent(metrics.macro_f1),
        format_interval(metrics.macro_f1_interval, ".1%"),
        format_number(metrics.auc, ".3f"),
        format_interval(metrics.auc_interval, ".3f"),
        format_number(metrics.log_loss, ".3f"),
        format_number(metrics.calibration_error, ".3f"),
    )


def class_rows(metrics: Metrics, names: Sequence[str]) -> list[tuple[str, ...]]:
    """A row of `CLASS_COLUMNS` for each class."""
    shares = (metrics.precision, metrics.recall, metrics.f1)
    return [
        (name, *(percent(share) for share in scores), f"{rows:,}")
        for name, *scores, rows in zip(names, *shares, metrics.confusion.sum(axis=1), strict=True)
    ]


def metric_notes(classes: Classes) -> str:
    """Explains AUC and calibration error, which mean something else for more than two classes."""
    bins = "The calibration error is the expected calibration error over 15 bins of equal width"
    if len(classes) == 2:
        return f"AUC is the area under the ROC curve. {bins}."
    return (
        "AUC is the mean over the classes of the area under the ROC curve of a class against the "
        f"others. {bins} of the answer's probability."
    )


def format_number(value: float, spec: str) -> str:
    """The number, or `–` for NaN."""
    return "–" if math.isnan(value) else format(value, spec)


def format_interval(interval: tuple[float, float], spec: str) -> str:
    """`LOW to HIGH`, or `–` for NaN."""
    low, high = interval
    return "–" if math.isnan(low) else f"{low:{spec}} to {high:{spec}}"


def _count(labels: Sequence[int], names: Sequence[str]) -> str:
    """`1,000 (39.5% positive)`; of more than two classes, the shares of the most frequent ones."""
    rows = sum(labels)
    order = sorted(range(len(names)), key=lambda k: -labels[k])
    shown = [1] if len(names) == 2 else order[:SHOWN_SHARES]
    shares = [f"{percent(labels[k] / rows if rows else math.nan)} {names[k]}" for k in shown]
    if len(names) > SHOWN_SHARES:
        shares.append("…")
    return f"{rows:,} ({', '.join(shares)})"
