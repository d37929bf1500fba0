"""Batches of rows with row numbers, malformed rows, spans of rows, and the choice of columns."""

import difflib
import textwrap
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from pipelines.errors import BadShard

MAX_COLUMNS = 10_000
"""Columns of a shard. Reading makes objects for each one, many times its bytes in the file."""

MAX_ROW_BYTES = 64 * 2**20
"""Longest text of a Parquet column, and longest row of a CSV file. A longer CSV row nearly always
means a quote that is not closed."""

MAX_BATCH_ROWS = 65_536
"""Rows of a batch: some ten MB of short texts."""

MAX_RAW_BYTES = 64 * 2**10
"""Bytes that are kept of a row that is rejected."""


@dataclass(frozen=True)
class BadRow:
    """A malformed row: its fields cannot be told apart."""

    number: int
    """Row number in the shard, from 1."""
    reason: str
    raw: bytes
    """The row, or its first MAX_RAW_BYTES."""
    raw_bytes: int
    """Length of the whole row."""


@dataclass(frozen=True)
class Rows:
    """A batch of consecutive rows of a shard. Row numbers start at 1 and count malformed rows."""

    table: pa.Table
    """The columns that were asked for. Those of text files are binary, so invalid UTF-8 is kept."""
    numbers: np.ndarray
    """int64[rows]: the row number of each row of the table, ascending."""
    bad: Sequence[BadRow] = field(default=())

    def between(self, first: int, last: int) -> "Rows":
        """The rows with `first < number <= last`."""
        start, stop = np.searchsorted(self.numbers, [first, last], side="right")
        bad = [row for row in self.bad if first < row.number <= last]
        return Rows(self.table[start:stop], self.numbers[start:stop], bad)


@dataclass(frozen=True)
class Span:
    """A run of consecutive rows of a shard, and where a reader can start to look for them."""

    first: int
    """Number of rows before the span."""
    rows: int
    mark_row: int = 0
    """Text files: number of rows before the mark, a row at or before the span's first row."""
    mark_byte: int = 0
    """Text files: offset in the file of the row at the mark; 0: unknown, read from the start."""

    @property
    def last(self) -> int:
        """Row number of the span's last row, from 1."""
        return self.first + self.rows


def too_few_rows(path: str, rows: int, span: Span) -> BadShard:
    """The error to raise when a shard has only `rows` rows and a span needs more."""
    return BadShard(
        f"{path} has {rows:,} rows, not the {span.last:,} or more that were counted: "
        "was the file rewritten?"
    )


def require_few_columns(path: str, columns: int) -> None:
    """Raise BadShard if a shard has more than MAX_COLUMNS columns."""
    if columns > MAX_COLUMNS:
        raise BadShard(f"{path} has {columns:,} columns; at most {MAX_COLUMNS:,} are read")


def text_schema(names: Sequence[str]) -> pa.Schema:
    """The schema of a text file: every column is a string."""
    return pa.schema([(name, pa.string()) for name in names])


def choose_columns(
    path: str, present: Sequence[str], wanted: Sequence[str] | None, optional: Sequence[str]
) -> list[str]:
    """The columns to read, without repeats: the wanted ones, then the optional ones that exist.

    Args:
        path: the shard, for the message.
        present: all columns of the shard.
        wanted: columns that must be there; None: all.
        optional: columns to read if they are there.

    Raises BadShard for the first column that is missing or that the shard has twice.
    """
    times = Counter(present)
    chosen = list(present) if wanted is None else list(wanted)
    chosen = list(dict.fromkeys([*chosen, *(name for name in optional if name in times)]))
    for name in chosen:
        if times[name] != 1:
            problem = "has more than one column" if name in times else "has no column"
            hint = "" if name in times else _hint(name, present, chosen)
            columns = textwrap.shorten(", ".join(present), 1000, placeholder=" ...")
            raise BadShard(f"{path} {problem} {name!r}{hint}; its columns: {columns}")
    return chosen


def _hint(name: str, present: Sequence[str], chosen: Sequence[str]) -> str:
    """What may be wrong: the names are a row, or the most similar column is meant; or ""."""
    if any(_is_value(each) for each in present):
        return "; is its first line a row? Then name the columns by --columns"
    candidates = {column.lower(): column for column in present if column not in chosen}
    close = difflib.get_close_matches(name.lower(), candidates, 1)
    return f"; did you mean {candidates[close[0]]!r}?" if close else ""


def _is_value(name: str) -> bool:
    """Whether a column's name looks like a value of a row: a number, a date, a sentence."""
    return (name[:1].isdigit() and len(name) >= 3) or name.count(" ") >= 5
