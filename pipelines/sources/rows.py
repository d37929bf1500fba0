"""Batches of rows with row numbers, malformed rows, spans of rows, and the choice of columns."""

import difflib
import re
import textwrap
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from pipelines.errors import BadShard
from pipelines.sources.names import file_name

MAX_COLUMNS = 10_000
"""Columns of a shard. Reading makes objects for each one, many times its bytes in the file."""

MAX_ROW_BYTES = 64 * 2**20
"""Longest text of a Parquet column, row of a CSV file, and line that `predict` reads. A longer CSV
row nearly always means a quote that is not closed."""

MAX_BATCH_ROWS = 65_536
"""Rows of a batch: some ten MB of short texts."""

MAX_RAW_BYTES = 64 * 2**10
"""Bytes that are kept of a row that is rejected."""

LONGEST_NAME = 60
WORDS_OF_TEXT = 4
"""What has more characters, or so many words, is a text rather than the name of a column."""

_NUMBER_OR_DATE = re.compile(r"[-+.]?\d[-+.,:/ \deETZ]*")
_ADDRESS = re.compile(r"\S@\S|://")


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
            raise BadShard(f"{path} {_problem(path, name, present, wanted, chosen)}")
    return chosen


def _problem(
    path: str,
    name: str,
    present: Sequence[str],
    wanted: Sequence[str] | None,
    chosen: Sequence[str],
) -> str:
    """What is wrong with a column, and what to do. A first line that looks like a row is a text of
    the corpus, which logs must not show."""
    problem = "has more than one column" if name in present else "has no column"
    # A `.txt` file may have been read as CSV.
    has_header = file_name(path).format not in ("parquet", "json")
    delimiter = _delimiter_hint(present) if has_header else ""
    if has_header and _looks_like_row(present):
        named = f" {name!r}" if wanted is not None and name in wanted else " of the same name"
        return (
            f"{problem}{named}: its first line looks like a row and not like names, so it is not "
            f"shown here: if it is a row, name the columns by --columns{delimiter}"
        )
    similar = "" if name in present else _similar(name, present, chosen)
    columns = textwrap.shorten(", ".join(present), 1000, placeholder=" ...")
    return f"{problem} {name!r}{similar}; its columns: {columns}{delimiter}"


def _similar(name: str, present: Sequence[str], chosen: Sequence[str]) -> str:
    """A question whether the most similar column is meant; ""."""
    candidates = {column.lower(): column for column in present if column not in chosen}
    close = difflib.get_close_matches(name.lower(), candidates, 1)
    return f"; did you mean {candidates[close[0]]!r}?" if close else ""


def _delimiter_hint(present: Sequence[str]) -> str:
    """What to pass if a name has another delimiter in it; ""."""
    for delimiter, value in (("\t", "'\\t'"), (";", "';'"), ("|", "'|'")):
        if any(delimiter in name for name in present):
            return f"; if {value} is between its columns, pass --delimiter {value}"
    return ""


def _looks_like_row(names: Sequence[str]) -> bool:
    """Whether the first line of a file has values where it should have the names of columns.

    pandas writes an index without a name before names.
    """
    is_index_unnamed = names[:1] == [""] and all(len(name.split()) == 1 for name in names[1:])
    return any(map(_is_value, names[1:] if is_index_unnamed else names))


def _is_value(name: str) -> bool:
    """Whether a column's name looks like a value of a row: none, a number, a date, a sentence."""
    name = name.strip()
    return (
        not name
        or len(name) > LONGEST_NAME
        or len(name.split()) >= WORDS_OF_TEXT
        or _NUMBER_OR_DATE.fullmatch(name) is not None
        or _ADDRESS.search(name) is not None
    )
