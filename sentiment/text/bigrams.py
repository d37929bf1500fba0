"""Bigrams: pairs of neighbouring words that have an entry in the vocabulary, and their ids.

From 100,000 texts, an LSTM of about 75 units learns little of what two words mean together. So a
frequent pair may have an entry and an embedding of its own, which is added to that of its second
word. In a vocabulary, bigrams come after all words, written as the two words with a blank between.
"""

import secrets
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from sentiment.errors import InputError
from sentiment.numba_cache import cached_njit
from sentiment.text.tokenizer import UNKNOWN

NONE = 0
"""Id for "no bigram" (same as padding)."""

MIN_COUNT = 3
"""A bigram that occurs less often is too rare to learn from."""

_EMPTY = np.uint64(0)
_1, _32 = np.uint64(1), np.uint64(32)
_Table = tuple[np.ndarray, np.ndarray, np.uint64, np.uint64]


class Bigrams:
    """Finds the bigrams of a vocabulary in texts. Pickles without its hash table, so cheaply.

    Raises InputError for a bigram before a word, and for one whose words are not in the vocabulary.
    """

    def __init__(self, vocabulary: Sequence[str]) -> None:
        entries = [entry for entry in vocabulary if " " in entry]
        self.words = len(vocabulary) - len(entries)
        """Number of words: the entries before the bigrams."""
        for word in vocabulary[self.words :]:
            if " " not in word:
                raise InputError(f"word {word!r:.80} comes after bigrams, which are last")
        id_of = {word: number for number, word in enumerate(vocabulary[: self.words])}
        pairs = np.empty((len(entries), 2), np.uint64)
        for number, entry in enumerate(entries):
            first, _, second = entry.partition(" ")
            pair = [id_of.get(first, 0), id_of.get(second, 0)]
            if min(pair) <= UNKNOWN:
                raise InputError(f"bigram {entry!r:.80} is not of two words of the vocabulary")
            pairs[number] = pair
        self._keys = pairs[:, 0] << _32 | pairs[:, 1]
        self._table: _Table | None = None

    def __len__(self) -> int:
        return len(self._keys)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_table": None}

    def __call__(self, ids: np.ndarray, offsets: np.ndarray) -> np.ndarray:
        """The id of the bigram that ends with each word, or NONE.

        Args:
            ids: int32[tokens], the words' ids of all texts, one text after another.
            offsets: int64[n + 1], where each text begins in `ids`, and the end of the last.

        Returns:
            int32[tokens].
        """
        bigram_ids = np.zeros(len(ids), np.int32)
        if len(self):
            if self._table is None:
                self._table = _table(self._keys, self.words)
            _find(ids, offsets, *self._table, bigram_ids)
        return bigram_ids


def frequent(
    batches: Iterable[tuple[np.ndarray, np.ndarray]], vocabulary: Sequence[str], max_count: int
) -> list[str]:
    """The most frequent bigrams of a corpus, each of which occurs MIN_COUNT times or more.

    Args:
        batches: ids: int32[tokens] and offsets: int64[n + 1] of some texts each, as for `Bigrams`.
        vocabulary: words only.
        max_count: the number of bigrams to return at most.

    Returns:
        Entries for a vocabulary, by falling frequency; equally frequent ones by the ids of their
        words. The order of the texts does not matter.
    """
    keys, counts = np.empty(0, np.int64), np.empty(0, np.int64)
    for ids, offsets in batches:
        inner = np.ones(len(ids), bool)
        inner[offsets[:-1][offsets[:-1] < len(ids)]] = False
        second = np.flatnonzero(inner & (ids > UNKNOWN))
        second = second[ids[second - 1] > UNKNOWN]
        pairs = ids[second - 1].astype(np.int64) << 32 | ids[second]
        batch_keys, times = np.unique(pairs, return_counts=True)
        keys, places = np.unique(np.concatenate([keys, batch_keys]), return_inverse=True)
        counts = np.bincount(places, np.concatenate([counts, times]), len(keys)).astype(np.int64)
    kept = counts >= MIN_COUNT
    keys, counts = keys[kept], counts[kept]
    order = np.lexsort((keys, -counts))[:max_count]
    return [f"{vocabulary[key >> 32]} {vocabulary[key & 0xFFFF_FFFF]}" for key in keys[order]]


def _table(keys: np.ndarray, words: int) -> _Table:
    """An exact hash table with open addressing. At least half of the slots are empty.

    Returns keys: uint64[slots]; ids: int32[slots]; and the factor and the shift that give the slot
    of a key. The factor is random, or a malicious vocabulary could have all its keys in one slot.
    """
    bits = (2 * len(keys)).bit_length()
    slots, values = np.zeros(1 << bits, np.uint64), np.zeros(1 << bits, np.int32)
    factor, shift = np.uint64(secrets.randbits(64) | 1), np.uint64(64 - bits)
    _fill(keys, words, slots, values, factor, shift)
    for array in (slots, values):
        array.flags.writeable = False
    return slots, values, factor, shift


@cached_njit()
def _fill(keys, words, slots, values, factor, shift):
    last = np.uint64(len(slots) - 1)
    for number in range(len(keys)):
        slot = (keys[number] * factor) >> shift
        while slots[slot] != _EMPTY:
            slot = (slot + _1) & last
        slots[slot] = keys[number]
        values[slot] = words + number


@cached_njit(nogil=True)
def _find(ids, offsets, slots, values, factor, shift, bigram_ids):
    last = np.uint64(len(slots) - 1)
    for text in range(len(offsets) - 1):
        for place in range(offsets[text] + 1, offsets[text + 1]):
            key = np.uint64(ids[place - 1]) << _32 | np.uint64(ids[place])
            slot = (key * factor) >> shift
            while slots[slot] != _EMPTY and slots[slot] != key:
                slot = (slot + _1) & last
            if slots[slot] == key:
                bigram_ids[place] = values[slot]
