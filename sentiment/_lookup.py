"""Tokens -> ids, hashes or bytes: the look-up in an exact hash table.

Compiled by Numba; one file and no others' functions, since its cache sees changes of one file.
"""

import numpy as np
from numba import njit

UNKNOWN = 1
EMPTY_SLOT = np.uint64(0xFFFF_FFFF_FFFF_FFFF)
# Odd constants: the golden ratio, and those of MurmurHash3's and SplitMix64's finalizers.
START = np.uint64(0x9E37_79B9_7F4A_7C15)
_TOKEN = np.uint64(0xFF51_AFD7_ED55_8CCD)
_TEXT = np.uint64(0xC4CE_B9FE_1A85_EC53)
_FINAL_1, _FINAL_2 = np.uint64(0xBF58_476D_1CE4_E5B9), np.uint64(0x94D0_49BB_1331_11EB)
_LONGEST_KNOWN = 255


@njit(forceinline=True)
def finish(h):
    """The finalizer of SplitMix64: every bit of the result depends on every bit of `h`."""
    h = (h ^ (h >> np.uint64(30))) * _FINAL_1
    h = (h ^ (h >> np.uint64(27))) * _FINAL_2
    return h ^ (h >> np.uint64(31))


@njit(forceinline=True)
def word_at(text, at, stop):
    """Up to 8 bytes of `text[at:stop]` as one number, the first the lowest."""
    word = np.uint64(0)
    for place in range(min(stop - at, 8)):
        word |= np.uint64(text[at + place]) << np.uint64(8 * place)
    return word


@njit(forceinline=True)
def token_hash(text, at, stop):
    """The hash of the token `text[at:stop]`."""
    h = np.uint64(stop - at) * START
    while at < stop:
        h = (h ^ word_at(text, at, stop)) * _TOKEN
        h ^= h >> np.uint64(32)
        at += 8
    return h


@njit(forceinline=True)
def find(h, text, at, stop, slots, shift, entries, entry_ends):
    """The number of the entry equal to the token `text[at:stop]` with hash `h`, or -1."""
    length = stop - at
    known = np.uint64(min(length, _LONGEST_KNOWN))
    first = word_at(text, at, stop)
    mask = len(slots) - 1
    slot = np.int64(h >> shift)
    while True:
        about = slots[slot, 1]
        if about == EMPTY_SLOT:
            return -1
        if slots[slot, 0] == first and about & np.uint64(_LONGEST_KNOWN) == known:
            entry = np.int64(about >> np.uint64(8))
            if length <= 8:
                return entry
            begin = entry_ends[entry]
            place = 8
            if entry_ends[entry + 1] - begin == length:
                while place < length and entries[begin + place] == text[at + place]:
                    place += 1
                if place == length:
                    return entry
        slot = (slot + 1) & mask


@njit(cache=True, nogil=True)
def fill(slots, shift, entries, entry_ends):
    """Put the entries into empty slots; returns the first one that is there twice, or -1.

    Args:
        slots: uint64 (2**k, 2), more than entries, all EMPTY_SLOT: an entry's first 8 bytes, and
            its number above its length.
        shift: uint64, 64 - k.
        entries: uint8, the entries' bytes end to end; an empty one is passed over.
        entry_ends: int64 (entries + 1,).
    """
    for entry in range(len(entry_ends) - 1):
        at, stop = entry_ends[entry], entry_ends[entry + 1]
        if at == stop:
            continue
        h = token_hash(entries, at, stop)
        if find(h, entries, at, stop, slots, shift, entries, entry_ends) >= 0:
            return entry
        slot = np.int64(h >> shift)
        while slots[slot, 1] != EMPTY_SLOT:
            slot = (slot + 1) & (len(slots) - 1)
        slots[slot, 0] = word_at(entries, at, stop)
        slots[slot, 1] = np.uint64(entry << 8 | min(stop - at, _LONGEST_KNOWN))
    return -1


@njit(cache=True, nogil=True)
def look_up(text, tokens, counts, slots, shift, entries, entry_ends, known, keep, out, state):
    """Turn the tokens of some texts into ids, or into bytes; and hash the texts.

    Args:
        text: uint8, the folded texts.
        tokens: int64 (tokens, 2), where each token begins and ends in `text`.
        counts: int64 (rows,), the number of tokens of each text.
        slots, shift, entries, entry_ends: the entries, as `fill` left them.
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
        for _ in range(counts[row]):
            at, stop = tokens[token, 0], tokens[token, 1]
            token += 1
            h = token_hash(text, at, stop)
            text_hash = (text_hash ^ h) * _TEXT
            text_hash ^= text_hash >> np.uint64(32)
            entry = find(h, text, at, stop, slots, shift, entries, entry_ends)
            if entry >= known:
                continue
            if keep:
                for place in range(at, stop):
                    token_bytes[used] = text[place]
                    used += 1
                token_ends[total] = used
            else:
                ids[total] = entry if entry >= 0 else UNKNOWN
            total += 1
        text_ends[state[0] + row] = total
        hashes[state[0] + row] = finish(text_hash)
    state[0] += len(counts)
    state[1], state[2] = total, used
