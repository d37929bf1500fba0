"""The values of a label column of any plain type: integers, floats, decimals, booleans, words."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.types as pat

from pipelines.errors import BadShard
from pipelines.sources.arrow_types import is_text
from pipelines.sources.labels import normalized
from sentiment.classes import MAX_NAME_CHARACTERS

NO_LABEL, NOT_TEXT = -1, -2
"""Codes of rows without a label, and of rows whose label cannot be decoded."""

_MISSING = ("", "nan")

_TYPES = (pat.is_integer, pat.is_floating, pat.is_decimal, pat.is_boolean)


@dataclass(frozen=True)
class Labels:
    """The labels of n rows."""

    values: tuple[str, ...]
    """The distinct labels, normalized."""
    codes: np.ndarray
    """int64[n]: the place in `values` of each row's label, NO_LABEL, or NOT_TEXT."""


def read_labels(column: pa.ChunkedArray, where: str) -> Labels:
    """The labels of a column.

    Args:
        column: n labels; binary ones are UTF-8.
        where: shard and column, for messages.

    Raises BadShard for a column of an unsuitable type, and for a label that is too long for one.
    """
    if not (is_text(column.type) or any(check(column.type) for check in _TYPES)):
        raise BadShard(f"{where} is {column.type}, not labels")
    encoded = column.combine_chunks().dictionary_encode()
    values: dict[str, int] = {}
    codes = [_code(text, values, where) for text in _texts(encoded.dictionary)]
    indices = encoded.indices.cast(pa.int64()).fill_null(len(codes))
    return Labels(tuple(values), np.array([*codes, NO_LABEL], np.int64)[indices])


def _code(text: str | None, values: dict[str, int], where: str) -> int:
    """The place of a label in `values`, where it is added."""
    if text is None:
        return NOT_TEXT
    value = normalized(text)
    if value in _MISSING:
        return NO_LABEL
    if len(value) > MAX_NAME_CHARACTERS:
        raise BadShard(
            f"{where} has a label of {len(value):,} characters, more than "
            f"{MAX_NAME_CHARACTERS}: {value[:30]!r}...; is it the right column?"
        )
    return values.setdefault(value, len(values))


def _texts(distinct: pa.Array) -> list[str | None]:
    """The distinct values of a column as text, null as ""; None for one that is not UTF-8."""
    if is_text(distinct.type):
        # As bytes first, since Arrow does not check that strings are UTF-8.
        return [_decoded(value or b"") for value in distinct.cast(pa.large_binary()).to_pylist()]
    if pat.is_float16(distinct.type):
        distinct = distinct.cast(pa.float32())
    texts: list[str | None] = distinct.cast(pa.string()).to_pylist()
    return texts


def _decoded(value: bytes) -> str | None:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return None
