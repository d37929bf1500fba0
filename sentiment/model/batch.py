"""Training batches: padded token ids, and the rows of a batch that one worker computes."""

from dataclasses import dataclass

import numpy as np

from sentiment.text.bigrams import Bigrams


@dataclass(frozen=True)
class WorkerBatch:
    """The rows of a batch that one worker computes.

    n is the number of these rows, `length` the longest text of the whole batch, and u the number
    of distinct ids in the whole batch.
    """

    unique_ids: np.ndarray
    """int32[u]: the distinct ids of the whole batch, ascending; always with 0, the padding id."""
    places: np.ndarray
    """int32[2, n, length]: where in `unique_ids` each word's id is, and the id of the bigram that
    ends with the word. int32[1, n, length] for a model without bigrams."""
    lengths: np.ndarray
    """int32[n]: tokens of each text."""
    targets: np.ndarray
    """float32[n, classes], as in `Batch`."""
    batch_rows: int
    """Rows of the whole batch, all workers together."""


@dataclass(frozen=True)
class Batch:
    """Padded token ids with their lengths and targets."""

    ids: np.ndarray
    """int32[n, length], with zeros to the right of each text."""
    lengths: np.ndarray
    """int32[n]: tokens of each text."""
    targets: np.ndarray
    """float32[n, classes]: the probability of each class that the model is to learn, times the
    class's weight. A label is a 1 in its column."""

    def bigram_ids(self, bigrams: Bigrams) -> np.ndarray:
        """int32[n, length]: the id of the bigram that ends with each word, 0 for no bigram."""
        offsets = np.arange(len(self.ids) + 1) * self.ids.shape[1]
        return bigrams(self.ids.ravel(), offsets).reshape(self.ids.shape)

    def for_worker(
        self, rank: int, workers: int, bigram_ids: np.ndarray | None = None
    ) -> WorkerBatch:
        """Rows rank, rank + workers, ... of the batch, padded to the batch's longest text.

        Args:
            rank: the worker's number, from 0.
            workers: number of workers.
            bigram_ids: int32[n, length], as `bigram_ids` returns them; None for a model without
                bigrams.
        """
        used = self.ids[None] if bigram_ids is None else np.stack([self.ids, bigram_ids])
        if used.max(initial=0) < used.size:
            # Marking the ids that occur is faster than sorting them. If the vocabulary is larger
            # than the batch, sorting is faster.
            occurs = np.zeros(used.max(initial=0) + 1, bool)
            occurs[0] = True
            occurs[used] = True
            unique_ids = np.flatnonzero(occurs).astype(np.int32)
            places = (np.cumsum(occurs, dtype=np.int32) - 1)[used[:, rank::workers]]
        else:
            unique_ids, inverse = np.unique(np.append(used, np.int32(0)), return_inverse=True)
            places = inverse[:-1].reshape(used.shape)[:, rank::workers].astype(np.int32)
        return WorkerBatch(
            unique_ids,
            places,
            self.lengths[rank::workers],
            self.targets[rank::workers],
            len(self.lengths),
        )


def pad(ids: np.ndarray, starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Texts of concatenated ids as the rows of a matrix, with zeros to the right of each text.

    Args:
        ids: int32[tokens], the ids of all texts.
        starts: int64[n], where each text begins in `ids`.
        lengths: int[n], tokens of each text.

    Returns:
        int32[n, length], `length` being the longest of `lengths`, and at least 1.
    """
    column = np.arange(max(int(lengths.max(initial=0)), 1))
    inside = column < lengths[:, None]
    padded = np.zeros(inside.shape, np.int32)
    padded[inside] = ids[(starts[:, None] + column)[inside]]
    return padded
