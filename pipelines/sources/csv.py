"""CSV reader: row batches of a span, row counts and marks; malformed rows are kept apart.

Our own scan (`_csv_scan`) finds where rows begin and how many fields each has. PyArrow parses the
well-formed rows, every column as binary. Quoting follows RFC 4180 and PyArrow: a field that begins
with a quote ends at the next quote that is not doubled, and may hold line breaks. Lines end in LF,
CRLF or CR. Blank lines are not rows.
"""

import codecs
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv

from pipelines.errors import BadShard
from pipelines.sources._csv_scan import split_rows
from pipelines.sources.rows import (
    MAX_BATCH_ROWS,
    MAX_RAW_BYTES,
    MAX_ROW_BYTES,
    BadRow,
    Rows,
    Span,
    choose_columns,
    require_few_columns,
    too_few_rows,
)
from pipelines.sources.shard_file import is_shortage
from sentiment.errors import on_one_line

CHUNK_BYTES = 8 * 2**20
"""Bytes read at a time."""

FIRST_CHUNK_BYTES = 64 * 2**10
"""Bytes read first: a reader that then seeks to its rows needs the header only."""


def read_csv(
    source: pa.NativeFile,
    path: str,
    columns: Sequence[str] | None,
    encoding: str,
    span: Span | None = None,
    optional: Sequence[str] = (),
) -> Iterator[Rows]:
    """The rows of a decompressed CSV file with a header; the arguments are those of `Shard.rows`.

    UTF-8 is not checked here, so that one invalid row does not cost the others. A file in another
    encoding must be valid throughout.
    """
    present, blocks = _header_and_blocks(source, path, encoding)
    chosen = choose_columns(path, present, columns, optional)
    rows_before = 0
    if span is not None and span.mark_byte:
        source.seek(span.mark_byte)
        rows_before, blocks = span.mark_row, _blocks(source, path, encoding, span.mark_byte)
    for block in blocks:
        first, rows_before = rows_before, rows_before + len(block.starts)
        start, stop = 0, len(block.starts)
        if span is not None:
            start, stop = max(span.first - first, 0), min(span.last - first, stop)
        # A block may hold millions of malformed rows, each of which becomes an object.
        for row in range(start, stop, MAX_BATCH_ROWS):
            batch = block.rows(row, min(row + MAX_BATCH_ROWS, stop))
            yield _parse(batch, present, chosen, first + row)
        if span is not None and rows_before >= span.last:
            return
    if span is not None and rows_before < span.last:
        raise too_few_rows(path, rows_before, span)


def csv_columns(source: pa.NativeFile, path: str, encoding: str) -> list[str]:
    """The column names of a CSV file; only its beginning is read."""
    return _header_and_blocks(source, path, encoding)[0]


def count_csv(
    source: pa.NativeFile, path: str, encoding: str
) -> tuple[list[str], int, list[tuple[int, int]]]:
    """Column names, row count (malformed rows included) and marks of a CSV file.

    A mark is (number of rows before a row, byte offset of that row), one for each block read. The
    offset is right only for a file that is neither compressed nor transcoded.
    """
    present, blocks = _header_and_blocks(source, path, encoding)
    rows = 0
    marks: list[tuple[int, int]] = []
    for block in blocks:
        marks.append((rows, block.position + int(block.starts[0])))
        rows += len(block.starts)
    return present, rows, marks


@dataclass(frozen=True)
class _Block:
    """Whole rows of a file, not yet parsed."""

    data: bytes
    position: int
    """Offset of `data` in the file."""
    starts: np.ndarray
    """int64[rows]: offset of each row in `data`."""
    ends: np.ndarray
    """int64[rows]: where each row ends, without its line break."""
    fields: np.ndarray
    """int64[rows]: number of fields of each row; -1: a quote is not closed."""

    def rows(self, start: int, stop: int | None = None) -> "_Block":
        """The block's rows `start` up to `stop`, as a slice takes them."""
        chosen = slice(start, stop)
        return replace(
            self, starts=self.starts[chosen], ends=self.ends[chosen], fields=self.fields[chosen]
        )


def _header_and_blocks(
    source: pa.NativeFile, path: str, encoding: str
) -> tuple[list[str], Iterator[_Block]]:
    """The column names, and blocks of the rows below the header."""
    blocks = _blocks(source, path, encoding)
    block = next(blocks, None)
    if block is None:
        raise BadShard(f"{path} is empty: a CSV file begins with a line that names its columns")
    present = _header(block, path)
    if len(block.starts) == 1:
        return present, blocks
    return present, itertools.chain([block.rows(1)], blocks)


