"""Rows of each class by the values of kept columns: what `--by` counts in each part.

Counts go into the manifest, and not into the part's file, whose bytes do not depend on `--by`.
"""

import json
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pat

from pipelines.console.terminal import quantity
from pipelines.reports.scoring_results import Breakdown
from pipelines.scoring.class_rows import MAX_CLASSES_OF_PIECES
from pipelines.scoring.part_data import ValueRows
from pipelines.scoring.sealed_parquet import read_parquet
from pipelines.scoring.shards import Shards
from pipelines.sources.names import partitions
from sentiment.answers import winner_column
from sentiment.errors import InputError

MAX_VALUES = 400
"""Values of a column that a part counts, such as the days of a year."""

MAX_VALUES_IN_ALL = 4000
"""Values of a column in a report."""

MAX_SHARDS_LOOKED_AT = 256

MAX_VALUE_CHARACTERS = 200
"""Values are told apart by so many characters from their beginning."""

_TIME = r"^\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}"
"""A text that is a time, as CSV and JSON have it."""


def require_countable(by: Sequence[str], kept: pa.Schema, shards: Shards) -> None:
    """Raise InputError for a column of `--by` that is not there, or has no values to count by.

    Args:
        by: names of columns.
        kept: schema of the columns that the output keeps.
        shards: those of the input. By the keys of their `key=value` directories, reports count
            anyway; the first shards tell them.
    """
    paths = shards.paths[:MAX_SHARDS_LOOKED_AT].to_pylist() if by else []
    keys = dict.fromkeys(key for path in paths for key in partitions(path))
    for name in by:
        if name in keys:
            continue
        if name not in kept.names:
            names = ", ".join(dict.fromkeys([*kept.names, *keys])) or "none"
            raise InputError(f"--by {name}: the output keeps no such column; it keeps: {names}")
        kind = kept.field(name).type
        if not _is_countable(kind):
            raise InputError(
                f"--by {name}: it is {kind}: choose a column of texts, numbers, booleans, dates or "
                "times, with few values"
            )


def count_by(
    table: pa.Table, by: Sequence[str], winners: npt.NDArray[np.int64], classes: int
) -> dict[str, ValueRows | None]:
    """The rows of a part by the values of columns; None: there are too many values to count.

    Times count by their day, in the time zone of the column.

    Args:
        table: n rows. Columns that it lacks are not counted.
        by: names of columns.
        winners: int64[n]: the class of each row.
        classes: of the model.
    """
    return {
        name: _count(table[name], winners, classes) for name in by if name in table.column_names
    }


def count_in(
    content: bytes, by: Sequence[str], names: Sequence[str]
) -> dict[str, ValueRows | None]:
    """The same of the content of a part's file; `names`: of the model's classes."""
    file = read_parquet(content)
    winner = winner_column(names)
    there = [name for name in by if name in file.schema_arrow.names]
    table = file.read(columns=[*there, winner])
    winners = pc.index_in(table[winner], pa.array(names)).to_numpy().astype(np.int64)
    return count_by(table, there, winners, len(names))


def sum_by(
    counts: Sequence[str | None], rows: npt.NDArray[np.int64], by: Sequence[str], classes: int
) -> list[Breakdown]:
    """The sums over the parts of an output, for each column.

    Args:
        counts: for each part, `count_by` as JSON; None: it was scored without `--by`.
        rows: int64[parts]: rows scored.
        by: names of columns.
        classes: of the model.
    """
    columns = [_Sums(name, classes) for name in by]
    for content, part_rows in zip(counts, rows.tolist(), strict=True):
        part: Mapping[str, ValueRows | None] = json.loads(content) if content else {}
        for sums in columns:
            sums.add(part, part_rows)
    return [sums.breakdown() for sums in columns]


