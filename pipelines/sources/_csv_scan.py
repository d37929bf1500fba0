"""Where the rows of a CSV file start and end, and how many fields each has (compiled by Numba)."""

import numpy as np
from numba import njit

_LF, _CR, _QUOTE, _COMMA = 10, 13, 34, 44


def split_rows(data: bytes, last: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Find the whole rows of `data`, which starts at a row or blank line.

    Args:
        data: bytes of a CSV file, UTF-8 or any other encoding that keeps ASCII.
        last: whether the file ends here. Otherwise an unfinished row at the end is left over.

    Returns `starts: int64[rows]`, `ends: int64[rows]` (without the line break),
    `fields: int64[rows]` (-1: a quote is not closed), and the number of bytes consumed.
    """
    view = np.frombuffer(data, np.uint8)
    most = np.count_nonzero((view == _LF) | (view == _CR)) + 1
    starts, ends, fields = (np.empty(most, np.int64) for _ in range(3))
    rows, consumed = _scan(view, last, starts, ends, fields)
    return starts[:rows], ends[:rows], fields[:rows], consumed


@njit(cache=True, nogil=True)
def _scan(data, last, starts, ends, fields):
    """Fill `starts`, `ends` and `fields` row by row; return the rows found and bytes consumed."""
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
                        # Only the next chunk tells whether this quote is doubled.
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
