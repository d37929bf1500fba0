"""Where the rows and fields of delimited text start and end (compiled by Numba)."""

import numpy as np

from pipelines.sources.numba_internals import (
    BLOCK_BYTES,
    copy_block,
    lowest_bit,
    places_of,
    scanner,
    step,
)
from pipelines.sources.pool_arrays import unset
from pipelines.sources.rows import MAX_BATCH_ROWS

NONE = 256
"""Stands for no byte, where there is no quote or no escape character."""

UNCLOSED, AFTER_QUOTE, BACKSLASH_QUOTE, BLANK_QUOTE = 1, 2, 4, 8
"""Bits of a row's flags: a quote is not closed; a closing quote is followed by text; there is a
backslash before a quote in a quoted field; a field begins with blanks and a quote, and blanks are
not skipped."""

_LF, _CR, _BLANK, _BACKSLASH = 10, 13, 32, 92


def split_rows(
    data: bytes,
    begin: int,
    last: bool,
    dialect: tuple[int, int, int, bool],
    slots: np.ndarray,
    most: int = MAX_BATCH_ROWS,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray, int]:
    """Find up to `most` whole rows of `data`, from byte `begin` on, where a row or a blank line
    starts.

    Args:
        data: UTF-8, or any other encoding that keeps ASCII.
        begin: where to start.
        last: whether the file ends with `data`. Otherwise a row that is not whole is left over.
        dialect: delimiter, quote and escape as bytes or NONE, and whether blanks before a field are
            skipped. The escape character counts in quoted fields, or everywhere if there is no
            quote.
        slots: int32[fields]: for each field of a row, the column of `spans` it goes to, or -1.
        most: rows at most.

    Returns `starts: int64[rows]`, `ends: int64[rows]` (without the line break), `fields:
    int64[rows]`, `flags: int64[rows]` (UNCLOSED, ...), `spans: int32[columns, rows, 2]` (where each
    value starts and ends in `data`, without quotes; if it has quotes or escapes inside, the start
    is `-1 - start`; unset where a row has too few fields), and where the next call begins.
    """
    columns = int(slots.max(initial=-1)) + 1
    most = min(most, len(data) - begin + 1)
    starts, ends, fields, flags = unset((4, most), np.int64)
    spans = unset((columns, most, 2), np.int32)
    view = np.frombuffer(data, np.uint8)
    rows, consumed = _scan(view, begin, last, *dialect, slots, starts, ends, fields, flags, spans)
    return starts[:rows], ends[:rows], fields[:rows], flags[:rows], spans[:, :rows], consumed


def split_lines(data: bytes, begin: int, last: bool) -> tuple[np.ndarray, np.ndarray, int]:
    """Find whole lines of `data`, from byte `begin` on, at most MAX_BATCH_ROWS.

    Returns `starts: int64[lines]`, `ends: int64[lines]` (without the line break), and where the
    next call begins. `last`: whether the file ends with `data`.
    """
    most = min(MAX_BATCH_ROWS, len(data) - begin + 1)
    starts, ends = unset((2, most), np.int64)
    view = np.frombuffer(data, np.uint8)
    lines, consumed = _scan_lines(view, begin, last, starts, ends)
    return starts[:lines], ends[:lines], consumed


def gather(
    data: bytes, spans: np.ndarray, is_chosen: np.ndarray, quote: int, escape: int
) -> tuple[np.ndarray, np.ndarray]:
    """The values of a column, without quotes and escapes.

    Args:
        data: as it was scanned.
        spans: int32[rows, 2], of one column.
        is_chosen: bool[rows].
        quote, escape: as in the dialect.

    Returns `offsets: int32[chosen + 1]` and `values: uint8[offsets[-1]]`.
    """
    offsets = unset((int(np.count_nonzero(is_chosen)) + 1,), np.int32)
    # Whole blocks are written, of which the last may have bytes that are too many.
    values = unset((_room(spans, is_chosen) + BLOCK_BYTES,), np.uint8)
    view = np.frombuffer(data, np.uint8)
    used = _gather(view, spans, is_chosen, quote, escape, offsets, values)
    return offsets, values[:used]


@step
def _find2(data, i, a, b):
    """The first place from `i` on with one of two bytes, or the end."""
    while i + BLOCK_BYTES <= len(data):
        found = places_of(data, i, a) | places_of(data, i, b)
        if found:
            return i + lowest_bit(found)
        i += BLOCK_BYTES
    while i < len(data) and data[i] != a and data[i] != b:
        i += 1
    return i


@step
def _find_end(data, i, a, b):
    """The first place from `i` on with one of two bytes or a line break, or the end."""
    while i + BLOCK_BYTES <= len(data):
        found = places_of(data, i, a) | places_of(data, i, b)
        found |= places_of(data, i, _LF) | places_of(data, i, _CR)
        if found:
            return i + lowest_bit(found)
        i += BLOCK_BYTES
    while i < len(data) and data[i] != a and data[i] != b and data[i] != _LF and data[i] != _CR:
        i += 1
    return i


