"""Token ids of several texts -> a padded batch, and each worker's part of it."""

from dataclasses import dataclass

import numpy as np

from sentiment.text.bigrams import Bigrams


@dataclass(frozen=True)
class Part:
    """One worker's rows of a batch."""

    tokens: np.ndarray
    """int32 (u,): the ids in the whole batch, ascending, each once; 0, the padding's, is there."""
    places: np.ndarray
    """int32 (2, n, longest): where in `tokens` each word's id is, and the id of the bigram it ends;
    (1, n, longest) of a model without bigrams."""
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

    def pairs(self, bigrams: Bigrams) -> np.ndarray:
        """int32 (n, longest): the ids of the bigrams that words end, 0 where they end none."""
        starts = np.arange(len(self.ids) + 1) * self.ids.shape[1]
        return bigrams(self.ids.ravel(), starts).reshape(self.ids.shape)

    def part(self, rank: int, of: int, pairs: np.ndarray | None = None) -> Part:
        """Every `of`-th row from row `rank` on, as wide as the whole; with `pairs`, if given."""
        used = self.ids[None] if pairs is None else np.stack([self.ids, pairs])
        if used.max(initial=0) < used.size:
            # Of more ids than the vocabulary has, to mark them is quicker than to sort them.
            present = np.zeros(used.max(initial=0) + 1, bool)
            present[0] = True
            present[used] = True
            tokens = np.flatnonzero(present).astype(np.int32)
            places = (np.cumsum(present, dtype=np.int32) - 1)[used[:, rank::of]]
        else:
            tokens, found = np.unique(np.append(used, np.int32(0)), return_inverse=True)
            places = found[:-1].reshape(used.shape)[:, rank::of].astype(np.int32)
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
