"""Where the objects of JSON lines and some of their values are (compiled by Numba).

Eight bytes are looked at at a time: `words[i]` is the unsigned number in bytes `i` to `i + 7`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from pipelines.sources.numba_internals import scanner
from pipelines.sources.pool_arrays import unset
from pipelines.sources.rows import MAX_BATCH_ROWS, MAX_COLUMNS

MAX_DEPTH = 500
"""Objects and lists inside each other."""

ABSENT, NULL, PLAIN, ESCAPED, NESTED = 0, 1, 2, 3, 4
"""Kinds of values: NULL is `null`, and the `NaN` that pandas writes for what is missing; PLAIN is a
number, `true`, `false`, or a string without escapes (its bytes); ESCAPED a string with escapes;
NESTED an object or a list (its JSON)."""

GOOD, NOT_AN_OBJECT, INVALID, CUT_OFF, TOO_DEEP = 0, 1, 2, 3, 4
"""Flags of rows."""

_LF, _CR, _TAB, _BLANK = 10, 13, 9, 32
_QUOTE, _BACKSLASH, _COMMA, _COLON = 34, 92, 44, 58
_OPEN, _CLOSE, _OPEN_LIST, _CLOSE_LIST = 123, 125, 91, 93
_ONES, _HIGH = np.uint64(0x0101010101010101), np.uint64(0x8080808080808080)
_BLANKS = np.uint64(0x2020202020202020)
_QUOTES, _BACKSLASHES = np.uint64(0x2222222222222222), np.uint64(0x5C5C5C5C5C5C5C5C)
_PLACES = np.uint64(0x0001020304050607)
_7, _56 = np.uint64(7), np.uint64(56)
_FNV_START, _FNV_PRIME = np.uint64(0xCBF29CE484222325), np.uint64(0x100000001B3)

_VALUE, _VALUE_OR_END, _KEY, _KEY_OR_END, _AFTER = 0, 1, 2, 3, 4


_Tree: TypeAlias = dict[bytes, "_Tree"]


@dataclass(frozen=True)
class Paths:
    """Paths of keys to values that are read, as a tree in arrays. Node 0 is the row itself."""

    children: np.ndarray
    """int64[nodes + 1]: the first child of each node; children are consecutive."""
    keys: np.ndarray
    """int64[nodes, 2]: where the key of each node starts and ends in `text`."""
    slots: np.ndarray
    """int64[nodes, 3]: the slot of each node, or -1; the first slot of it and the nodes below it,
    and the one after the last."""
    text: np.ndarray
    """uint8[bytes]"""
    count: int
    """Number of slots."""

    @staticmethod
    def of(paths: Sequence[Sequence[bytes]]) -> tuple["Paths", list[int]]:
        """The tree of some paths, and the slot of each of them."""
        tree: _Tree = {}
        for path in paths:
            node = tree
            for key in path:
                node = node.setdefault(key, {})
        slot_of: dict[tuple[bytes, ...], int] = {}
        wanted = {tuple(path) for path in paths}

        def number(node: _Tree, path: tuple[bytes, ...]) -> None:
            if path in wanted:
                slot_of[path] = len(slot_of)
            for key, below in node.items():
                number(below, (*path, key))

        number(tree, ())
        text = bytearray()
        children, keys, slots = [1], [(0, 0)], [(-1, 0, len(slot_of))]
        level: list[tuple[_Tree, tuple[bytes, ...]]] = [(tree, ())]
        while level:
            below = []
            for node, path in level:
                for key, child in node.items():
                    here = (*path, key)
                    mine = [slot for one, slot in slot_of.items() if one[: len(here)] == here]
                    keys.append((len(text), len(text) + len(key)))
                    text += key
                    slots.append((slot_of.get(here, -1), min(mine), max(mine) + 1))
                    below.append((child, here))
                children.append(len(keys))
            level = below
        return (
            Paths(
                np.array(children, np.int64),
                np.array(keys, np.int64),
                np.array(slots, np.int64),
                np.frombuffer(bytes(text) or b"\0", np.uint8),
                len(slot_of),
            ),
            [slot_of[tuple(path)] for path in paths],
        )


class Keys:
    """The keys of the rows seen so far, in order. Two are told apart by a hash of 64 bits."""

    def __init__(self) -> None:
        self.names: list[bytes] = []
        """Each key as it is in the file, without quotes."""
        self.table = np.zeros(4 * MAX_COLUMNS, np.uint64)
        self.new = np.zeros((MAX_COLUMNS + 1, 2), np.int64)


def split_rows(
    data: bytes, begin: int, last: bool, paths: Paths, keys: Keys | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, int]:
    """Find whole rows of `data`, from byte `begin` on, at most MAX_BATCH_ROWS.

    Args:
        data: UTF-8, or any other encoding that keeps ASCII.
        begin: where to start.
        last: whether the file ends with `data`. Otherwise a row that is not whole is left over.
        paths: the values to find.
        keys: gets the keys that it lacks; None: nobody asks.

    Returns `starts: int64[rows]`, `ends: int64[rows]` (without the line break), `flags:
    int64[rows]` (GOOD, ...), `spans: int32[slots, rows, 3]` (where each value starts and ends in
    `data`, unset if it is ABSENT, and its kind), and where the next call begins.
    """
    most = min(MAX_BATCH_ROWS, len(data) - begin + 1)
    starts, ends, flags = unset((3, most), np.int64)
    spans = unset((paths.count, most, 3), np.int32)
    known, new = (_NO_TABLE, _NO_KEYS) if keys is None else (keys.table, keys.new)
    rows, consumed, found = _scan(
        np.frombuffer(data, np.uint8),
        _words(data),
        begin,
        last,
        paths.children,
        paths.keys,
        paths.slots,
        paths.text,
        known,
        new,
        0 if keys is None else len(keys.names),
        starts,
        ends,
        flags,
        spans,
        np.empty(MAX_DEPTH, np.bool_),
        np.empty(MAX_DEPTH, np.int64),
        np.empty(MAX_DEPTH, np.int64),
        np.empty(1024, np.uint8),
    )
    if keys is not None:
        keys.names += [data[start:end] for start, end in new[:found].tolist()]
    return starts[:rows], ends[:rows], flags[:rows], spans[:, :rows], consumed


def gather(
    data: bytes, spans: np.ndarray, is_chosen: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The values of a slot.

    Args:
        data: as it was scanned.
        spans: int32[rows, 3], of one slot.
        is_chosen: bool[rows].

    Returns `offsets: int32[chosen + 1]`, `values: uint8[offsets[-1]]` and `is_valid: bool[chosen]`:
    whether there is a value.
    """
    chosen = int(np.count_nonzero(is_chosen))
    offsets, is_valid = unset((chosen + 1,), np.int32), unset((chosen,), np.bool_)
    room = _room(spans, is_chosen)
    # Eight bytes are written at a time, of which the last may be too many.
    values = unset((room + 9,), np.uint8)
    wide = np.ndarray((room + 2,), np.uint64, values, strides=(1,))
    view = np.frombuffer(data, np.uint8)
    used = _gather(view, _words(data), spans, is_chosen, offsets, is_valid, values, wide)
    return offsets, values[:used], is_valid


