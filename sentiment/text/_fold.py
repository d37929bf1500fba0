"""Bytes of a column -> folded texts: UTF-8 checked, entities restored, lower case, with kinds.

A folded text is UTF-8, with the kind (`sentiment.text._unicode`) of its character for every byte.
Kinds that depend on neighbours, such as an apostrophe inside a word, are decided here.
Compiled by Numba, whose cache sees changes of one file only. So the functions call none of other
files.
"""

import numpy as np
from numba import njit

from sentiment.numba_cache import cached_njit
from sentiment.text._unicode import (
    ATTACHED,
    BLANK,
    COMMA,
    DIGIT,
    IDEOGRAPH,
    IGNORED,
    JOINER,
    LETTER,
    MARK,
    OTHER,
    REPEAT,
    SIGN,
    STOP,
    TABLE_SIZE,
    TAG,
    WORD,
)

MARGIN_BYTES = 16
"""Blank bytes before, between and after texts. The scan looks this far without checking bounds."""

STRIDE_BYTES = 64
"""Plain texts are folded this many bytes at a time, which suits vector instructions."""

_REPLACEMENT = 0xFFFD


@njit(forceinline=True)
def kind_of(code, kinds):
    """The kind of a code point."""
    if code < TABLE_SIZE:
        return kinds[code]
    if code < 0x40000:  # the assigned code points of planes 2 and 3 are Han
        return IDEOGRAPH
    if 0xE0020 <= code <= 0xE007F:
        return TAG
    if 0xE0100 <= code <= 0xE01EF:  # variation selectors
        return IGNORED
    return OTHER


@njit
def decode(data, at, stop):
    """Decode one UTF-8 character that is not ASCII. Returns its code point, or -1, and its end."""
    lead = np.int64(data[at])
    more = 1 if lead < 0xE0 else 2 if lead < 0xF0 else 3
    if lead < 0xC2 or lead > 0xF4 or at + more >= stop:
        return -1, at
    code = lead & (0x3F >> more)
    for place in range(at + 1, at + 1 + more):
        byte = np.int64(data[place])
        if byte & 0xC0 != 0x80:
            return -1, at
        code = code << 6 | byte & 0x3F
    too_long = (more == 2 and code < 0x800) or (more == 3 and code < 0x10000)
    if too_long or 0xD800 <= code <= 0xDFFF or code > 0x10FFFF:
        return -1, at
    return code, at + more + 1


@njit
def find_name(data, at, stop, names, name_ends):
    """The number of the HTML entity with the name `data[at:stop]`, or -1."""
    low, high = 0, len(name_ends) - 1
    while low < high:
        middle = (low + high) >> 1
        first, last = name_ends[middle], name_ends[middle + 1]
        order = (last - first) - (stop - at)
        for place in range(min(last - first, stop - at)):
            if names[first + place] != data[at + place]:
                order = np.int64(names[first + place]) - np.int64(data[at + place])
                break
        if order == 0:
            return middle
        if order < 0:
            low = middle + 1
        else:
            high = middle
    return -1


@njit
def restore(data, at, stop, names, name_ends, restored, numeric):
    """Restore the HTML entity at the `&` at `at`, by the rules of `html.unescape`.

    Returns two code points, -1 for none, and where the entity ends: `at` if there is no entity.
    """
    place = at + 1
    if place < stop and data[place] == ord("#"):
        place += 1
        hexadecimal = place < stop and data[place] | 32 == ord("x")
        place += hexadecimal
        value, digits = 0, place
        while place < stop:
            digit = np.int64(data[place]) - ord("0")
            if not 0 <= digit <= 9:
                digit = (np.int64(data[place]) | 32) - ord("a") + 10
                if not hexadecimal or not 10 <= digit <= 15:
                    break
            value = min(value * (16 if hexadecimal else 10) + digit, 0x110000)
            place += 1
        if place == digits:
            return -1, -1, at
        place += place < stop and data[place] == ord(";")
        if value < len(numeric):
            return np.int64(numeric[value]), -1, place
        if 0xD800 <= value <= 0xDFFF or value > 0x10FFFF:
            return _REPLACEMENT, -1, place
        if 0xFDD0 <= value <= 0xFDEF or value & 0xFFFE == 0xFFFE:
            return -1, -1, place
        return value, -1, place
    # Names are ASCII letters and digits, at most 31 of them.
    while place < stop and place <= at + 31:
        lower = data[place] | 32
        if not (ord("a") <= lower <= ord("z") or ord("0") <= data[place] <= ord("9")):
            break
        place += 1
    row = -1
    if place < stop and data[place] == ord(";"):
        row = find_name(data, at + 1, place + 1, names, name_ends)
        place += row >= 0
    # Some names need no semicolon. Of these, the longest that fits counts.
    if row < 0:
        place = min(place, at + 7)
        while place > at + 2:
            row = find_name(data, at + 1, place, names, name_ends)
            if row >= 0:
                break
            place -= 1
    if row < 0:
        return -1, -1, at
    return np.int64(restored[row, 0]), np.int64(restored[row, 1]), place


