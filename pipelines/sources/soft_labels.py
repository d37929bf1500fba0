"""Soft labels: a probability of each class, as a larger model or several annotators give them."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pat

from pipelines.errors import BadShard
from pipelines.sources.arrow_types import inner_fields, is_text
from pipelines.sources.label_column import NO_LABEL
from pipelines.sources.labels import NEGATIVE, POSITIVE, LabelMap, normalized

NOT_PROBABILITIES = -4
"""Code of rows whose numbers are not probabilities."""

SUM_TOLERANCE = 1e-3
"""How far the probabilities of a text may add up to another number than 1."""

_NUMBERS = (pat.is_integer, pat.is_floating, pat.is_decimal)


@dataclass(frozen=True)
class SoftLabels:
    """The soft labels of n rows."""

    names: tuple[str, ...]
    """Of the K classes."""
    probabilities: np.ndarray
    """float32[n, K]: rows sum to 1; zeros where `codes` is negative."""
    codes: np.ndarray
    """int64[n]: the most probable class, NO_LABEL, or NOT_PROBABILITIES."""


def holds_probabilities(kind: pa.DataType) -> bool:
    """Whether a column of this type has a number for each class: a list or a struct of numbers."""
    is_list = pat.is_list(kind) or pat.is_large_list(kind) or pat.is_fixed_size_list(kind)
    if not (is_list or pat.is_struct(kind)) or not inner_fields(kind):
        return False
    return all(_is_number(field.type) for field in inner_fields(kind))


def read_soft_labels(
    column: pa.ChunkedArray,
    labels: LabelMap | None,
    where: str,
    order: tuple[str, ...] = (NEGATIVE, POSITIVE),
) -> SoftLabels:
    """The soft labels of a column.

    The fields of a struct are classes by their names. A list has a number for each class, in the
    order of `labels`. A single number is the probability of the second of two classes.

    Args:
        column: n structs or lists of numbers, numbers, or numbers as text.
        labels: the classes; None: the fields of a struct, else those of `order`.
        where: shard and column, for messages.
        order: names of classes.

    Raises BadShard for a column of an unsuitable type, a struct with a field of no class, and
    labels of classes whose numbers only their order tells.
    """
    array = column.combine_chunks()
    names = labels.names if labels is not None else tuple(map(normalized, order))
    if pat.is_struct(array.type):
        fields = [normalized(field.name) for field in inner_fields(array.type)]
        if labels is None:
            names = tuple(fields)
        places = np.arange(len(fields)) if labels is None else labels.indices(fields)
        for number, field in enumerate(fields):
            if places[number] < 0 or field in fields[:number]:
                problem = "is of no class of --labels" if places[number] < 0 else "is there twice"
                raise BadShard(f"{where}: the field {field!r} {problem}")
        given = np.zeros((len(array), len(names)))
        for place, values in zip(places, array.flatten(), strict=True):
            given[:, place] += _numbers(values)
    elif holds_probabilities(array.type):
        _require_no_labels(labels, where)
        given = _matrix(array, len(names))
        width = pc.max(pc.list_value_length(array)).as_py()
        if width is not None and width != len(names):
            raise BadShard(
                f"{where} has lists of {width:,} numbers, but there are {len(names):,} classes: "
                "name them all, in order, by --labels NAME NAME ..."
            )
    elif _is_number(array.type) or is_text(array.type):
        if len(names) != 2:
            raise BadShard(
                f"{where} has one number a row, but there are {len(names):,} classes: give a "
                "struct or a list with a number for each"
            )
        _require_no_labels(labels, where)
        second = _parsed(array) if is_text(array.type) else _numbers(array)
        given = np.stack([1 - second, second], axis=1)
    else:
        raise BadShard(f"{where} is {array.type}, not probabilities")
    given[np.isinf(given)] = np.nan
    sums = given.sum(axis=1)
    # NaN compares as False.
    is_valid = ((given >= 0) & (given <= 1)).all(axis=1) & (np.abs(sums - 1) <= SUM_TOLERANCE)
    probabilities = np.where(is_valid[:, None], given / np.where(is_valid, sums, 1)[:, None], 0)
    codes = np.where(is_valid, probabilities.argmax(axis=1), NOT_PROBABILITIES)
    codes[_is_missing(array)] = NO_LABEL
    return SoftLabels(names, probabilities.astype(np.float32), codes)


def _require_no_labels(labels: LabelMap | None, where: str) -> None:
    if labels is not None and labels.has_labels:
        raise BadShard(
            f"{where} has probabilities, whose classes are those of --labels in their order: name "
            "them without labels, by --labels NAME NAME ..."
        )


def _is_number(kind: pa.DataType) -> bool:
    return any(check(kind) for check in _NUMBERS)


def _numbers(values: pa.Array) -> np.ndarray:
    """float64[n]; NaN for null."""
    if pat.is_float16(values.type):
        values = values.cast(pa.float32())
    numbers: np.ndarray = values.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    return numbers


def _parsed(texts: pa.Array) -> np.ndarray:
    """The numbers that texts hold: float64[n]; NaN for others."""

    def number(text: bytes | None) -> float:
        try:
            return float(text or b"nan")
        except ValueError:
            return np.nan

    return np.array([number(text) for text in texts.cast(pa.large_binary()).to_pylist()])


def _matrix(lists: pa.Array, width: int) -> np.ndarray:
    """Lists of numbers as float64[n, width]; NaN in the rows whose list has another length."""
    has_width = pc.fill_null(pc.equal(pc.list_value_length(lists), width), False)
    has_width = has_width.to_numpy(zero_copy_only=False)
    matrix = np.full((len(lists), width), np.nan)
    matrix[has_width] = _numbers(lists.filter(pa.array(has_width)).flatten()).reshape(-1, width)
    return matrix


def _is_missing(labels: pa.Array) -> np.ndarray:
    """bool[n]: whether there is no label: null, and of single numbers also empty or NaN."""
    if is_text(labels.type):
        texts = labels.cast(pa.large_binary()).to_pylist()
        return np.array([(text or b"").strip().lower() in (b"", b"nan") for text in texts], bool)
    is_missing: np.ndarray = labels.is_null(nan_is_null=True).to_numpy(zero_copy_only=False)
    return is_missing