_NO_TABLE, _NO_KEYS = np.zeros(0, np.uint64), np.zeros((0, 2), np.int64)


def _words(data: bytes) -> np.ndarray:
    """uint64[at least 2]: the eight bytes from each byte on, as a number.

    Of fewer than two words Numba would take the array for another type, and compile again.
    """
    padded = data.ljust(9)
    return np.ndarray((len(padded) - 7,), np.uint64, padded, strides=(1,))


@scanner
def _string_end(data, words, i):
    """The first place from `i` on with a quote, a backslash or a control character, or the end."""
    while i + 8 <= len(data):
        word = words[i]
        x, y = word ^ _QUOTES, word ^ _BACKSLASHES
        # In each byte that is found the highest bit; higher up there may be others.
        found = (((x - _ONES) & ~x) | ((y - _ONES) & ~y) | ((word - _BLANKS) & ~word)) & _HIGH
        if found:
            lowest = (found & (~found + np.uint64(1))) >> _7
            return i + np.int64((lowest * _PLACES) >> _56)
        i += 8
    while i < len(data) and data[i] != _QUOTE and data[i] != _BACKSLASH and data[i] >= _BLANK:
        i += 1
    return i


@scanner
def _is_hex(byte):
    return 48 <= byte <= 57 or 65 <= byte <= 70 or 97 <= byte <= 102


