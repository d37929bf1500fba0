"""Texts with very many copies, so that no task has to hold all copies of one.

They are found while rows are counted (FrequentTexts), and then their copies in each piece are
counted (CopyNumbers). So each copy gets a number of its own, by which it is assigned to a file.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from pipelines.sources.pieces import ShardPiece
from sentiment.text.tokenizer import mix

MAX_CANDIDATES = 256
"""Texts that are counted one by one at the same time."""

FEW_COPIES = 16_384
"""Copies that one task can hold in any corpus: an eighth of a file's rows."""

_COPY_STEP = np.uint64(0x9E3779B97F4A7C15)
"""Between the keys of two copies of a text: odd, so that no two have the same."""


@dataclass(frozen=True)
class FrequentTexts:
    """The texts with most copies among n rows, as Misra and Gries (1982) count them.

    A text with more than n / MAX_CANDIDATES copies is always among them.
    """

    hashes: np.ndarray
    """uint64[m], ascending, at most MAX_CANDIDATES."""
    copies: np.ndarray
    """int64[m]: copies of each, at least; at most n / MAX_CANDIDATES more."""

    @staticmethod
    def of(hashes: np.ndarray) -> "FrequentTexts":
        """Those among the rows with these hashes, uint64[n]."""
        return _shortened(*np.unique(hashes, return_counts=True))

    @staticmethod
    def merged(parts: Iterable["FrequentTexts"]) -> "FrequentTexts":
        """Those among the rows of all parts."""
        merged = FrequentTexts(np.empty(0, np.uint64), np.empty(0, np.int64))
        for part in parts:
            hashes, places = np.unique(
                np.concatenate([merged.hashes, part.hashes]), return_inverse=True
            )
            copies = np.zeros(len(hashes), np.int64)
            np.add.at(copies, places, np.concatenate([merged.copies, part.copies]))
            merged = _shortened(hashes, copies)
        return merged

    def candidates(self, rows: int) -> np.ndarray:
        """The hashes that may have `many` copies among `rows`: uint64[m]."""
        return self.hashes[self.copies + rows // MAX_CANDIDATES >= many(rows)]


def many(rows: int) -> int:
    """So many copies of a text are too many for one task, in a corpus of `rows`."""
    return max(FEW_COPIES, 2 * rows // MAX_CANDIDATES)


def _shortened(hashes: np.ndarray, copies: np.ndarray) -> FrequentTexts:
    if len(hashes) > MAX_CANDIDATES:
        copies = copies - np.partition(copies, -MAX_CANDIDATES - 1)[-MAX_CANDIDATES - 1]
    return FrequentTexts(hashes[copies > 0], copies[copies > 0])


@dataclass(frozen=True)
class CopyNumbers:
    """The numbers of copies in a corpus, of those texts that have many."""

    hashes: np.ndarray
    """uint64[m], ascending."""
    first: Mapping[ShardPiece, np.ndarray]
    """int64[m, K] of each piece: number of its first copy with each label."""

    @staticmethod
    def of(
        hashes: np.ndarray, counted: Mapping[ShardPiece, np.ndarray], rows: int
    ) -> "CopyNumbers":
        """The numbers of all copies: label by label, and piece by piece.

        Args:
            hashes: uint64[m], ascending.
            counted: int64[m, K] of each piece, in order: copies with each label.
            rows: of the corpus; texts with fewer than `many` copies get no numbers.
        """
        if not len(hashes):
            return CopyNumbers(hashes, {})
        total = np.sum(list(counted.values()), axis=0)
        is_many = total.sum(axis=1) >= many(rows)
        next_number = np.cumsum(total, axis=1) - total
        first = {}
        for piece, copies in counted.items():
            first[piece] = next_number[is_many]
            next_number = next_number + copies
        return CopyNumbers(hashes[is_many], first)

    def first_of(self, piece: ShardPiece) -> np.ndarray:
        """int64[m, K] of a piece, to be counted up."""
        return self.first[piece].copy() if len(self.hashes) else np.zeros((0, 1), np.int64)

    def numbers(self, hashes: np.ndarray, labels: np.ndarray, first: np.ndarray) -> np.ndarray:
        """The number of each row of a batch among the copies of its text: int64[n].

        -1 for a row whose text does not have many copies.

        Args:
            hashes: uint64[n].
            labels: int64[n], the classes.
            first: int64[m, K], of the piece; the batch's copies are added.
        """
        numbers = np.full(len(hashes), -1, np.int64)
        texts = places_of(hashes, self.hashes)
        rows = np.flatnonzero(texts >= 0)
        cells = texts[rows] * first.shape[-1] + labels[rows]
        for cell in np.unique(cells):
            own = rows[cells == cell]
            numbers[own] = first.flat[cell] + np.arange(len(own))
            first.flat[cell] += len(own)
        return numbers


def places_of(hashes: np.ndarray, among: np.ndarray) -> np.ndarray:
    """The place of each hash in `among`, which is ascending: int64[n]; -1 if it is not there."""
    if not len(among):
        return np.full(len(hashes), -1, np.int64)
    places = np.searchsorted(among, hashes).clip(max=len(among) - 1)
    return np.where(among[places] == hashes, places, -1)


def copy_keys(hashes: np.ndarray, numbers: np.ndarray, seed: int) -> np.ndarray:
    """A hash of each copy, of its text's hash and of its number: uint64[n]."""
    return mix(hashes + numbers.astype(np.uint64) * _COPY_STEP, seed)


def running_numbers(ordered: np.ndarray) -> np.ndarray:
    """The number of each row among the rows of the same hash: int64[n].

    Args:
        ordered: uint64[n], ascending.
    """
    starts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1]))
    sizes = np.diff(np.append(starts, len(ordered)))
    numbers: np.ndarray = np.arange(len(ordered)) - np.repeat(starts, sizes)
    return numbers
