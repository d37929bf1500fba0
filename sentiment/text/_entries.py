"""The tokens that have an id, and the stop words, in an exact hash table for `_lookup`."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from sentiment.errors import InputError
from sentiment.text import _lookup

Table = tuple[np.ndarray, np.uint64, np.ndarray, np.ndarray]
"""See `_lookup.fill`."""


class Entries:
    """A vocabulary and stop words in a hash table. Pickles without the table, so cheaply.

    Raises InputError if the vocabulary holds a token twice.
    """

    def __init__(self, vocabulary: Sequence[str], stop_words: Iterable[str]) -> None:
        stop_words = list(stop_words)
        dropped = set(stop_words)
        # A stop word has no id: an empty entry keeps its place in the vocabulary.
        entries = [b"" if word in dropped else word.encode() for word in vocabulary]
        entries += [word.encode() for word in stop_words]
        self.vocabulary_size = len(vocabulary)
        """The entries before the stop words."""
        self._ends = np.cumsum([0, *map(len, entries)], dtype=np.int64)
        padding = -self._ends[-1] % 8 + _lookup.PADDING_BYTES
        self._text = np.frombuffer(b"".join(entries) + bytes(padding), np.uint64)
        self._table: Table | None
        self._table, repeated = self._fill()
        if repeated >= 0:
            raise InputError(f"the vocabulary holds {entries[repeated].decode()!r} twice")

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_table": None}

    def _fill(self) -> tuple[Table, int]:
        """A full table, and the first entry that occurs twice, or -1."""
        frozen(self._text)
        frozen(self._ends)
        count = len(self._ends) - 1
        bits = max(4, (2 * count).bit_length())
        table = (
            np.full(1 << bits, -1, np.int32),
            np.uint64(64 - bits),
            np.empty((count, 4), np.uint64),
            self._text,
        )
        return table, _lookup.fill(table, self._ends)

    def table(self) -> Table:
        """The table for `_lookup.look_up`. After unpickling it is filled again."""
        if self._table is None:
            self._table, _ = self._fill()
        return self._table


def frozen(array: np.ndarray) -> np.ndarray:
    """The array, made read-only. Numba would compile anew for a writable one, and Arrow and pickle
    give both kinds."""
    array.flags.writeable = False
    return array