@scanner
def _string(data, words, i):
    """The end of the string whose first byte is at `i`, and whether it has escapes.

    The end is the place of the quote; where the string is invalid or cut off it is `-1 - place`.
    """
    has_escapes = False
    while True:
        i = _string_end(data, words, i)
        if i >= len(data):
            return -1 - i, has_escapes
        if data[i] == _QUOTE:
            return i, has_escapes
        if data[i] != _BACKSLASH:
            return -1 - i, has_escapes
        has_escapes = True
        if i + 1 >= len(data):
            return -1 - (i + 1), has_escapes
        byte = data[i + 1]
        if byte == 117:
            for j in range(i + 2, i + 6):
                if j >= len(data) or not _is_hex(data[j]):
                    return -1 - j, has_escapes
            i += 6
        elif byte in (_QUOTE, _BACKSLASH, 47, 98, 102, 110, 114, 116):
            i += 2
        else:
            return -1 - (i + 1), has_escapes


@scanner
def _digits(data, i):
    """The first place from `i` on that is no digit."""
    while i < len(data) and 48 <= data[i] <= 57:
        i += 1
    return i


@scanner
def _literal(data, i, word):
    """The end of a word that is at `i`, or `-1 - place` of the first byte that differs."""
    for j in range(len(word)):
        if i + j >= len(data) or data[i + j] != word[j]:
            return -1 - (i + j)
    return i + len(word)


_TRUE, _FALSE, _NULL, _NAN, _INFINITY = (
    np.frombuffer(word, np.uint8) for word in (b"true", b"false", b"null", b"NaN", b"Infinity")
)


@scanner
def _number(data, i):
    """The end of the number at `i`, or `-1 - place` of the first byte that cannot be."""
    if data[i] == 45:
        i += 1
        if i < len(data) and data[i] == 73:
            return _literal(data, i, _INFINITY)
    end = _digits(data, i)
    if end == i or (data[i] == 48 and end > i + 1):
        return -1 - min(i + 1, end)
    if end < len(data) and data[end] == 46:
        i = end + 1
        end = _digits(data, i)
        if end == i:
            return -1 - end
    if end < len(data) and (data[end] == 69 or data[end] == 101):
        i = end + 1
        if i < len(data) and (data[i] == 43 or data[i] == 45):
            i += 1
        end = _digits(data, i)
        if end == i:
            return -1 - end
    return end


@scanner
def _child(data, start, end, has_escapes, node, children, keys, text, scratch):
    """The child of a node with this key, or -1."""
    if children[node] == children[node + 1]:
        return -1
    source = data
    if has_escapes:
        if end - start > len(scratch):
            return -1
        end = _unescape(data, start, end, scratch, 0)
        start = 0
        source = scratch
    for child in range(children[node], children[node + 1]):
        key = keys[child, 0]
        length = keys[child, 1] - key
        if length != end - start:
            continue
        j = 0
        while j < length and source[start + j] == text[key + j]:
            j += 1
        if j == length:
            return child
    return -1


@scanner
def _is_new(data, start, end, table):
    """Whether a key is not in a table of hashes; it is from now on."""
    code = _FNV_START
    for i in range(start, end):
        code = (code ^ np.uint64(data[i])) * _FNV_PRIME
    if not code:
        code = _FNV_PRIME
    place = np.int64(code % np.uint64(len(table)))
    while table[place]:
        if table[place] == code:
            return False
        place = (place + 1) % len(table)
    table[place] = code
    return True


