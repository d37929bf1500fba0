"""Parquet reader: row batches of a span, row counts and schemas, with limits on memory."""

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipelines.sources.arrow_types import plain_schema
from pipelines.sources.memory_limit import limited_memory
from pipelines.sources.rows import (
    MAX_ROW_BYTES,
    Rows,
    Span,
    choose_columns,
    require_few_columns,
    too_few_rows,
)
from sentiment.errors import InputError, on_one_line

MAX_BATCH_ROWS = 65_536
"""Rows of a batch: some ten MB of short texts."""

BATCH_BYTES = 64 * 2**20
"""Target size of a batch, as far as the footer tells how long rows are."""

COLUMN_BUFFER_BYTES = 4 * 2**20
"""Bytes of a column chunk read at a time. A row group can be many times what a part needs."""

FOOTER_READ_BYTES = 64 * 2**10
"""Bytes read from the end of a file to find its footer; Arrow's own default."""

MAX_ROWS_PER_BYTE = 1000
"""Rows of a file, per byte of its size. A footer can claim any number, and a plan relies on it."""

_LONG_TYPES = (pa.string(), pa.large_string(), pa.binary(), pa.large_binary())


def read_parquet(
    source: pa.NativeFile,
    path: str,
    columns: Sequence[str] | None,
    span: Span | None = None,
    optional: Sequence[str] = (),
) -> Iterator[Rows]:
    """The rows of a Parquet file, a batch at a time; the arguments are those of `Shard.rows`."""
    try:
        with limited_memory(path):
            file = _open(source, path)
            present = plain_schema(file.schema_arrow)
            chosen = choose_columns(path, present.names, columns, optional)
            sizes = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
        starts = np.cumsum([0, *sizes])
        rows_in_file = int(starts[-1])
        span = span or Span(0, rows_in_file)
        if rows_in_file < span.last:
            raise too_few_rows(path, rows_in_file, span)
        groups = [
            i for i in range(len(sizes)) if starts[i] < span.last and starts[i + 1] > span.first
        ]
        rows_before = int(starts[groups[0]]) if groups else 0
        batches = file.iter_batches(
            _batch_rows(file, groups), columns=chosen, row_groups=groups, use_threads=False
        )
        schema = pa.schema([present.field(name) for name in chosen])
        while rows_before < span.last:
            with limited_memory(path):
                batch = next(batches, None)
                if batch is None:
                    return
                table = pa.Table.from_batches([batch]).select(chosen).cast(schema)
            _require_short_values(table, path)
            numbers = np.arange(rows_before + 1, rows_before + 1 + len(batch))
            rows_before += len(batch)
            rows = Rows(table, numbers).between(span.first, span.last)
            if len(rows.numbers):
                yield rows
    except (pa.ArrowException, OSError, MemoryError) as error:
        raise _unreadable(path, error) from error


def count_parquet(source: pa.NativeFile, path: str) -> tuple[int, pa.Schema]:
    """Row count and schema of a Parquet file, from its footer."""
    try:
        size = source.size()
        # Read before memory is limited: one thread at a time holds the limit, and buckets are slow.
        tail = source.read_at(min(size, FOOTER_READ_BYTES), max(size - FOOTER_READ_BYTES, 0))
        is_whole = len(tail) > 8 and int.from_bytes(tail[-8:-4], "little") + 8 <= len(tail)
        with limited_memory(path):
            file = _open(pa.BufferReader(tail) if is_whole else source, path)
            rows, schema = file.metadata.num_rows, plain_schema(file.schema_arrow)
    except (pa.ArrowException, OSError, MemoryError) as error:
        raise _unreadable(path, error) from error
    if not 0 <= rows <= MAX_ROWS_PER_BYTE * size:
        raise InputError(f"{path} claims {rows:,} rows in {size:,} bytes: its footer is damaged")
    return rows, schema


def _open(source: pa.NativeFile, path: str) -> pq.ParquetFile:
    file = pq.ParquetFile(source, buffer_size=COLUMN_BUFFER_BYTES)
    require_few_columns(path, file.metadata.num_columns)
    return file


def _batch_rows(file: pq.ParquetFile, groups: Sequence[int]) -> int:
    """Rows per batch: fewer where the footer says that rows are long."""
    longest = 1
    for group in map(file.metadata.row_group, groups):
        longest = max(longest, group.total_byte_size // max(group.num_rows, 1))
    return min(max(BATCH_BYTES // longest, 1), MAX_BATCH_ROWS)


def _require_short_values(table: pa.Table, path: str) -> None:
    """Raise an InputError if a text is longer than MAX_ROW_BYTES: tokenizing takes many times that
    much memory.
    """
    for name, column in zip(table.column_names, table.columns, strict=True):
        if column.type in _LONG_TYPES and column.nbytes > MAX_ROW_BYTES:
            longest = pc.max(pc.binary_length(column)).as_py() or 0
            if longest > MAX_ROW_BYTES:
                raise InputError(
                    f"{path}: column {name!r} has a value of {longest:,} bytes; "
                    f"at most {MAX_ROW_BYTES >> 20} MiB are read"
                )


def _unreadable(path: str, error: BaseException) -> InputError:
    return InputError(f"{path} cannot be read as Parquet: {on_one_line(error)}")
