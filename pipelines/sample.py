"""The cache -> what a sample of its training texts tells of words: bigrams, and first vectors.

The cache is sorted by a hash, so its first texts are a random sample, the same whatever shards
they came in; of a larger corpus more would tell little more, and take memory that grows.
"""

from collections.abc import Iterator

import numpy as np

from pipelines.batches import CachedRows
from pipelines.prepare import Corpus
from sentiment import bigrams, cooccurrence

TEXTS = 500_000
"""Most training texts that are looked at."""

_AT_ONCE = 100_000


def frequent_bigrams(corpus: Corpus, most: int) -> list[str]:
    """At most so many bigrams of the training texts, the most frequent first."""
    return bigrams.frequent(_texts(corpus), corpus.vocabulary, most)


def word_vectors(corpus: Corpus, size: int) -> np.ndarray:
    """float32 (words, size): a vector of each word, from which words it stands beside."""
    return cooccurrence.word_vectors(_texts(corpus), len(corpus.vocabulary), size)


def _texts(corpus: Corpus) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Ids and offsets of some texts at a time."""
    rows = CachedRows(corpus.directory, corpus.files["train"], corpus.longest)
    last = min(len(rows), TEXTS)
    for first in range(0, last, _AT_ONCE):
        _, lengths, ids = rows.ranges([(first, min(first + _AT_ONCE, last))])
        yield ids, np.concatenate([[0], np.cumsum(lengths)])
