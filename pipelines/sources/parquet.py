"""What a shard yields: rows with their numbers, and the rows that are none. Parquet -> rows."""

import difflib
import os
import resource
import textwrap
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sentiment.errors import InputError, on_one_line

ROWS_A_READ = 65_536
"""Rows that Parquet is read by, at most: some ten MB of short texts."""

BYTES_A_READ = 64 * 2**20
"""Of the rows that Parquet is read by, about, as far as the footer knows."""

ROOM = 2 * 2**30
"""Bytes that a read of Parquet may take: a page of a kilobyte can unpack to more than there are."""

MOST_COLUMNS = 10_000
"""Of a shard: what is made for each of them takes many times its bytes in the file."""

MOST_ROWS_A_BYTE = 1000
"""Rows of a Parquet file: a footer may claim any number, and a plan is made of what it claims."""

LONGEST_ROW = 64 * 2**20
"""Bytes of a text in Parquet, and of a row of CSV: there it is taken for an open quote."""

BUFFER = 4 * 2**20
"""Bytes of a Parquet column read at a time: a row group can be many times what a part needs."""

FOOTER = 64 * 2**10
"""Bytes from the end of a Parquet file in which its footer is looked for first, as Arrow does."""

_ONE_AT_A_TIME = threading.Lock()

_LONG = (pa.string(), pa.large_string(), pa.binary(), pa.large_binary())
_VIEWS = {"string_view": pa.string(), "binary_view": pa.binary()}


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
    times = Counter(present)
    chosen = list(dict.fromkeys([*chosen, *(name for name in optional if name in times)]))
    for name in chosen:
        if times[name] != 1:
            problem = "has no column" if name not in times else "has more than one column"
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
        with _room(path):
            file = _parquet(source, path)
            present = plain(file.schema_arrow)
            columns = choose_columns(path, present.names, columns, optional)
            sizes = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
        starts = np.cumsum([0, *sizes])
        span = span or Span(0, int(starts[-1]))
        if starts[-1] < span.last:
            raise changed(path, int(starts[-1]), span)
        groups = [
            i for i in range(len(sizes)) if starts[i] < span.last and starts[i + 1] > span.first
        ]
        before = int(starts[groups[0]]) if groups else 0
        batches = file.iter_batches(
            _rows_a_read(file, groups), columns=columns, row_groups=groups, use_threads=False
        )
        schema = pa.schema([present.field(name) for name in columns])
        while before < span.last:
            with _room(path):
                batch = next(batches, None)
                if batch is None:
                    return
                table = pa.Table.from_batches([batch]).select(columns).cast(schema)
            _require_short(table, path)
            numbers = np.arange(before + 1, before + 1 + len(batch))
            before += len(batch)
            rows = Rows(table, numbers).between(span.first, span.last)
            if len(rows.numbers):
                yield rows
    except (pa.ArrowException, OSError, MemoryError) as error:
        raise _unreadable(path, error) from error


def count_parquet(source: pa.NativeFile, path: str) -> tuple[int, pa.Schema]:
    """The number of rows of a Parquet file, and its columns."""
    try:
        size = source.size()
        # Before there is room for one only: in a bucket it takes its time.
        end = source.read_at(min(size, FOOTER), max(size - FOOTER, 0))
        whole = len(end) > 8 and int.from_bytes(end[-8:-4], "little") + 8 <= len(end)
        with _room(path):
            file = _parquet(pa.BufferReader(end) if whole else source, path)
            rows, schema = file.metadata.num_rows, plain(file.schema_arrow)
    except (pa.ArrowException, OSError, MemoryError) as error:
        raise _unreadable(path, error) from error
    if not 0 <= rows <= MOST_ROWS_A_BYTE * size:
        raise InputError(f"{path} claims {rows:,} rows in {size:,} bytes: its footer is damaged")
    return rows, schema