@step
def _copy(data, i, stop, values, used):
    """Copy bytes `i` to `stop` to `values[used:]`; bytes behind them may change."""
    if i + (stop - i + BLOCK_BYTES - 1) // BLOCK_BYTES * BLOCK_BYTES <= len(data):
        for j in range(0, stop - i, BLOCK_BYTES):
            copy_block(data, i + j, values, used + j)
    else:
        for j in range(stop - i):
            values[used + j] = data[i + j]


@scanner
def _scan(
    data,
    i,
    last,
    delimiter,
    quote,
    escape,
    skips,
    slots,
    starts,
    ends,
    fields,
    flags,
    spans,
):
    """Fill the arrays row by row; return the number of rows, and where the next call begins."""
    n = len(data)
    rows = 0
    consumed = i
    unquoted_escape = escape if quote == NONE and escape != NONE else delimiter
    quoted_escape = quote if escape == NONE else escape
    while i < n and rows < len(starts):
        if data[i] == _LF or data[i] == _CR:
            i += 1
            consumed = i
            continue
        start = i
        count = 0
        flag = 0
        ended = False
        while not ended:
            # A field begins at i, which may be the end.
            if skips:
                while i < n and data[i] == _BLANK:
                    i += 1
            value = i
            is_complex = False
            if i < n and data[i] == quote:
                i += 1
                value = i
                stop = -1
                while stop < 0:
                    i = _find2(data, i, quote, quoted_escape)
                    if i >= n:
                        break
                    if data[i] == quote:
                        if i > value and data[i - 1] == _BACKSLASH:
                            flag |= BACKSLASH_QUOTE
                        if i + 1 < n and data[i + 1] == quote:
                            is_complex = True
                            i += 2
                        elif i + 1 == n and not last:
                            # Only the next chunk tells whether this quote is doubled.
                            return rows, consumed
                        else:
                            stop = i
                            i += 1
                    else:
                        is_complex = True
                        i += 2
                if stop < 0:
                    i = n
                    stop = n
                    flag |= UNCLOSED
                elif i < n and data[i] != delimiter and data[i] != _LF and data[i] != _CR:
                    flag |= AFTER_QUOTE
                    i = _find_end(data, i, delimiter, delimiter)
            else:
                if count and i < n and data[i] == _BLANK and delimiter != _BLANK:
                    while i < n and data[i] == _BLANK:
                        i += 1
                    if i < n and data[i] == quote:
                        flag |= BLANK_QUOTE
                while True:
                    i = _find_end(data, i, delimiter, unquoted_escape)
                    if i < n and data[i] == escape and quote == NONE:
                        is_complex = True
                        i += 2
                        continue
                    break
                i = min(i, n)
                stop = i
            if count < len(slots) and slots[count] >= 0:
                column = slots[count]
                spans[column, rows, 0] = -1 - value if is_complex else value
                spans[column, rows, 1] = stop
            count += 1
            ended = i >= n or data[i] != delimiter
            if not ended:
                i += 1
        if i >= n and not last:
            return rows, consumed
        starts[rows] = start
        ends[rows] = i
        fields[rows] = count
        flags[rows] = flag
        rows += 1
        consumed = i
    return rows, consumed


@scanner
def _scan_lines(data, i, last, starts, ends):
    """Fill the arrays line by line; return the number of lines, and where the next call begins."""
    n = len(data)
    lines = 0
    start = i
    while start < n and lines < len(starts):
        i = _find2(data, start, _LF, _CR)
        # Only the next chunk tells whether a line feed follows the carriage return.
        if not last and (i == n or (data[i] == _CR and i + 1 == n)):
            break
        starts[lines] = start
        ends[lines] = i
        lines += 1
        start = i + 1
        if i + 1 < n and data[i] == _CR and data[i + 1] == _LF:
            start += 1
    return lines, min(start, n)


@scanner
def _room(spans, is_chosen):
    """Bytes of the chosen values, with quotes and escapes inside."""
    room = 0
    for row in range(len(spans)):
        if is_chosen[row]:
            start = spans[row, 0]
            room += spans[row, 1] - (start if start >= 0 else -1 - start)
    return room


@scanner
def _gather(data, spans, is_chosen, quote, escape, offsets, values):
    """Fill `offsets` and `values`; return the number of bytes used."""
    used = 0
    chosen = 0
    offsets[0] = 0
    first = escape if quote == NONE else quote
    second = first if escape == NONE else escape
    for row in range(len(spans)):
        if not is_chosen[row]:
            continue
        i, stop = spans[row, 0], spans[row, 1]
        if i >= 0:
            _copy(data, i, stop, values, used)
            used += stop - i
        else:
            i = -1 - i
            while i < stop:
                plain = min(_find2(data, i, first, second), stop)
                _copy(data, i, plain, values, used)
                used += plain - i
                i = plain
                if i < stop:
                    byte = data[i]
                    if i + 1 < stop:
                        after = data[i + 1]
                        is_escape = byte == escape and (quote == NONE or after in (quote, escape))
                        if is_escape or (byte == quote and after == quote):
                            byte = after
                            i += 1
                    values[used] = byte
                    used += 1
                    i += 1
        chosen += 1
        offsets[chosen] = used
    return used
