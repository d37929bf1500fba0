"""CSV -> rows, as bytes: a malformed row costs itself alone and is known by its number.

A scan of our own finds where rows begin and how many fields each has; pyarrow parses the rows
that are whole, every column as binary. Quoting is pyarrow's (and RFC 4180's): a field that begins
with a quote ends at the next one that is not doubled, newlines included. Lines end in LF, CRLF or
CR; blank lines are no rows.
"""

import codecs
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
from numba import njit

from pipelines.sources.parquet import (
    LONGEST_ROW,
    BadRow,
    Rows,
    Span,
    changed,
    choose_columns,
    require_few_columns,
)
from sentiment.errors import InputError, on_one_line

CHUNK = 8 * 2**20
"""Bytes read at a time."""

HEAD = 64 * 2**10
"""Bytes read first: a reader that seeks on to its rows needs the header alone."""

_LF, _CR, _QUOTE, _COMMA = 10, 13, 34, 44


def read_csv(
    source: pa.NativeFile,
    path: str,
    columns: Sequence[str] | None,
    encoding: str,
    span: Span | None = None,
    optional: Sequence[str] = (),
) -> Iterator[Rows]:
    """The rows of a CSV file with a header line, decompressed; the arguments are `Shard.rows`'s.

    UTF-8 is not checked here, so that one invalid row can be told from the others; any other
    encoding is transcoded and must be valid throughout.
    """
    present, blocks = _after_header(source, path, encoding)
    wanted = choose_columns(path, present, columns, optional)
    before = 0
    if span is not None and span.mark_byte:
        source.seek(span.mark_byte)
        before, blocks = span.mark_row, _blocks(source, path, encoding, span.mark_byte)
    for block in blocks:
        first, before = before, before + len(block.starts)
        if span is None:
            yield _parse(block, present, wanted, first)
        elif before > span.first:
            # Not of the whole block: its bad rows, of other parts, may be millions.
            start, stop = max(span.first - first, 0), span.last - first
            its = replace(
                block,
                starts=block.starts[start:stop],
                ends=block.ends[start:stop],
                fields=block.fields[start:stop],
            )
            yield _parse(its, present, wanted, first + start)
            if before >= span.last:
                return
    if span is not None and before < span.last:
        raise changed(path, before, span)


def csv_columns(source: pa.NativeFile, path: str, encoding: str) -> list[str]:
    """The columns of a CSV file, of which no more is read than its beginning."""
    return _after_header(source, path, encoding)[0]


def count_csv(
    source: pa.NativeFile, path: str, encoding: str
) -> tuple[list[str], int, list[tuple[int, int]]]:
    """The columns of a CSV file, its number of rows, bad ones included, and marks in it.

    A mark is a row, by the number of rows before it, and the byte at which it begins, of the file
    decompressed and without transcoding.
    """
    present, blocks = _after_header(source, path, encoding)
    rows, marks = 0, []
    for block in blocks:
        marks.append((rows, block.position + int(block.starts[0])))
        rows += len(block.starts)
    return present, rows, marks


@dataclass(frozen=True)
class _Block:
    """Whole rows: where each starts and ends, and how many fields it has (-1: unclosed quote)."""

    data: bytes
    position: int
    """Where the data begins in the file."""
    starts: np.ndarray
    ends: np.ndarray
    fields: np.ndarray


def _after_header(source, path: str, encoding: str) -> tuple[list[str], Iterator[_Block]]:
    """The names of the columns, and the rows below them."""
    blocks = _blocks(source, path, encoding)
    block = next(blocks, None)
    if block is None:
        raise InputError(f"{path} is empty: a CSV file begins with a line that names its columns")
    present = _header(block, path)
    if len(block.starts) == 1:
        return present, blocks
    below = replace(block, starts=block.starts[1:], ends=block.ends[1:], fields=block.fields[1:])
    return present, itertools.chain([below], blocks)


def _blocks(source, path: str, encoding: str, position: int = 0) -> Iterator[_Block]:
    """The file's rows from a byte on, some at a time, none of the blocks empty."""
    pending, at_start = b"", position == 0
    for chunk, last in _utf8_chunks(source, path, encoding, position):
        pending += chunk
        if at_start:
            if len(pending) < len(codecs.BOM_UTF8) and not last:
                continue
            at_start = False
            if pending.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
                raise InputError(f"{path} is UTF-16: pass --encoding utf-16")
            if pending.startswith(codecs.BOM_UTF8):
                pending, position = pending.removeprefix(codecs.BOM_UTF8), len(codecs.BOM_UTF8)
        starts, ends, fields, consumed = _split(pending, last)
        if not consumed and len(pending) > LONGEST_ROW:
            raise InputError(
                f"{path}, from byte {position} on: a row longer than {LONGEST_ROW >> 20} MiB; "
                "is there a quote that is not closed?"
            )
        if len(starts):
            yield _Block(pending, position, starts, ends, fields)
        pending = pending[consumed:]
        position += consumed


