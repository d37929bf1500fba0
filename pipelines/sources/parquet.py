"""Parquet reader: row batches of a span, row counts and schemas, with limits on memory."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads
import pyarrow.parquet as pq

from pipelines.errors import BadShard
from pipelines.sources import label_names
from pipelines.sources.arrow_types import plain_schema
from pipelines.sources.counted import Counted
from pipelines.sources.format_files import FORMAT_FILES
from pipelines.sources.kinds import FIRST_BYTES, wrong_kind
from pipelines.sources.memory_limit import limited_memory
from pipelines.sources.options import ReadOptions
from pipelines.sources.parquet_columns import (
    ENCRYPTED,
    INT96_UNIT,
    column_types,
    int96_columns,
    require_whole_units,
    unkept,
)
from pipelines.sources.rows import (
    MAX_BATCH_ROWS,
    MAX_ROW_BYTES,
    Rows,
    Span,
    choose_columns,
    require_few_columns,
    too_few_rows,
)
from pipelines.sources.shard_file import Digest, is_shortage
from sentiment import storage
from sentiment.errors import on_one_line

BATCH_BYTES = 64 * 2**20
"""Target size of a batch, as far as the footer tells how long rows are."""

COLUMN_BUFFER_BYTES = 4 * 2**20
"""Bytes of a column chunk read at a time. A row group can be many times what a part needs."""

FETCHED_BYTES = 64 * 2**20
"""Row groups of up to so many bytes before compression are fetched whole, if most of their rows are
needed. A bucket takes time for each request, however small."""

FOOTER_READ_BYTES = 64 * 2**10
"""Bytes read from the end of a file to find its footer; Arrow's own default."""

SMALL_PARQUET_BYTES = 256 * 2**10
"""Files whose footers are parsed without a limit on memory: of hostile ones, to some 40 MB."""

MAX_ROWS_PER_BYTE = 1000
"""Rows of a file, per byte of its size. A footer can claim any number, and a plan relies on it."""

MAGIC = FORMAT_FILES["parquet"].magic
"""First and last bytes of a file."""

_LONG_TYPES = (pa.string(), pa.large_string(), pa.binary(), pa.large_binary())


def read_parquet(
    source: pa.NativeFile,
    path: str,
    columns: Sequence[str] | None,
    options: ReadOptions,
    span: Span | None = None,
    optional: Sequence[str] = (),
) -> Iterator[Rows]:
    """The rows of a Parquet file, a batch at a time; the arguments are those of `Shard.rows`.

    The options do not concern Parquet.
    """
    try:
        with limited_memory(path):
            file = _open(source, path)
            present = plain_schema(file.schema_arrow)
            chosen = choose_columns(path, present.names, columns, optional)
            groups = [file.metadata.row_group(i) for i in range(file.num_row_groups)]
        starts = np.cumsum([0, *(group.num_rows for group in groups)])
        rows_in_file = int(starts[-1])
        span = span or Span(0, rows_in_file)
        if rows_in_file < span.last:
            raise too_few_rows(path, rows_in_file, span)
        needed = [
            i for i in range(len(groups)) if starts[i] < span.last and starts[i + 1] > span.first
        ]
        rows_before = int(starts[needed[0]]) if needed else 0
        # Fetched at once by Arrow, row groups take one request; else each buffer takes one.
        fits = sum(groups[i].total_byte_size for i in needed) <= FETCHED_BYTES
        if fits and sum(groups[i].num_rows for i in needed) <= 2 * span.rows:
            file = pq.ParquetFile(
                source,
                metadata=file.metadata,
                pre_buffer=True,
                coerce_int96_timestamp_unit=INT96_UNIT,
            )
        read = {"batch_size": _batch_rows([groups[i] for i in needed]), "row_groups": needed}
        batches = file.iter_batches(columns=chosen, use_threads=False, **read)
        int96 = sorted(int96_columns(file) & set(chosen))
        if int96:
            exact = pq.ParquetFile(source, metadata=file.metadata, buffer_size=COLUMN_BUFFER_BYTES)
            exact_batches = exact.iter_batches(columns=int96, use_threads=False, **read)
        schema = pa.schema([present.field(name) for name in chosen])
        while rows_before < span.last:
            with limited_memory(path):
                batch = next(batches, None)
                if batch is None:
                    return
                nanoseconds = next(exact_batches) if int96 else None
                first, rows_before = rows_before, rows_before + len(batch)
                if rows_before <= span.first:
                    # Rows of other parts: a row group can only be decoded from its start.
                    continue
                table = pa.Table.from_batches([batch]).select(chosen).cast(schema)
                if int96:
                    require_whole_units(path, table, nanoseconds)
            _require_short_values(table, path)
            numbers = np.arange(first + 1, rows_before + 1)
            yield from _small_batches(Rows(table, numbers).between(span.first, span.last))
    except (pa.ArrowException, OSError, UnicodeError) as error:
        if is_shortage(error):
            raise
        raise _unreadable(source, path, error) from error


def count_parquet(source: pa.NativeFile, path: str, options: ReadOptions) -> Counted:
    """Row count of each row group, schema, and digest, of a Parquet file, from its footer.

    The digest is that of the file's size and its footer. The footer has the offsets, the lengths
    and usually the extremes of all columns.
    """
    return _read_footer(source, path)[0]