@njit(forceinline=True)
def put(text, at, code):
    """Write a character that is not ASCII as UTF-8. Returns where it ends."""
    if code < 0x800:
        text[at] = 0xC0 | code >> 6
        text[at + 1] = 0x80 | code & 0x3F
        return at + 2
    if code < 0x10000:
        text[at] = 0xE0 | code >> 12
        text[at + 1] = 0x80 | code >> 6 & 0x3F
        text[at + 2] = 0x80 | code & 0x3F
        return at + 3
    text[at] = 0xF0 | code >> 18
    text[at + 1] = 0x80 | code >> 12 & 0x3F
    text[at + 2] = 0x80 | code >> 6 & 0x3F
    text[at + 3] = 0x80 | code & 0x3F
    return at + 4


@njit
def compose(letter, mark, pairs, composed):
    """The letter that a lower-case letter and a mark make, or -1."""
    pair = letter << 21 | mark
    low, high = 0, len(pairs)
    while low < high:
        middle = (low + high) >> 1
        if pairs[middle] < pair:
            low = middle + 1
        else:
            high = middle
    return np.int64(composed[low]) if low < len(pairs) and pairs[low] == pair else np.int64(-1)


@njit
def fold_any(data, at, stop, tables, text, text_kinds, end):
    """Fold `data[at:stop]`, any bytes, into `text` and `text_kinds` from `end` on.

    Returns where the folded text ends, or -1 if the bytes are not UTF-8.
    """
    kinds, folds, names, name_ends, restored, numeric, pairs, composed = tables
    # The three characters before this one, the kind of the last, and where it begins in `text`.
    before, before_that, before_those, before_kind, before_first = -1, -1, -1, BLANK, end
    joiner = -1  # where an apostrophe begins, which is inside a word if a letter follows
    second = -1  # the second code point of an entity with two
    while at < stop or second >= 0:
        if second >= 0:
            code, second = second, -1
        elif data[at] == ord("&"):
            code, second, after = restore(data, at, stop, names, name_ends, restored, numeric)
            if after == at:
                code, after = ord("&"), at + 1
            at = after
            if code < 0:
                continue
        elif data[at] < 0x80:
            code = np.int64(data[at])
            at += 1
        else:
            code, at = decode(data, at, stop)
            if code < 0:
                return -1
        kind = np.int64(kind_of(code, kinds))
        if kind == IGNORED:
            continue
        if code < TABLE_SIZE:
            code = np.int64(folds[code])
        if kind == MARK and before_kind <= REPEAT:
            letter = compose(before, code, pairs, composed)
            if letter >= 0:
                # It takes the place of the letter before.
                code, kind, end = letter, np.int64(LETTER), before_first
                before, before_that, before_those = before_that, before_those, -1
        repeated = code == before and code == before_that
        if kind in (LETTER, DIGIT):
            if joiner >= 0:
                text_kinds[joiner:end] = WORD
            joiner = -1
            kind = REPEAT if repeated and kind == LETTER else WORD
        elif kind == MARK:
            if before_kind <= REPEAT:
                kind = REPEAT if repeated else WORD
            elif before_kind in (IDEOGRAPH, ATTACHED):
                kind = ATTACHED
            else:
                kind = OTHER
            joiner = -1
        else:
            joiner = end if kind == JOINER and before_kind <= REPEAT else -1
            if kind == JOINER:
                kind = OTHER
        if repeated and kind in (IDEOGRAPH, ATTACHED):
            continue
        first = end
        if code < 0x80:
            text[end] = code
            end += 1
        else:
            end = put(text, end, code)
        for place in range(first, end):
            text_kinds[place] = kind
        before, before_that, before_those = code, before, before_that
        before_kind, before_first = kind, first
    return end


