"""Reader of plain text: a line is a row, its only column is `text`.

Lines end in LF, CRLF or CR. An empty line is a row with an empty text, so row numbers are line
numbers.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

from pipelines.errors import BadShard
from pipelines.sources._csv_scan import NONE, gather, split_lines
from pipelines.sources.blocks import Block, Located, blocks, count, cut_to
from pipelines.sources.counted import Counted
from pipelines.sources.decoding import TextFile
from pipelines.sources.detected import with_detected
from pipelines.sources.options import ReadOptions
from pipelines.sources.rows import Rows, Span, choose_columns, text_schema

COLUMN = "text"
"""Name of the column."""


def read_text(
    source: pa.NativeFile,
    path: str,
    columns: Sequence[str] | None,
    options: ReadOptions,
    span: Span | None = None,
    optional: Sequence[str] = (),
) -> Iterator[Rows]:
    """The lines of a decompressed text file; the arguments are those of `Shard.rows`."""
    chosen = choose_columns(path, [COLUMN], columns, optional)
    file = TextFile(source, path, options.encoding)
    for block, rows_before in cut_to(_blocks(file, path, span), span, path):
        everything = np.ones(len(block), np.bool_)
        offsets, values = gather(block.data, block.spans[0], everything, NONE, NONE)
        buffers = [None, pa.py_buffer(offsets), pa.py_buffer(values)]
        texts = pa.BinaryArray.from_buffers(pa.binary(), len(block), buffers)
        numbers = np.arange(rows_before + 1, rows_before + 1 + len(block))
        yield Rows(pa.table([texts], [COLUMN]).select(chosen), numbers)


def count_text(source: pa.NativeFile, path: str, options: ReadOptions) -> Counted:
    """Number of lines, and marks, of a text file."""
    file = TextFile(source, path, options.encoding)
    rows, marks = count(_blocks(file, path))
    schema = with_detected(text_schema([COLUMN]), file.detected)
    return Counted(rows, schema, tuple(marks) if file.is_utf8 else ())


def text_file_schema(source: pa.NativeFile, path: str, options: ReadOptions) -> pa.Schema:
    """The schema, which is always the same."""
    file = TextFile(source, path, options.encoding)
    return with_detected(text_schema([COLUMN]), file.detected)


def _blocks(file: TextFile, path: str, span: Span | None = None) -> Iterator[Located]:
    if span is not None and span.mark_byte:
        chunks = file.chunks_from(span.mark_byte)
        return blocks(chunks, _scan, path, span.mark_byte, span.mark_row)
    return _require_text(blocks(file.chunks(), _scan, path, file.start), path)


def _scan(data: bytes, begin: int, last: bool) -> Block:
    starts, ends, following = split_lines(data, begin, last)
    spans = np.stack([starts, ends], axis=1).astype(np.int32)[np.newaxis]
    nothing = np.zeros(len(starts), np.int64)
    return Block(data, starts, ends, nothing, nothing, spans, following)


def _require_text(located: Iterator[Located], path: str) -> Iterator[Located]:
    """The same blocks; raises BadShard if the first line has NUL bytes."""
    for one in located:
        if not one.rows_before and b"\0" in one.block.raw(0)[:1000]:
            raise BadShard(
                f"{path} is not UTF-8 text (it has NUL bytes): "
                "pass --encoding utf-16-le or utf-16-be"
            )
        yield one
