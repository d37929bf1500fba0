"""Print metrics, the confusion matrix and sample predictions."""

from collections.abc import Mapping

import numpy as np

from pipelines.console.terminal import printable
from sentiment.errors import on_one_line
from sentiment.metrics import Metrics


def print_metrics(metrics_by_model: Mapping[str, Metrics]) -> None:
    """Print a table, a line for each model."""
    print(f"{'':30} accuracy     AUC  log loss  calibration error")
    for name, metrics in metrics_by_model.items():
        print(
            f"{name:30} {metrics.accuracy:8.1%}  {metrics.auc:6.3f}  {metrics.log_loss:8.3f}  "
            f"{metrics.calibration_error:17.3f}"
        )


def print_confusion(confusion: np.ndarray) -> None:
    """Print `confusion: int[2, 2]`, rows by label, columns by predicted class."""
    print("\nConfusion matrix    predicted negative  predicted positive")
    for name, row in zip(("negative", "positive"), confusion, strict=True):
        print(f"  labelled {name} {row[0]:18,} {row[1]:19,}")


def print_samples(
    texts: list[str], labels: np.ndarray, probabilities: np.ndarray, samples: int
) -> None:
    """Print a random sample of texts, the same in every run.

    Args:
        texts: n texts.
        labels: int[n], 0 or 1.
        probabilities: float[n], of label 1.
        samples: How many to print, at most.
    """
    if not samples:
        return
    print("\nlabel  probability  text")
    random = np.random.default_rng(0)
    for i in np.sort(random.permutation(len(texts))[:samples]):
        text = printable(on_one_line(texts[i])[:100])
        print(f"{labels[i]:5}  {probabilities[i]:11.3f}  {text}")