@scanner
def _scan(
    data,
    words,
    i,
    last,
    children,
    keys,
    slots,
    text,
    table,
    new,
    known,
    starts,
    ends,
    flags,
    spans,
    is_object,
    nodes,
    begun,
    scratch,
):
    """Fill the arrays row by row; return the number of rows, where the next call begins, and the
    number of new keys."""
    n = len(data)
    rows = 0
    consumed = i
    found = 0
    while rows < len(starts):
        while i < n and (data[i] == _LF or data[i] == _CR or data[i] == _BLANK or data[i] == _TAB):
            i += 1
        if i >= n:
            consumed = n
            break
        start = i
        for slot in range(len(spans)):
            spans[slot, rows, 2] = ABSENT
        depth = 0
        state = _VALUE
        node = 0
        flag = GOOD if data[i] == _OPEN else NOT_AN_OBJECT
        while flag == GOOD:
            while i < n and (data[i] == _BLANK or data[i] == _TAB):
                i += 1
            if i >= n:
                break
            byte = data[i]
            if state in (_KEY, _KEY_OR_END):
                if byte == _QUOTE:
                    key = i + 1
                    end, has_escapes = _string(data, words, key)
                    if end < 0:
                        i = -1 - end
                        flag = INVALID
                        break
                    parent = nodes[depth - 1]
                    node = -1
                    if parent >= 0:
                        node = _child(
                            data, key, end, has_escapes, parent, children, keys, text, scratch
                        )
                        if node >= 0:
                            for slot in range(slots[node, 1], slots[node, 2]):
                                spans[slot, rows, 2] = ABSENT
                    asks = depth == 1 and len(table) > 0 and known + found <= MAX_COLUMNS
                    if asks and _is_new(data, key, end, table):
                        new[found, 0] = key
                        new[found, 1] = end
                        found += 1
                    i = end + 1
                    while i < n and (data[i] == _BLANK or data[i] == _TAB):
                        i += 1
                    if i >= n:
                        break
                    if data[i] != _COLON:
                        flag = INVALID
                        break
                    i += 1
                    state = _VALUE
                    continue
                if byte == _CLOSE and state == _KEY_OR_END:
                    state = _AFTER
                else:
                    flag = INVALID
                    break
            elif state in (_VALUE, _VALUE_OR_END):
                if byte == _CLOSE_LIST and state == _VALUE_OR_END:
                    state = _AFTER
                else:
                    value = i
                    stop = i
                    kind = PLAIN
                    if byte == _QUOTE:
                        value = i + 1
                        end, has_escapes = _string(data, words, value)
                        if has_escapes:
                            kind = ESCAPED
                        stop = end
                        if end >= 0:
                            end += 1
                    elif byte in (_OPEN, _OPEN_LIST):
                        if depth == MAX_DEPTH:
                            flag = TOO_DEEP
                            break
                        is_object[depth] = byte == _OPEN
                        nodes[depth] = node
                        begun[depth] = i
                        depth += 1
                        state = _KEY_OR_END if byte == _OPEN else _VALUE_OR_END
                        if byte == _OPEN_LIST:
                            node = -1
                        i += 1
                        continue
                    elif byte == 116:
                        end = _literal(data, i, _TRUE)
                        stop = end
                    elif byte == 102:
                        end = _literal(data, i, _FALSE)
                        stop = end
                    elif byte == 110:
                        end = _literal(data, i, _NULL)
                        stop = end
                        kind = NULL
                    elif byte == 78:
                        end = _literal(data, i, _NAN)
                        stop = end
                        kind = NULL
                    elif byte == 73:
                        end = _literal(data, i, _INFINITY)
                        stop = end
                    elif byte == 45 or 48 <= byte <= 57:
                        end = _number(data, i)
                        stop = end
                    else:
                        flag = INVALID
                        break
                    if end < 0:
                        i = -1 - end
                        flag = INVALID
                        break
                    i = end
                    if node >= 0 and slots[node, 0] >= 0:
                        slot = slots[node, 0]
                        spans[slot, rows, 0] = value
                        spans[slot, rows, 1] = stop
                        spans[slot, rows, 2] = kind
                    state = _AFTER
                    node = -1
                    continue
            elif depth == 0:
                # The object is complete, so only blanks may follow.
                if byte != _LF and byte != _CR:
                    flag = INVALID
                break
            else:
                if byte == _COMMA:
                    state = _KEY if is_object[depth - 1] else _VALUE
                    i += 1
                    continue
                if byte != (_CLOSE if is_object[depth - 1] else _CLOSE_LIST):
                    flag = INVALID
                    break
            # An object or a list ends here.
            i += 1
            depth -= 1
            closed = nodes[depth]
            if closed > 0 and slots[closed, 0] >= 0:
                slot = slots[closed, 0]
                spans[slot, rows, 0] = begun[depth]
                spans[slot, rows, 1] = i
                spans[slot, rows, 2] = NESTED
            node = -1
        if i >= n and not last:
            # What looks wrong may only be cut off, and the next chunk has the rest.
            break
        if flag == GOOD and not (depth == 0 and state == _AFTER):
            flag = CUT_OFF
        while i < n and data[i] != _LF and data[i] != _CR:
            i += 1
        if i >= n and not last:
            break
        starts[rows] = start
        ends[rows] = i
        flags[rows] = flag
        rows += 1
        consumed = i
    return rows, consumed, found


