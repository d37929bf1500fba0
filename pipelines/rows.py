"""What a shard yields: rows with their numbers, and the rows that are none. Parquet -> rows."""

import difflib
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sentiment.errors import InputError

ROWS_A_READ = 65_536
"""Rows that Parquet is read by: some ten MB of short texts."""

BUFFER = 4 * 2**20
"""Bytes of a Parquet column read at a time: a row group can be many times what a part needs."""


@dataclass(frozen=True)
class BadRow:
    """A row whose fields cannot be told apart."""

    number: int
    reason: str
    raw: bytes


@dataclass(frozen=True)
class Rows:
    """Some consecutive rows of a shard. Row numbers count data rows from 1, bad ones included."""

    table: pa.Table
    """The columns asked for. CSV columns are binary: nothing is lost that is not valid UTF-8."""
    numbers: np.ndarray
    """int64: the number of each of the table's rows."""
    bad: Sequence[BadRow] = field(default=())

    def between(self, first: int, last: int) -> "Rows":
        """Those with numbers above `first` and up to `last`."""
        start, stop = np.searchsorted(self.numbers, [first, last], side="right")
        bad = [row for row in self.bad if first < row.number <= last]
        return Rows(self.table[start:stop], self.numbers[start:stop], bad)


@dataclass(frozen=True)
class Span:
    """Consecutive rows of a shard, and where to begin to look for them."""

    first: int
    """Rows before them."""
    rows: int
    mark_row: int = 0
    """CSV: a row at or before the first, by the number of rows before it ..."""
    mark_byte: int = 0
    """... and the byte of the file at which it begins; 0: unknown, read from the start."""

    @property
    def last(self) -> int:
        """The number of its last row, counted from 1."""
        return self.first + self.rows


def changed(path: str, rows: int, span: Span) -> InputError:
    """What to raise where a shard ends before a span of it does."""
    return InputError(
        f"{path} has {rows:,} rows, not the {span.last:,} or more that were counted: "
        "was it written again?"
    )


def choose_columns(
    path: str, present: Sequence[str], wanted: Sequence[str] | None, optional: Sequence[str]
) -> list[str]:
    """The columns to read, each once: those wanted (None: all), then the optional ones present.

    Raises InputError for the first that is missing or there twice.
    """
    chosen = list(present) if wanted is None else list(wanted)
    chosen = list(dict.fromkeys([*chosen, *(name for name in optional if name in present)]))
    for name in chosen:
        if present.count(name) != 1:
            problem = "has no column" if name not in present else "has more than one column"
            columns = textwrap.shorten(", ".join(present), 1000, placeholder=" ...")
            others = {each.lower(): each for each in present if each not in chosen}
            meant = [] if name in present else difflib.get_close_matches(name.lower(), others, 1)
            hint = f"; did you mean {others[meant[0]]!r}?" if meant else ""
            raise InputError(f"{path} {problem} {name!r}{hint}; its columns: {columns}")
    return chosen


def read_parquet(
    source: pa.NativeFile,
    path: str,
    columns: Sequence[str] | None,
    span: Span | None = None,
    optional: Sequence[str] = (),
) -> Iterator[Rows]:
    """The rows of a Parquet file; the arguments are those of `Shard.rows`."""
    try:
        file = pq.ParquetFile(source, buffer_size=BUFFER)
        columns = choose_columns(path, file.schema_arrow.names, columns, optional)
        sizes = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
        starts = np.cumsum([0, *sizes])
        span = span or Span(0, int(starts[-1]))
        if starts[-1] < span.last:
            raise changed(path, int(starts[-1]), span)
        groups = [
            i for i in range(len(sizes)) if starts[i] < span.last and starts[i + 1] > span.first
        ]
        before = int(starts[groups[0]]) if groups else 0
        for batch in file.iter_batches(
            ROWS_A_READ, columns=columns, row_groups=groups, use_threads=False
        ):
            table = pa.Table.from_batches([batch]).select(columns)
            numbers = np.arange(before + 1, before + 1 + len(batch))
            before += len(batch)
            rows = Rows(table, numbers).between(span.first, span.last)
            if len(rows.numbers):
                yield rows
            if before >= span.last:
                return
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
        raise _unreadable(path, error) from error


def count_parquet(source: pa.NativeFile, path: str) -> tuple[int, pa.Schema]:
    """The number of rows of a Parquet file, and its columns."""
    try:
        file = pq.ParquetFile(source)
        return file.metadata.num_rows, file.schema_arrow.remove_metadata()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: str, error: Exception) -> InputError:
    return InputError(f"{path} does not read as Parquet: {' '.join(str(error).split())}")