class _Sums:
    """Sums of a column over parts."""

    def __init__(self, column: str, classes: int) -> None:
        self._column, self._classes = column, classes
        self._numbers_of_value = classes if classes <= MAX_CLASSES_OF_PIECES else 1
        self._index: dict[str | None, int] = {}
        size = (MAX_VALUES_IN_ALL + MAX_VALUES, self._numbers_of_value)
        self._numbers = np.zeros(size, np.int64)
        self._uncounted = self._crowded = 0

    def add(self, part: Mapping[str, ValueRows | None], rows: int) -> None:
        """Add a part of so many rows."""
        values = part.get(self._column)
        if self._column not in part:
            self._uncounted += rows
        elif values is None or len(self._index) > MAX_VALUES_IN_ALL:
            self._crowded += rows
        elif values:
            index = self._index
            places = [index.setdefault(value, len(index)) for value, _ in values]
            self._numbers[places] += [numbers for _, numbers in values]

    def breakdown(self) -> Breakdown:
        """The sums of all parts."""
        numbers = self._numbers[: len(self._index)]
        notes = []
        if self._uncounted:
            rows = quantity(self._uncounted, "row")
            notes.append(f"{rows} not counted: scored without --by {self._column}.")
        if self._crowded:
            notes.append(
                f"{quantity(self._crowded, 'row')} not counted: a part has more than {MAX_VALUES} "
                f"values, or all parts more than {MAX_VALUES_IN_ALL:,}."
            )
        return Breakdown(
            self._column,
            list(self._index),
            numbers.sum(axis=1),
            numbers if self._numbers_of_value == self._classes else None,
            " ".join(notes),
        )


def _count(
    column: pa.ChunkedArray, winners: npt.NDArray[np.int64], classes: int
) -> ValueRows | None:
    try:
        encoded = _values(column)
        if len(encoded.dictionary) >= MAX_VALUES:
            return None
        values = [None, *encoded.dictionary.to_pylist()]
    except (pa.ArrowException, UnicodeError):  # Texts that are not UTF-8.
        return None
    codes = np.asarray(encoded.indices.fill_null(-1)).astype(np.int64) + 1
    counted = classes if classes <= MAX_CLASSES_OF_PIECES else 1
    winner = winners if counted > 1 else 0
    sums = np.bincount(codes * counted + winner, minlength=len(values) * counted)
    pairs = zip(values, sums.reshape(-1, counted).tolist(), strict=True)
    return [(value, numbers) for value, numbers in pairs if any(numbers)]


def _values(column: pa.ChunkedArray) -> pa.DictionaryArray:
    """A column's values as few texts: the days of times, and the beginnings of long texts."""
    kind = column.type
    if pat.is_dictionary(kind):
        column, kind = column.cast(kind.value_type), kind.value_type
    if pat.is_timestamp(kind):
        column = _local(column).cast(pa.date32())
    whole = column.combine_chunks()
    array = pa.concat_arrays(whole.chunks) if isinstance(whole, pa.ChunkedArray) else whole
    encoded = array.dictionary_encode()
    texts = encoded.dictionary.cast(pa.string())
    if pat.is_string(kind) or pat.is_large_string(kind):
        cut = pc.utf8_slice_codeunits(texts, 0, MAX_VALUE_CHARACTERS)
        day = pc.utf8_slice_codeunits(texts, 0, 10)
        texts = pc.if_else(pc.match_substring_regex(texts, _TIME), day, cut)
    again = texts.dictionary_encode()
    return pa.DictionaryArray.from_arrays(again.indices.take(encoded.indices), again.dictionary)


def _local(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Times as the clocks of their zone show them; UTC if the zone is not known here."""
    if column.type.tz is None:
        return column
    try:
        return pc.local_timestamp(column)
    except pa.ArrowException:
        return column.cast(pa.timestamp(column.type.unit))


def _is_countable(kind: pa.DataType) -> bool:
    if pat.is_dictionary(kind):
        return _is_countable(kind.value_type)
    checks = (
        *(pat.is_string, pat.is_large_string, pat.is_boolean, pat.is_integer, pat.is_floating),
        *(pat.is_decimal, pat.is_date, pat.is_timestamp),
    )
    return any(check(kind) for check in checks)
