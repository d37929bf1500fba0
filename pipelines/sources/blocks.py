"""Rows of text files in blocks: found by a scan, counted, and cut to spans."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from pipelines.errors import BadShard
from pipelines.sources.decoding import Chunk
from pipelines.sources.rows import (
    MAX_BATCH_ROWS,
    MAX_RAW_BYTES,
    MAX_ROW_BYTES,
    BadRow,
    Span,
    too_few_rows,
)

MARK_BYTES = 8 * 2**20
"""Bytes between two marks. A plan holds them all."""


@dataclass(frozen=True)
class Block:
    """Whole rows of a text file, at most MAX_BATCH_ROWS, not yet parsed."""

    data: bytes
    starts: np.ndarray
    """int64[rows]: offset of each row in `data`."""
    ends: np.ndarray
    """int64[rows]: where each row ends, without its line break."""
    fields: np.ndarray
    """int64[rows]: number of fields of each row."""
    flags: np.ndarray
    """int64[rows]: what is wrong with each row, in bits that the scan defines; 0: nothing."""
    spans: np.ndarray
    """int32[columns, rows, 2]: where the values that are read start and end in `data`."""
    next: int
    """Offset in `data` where the scan goes on."""

    def __len__(self) -> int:
        return len(self.starts)

    def cut(self, start: int, stop: int) -> "Block":
        """The rows from index `start` up to `stop`."""
        chosen = slice(start, stop)
        return Block(
            self.data,
            self.starts[chosen],
            self.ends[chosen],
            self.fields[chosen],
            self.flags[chosen],
            self.spans[:, chosen],
            self.next,
        )

    def raw(self, row: int) -> bytes:
        """The row as it is in the file."""
        return self.data[self.starts[row] : self.ends[row]]

    def bad_row(self, row: int, number: int, reason: str) -> BadRow:
        """A malformed row of the block: its index, and its number in the shard."""
        length = int(self.ends[row] - self.starts[row])
        return BadRow(number, reason, self.raw(row)[:MAX_RAW_BYTES], length)


Scan = Callable[[bytes, int, bool], Block]
"""Finds whole rows of `data: bytes`, from a byte on; the third argument says whether the file ends
there. A block of less than MAX_BATCH_ROWS: there are no more, and what is left begins at
`Block.next`."""


@dataclass(frozen=True)
class Located:
    """A block and where it is."""

    block: Block
    rows_before: int
    """Number of rows of the shard before it."""
    byte: int
    """Offset of its first row in the file."""


def blocks(
    chunks: Iterator[tuple[Chunk, bool]],
    scan: Scan,
    path: str,
    position: int,
    rows_before: int = 0,
    pending: bytes = b"",
) -> Iterator[Located]:
    """The rows of a file in blocks of at least one row.

    Args:
        chunks: what is left of the file, as `TextFile.chunks` gives it.
        scan: finds rows.
        path: the shard, for messages.
        position: offset in the file of the first byte of `pending` and `chunks`.
        rows_before: number of rows before it.
        pending: what comes before the chunks.

    Raises BadShard for a row longer than MAX_ROW_BYTES.
    """
    waiting: list[Chunk] = [pending]
    enough = 0
    for chunk, is_last in chunks:
        waiting.append(chunk)
        if sum(map(len, waiting)) < enough and not is_last:
            continue
        pending = b"".join(waiting)
        begin, is_full = 0, True
        while is_full:
            block = scan(pending, begin, is_last)
            if len(block):
                yield Located(block, rows_before, position + int(block.starts[0]))
            rows_before += len(block)
            begin = block.next
            is_full = len(block) == MAX_BATCH_ROWS
        if not begin and len(pending) > MAX_ROW_BYTES:
            raise BadShard(
                f"{path}, from byte {position} on: a row longer than {MAX_ROW_BYTES >> 20} MiB; "
                "is there a quote that is not closed?"
            )
        # A long row is not scanned again for each chunk that it has.
        enough = 0 if begin else min(2 * len(pending), MAX_ROW_BYTES + 1)
        waiting = [pending[begin:]]
        position += begin


def cut_to(located: Iterator[Located], span: Span | None, path: str) -> Iterator[tuple[Block, int]]:
    """The rows of a span (None: all), in blocks, each with the number of rows before it.

    Raises BadShard if there are not so many rows.
    """
    rows = 0
    for one in located:
        first, rows = one.rows_before, one.rows_before + len(one.block)
        if span is None:
            yield one.block, first
            continue
        start, stop = max(span.first - first, 0), min(span.last - first, len(one.block))
        if start < stop:
            yield one.block.cut(start, stop), first + start
        if rows >= span.last:
            return
    if span is not None and rows < span.last:
        raise too_few_rows(path, rows, span)


def count(located: Iterator[Located]) -> tuple[int, list[tuple[int, int]]]:
    """Number of rows, and marks: (number of rows before a row, byte offset of that row), about one
    for each MARK_BYTES."""
    rows = 0
    marks: list[tuple[int, int]] = []
    for one in located:
        rows = one.rows_before + len(one.block)
        if not marks or one.byte >= marks[-1][1] + MARK_BYTES:
            marks.append((one.rows_before, one.byte))
    return rows, marks