def plain(schema: pa.Schema) -> pa.Schema:
    """The schema without metadata, of types that are Arrow's own, no dictionaries and no views.

    A file may name any type that some library registers with Arrow, and the values of one of Ray
    Data's are pickles: to look at one would run its code. What such types store is only bytes. Of
    a dictionary, and through views, a long value may stand in every row: here rows are unpacked,
    where their size is watched.
    """
    return pa.schema([pa.field(field.name, _plain(field.type)) for field in schema])


def _plain(kind: pa.DataType) -> pa.DataType:
    if isinstance(kind, pa.BaseExtensionType):
        return _plain(kind.storage_type)
    if pa.types.is_dictionary(kind):
        return _plain(kind.value_type)
    if str(kind) in _VIEWS:
        return _VIEWS[str(kind)]
    fields = [kind.field(i) for i in range(kind.num_fields)]
    its = [field.with_type(_plain(field.type)) for field in fields]
    if its == fields:
        return kind
    if pa.types.is_struct(kind):
        return pa.struct(its)
    if pa.types.is_map(kind):
        return pa.map_(*its[0].type.fields)
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(its[0], kind.list_size)
    return pa.large_list(its[0]) if pa.types.is_large_list(kind) else pa.list_(its[0])


def _parquet(source: pa.NativeFile, path: str) -> pq.ParquetFile:
    file = pq.ParquetFile(source, buffer_size=BUFFER)
    require_few_columns(path, file.metadata.num_columns)
    return file


def require_few_columns(path: str, columns: int) -> None:
    """Raise an InputError where a shard has more columns than are taken for meant."""
    if columns > MOST_COLUMNS:
        raise InputError(f"{path} has {columns:,} columns; at most {MOST_COLUMNS:,} are read")


def _rows_a_read(file: pq.ParquetFile, groups: Sequence[int]) -> int:
    """Rows to read at once: fewer, where the footer says that they are long."""
    longest = 1
    for group in map(file.metadata.row_group, groups):
        longest = max(longest, group.total_byte_size // max(group.num_rows, 1))
    return min(max(BYTES_A_READ // longest, 1), ROWS_A_READ)


def _require_short(table: pa.Table, path: str) -> None:
    """Raise an InputError if a text is longer than anyone's: to tokenize takes many times that."""
    for name, column in zip(table.column_names, table.columns, strict=True):
        if column.type in _LONG and column.nbytes > LONGEST_ROW:
            longest = pc.max(pc.binary_length(column)).as_py() or 0
            if longest > LONGEST_ROW:
                raise InputError(
                    f"{path}: column {name!r} has a value of {longest:,} bytes; "
                    f"at most {LONGEST_ROW >> 20} MiB are read"
                )


@contextmanager
def _room(path: str) -> Iterator[None]:
    """A block in which this process can take ROOM, and no more; beyond it, an InputError.

    What a page unpacks to is known to none but its reader, which takes the memory before it looks.
    Only Linux counts what was taken; elsewhere there is no bound. Nor is there where the user's own
    (`ulimit -d`) is tighter: what meets that is a MemoryError, and not the file's fault.
    """
    if not os.path.exists("/proc/self/statm"):
        yield
        return
    # It is the process's: two threads that changed it at once would leave it changed.
    with _ONE_AT_A_TIME:
        with open("/proc/self/statm") as file:
            bound = int(file.read().split()[5]) * os.sysconf("SC_PAGE_SIZE") + ROOM
        before, most = resource.getrlimit(resource.RLIMIT_DATA)
        ours = before == resource.RLIM_INFINITY or bound < before
        if ours:
            resource.setrlimit(resource.RLIMIT_DATA, (bound, most))
        try:
            yield
        except MemoryError:
            if not ours:
                raise
            raise InputError(f"{path} takes more than {ROOM >> 30} GiB of memory to read") from None
        finally:
            resource.setrlimit(resource.RLIMIT_DATA, (before, most))


def _unreadable(path: str, error: BaseException) -> InputError:
    return InputError(f"{path} does not read as Parquet: {on_one_line(error)}")
