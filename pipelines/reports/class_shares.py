"""Shares of classes: of the rows that were scored, and of the labels in training."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from pipelines.console.terminal import percent

CLASSES_SHOWN = 5
"""Classes in a line of text, the most frequent."""


def most_frequent(rows: npt.NDArray[np.int64], number: int = CLASSES_SHOWN) -> list[int]:
    """Some classes: all of them in their order if they are few, else the most frequent ones first.

    Args:
        rows: int64[classes]: the rows of each class.
        number: the most that are returned.
    """
    if len(rows) <= number:
        return list(range(len(rows)))
    order: list[int] = np.argsort(-rows, kind="stable")[:number].tolist()
    return order


def shares(names: Sequence[str], rows: npt.NDArray[np.int64]) -> str:
    """The share of each class in words, or of the most frequent; "": there are no rows.

    Args:
        names: of the classes.
        rows: int64[classes].
    """
    total = int(rows.sum())
    if not total:
        return ""
    return ", ".join(f"{percent(rows[i] / total)} {names[i]}" for i in most_frequent(rows))


def shares_shown(classes: int) -> str:
    """What columns of `most_frequent` classes hold, in words; `classes`: how many there are."""
    if classes <= CLASSES_SHOWN:
        return "the share of each class"
    return f"the shares of the {CLASSES_SHOWN} most frequent classes"


def chart_names(names: Sequence[str]) -> tuple[str, ...]:
    """Names of classes for charts: `class 1`, ... if a font may lack a letter, or one is long, or
    begins with `_`, which Matplotlib leaves out of legends."""
    if all(name.isascii() and len(name) <= 20 and name[:1] != "_" for name in names):
        return tuple(names)
    return tuple(f"class {number}" for number in range(1, len(names) + 1))


def trained_rows(training: Mapping[str, Any], classes: int) -> npt.NDArray[np.int64] | None:
    """int64[classes]: the training rows of each class; None: not recorded, or there are none.

    Args:
        training: a checkpoint's record of training. Those of earlier versions have two classes.
        classes: of the model.
    """
    rows = training.get("labels", {}).get("train")
    if rows is None and classes == 2:
        total = training.get("rows", {}).get("train")
        positive = training.get("positive", {}).get("train")
        if isinstance(total, int) and isinstance(positive, int):
            rows = [total - positive, positive]
    is_whole = isinstance(rows, list) and len(rows) == classes
    if not is_whole or not all(isinstance(number, int) for number in rows) or not sum(rows):
        return None
    return np.array(rows, np.int64)
