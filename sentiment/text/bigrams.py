"""Neighbouring words -> the id of the two together, where the vocabulary has them as an entry.

An LSTM of some 75 units learns little of what two words mean together from texts by the 100,000. So
a frequent pair, a bigram, may have an entry and a vector of its own, which is added to that of its
second word. In a vocabulary bigrams come after all words, as the two words with a blank between.
"""

import secrets
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numba import njit

from sentiment.errors import InputError
from sentiment.text.tokenizer import UNKNOWN

NONE = 0
"""What stands for no bigram: the id of padding, which is none."""

LEAST = 3
"""A bigram found less often is too rare to learn from."""

_EMPTY = np.uint64(0)
_1, _32 = np.uint64(1), np.uint64(32)
_Table = tuple[np.ndarray, np.ndarray, np.uint64, np.uint64]


class Bigrams:
    """Finds the bigrams of a vocabulary in texts. Pickling it is cheap.

    Raises InputError for a bigram that comes before a word, or whose words are not there.
    """

    def __init__(self, vocabulary: Sequence[str]) -> None:
        entries = [entry for entry in vocabulary if " " in entry]
        self.words = len(vocabulary) - len(entries)
        """The vocabulary's first so many entries are words."""
        for word in vocabulary[self.words :]:
            if " " not in word:
                raise InputError(f"word {word!r:.80} comes after bigrams, which are last")
        id_of = {word: number for number, word in enumerate(vocabulary[: self.words])}
        pairs = np.empty((len(entries), 2), np.uint64)
        for number, entry in enumerate(entries):
            first, _, second = entry.partition(" ")
            known = [id_of.get(first, 0), id_of.get(second, 0)]
            if min(known) <= UNKNOWN:
                raise InputError(f"bigram {entry!r:.80} is not of two words of the vocabulary")
            pairs[number] = known
        self._keys = pairs[:, 0] << _32 | pairs[:, 1]
        self._table: _Table | None = None

    def __len__(self) -> int:
        return len(self._keys)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_table": None}

    def __call__(self, ids: np.ndarray, offsets: np.ndarray) -> np.ndarray:
        """For each word the id of the bigram that ends with it, or NONE.

        Args:
            ids: int32, the words' ids of all texts, one after another.
            offsets: int64 (n + 1,), where each text's ids begin, and the end.

        Returns:
            int32, as long as `ids`.
        """
        found = np.zeros(len(ids), np.int32)
        if len(self):
            if self._table is None:
                self._table = _table(self._keys, self.words)
            _find(ids, offsets, *self._table, found)
        return found


def frequent(
    batches: Iterable[tuple[np.ndarray, np.ndarray]], vocabulary: Sequence[str], most: int
) -> list[str]:
    """The bigrams that occur most often: at most so many, and each LEAST times or more.

    Args:
        batches: ids and offsets of some texts at a time, as `Bigrams` takes them.
        vocabulary: of words alone.
        most: number of bigrams.

    Returns:
        Entries for a vocabulary, by falling frequency; of equal ones first that with the more
        frequent words. The same texts give the same in whatever order they come.
    """
    keys, counts = np.empty(0, np.int64), np.empty(0, np.int64)
    for ids, offsets in batches:
        inner = np.ones(len(ids), bool)
        inner[offsets[:-1][offsets[:-1] < len(ids)]] = False
        second = np.flatnonzero(inner & (ids > UNKNOWN))
        second = second[ids[second - 1] > UNKNOWN]
        pairs = ids[second - 1].astype(np.int64) << 32 | ids[second]
        some, times = np.unique(pairs, return_counts=True)
        keys, places = np.unique(np.concatenate([keys, some]), return_inverse=True)
        counts = np.bincount(places, np.concatenate([counts, times]), len(keys)).astype(np.int64)
    kept = counts >= LEAST
    keys, counts = keys[kept], counts[kept]
    order = np.lexsort((keys, -counts))[:most]
    return [f"{vocabulary[key >> 32]} {vocabulary[key & 0xFFFF_FFFF]}" for key in keys[order]]


def _table(keys: np.ndarray, words: int) -> _Table:
    """An exact hash table, open, with a slot in two or more empty.

    Keys, the ids they have, and what makes a slot of a key: a factor, drawn for each table, or a
    stranger's vocabulary could have all its keys in one slot; and by how much to shift.
    """
    bits = (2 * len(keys)).bit_length()
    slots, values = np.zeros(1 << bits, np.uint64), np.zeros(1 << bits, np.int32)
    factor, shift = np.uint64(secrets.randbits(64) | 1), np.uint64(64 - bits)
    _fill(keys, words, slots, values, factor, shift)
    for array in (slots, values):
        array.flags.writeable = False
    return slots, values, factor, shift


@njit(cache=True)
def _fill(keys, words, slots, values, factor, shift):
    last = np.uint64(len(slots) - 1)
    for number in range(len(keys)):
        slot = (keys[number] * factor) >> shift
        while slots[slot] != _EMPTY:
            slot = (slot + _1) & last
        slots[slot] = keys[number]
        values[slot] = words + number


@njit(cache=True, nogil=True)
def _find(ids, offsets, slots, values, factor, shift, found):
    last = np.uint64(len(slots) - 1)
    for text in range(len(offsets) - 1):
        for place in range(offsets[text] + 1, offsets[text + 1]):
            key = np.uint64(ids[place - 1]) << _32 | np.uint64(ids[place])
            slot = (key * factor) >> shift
            while slots[slot] != _EMPTY and slots[slot] != key:
                slot = (slot + _1) & last
            if slots[slot] == key:
                found[place] = values[slot]
