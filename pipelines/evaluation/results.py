"""Print metrics, the confusion matrix and sample predictions."""

from collections.abc import Mapping, Sequence

import numpy as np
from rich.cells import cell_len

from pipelines.console.terminal import percent, printable
from pipelines.reports.evaluation_results import (
    CLASS_COLUMNS,
    MODEL,
    EvaluationResults,
    class_rows,
    format_number,
)
from pipelines.reports.page import shorten
from sentiment.errors import on_one_line
from sentiment.metrics import Metrics, most_confused

MODEL_CHARACTERS = 30
"""Width of the models' names, at least."""

LISTED_CLASSES = 50

MATRIX_CLASSES = 10
"""Most classes whose confusion matrix fits on a terminal."""

CONFUSIONS = 10
"""The most frequent confusions, shown where the matrix does not fit."""

NAME_CHARACTERS = 24
"""Longer names of classes are shortened."""

MATRIX_CHARACTERS = 80
"""Of all columns' names in a confusion matrix, at most."""

SAMPLE_CHARACTERS = 100


def print_metrics(metrics_by_model: Mapping[str, Metrics]) -> None:
    """Print a table, a line for each model."""
    columns = ("", "accuracy", "macro-F1", "AUC", "log loss", "calibration error")
    rows = [
        (
            f"{printable(name):{MODEL_CHARACTERS}}",
            percent(metrics.accuracy),
            percent(metrics.macro_f1),
            format_number(metrics.auc, ".3f"),
            f"{metrics.log_loss:.3f}",
            f"{metrics.calibration_error:.3f}",
        )
        for name, metrics in metrics_by_model.items()
    ]
    print_table(columns, rows, "lrrrrr")


def print_classes(metrics: Metrics, names: Sequence[str]) -> None:
    """Print precision, recall, F1 and rows of each class, then the confusion matrix."""
    print()
    rows = class_rows(metrics, [_short(name) for name in names])
    frequent = np.argsort(-metrics.confusion.sum(axis=1), kind="stable")[:LISTED_CLASSES]
    print_table(CLASS_COLUMNS, [rows[k] for k in np.sort(frequent)], "lrrrr")
    if len(names) > LISTED_CLASSES:
        print(f"These are the {LISTED_CLASSES} most frequent classes; the report has all.")
    if len(names) <= MATRIX_CLASSES:
        print("\nConfusion matrix: rows by label, columns by answer")
        matrix = [
            (_short(name), *(f"{rows:,}" for rows in row))
            for name, row in zip(names, metrics.confusion, strict=True)
        ]
        width = MATRIX_CHARACTERS // len(names)
        columns = ("", *(_short(name, width) for name in names))
        print_table(columns, matrix, "l" + "r" * len(names))
    elif confusions := most_confused(metrics.confusion, CONFUSIONS):
        print("\nMost frequent confusions")
        cells = [(_short(names[a]), _short(names[b]), f"{rows:,}") for a, b, rows in confusions]
        print_table(("label", "answer", "rows"), cells, "llr")


def print_samples(results: EvaluationResults, samples: int) -> None:
    """Print the predictions for at most `samples` random texts, the same in every run."""
    if not samples:
        return
    print()
    random, names = np.random.default_rng(0), results.classes.names
    rows = []
    for i in np.sort(random.permutation(len(results.texts))[:samples]):
        answer = results.answers[MODEL][i]
        rows.append(
            (
                _short(names[results.labels[i]]),
                _short(names[answer]),
                f"{results.probabilities[i, answer]:.3f}",
                printable(on_one_line(results.texts[i])[:SAMPLE_CHARACTERS]),
            )
        )
    print_table(("label", "answer", "probability", "text"), rows, "llrl")


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]], align: str) -> None:
    """Print cells in columns as wide as needed; `align` has `l` or `r` for each column."""
    lines = [columns, *rows]
    widths = [max(map(cell_len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        padded = []
        for cell, width, side in zip(line, widths, align, strict=True):
            blanks = " " * (width - cell_len(cell))  # A letter may be two cells wide.
            padded.append(cell + blanks if side == "l" else blanks + cell)
        print("  ".join(padded).rstrip())


def _short(name: str, characters: int = NAME_CHARACTERS) -> str:
    return printable(shorten(name, characters))