def _blocks(source: pa.NativeFile, path: str, encoding: str, position: int = 0) -> Iterator[_Block]:
    """The file's rows from byte `position` on, in blocks of at least one row."""
    pending, at_start = b"", position == 0
    for chunk, is_last in _utf8_chunks(source, path, encoding, position):
        pending += chunk
        if at_start:
            if len(pending) < len(codecs.BOM_UTF8) and not is_last:
                continue
            at_start = False
            if pending.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
                raise BadShard(f"{path} is UTF-16: pass --encoding utf-16")
            if pending.startswith(codecs.BOM_UTF8):
                pending, position = pending.removeprefix(codecs.BOM_UTF8), len(codecs.BOM_UTF8)
        starts, ends, fields, consumed = split_rows(pending, is_last)
        if not consumed and len(pending) > MAX_ROW_BYTES:
            raise BadShard(
                f"{path}, from byte {position} on: a row longer than {MAX_ROW_BYTES >> 20} MiB; "
                "is there a quote that is not closed?"
            )
        if len(starts):
            yield _Block(pending, position, starts, ends, fields)
        pending = pending[consumed:]
        position += consumed


def _utf8_chunks(
    source: pa.NativeFile, path: str, encoding: str, position: int
) -> Iterator[tuple[bytes, bool]]:
    """The rest of the file in UTF-8: chunks, and whether each is the last (which is empty).

    The source stands at byte `position`.
    """
    is_utf8 = codecs.lookup(encoding).name == "utf-8"
    decoder = None if is_utf8 else codecs.getincrementaldecoder(encoding)()
    while True:
        try:
            chunk = source.read(CHUNK_BYTES if position else min(CHUNK_BYTES, FIRST_CHUNK_BYTES))
        except (OSError, pa.ArrowInvalid) as error:
            if is_shortage(error):
                raise
            reason = on_one_line(error)
            raise BadShard(f"{path} cannot be read after byte {position}: {reason}") from error
        is_last = not chunk
        position += len(chunk)
        if decoder is not None:
            try:
                chunk = decoder.decode(chunk, is_last).encode()
            except UnicodeError as error:
                raise BadShard(f"{path} is not {encoding}: {error}") from None
        yield chunk, is_last
        if is_last:
            return


def _header(block: _Block, path: str) -> list[str]:
    """The column names in the block's first row."""
    width = int(block.fields[0])
    if width < 0:
        raise BadShard(f"{path}: a quote in its first line is not closed")
    require_few_columns(path, width)
    line = block.data[block.starts[0] : block.ends[0]]
    try:
        present = [name.decode() for name in _parse_whole(line, width).to_pylist()[0].values()]
    except UnicodeDecodeError:
        raise BadShard(
            f"{path}: its first line is not UTF-8: pass --encoding (latin-1, utf-16, ...)"
        ) from None
    if any("\0" in name for name in present):
        raise BadShard(
            f"{path} is not UTF-8 text (it has NUL bytes): pass --encoding utf-16-le or utf-16-be"
        )
    return present


def _parse(block: _Block, present: list[str], chosen: list[str], rows_before: int) -> Rows:
    """Parse a block: well-formed rows into a table of the chosen columns, the others into `bad`."""
    is_good = block.fields == len(present)
    numbers = np.arange(rows_before + 1, rows_before + 1 + len(is_good))
    edges = np.flatnonzero(np.diff(is_good, prepend=False, append=False))
    runs = zip(block.starts[edges[::2]], block.ends[edges[1::2] - 1], strict=True)
    table = _parse_whole(
        b"\n".join(block.data[start:end] for start, end in runs), width=len(present)
    )
    if len(table) != is_good.sum():
        raise RuntimeError(f"{is_good.sum()} CSV rows were parsed as {len(table)}")
    bad = [
        BadRow(
            int(numbers[i]),
            _reason(int(block.fields[i]), len(present)),
            block.data[block.starts[i] : min(block.ends[i], block.starts[i] + MAX_RAW_BYTES)],
            int(block.ends[i] - block.starts[i]),
        )
        for i in np.flatnonzero(~is_good)
    ]
    table = table.select([present.index(name) for name in chosen]).rename_columns(chosen)
    return Rows(table, numbers[is_good], bad)


def _reason(fields: int, width: int) -> str:
    """Why a row of that many fields is malformed."""
    if fields < 0:
        return "a quote is not closed"
    return f"{fields} field{'' if fields == 1 else 's'} where the header has {width}"


def _parse_whole(rows: bytes, width: int) -> pa.Table:
    """Parse well-formed rows (none is fine) into binary columns named "0", "1", ..."""
    names = [str(i) for i in range(width)]
    if not rows:
        return pa.table({name: pa.array([], pa.binary()) for name in names})
    # PyArrow drops a byte order mark at the start of its input, which here is a row's own text.
    # After a line break it is kept.
    rows = b"\n%b\n" % rows
    return pacsv.read_csv(
        pa.BufferReader(rows),
        pacsv.ReadOptions(
            use_threads=False,
            block_size=len(rows) + 1,
            column_names=names,
        ),
        pacsv.ParseOptions(newlines_in_values=True),
        pacsv.ConvertOptions(
            check_utf8=False,
            strings_can_be_null=False,
            column_types=dict.fromkeys(names, pa.binary()),
        ),
    )
