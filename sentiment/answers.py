"""Answers: what is added to each text: the class that wins, and probabilities.

| classes | columns |
| --- | --- |
| 2 | `<second class>_probability`, and the winner |
| 3 to 20 | `<class>_probability` of each class, and the winner |
| more | `probability` of the winner, the winner, and `top_labels` and `top_probabilities` |

The winner's column is `sentiment` if negative and positive are among the classes, else `label`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sentiment.classes import Classes
from sentiment.errors import InputError
from sentiment.model.inference import Inference

MAX_PROBABILITY_COLUMNS = 20
"""Classes that have a column each."""

TOP_CLASSES = 5
"""Classes in `top_labels` and `top_probabilities`, the most probable ones."""

MAX_PROBABILITIES = 2**24
"""Probabilities in memory at a time: 64 MiB. Of 1,000 classes they are those of 16,777 texts."""


@dataclass(frozen=True)
class Answers:
    """The answers for n texts."""

    winners: npt.NDArray[np.int64]
    """int64[n]: the class of each text."""
    decisive: npt.NDArray[np.float32]
    """float32[n]: of two classes the probability of the second, else the winner's."""
    columns: pa.Table
    """n rows, with the schema `answer_schema`."""


def winner_column(names: Sequence[str]) -> str:
    """The name of the column with the class that wins."""
    return "sentiment" if {"negative", "positive"} <= {*names} else "label"


def answer_schema(names: Sequence[str]) -> pa.Schema:
    """The columns that are added, given the names of the classes.

    Raises InputError if the columns of two classes differ only in case: DuckDB and Spark would take
    them for one.
    """
    winner = pa.field(winner_column(names), pa.string())
    if len(names) > MAX_PROBABILITY_COLUMNS:
        return pa.schema(
            [
                pa.field("probability", pa.float32()),
                winner,
                pa.field("top_labels", pa.list_(pa.string())),
                pa.field("top_probabilities", pa.list_(pa.float32())),
            ]
        )
    shown = names[1:] if len(names) == 2 else names
    named: dict[str, str] = {}
    for name in shown:
        other = named.setdefault(name.lower(), name)
        if other != name:
            raise InputError(
                f"classes {other!r} and {name!r} of the model differ only in case, and so "
                "would their columns, which readers take for one: train with --labels that names "
                "them apart"
            )
    return pa.schema([*(pa.field(f"{name}_probability", pa.float32()) for name in shown), winner])


def answers(infer: Inference, ids: np.ndarray, offsets: np.ndarray, classes: Classes) -> Answers:
    """Score texts.

    Args:
        infer: the model.
        ids: int32[tokens]: the token ids of all texts, one text after another.
        offsets: int64[n + 1]: where each text begins in `ids`.
        classes: the model's.
    """
    winners, decisive, shown, top = [], [], [], []
    is_many = len(classes) > MAX_PROBABILITY_COLUMNS
    for probabilities in _blocks(infer, ids, offsets, len(classes)):
        winners.append(classes.winners(probabilities))
        decisive.append(probabilities[:, 1] if len(classes) == 2 else probabilities.max(axis=1))
        if is_many:
            order = _most_probable(probabilities)
            top.append(order)
            shown.append(np.take_along_axis(probabilities, order, axis=1))
        else:
            shown.append(probabilities[:, 1:] if len(classes) == 2 else probabilities)
    schema = answer_schema(classes.names)
    names = pa.array(classes.names)
    winner, values = np.concatenate(winners), np.concatenate(shown)
    winner_names = names.take(pa.array(winner))
    if is_many:
        columns = [
            pa.array(values[:, 0]),
            winner_names,
            _lists(names.take(pa.array(np.concatenate(top).ravel()))),
            _lists(pa.array(values.ravel())),
        ]
    else:
        columns = [*(pa.array(column) for column in values.T), winner_names]
    return Answers(winner, np.concatenate(decisive), pa.table(columns, schema=schema))


def _blocks(
    infer: Inference, ids: np.ndarray, offsets: np.ndarray, classes: int
) -> Iterator[npt.NDArray[np.float32]]:
    """float32[n, classes], for as many texts at a time as MAX_PROBABILITIES allows; once at least.

    A text has the same probabilities in any block.
    """
    texts = MAX_PROBABILITIES // classes
    for first in range(0, max(len(offsets) - 1, 1), texts):
        here = offsets[first : first + texts + 1]
        yield infer(ids[here[0] : here[-1]], here - here[0])


def _most_probable(probabilities: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
    """int64[n, TOP_CLASSES]: the most probable classes, in this order; of equals the first."""
    # Sorting may put equals in another order on another processor, and takes longer.
    left = probabilities.copy()
    rows = np.arange(len(left))
    top = np.empty((len(left), TOP_CLASSES), np.int64)
    for place in range(TOP_CLASSES):
        top[:, place] = left.argmax(axis=1)
        left[rows, top[:, place]] = -1
    return top


def _lists(values: pa.Array) -> pa.ListArray:
    """The values as lists of TOP_CLASSES."""
    return pa.ListArray.from_arrays(
        np.arange(0, len(values) + 1, TOP_CLASSES, dtype=np.int32), values
    )