def _utf8_chunks(source, path: str, encoding: str, position: int) -> Iterator[tuple[bytes, bool]]:
    """The file as UTF-8, from where it stands, at byte `position`: chunks, and which is last."""
    utf8 = codecs.lookup(encoding).name == "utf-8"
    decoder = None if utf8 else codecs.getincrementaldecoder(encoding)()
    while True:
        try:
            chunk = source.read(CHUNK if position else min(CHUNK, HEAD))
        except (OSError, pa.ArrowInvalid) as error:
            said = on_one_line(error)
            raise InputError(f"{path} cannot be read after byte {position}: {said}") from error
        last = not chunk
        position += len(chunk)
        if decoder is not None:
            try:
                chunk = decoder.decode(chunk, last).encode()
            except UnicodeError as error:
                raise InputError(f"{path} is not {encoding}: {error}") from None
        yield chunk, last
        if last:
            return


def _header(block: _Block, path: str) -> list[str]:
    width = int(block.fields[0])
    if width < 0:
        raise InputError(f"{path}: a quote in its first line is not closed")
    require_few_columns(path, width)
    line = block.data[block.starts[0] : block.ends[0]]
    try:
        present = [name.decode() for name in _arrow(line, width).to_pylist()[0].values()]
    except UnicodeDecodeError:
        raise InputError(
            f"{path}: its first line is not UTF-8: pass --encoding (latin-1, utf-16, ...)"
        ) from None
    if any("\0" in name for name in present):
        raise InputError(f"{path} is no UTF-8 text (NUL bytes): pass --encoding utf-16-le or -be")
    return present


def _parse(block: _Block, present: list[str], wanted: list[str], before: int) -> Rows:
    good = block.fields == len(present)
    numbers = np.arange(before + 1, before + 1 + len(good))
    edges = np.flatnonzero(np.diff(good, prepend=False, append=False))
    runs = zip(block.starts[edges[::2]], block.ends[edges[1::2] - 1], strict=True)
    whole = b"\n".join(block.data[start:end] for start, end in runs)
    table = _arrow(whole, len(present))
    if len(table) != good.sum():
        raise RuntimeError(f"{good.sum()} CSV rows were parsed as {len(table)}")
    bad = [
        BadRow(
            int(numbers[i]),
            _reason(int(block.fields[i]), len(present)),
            block.data[block.starts[i] : block.ends[i]],
        )
        for i in np.flatnonzero(~good)
    ]
    table = table.select([present.index(name) for name in wanted]).rename_columns(wanted)
    return Rows(table, numbers[good], bad)


def _reason(fields: int, width: int) -> str:
    if fields < 0:
        return "a quote is not closed"
    return f"{fields} field{'' if fields == 1 else 's'} where the header has {width}"


def _arrow(rows: bytes, width: int) -> pa.Table:
    """Whole rows, some or none, as binary columns named "0", "1", ..."""
    names = [str(i) for i in range(width)]
    if not rows:
        return pa.table({name: pa.array([], pa.binary()) for name in names})
    # pyarrow drops a byte order mark at its start: there it reads a blank line.
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


def _split(data: bytes, last: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Where the whole rows of `data` start and end, how many fields they have, bytes consumed."""
    view = np.frombuffer(data, np.uint8)
    most = np.count_nonzero((view == _LF) | (view == _CR)) + 1
    starts, ends, fields = (np.empty(most, np.int64) for _ in range(3))
    rows, consumed = _scan(view, last, starts, ends, fields)
    return starts[:rows], ends[:rows], fields[:rows], consumed


@njit(cache=True, nogil=True)
def _scan(data, last, starts, ends, fields):
    n = len(data)
    rows = 0
    consumed = 0
    i = 0
    while i < n:
        if data[i] == _LF or data[i] == _CR:
            i += 1
            consumed = i
            continue
        start = i
        count = 1
        field_start = True
        quoted = False
        ended = False
        while i < n:
            c = data[i]
            if quoted:
                if c == _QUOTE:
                    if i + 1 < n and data[i + 1] == _QUOTE:
                        i += 1
                    elif i + 1 == n and not last:
                        # The next chunk tells whether this quote is doubled.
                        return rows, consumed
                    else:
                        quoted = False
                i += 1
            elif c == _COMMA:
                count += 1
                field_start = True
                i += 1
            elif c in (_LF, _CR):
                ended = True
                break
            else:
                quoted = field_start and c == _QUOTE
                field_start = False
                i += 1
        if not ended and not last:
            return rows, consumed
        starts[rows] = start
        ends[rows] = i
        fields[rows] = -1 if quoted else count
        rows += 1
        consumed = i
    return rows, consumed