def _read_footer(source: pa.NativeFile, path: str) -> tuple[Counted, bytes]:
    """What `count_parquet` returns, and what the file's metadata has under `label_names.KEY`."""
    try:
        size = source.size()
        # Read before memory is limited: one thread at a time holds the limit, and buckets are slow.
        tail = source.read_at(min(size, FOOTER_READ_BYTES), max(size - FOOTER_READ_BYTES, 0))
        footer_bytes = int.from_bytes(tail[-8:-4], "little") + 8
        with limited_memory(path):
            if len(tail) < footer_bytes <= size:
                tail = source.read_at(footer_bytes, size - footer_bytes)
            is_whole = 8 < footer_bytes <= len(tail)
            file = _open(pa.BufferReader(tail) if is_whole else source, path)
            # A signature follows what is parsed.
            is_signed = footer_bytes != file.metadata.serialized_size + 8
            counted = _counted(file.metadata, path, size, is_signed)
            names = (file.metadata.metadata or {}).get(label_names.KEY, b"")
            return replace(counted, digest=_digest(size, tail[-footer_bytes:])), names
    except (pa.ArrowException, OSError, UnicodeError) as error:
        if is_shortage(error):
            raise
        raise _unreadable(source, path, error) from error


def parquet_schema(source: pa.NativeFile, path: str, options: ReadOptions) -> pa.Schema:
    """The schema of a Parquet file, from its footer, with its names of labels as metadata."""
    counted, names = _read_footer(source, path)
    return counted.schema.with_metadata({label_names.KEY: names} if names else None)


def count_small_parquet(path: str, size: int) -> Counted | None:
    """What `count_parquet` returns of a file in a bucket, by one request; None if that fails.

    Arrow's files first ask a bucket for their size, which here is known. Whatever is wrong with the
    file, `count_parquet` tells. The footer is parsed without a limit on memory, so it must be
    short.
    """
    if size > SMALL_PARQUET_BYTES:
        return None
    try:
        filesystem, inner = storage.resolve(path)
        file = pads.ParquetFileFormat().make_fragment(inner, filesystem, file_size=size)
        metadata = file.metadata
        require_few_columns(path, metadata.num_columns)
        counted = _counted(metadata, path, size)
        if any(unkept(kind) == ENCRYPTED for kind in counted.schema.types):
            # Arrow's own `_footer` of such a file ends the process.
            return None
        footer = _footer(metadata)
        return None if footer is None else replace(counted, digest=_digest(size, footer))
    except Exception:
        return None


def _footer(metadata: pq.FileMetaData) -> bytes | None:
    """The bytes at a file's end that this metadata was parsed from; None if they are unknown.

    Arrow writes what it has read. It has left something out, or written it another way, only if the
    length is another.
    """
    sink = pa.BufferOutputStream()
    metadata.write_metadata_file(sink)
    footer: bytes = sink.getvalue().to_pybytes().removeprefix(MAGIC)
    return footer if len(footer) == metadata.serialized_size + 8 else None


def _digest(size: int, footer: bytes) -> bytes:
    digest = Digest()
    digest.add(size.to_bytes(8, "little"))
    digest.add(footer)
    return digest.value()


def _counted(
    metadata: pq.FileMetaData, path: str, size: int, may_be_encrypted: bool = True
) -> Counted:
    """Rows, schema and row groups, by the footer. Raises BadShard for absurd rows."""
    groups = tuple(metadata.row_group(i).num_rows for i in range(metadata.num_row_groups))
    rows = sum(groups)
    if min(groups, default=0) < 0 or rows > MAX_ROWS_PER_BYTE * size:
        raise BadShard(f"{path} claims {rows:,} rows in {size:,} bytes: its footer is damaged")
    return Counted(rows, column_types(metadata, size, may_be_encrypted), groups=groups)


def _open(source: pa.NativeFile, path: str) -> pq.ParquetFile:
    file = pq.ParquetFile(
        source,
        buffer_size=COLUMN_BUFFER_BYTES,
        pre_buffer=False,
        coerce_int96_timestamp_unit=INT96_UNIT,
    )
    require_few_columns(path, file.metadata.num_columns)
    return file


def _batch_rows(groups: Sequence[pq.RowGroupMetaData]) -> int:
    """Rows per batch: fewer where the footer says that rows are long."""
    longest = 1
    for group in groups:
        longest = max(longest, group.total_byte_size // max(group.num_rows, 1))
    return min(max(BATCH_BYTES // longest, 1), MAX_BATCH_ROWS)


def _small_batches(rows: Rows) -> Iterator[Rows]:
    """The rows in batches of about BATCH_BYTES, whatever the footer said of their length."""
    size = max(len(rows.numbers) * BATCH_BYTES // max(rows.table.nbytes, 1), 1)
    for start in range(0, len(rows.numbers), size):
        yield Rows(rows.table[start : start + size], rows.numbers[start : start + size])


def _require_short_values(table: pa.Table, path: str) -> None:
    """Raise BadShard if a text is longer than MAX_ROW_BYTES: tokenizing takes many times that
    much memory.
    """
    for name, column in zip(table.column_names, table.columns, strict=True):
        if isinstance(column.type, pa.JsonType):
            column = column.cast(column.type.storage_type)
        if column.type in _LONG_TYPES and column.nbytes > MAX_ROW_BYTES:
            longest = pc.max(pc.binary_length(column)).as_py() or 0
            if longest > MAX_ROW_BYTES:
                raise BadShard(
                    f"{path}: column {name!r} has a value of {longest:,} bytes; "
                    f"at most {MAX_ROW_BYTES >> 20} MiB are read"
                )


def _unreadable(source: pa.NativeFile, path: str, error: BaseException) -> BadShard:
    """The error to raise of a file that is no Parquet: it says what the file is, if it can tell."""
    if "decrypt" in str(error):
        return BadShard(f"{path} is encrypted: write it without encryption")
    first = b""
    with suppress(pa.ArrowException, OSError, ValueError):
        source.seek(0)
        first = source.read(FIRST_BYTES)
    message = f"{path} cannot be read as Parquet: {on_one_line(error)}"
    return wrong_kind(path, first, "Parquet") or BadShard(message)
