"""Batch: padded token ids of several texts; WorkerBatch: one worker's rows of it."""

from dataclasses import dataclass

import numpy as np

from sentiment.text.bigrams import Bigrams


@dataclass(frozen=True)
class WorkerBatch:
    """One worker's rows of a batch, as indices into the ids that the whole batch uses."""

    tokens: np.ndarray
    """int32[u]: each id of the whole batch once, ascending; id 0 (padding) is always there."""
    places: np.ndarray
    """int32[2, n, length]: index in `tokens` of each word, and of the bigram that ends with it.
    int32[1, n, length] for a model without bigrams."""
    lengths: np.ndarray
    """int32[n]: tokens of each text."""
    labels: np.ndarray
    """int32[n]: 0 or 1."""
    batch_rows: int
    """Rows of the whole batch."""


@dataclass(frozen=True)
class Batch:
    """Padded token ids of texts, with their lengths and labels."""

    ids: np.ndarray
    """int32[n, length]: each text's ids, with zeros to the right."""
    lengths: np.ndarray
    """int32[n]: tokens of each text."""
    labels: np.ndarray
    """int32[n]: 0 or 1."""

    def pairs(self, bigrams: Bigrams) -> np.ndarray:
        """Bigram ids, int32[n, length]: of the bigram that ends with each word, or 0 for none."""
        starts = np.arange(len(self.ids) + 1) * self.ids.shape[1]
        return bigrams(self.ids.ravel(), starts).reshape(self.ids.shape)

    def for_worker(self, rank: int, workers: int, pairs: np.ndarray | None = None) -> WorkerBatch:
        """Rows rank, rank + workers, ... of the batch, padded to the batch's length.

        Args:
            rank: number of the worker, from 0.
            workers: number of workers.
            pairs: int32[n, length] from `pairs`, for a model with bigrams.
        """
        used = self.ids[None] if pairs is None else np.stack([self.ids, pairs])
        if used.max(initial=0) < used.size:
            # If the ids are smaller than their number, marking them is faster than sorting them.
            present = np.zeros(used.max(initial=0) + 1, bool)
            present[0] = True
            present[used] = True
            tokens = np.flatnonzero(present).astype(np.int32)
            places = (np.cumsum(present, dtype=np.int32) - 1)[used[:, rank::workers]]
        else:
            tokens, inverse = np.unique(np.append(used, np.int32(0)), return_inverse=True)
            places = inverse[:-1].reshape(used.shape)[:, rank::workers].astype(np.int32)
        return WorkerBatch(
            tokens,
            places,
            self.lengths[rank::workers],
            self.labels[rank::workers],
            len(self.lengths),
        )


def pad(ids: np.ndarray, starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Pad texts with zeros to the right: int32[n, length].

    Args:
        ids: int[tokens], the ids of all texts.
        starts: int[n], the index in `ids` where each text starts.
        lengths: int[n], tokens of each text.
    """
    column = np.arange(max(int(lengths.max(initial=0)), 1))
    inside = column < lengths[:, None]
    padded = np.zeros(inside.shape, np.int32)
    padded[inside] = ids[(starts[:, None] + column)[inside]]
    return padded