@njit(forceinline=True)
def is_word(byte):
    """Whether a folded ASCII byte is a letter or digit."""
    return (np.uint8(byte - np.uint8(ord("a"))) < 26) | (np.uint8(byte - np.uint8(ord("0"))) < 10)


@njit
def fold_plain(data, at, stop, grave, text, text_kinds, end):
    """The same as `fold_any` for ASCII without entities. Returns -1 for any other text.

    `grave` is what the grave accent becomes, the only ASCII sign that may be folded.

    STRIDE_BYTES must follow `stop` in `data`, and the folded text in `text`. The loops have no
    branches and run over slices, whose indices cannot be negative. So they become vector
    instructions.
    """
    size = (stop - at + STRIDE_BYTES - 1) // STRIDE_BYTES * STRIDE_BYTES
    source, target = data[at : at + size], text[end : end + size]
    highest = np.uint8(0)
    for place in range(size):
        byte = source[place]
        highest = max(highest, np.uint8(255) if byte == ord("&") else byte)
        upper = np.uint8(byte - np.uint8(ord("A"))) < 26
        byte = grave if byte == ord("`") else byte
        target[place] = byte + np.uint8(32) if upper else byte
    # Bytes of the next text are included. If only they are not plain, `fold_any` gives the same.
    if highest >= 0x80:
        return -1
    stop = end + stop - at
    text[stop : stop + MARGIN_BYTES] = ord(" ")
    around, kinds = text[end - 2 : end + size + 1], text_kinds[end : end + size]
    for place in range(size):
        before_that, before = around[place], around[place + 1]
        byte, after = around[place + 2], around[place + 3]
        repeated = (byte == before) & (byte == before_that) & (byte >= ord("a"))
        word = is_word(byte) | ((byte == ord("'")) & is_word(before) & is_word(after))
        sign = (
            (np.uint8(byte - np.uint8(ord(":"))) < 7)  # : ; < = > ? @
            | (np.uint8(byte - np.uint8(ord("["))) < 5)  # [ \ ] ^ _
            | (np.uint8(byte - np.uint8(ord("("))) < 3)  # ( ) *
            | (np.uint8(byte - np.uint8(ord("#"))) < 2)  # # $
            | (byte == ord("!"))
            | (byte == ord("-"))
            | (byte == ord("~"))
        )
        kind = np.uint8(SIGN) if sign else np.uint8(BLANK if byte <= ord(" ") else OTHER)
        kind = np.uint8(STOP) if byte == ord(".") else kind
        kind = np.uint8(COMMA) if byte == ord(",") else kind
        kinds[place] = np.uint8(repeated) if word else kind
    return stop


@cached_njit(nogil=True)
def fold(data, offsets, present, row, last, tables, text, text_kinds, spans):
    """Fold the rows `row` to `last` (excluded) of a column.

    Args:
        data: uint8[bytes], the column's bytes.
        offsets: int64[rows + 1], where each text begins in `data`, and the end of the last.
        present: bool[rows], False for null texts; bool[0] if there are none.
        row: the first row to fold.
        last: the row after the last one to fold.
        tables: a `sentiment.text._unicode.Tables`.
        text: uint8[...], gets the folded texts, from MARGIN_BYTES on. Its size: twice the rows'
            bytes, MARGIN_BYTES per row, and MARGIN_BYTES + STRIDE_BYTES.
        text_kinds: uint8[...], of the same size, gets the kinds of the bytes.
        spans: int64[last - row, 2], gets where each folded text begins and ends in `text`. The end
            is -1 for a null and for invalid UTF-8.
    """
    end = MARGIN_BYTES
    grave = np.uint8(tables[1][ord("`")])
    text[:end] = ord(" ")
    text_kinds[:end] = BLANK
    for place in range(row, last):
        start = end
        end = -1
        if len(present) == 0 or present[place]:
            at, stop = offsets[place], offsets[place + 1]
            if stop + STRIDE_BYTES <= len(data):
                end = fold_plain(data, at, stop, grave, text, text_kinds, start)
            if end < 0:
                end = fold_any(data, at, stop, tables, text, text_kinds, start)
        spans[place - row, 0] = start
        spans[place - row, 1] = end
        if end < 0:
            end = start
        text[end : end + MARGIN_BYTES] = ord(" ")
        text_kinds[end : end + MARGIN_BYTES] = BLANK
        end += MARGIN_BYTES
