"""The cache -> what a sample of its training texts tells of words: bigrams, and first vectors.

The cache is sorted by a hash, so its first texts are a random sample, the same whatever shards
they came in; of a larger corpus more would tell little more, and take memory that grows.
"""

from collections.abc import Iterator

import numpy as np

from pipelines.training.batches import CachedRows
from pipelines.training.cache import Corpus
from sentiment.text import bigrams, cooccurrence
from sentiment.text.tokenizer import heads

TEXTS = 500_000
"""Most training texts that are looked at."""

TOKENS_AT_ONCE = 2**21
"""Tokens of the texts that are held in memory at once, at most."""


def frequent_bigrams(corpus: Corpus, longest: int, most: int) -> list[str]:
    """At most so many bigrams of the training texts, cut to so many tokens; frequent ones first."""
    return bigrams.frequent(_texts(corpus, longest), corpus.vocabulary, most)


def word_vectors(corpus: Corpus, longest: int, size: int) -> np.ndarray:
    """float32 (words, size): a vector of each word, from which words it stands beside."""
    return cooccurrence.word_vectors(_texts(corpus, longest), len(corpus.vocabulary), size)


def _texts(corpus: Corpus, longest: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Ids and offsets of some texts at a time."""
    at_once, left = max(TOKENS_AT_ONCE // max(corpus.longest, 1), 1), TEXTS
    # File by file: from a bucket each is copied to this machine's disk.
    for name in corpus.files["train"]:
        rows = CachedRows(corpus.directory, [name], longest)
        last = min(len(rows), left)
        left -= last
        for first in range(0, last, at_once):
            _, lengths, ids = rows.ranges([(first, min(first + at_once, last))])
            kept = np.minimum(lengths, longest)
            offsets, ends = (np.concatenate([[0], np.cumsum(some)]) for some in (lengths, kept))
            yield heads(ids, offsets, kept), ends
        if not left:
            return
