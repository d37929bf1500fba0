"""Token ids of several texts -> a padded batch, and each worker's part of it."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Part:
    """One worker's rows of a batch."""

    tokens: np.ndarray
    """int32 (u,): the ids in the whole batch, ascending, each once; 0, the padding's, is there."""
    places: np.ndarray
    """int32 (n, longest): where in `tokens` each id is."""
    lengths: np.ndarray
    """int32 (n,): tokens of each text."""
    labels: np.ndarray
    """int32 (n,), 0 or 1."""
    batch_rows: int
    """Rows of the whole batch."""


@dataclass(frozen=True)
class Batch:
    """Padded token ids with their lengths and labels."""

    ids: np.ndarray
    """int32 (n, longest), zeros to the right of each text."""
    lengths: np.ndarray
    """int32 (n,)."""
    labels: np.ndarray
    """int32 (n,), 0 or 1."""

    def part(self, rank: int, of: int) -> Part:
        """Every `of`-th row from row `rank` on, as wide as the whole."""
        tokens, places = np.unique(np.append(self.ids, np.int32(0)), return_inverse=True)
        places = places[:-1].reshape(self.ids.shape)[rank::of].astype(np.int32)
        return Part(
            tokens, places, self.lengths[rank::of], self.labels[rank::of], len(self.lengths)
        )


def pad(ids: np.ndarray, starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """int32 (n, longest): the ids from each start on, with zeros to the right of each text."""
    column = np.arange(max(int(lengths.max(initial=0)), 1))
    inside = column < lengths[:, None]
    padded = np.zeros(inside.shape, np.int32)
    padded[inside] = ids[(starts[:, None] + column)[inside]]
    return padded
