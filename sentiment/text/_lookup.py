"""Tokens -> ids, hashes or bytes: the look-up in an exact hash table.

Compiled by Numba; one file and no others' functions, since its cache sees changes of one file.
Bytes are read eight at a time as a number whose lowest byte is the first; that takes a machine
that stores numbers so, as all that run Ray do.
"""

import numpy as np
from numba import njit

UNKNOWN = 1
PADDED = 24
"""So many bytes after a token's last one must be there, whatever they are."""

# Odd constants: the golden ratio, and those of MurmurHash3's and SplitMix64's finalizers.
START = np.uint64(0x9E37_79B9_7F4A_7C15)
_TOKEN = np.uint64(0xFF51_AFD7_ED55_8CCD)
_TEXT = np.uint64(0xC4CE_B9FE_1A85_EC53)
FINAL_1, FINAL_2 = np.uint64(0xBF58_476D_1CE4_E5B9), np.uint64(0x94D0_49BB_1331_11EB)
_1, _3, _7, _32, _63 = (np.uint64(number) for number in (1, 3, 7, 32, 63))
_ALL = np.uint64(0xFFFF_FFFF_FFFF_FFFF)


@njit(forceinline=True)
def eight(words, at, length):
    """The bytes from byte `at` of `words` on, `length` of them but at most 8, as one number."""
    if length <= 0:
        return np.uint64(0)
    place = np.uint64(at)
    shift = (place & _7) << _3
    word = place >> _3
    value = (words[word] >> shift) | ((words[word + _1] << _1) << (_63 - shift))
    return value & (_ALL >> (np.uint64(8 - min(length, 8)) << _3))


@njit(forceinline=True)
def token_hash(first, second, words, at, length):
    """The hash of a token whose first 16 bytes are known already."""
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
    """The number of the entry equal to a token with hash `h`, or -1."""
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


@njit(cache=True, nogil=True)
def fill(table, entry_ends):
    """Put the entries into an empty table; returns the first one that is there twice, or -1.

    Args:
        table: slots, int32 (2**k,), more than entries, all -1; uint64, 64 - k; records, uint64
            (entries, 4), for each its first 16 bytes, length and beginning; and the entries'
            bytes, end to end, as uint64, with PADDED more. An empty entry is passed over.
        entry_ends: int64 (entries + 1,), where each entry begins, and the end.
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


@njit(cache=True, nogil=True)
def look_up(text, words, tokens, counts, table, known, keep, out, state):
    """Turn the tokens of some texts into ids, or into bytes; and hash the texts.

    Args:
        text: uint8, the folded texts.
        words: the same as uint64.
        tokens: int64 (tokens, 2), where each token begins and ends in `text`.
        counts: int64 (rows,), the number of tokens of each text.
        table: the entries, as `fill` left them.
        known: the first so many entries are the vocabulary, the rest are stop words.
        keep: True to give every token but stop words as bytes, False to give ids.
        out: (token_bytes, token_ends, ids, text_ends, hashes): uint8; int64, where each token
            ends; int32; int64, how many tokens there are up to and with each text; uint64. The
            first two or the third stay as they are, by `keep`. They go on where `state` says.
        state: int64 (3,): rows, tokens and token bytes that `out` holds already; brought up to
            date.
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
            if entry >= known:
                continue
            if keep:
                for place in range(at, at + length):
                    token_bytes[used] = text[place]
                    used += 1
                token_ends[total] = used
            else:
                ids[total] = entry if entry >= 0 else UNKNOWN
            total += 1
        token += counts[row]
        text_ends[state[0] + row] = total
        # The finalizer of SplitMix64: every bit then depends on every bit.
        text_hash = (text_hash ^ (text_hash >> np.uint64(30))) * FINAL_1
        text_hash = (text_hash ^ (text_hash >> np.uint64(27))) * FINAL_2
        hashes[state[0] + row] = text_hash ^ (text_hash >> np.uint64(31))
    state[0] += len(counts)
    state[1], state[2] = total, used