@scanner
def _room(spans, is_chosen):
    """Bytes of the chosen values, with escapes."""
    room = 0
    for row in range(len(spans)):
        if is_chosen[row] and spans[row, 2] >= PLAIN:
            room += spans[row, 1] - spans[row, 0]
    return room


@scanner
def _gather(data, words, spans, is_chosen, offsets, is_valid, values, wide):
    """Fill the arrays; return the number of bytes used."""
    used = 0
    chosen = 0
    offsets[0] = 0
    for row in range(len(spans)):
        if not is_chosen[row]:
            continue
        i, stop, kind = spans[row, 0], spans[row, 1], spans[row, 2]
        is_valid[chosen] = kind >= PLAIN
        if kind == ESCAPED:
            used = _unescape(data, i, stop, values, used)
        elif kind >= PLAIN:
            length = stop - i
            if i + length + 8 <= len(data):
                for j in range(0, length, 8):
                    wide[used + j] = words[i + j]
            else:
                for j in range(length):
                    values[used + j] = data[i + j]
            used += length
        chosen += 1
        offsets[chosen] = used
    return used


@scanner
def _unit(data, i):
    """The number in the four hexadecimal digits at `i`."""
    unit = 0
    for j in range(i, i + 4):
        byte = np.int64(data[j])
        unit = 16 * unit + (byte - 48 if byte <= 57 else (byte | 32) - 87)
    return unit


@scanner
def _unescape(data, i, stop, values, used):
    """Write a valid string without its escapes, as UTF-8; return where it ends.

    Half of a surrogate pair becomes three bytes that are not UTF-8.
    """
    while i < stop:
        byte = data[i]
        if byte != _BACKSLASH:
            values[used] = byte
            used += 1
            i += 1
            continue
        byte = data[i + 1]
        if byte != 117:
            if byte == 98:
                byte = 8
            elif byte == 102:
                byte = 12
            elif byte == 110:
                byte = 10
            elif byte == 114:
                byte = 13
            elif byte == 116:
                byte = 9
            values[used] = byte
            used += 1
            i += 2
            continue
        code = _unit(data, i + 2)
        i += 6
        is_high = 0xD800 <= code < 0xDC00 and i + 6 <= stop
        if is_high and data[i] == _BACKSLASH and data[i + 1] == 117:
            low = _unit(data, i + 2)
            if 0xDC00 <= low < 0xE000:
                code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00)
                i += 6
        if code < 0x80:
            values[used] = code
            used += 1
        elif code < 0x800:
            values[used] = 0xC0 | code >> 6
            values[used + 1] = 0x80 | code & 63
            used += 2
        elif code < 0x10000:
            values[used] = 0xE0 | code >> 12
            values[used + 1] = 0x80 | code >> 6 & 63
            values[used + 2] = 0x80 | code & 63
            used += 3
        else:
            values[used] = 0xF0 | code >> 18
            values[used + 1] = 0x80 | code >> 12 & 63
            values[used + 2] = 0x80 | code >> 6 & 63
            values[used + 3] = 0x80 | code & 63
            used += 4
    return used
