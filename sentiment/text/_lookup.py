"""Tokens -> ids, hashes or bytes: look-up in an exact hash table.

Compiled by Numba, whose cache sees changes of one file only. So the functions call none of other
files. Bytes are read eight at a time as a number whose lowest byte is the first. That needs a
little-endian machine, as all that run Ray are.
"""

import numpy as np
from numba import njit

from sentiment.numba_cache import cached_njit

UNKNOWN = 1
PADDING_BYTES = 24
"""Bytes that must follow the last token in memory. Their values do not matter."""

# Odd constants: the golden ratio, and those of the finalizers of MurmurHash3 and SplitMix64.
START = np.uint64(0x9E37_79B9_7F4A_7C15)
_TOKEN = np.uint64(0xFF51_AFD7_ED55_8CCD)
_TEXT = np.uint64(0xC4CE_B9FE_1A85_EC53)
FINAL_1, FINAL_2 = np.uint64(0xBF58_476D_1CE4_E5B9), np.uint64(0x94D0_49BB_1331_11EB)
_1, _3, _7, _32, _63 = (np.uint64(number) for number in (1, 3, 7, 32, 63))
_ALL = np.uint64(0xFFFF_FFFF_FFFF_FFFF)


@njit(forceinline=True)
def eight(words, at, length):
    """Up to 8 bytes from byte `at` of `words: uint64[...]`, at most `length`, as one uint64."""
    if length <= 0:
        return np.uint64(0)
    place = np.uint64(at)
    shift = (place & _7) << _3
    word = place >> _3
    value = (words[word] >> shift) | ((words[word + _1] << _1) << (_63 - shift))
    return value & (_ALL >> (np.uint64(8 - min(length, 8)) << _3))


@njit(forceinline=True)
def token_hash(first, second, words, at, length):
    """The hash of a token, given its first 16 bytes as two numbers; uint64."""
    h = ((np.uint64(length) * START) ^ first) * _TOKEN
    h ^= h >> _32
    h = (h ^ second) * _TOKEN
    h ^= h >> _32
    for place in range(16, length, 8):
        h = (h ^ eight(words, at + place, length - place)) * _TOKEN
        h ^= h >> _32
    return h


@njit(forceinline=True)
def find(h, first, second, words, at, length, table):
    """The number of the entry equal to a token with hash `h`, or -1. `table`: as for `fill`."""
    slots, shift, records, entries = table
    slot = h >> shift
    last = np.uint64(len(slots) - 1)
    while True:
        entry = slots[slot]
        if entry < 0:
            return np.int64(-1)
        number = np.uint64(entry)
        same = (records[number, 0] == first) & (records[number, 1] == second)
        if same & (records[number, 2] == np.uint64(length)):
            place = 16
            begin = np.int64(records[number, 3])
            while place < length:
                rest = length - place
                if eight(entries, begin + place, rest) != eight(words, at + place, rest):
                    break
                place += 8
            if place >= length:
                return np.int64(entry)
        slot = (slot + _1) & last


@cached_njit(nogil=True)
def fill(table, entry_ends):
    """Put the entries into an empty table. Returns the first entry that occurs twice, or -1.

    Empty entries are skipped.

    Args:
        table: a tuple of
            slots: int32[2**k], more than there are entries, all -1;
            shift: uint64, 64 - k;
            records: uint64[entries, 4], gets each entry's first 16 bytes, length and beginning;
            entries: uint64[words], the entries' bytes one after another, then PADDING_BYTES.
        entry_ends: int64[entries + 1], where each entry begins, and the end of the last.
    """
    slots, shift, records, entries = table
    for entry in range(len(records)):
        at = entry_ends[entry]
        length = entry_ends[entry + 1] - at
        first, second = eight(entries, at, length), eight(entries, at + 8, length - 8)
        records[entry, 0], records[entry, 1] = first, second
        records[entry, 2], records[entry, 3] = np.uint64(length), np.uint64(at)
        if length == 0:
            continue
        h = token_hash(first, second, entries, at, length)
        if find(h, first, second, entries, at, length, table) >= 0:
            return entry
        slot = h >> shift
        while slots[slot] >= 0:
            slot = (slot + _1) & np.uint64(len(slots) - 1)
        slots[slot] = entry
    return -1


@cached_njit(nogil=True)
def look_up(text, words, tokens, counts, table, vocabulary_size, as_bytes, out, state):
    """Turn the tokens of a block of texts into ids or bytes, and hash the texts. Drops stop words.

    Args:
        text: uint8[bytes], the folded texts.
        words: uint64[bytes / 8], a view of `text`.
        tokens: int64[tokens, 2], where each token begins and ends in `text`.
        counts: int64[rows], the number of tokens of each text.
        table: as `fill` left it.
        vocabulary_size: number of entries before the stop words.
        as_bytes: True to give tokens as bytes, False to give ids.
        out: a tuple of arrays for the whole column, filled from where `state` says:
            token_bytes: uint8[...], and token_ends: int64[...], where each token ends, with
            `as_bytes`; ids: int32[...], without;
            text_ends: int64[all rows], the number of tokens up to the end of each text;
            hashes: uint64[all rows].
        state: int64[3], the rows, tokens and token bytes in `out`; updated.
    """
    token_bytes, token_ends, ids, text_ends, hashes = out
    total, used = state[1], state[2]
    token = 0
    for row in range(len(counts)):
        text_hash = START
        for number in range(token, token + counts[row]):
            at = tokens[number, 0]
            length = tokens[number, 1] - at
            first, second = eight(words, at, length), eight(words, at + 8, length - 8)
            h = token_hash(first, second, words, at, length)
            text_hash = (text_hash ^ h) * _TEXT
            text_hash ^= text_hash >> _32
            entry = find(h, first, second, words, at, length, table)
            if entry >= vocabulary_size:
                continue
            if as_bytes:
                for place in range(at, at + length):
                    token_bytes[used] = text[place]
                    used += 1
                token_ends[total] = used
            else:
                ids[total] = entry if entry >= 0 else UNKNOWN
            total += 1
        token += counts[row]
        text_ends[state[0] + row] = total
        # The finalizer of SplitMix64: every bit of the result depends on every bit.
        text_hash = (text_hash ^ (text_hash >> np.uint64(30))) * FINAL_1
        text_hash = (text_hash ^ (text_hash >> np.uint64(27))) * FINAL_2
        hashes[state[0] + row] = text_hash ^ (text_hash >> np.uint64(31))
    state[0] += len(counts)
    state[1], state[2] = total, used
