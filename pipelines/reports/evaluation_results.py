"""EvaluationResults: a checkpoint and its predictions for labelled texts, as reports take them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from pipelines.reports.training_run import TrainingRun
from sentiment.checkpoint import Checkpoint, lstms
from sentiment.metrics import Metrics, auc_interval, measure, share_interval

MODEL = "this model"

COMPARISON_COLUMNS = (
    "model",
    "accuracy",
    "interval",
    "AUC",
    "interval",
    "log loss",
    "calibration error",
)
"""Columns of `EvaluationResults.comparison`."""

INTERVALS = (
    "Intervals are 95% confidence intervals: of accuracy by Wilson's score, of AUC (the area under "
    "the ROC curve) by DeLong's variance on the logit scale. – means that there are too few texts "
    "to tell. The calibration error is the expected calibration error over 15 bins of equal width."
)
"""Explains the columns."""


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
    """int[n]: 0 negative, 1 positive."""
    lengths: np.ndarray
    """int[n]: tokens of each text."""
    probabilities_by_model: Mapping[str, np.ndarray]
    """float[n], of label 1, by the model's name; `MODEL` comes first."""

    @property
    def probabilities(self) -> np.ndarray:
        """float[n]: what this model predicts."""
        return self.probabilities_by_model[MODEL]

    @property
    def kind(self) -> str:
        """What the rows are called."""
        return "held-out rows" if self.held_out else "rows"

    @cached_property
    def metrics(self) -> dict[str, Metrics]:
        """Metrics by the model's name."""
        return {
            name: measure(self.labels, probabilities)
            for name, probabilities in self.probabilities_by_model.items()
        }

    @cached_property
    def comparison(self) -> list[tuple[str, ...]]:
        """A row of `COMPARISON_COLUMNS` for each model."""
        rows: list[tuple[str, ...]] = []
        for name, metrics in self.metrics.items():
            right = int(np.trace(metrics.confusion))
            auc = auc_interval(self.labels, self.probabilities_by_model[name])
            rows.append(
                (
                    name,
                    format_number(metrics.accuracy, ".1%"),
                    format_interval(share_interval(right, metrics.rows), ".1%"),
                    format_number(metrics.auc, ".3f"),
                    format_interval(auc, ".3f"),
                    format_number(metrics.log_loss, ".3f"),
                    format_number(metrics.calibration_error, ".3f"),
                )
            )
        return rows

    def model_facts(self, corpus: str) -> list[tuple[str, str]]:
        """Names and values: what the model is and what it was trained on.

        Args:
            corpus: How to name the training corpus.
        """
        checkpoint, run = self.checkpoint, self.run
        weights, flags = checkpoint.weights, run.flags
        reads = "reads texts forwards"
        if len(lstms(weights)) == 2:
            reads = "reads texts forwards and backwards"
        rows, positive = run.rows, run.positive
        return [
            ("corpus", corpus),
            ("columns", f"{flags['text_column']} (texts), {flags['label_column']} (labels)"),
            ("training rows", _count(rows.train, positive.train)),
            ("validation rows", _count(rows.validation, positive.validation)),
            ("held-out rows", _count(rows.test, positive.test)),
            (
                "vocabulary",
                f"{len(checkpoint.words):,} tokens, {len(checkpoint.bigrams):,} bigrams",
            ),
            ("stop words", f"{len(checkpoint.stop_words):,}"),
            ("longest text", "?" if run.longest is None else f"{run.longest} tokens"),
            ("embedding size", f"{weights['embedding'].shape[1]}"),
            ("LSTM", f"{weights['lstm/recurrent_kernel'].shape[0]} units, {reads}"),
            ("weights", f"{sum(value.size for value in weights.values()):,} numbers"),
            ("step of the best validation", "?" if run.best is None else f"{run.best.step}"),
            *((f"{library} version", version) for library, version in run.versions.items()),
            ("model hash", checkpoint.model_hash),
        ]


def format_number(value: float, spec: str) -> str:
    """The number, or `–` for NaN."""
    return "–" if math.isnan(value) else format(value, spec)


def format_interval(interval: tuple[float, float], spec: str) -> str:
    """`LOW to HIGH`, or `–` for NaN."""
    low, high = interval
    return "–" if math.isnan(low) else f"{low:{spec}} to {high:{spec}}"


def _count(rows: int, positive: int) -> str:
    return f"{rows:,} ({format_number(positive / rows if rows else math.nan, '.1%')} positive)"
