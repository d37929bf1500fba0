"""Bigrams and initial word vectors, from a sample of the cached training texts.

Word vectors are also computed from the unlabelled texts of the cache, which are a sample.

The cache is in the order of a hash, so its first texts are a random sample that does not
depend on the sharding. A larger sample would change little, and take more memory.
"""

from collections.abc import Iterator
from itertools import chain

import numpy as np

from pipelines.training.batches import CachedRows, mapped
from pipelines.training.prepared_corpus import Corpus
from pipelines.training.unlabelled import FILE
from sentiment import storage
from sentiment.text import bigrams, cooccurrence
from sentiment.text.tokenizer import heads

SAMPLE_TEXTS = 500_000
"""Training texts in the sample, at most."""

CHUNK_TOKENS = 2**21
"""Tokens of the texts that are in memory at once, at most."""


def frequent_bigrams(corpus: Corpus, longest: int, most: int) -> list[str]:
    """The most frequent bigrams of the training texts, the most frequent first.

    Args:
        corpus: prepared.
        longest: tokens to keep of a text.
        most: bigrams to return, at most.
    """
    return bigrams.frequent(_texts(corpus, longest), corpus.vocabulary, most)


def word_vectors(corpus: Corpus, longest: int, size: int) -> np.ndarray:
    """A vector of each word, computed from which words occur near it: float32[words, size].

    Args:
        corpus: prepared.
        longest: tokens to keep of a text.
        size: of a vector.
    """
    texts = chain(_texts(corpus, longest), _unlabelled(corpus))
    return cooccurrence.word_vectors(texts, len(corpus.vocabulary), size)


def _texts(corpus: Corpus, longest: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The sample, a chunk at a time: ids int32[tokens] and offsets int64[n + 1]."""
    chunk_texts, left = max(CHUNK_TOKENS // max(corpus.longest, 1), 1), SAMPLE_TEXTS
    # File by file: from a bucket each one is copied to this machine's disk.
    for name in corpus.files["train"]:
        rows = CachedRows(corpus.directory, [name], longest)
        last = min(len(rows), left)
        left -= last
        for first in range(0, last, chunk_texts):
            _, lengths, ids = rows.ranges([(first, min(first + chunk_texts, last))])
            kept = np.minimum(lengths, longest)
            offsets = np.concatenate([[0], np.cumsum(lengths)])
            kept_offsets = np.concatenate([[0], np.cumsum(kept)])
            yield heads(ids, offsets, kept), kept_offsets
        if not left:
            return


def _unlabelled(corpus: Corpus) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The unlabelled texts, whole, in chunks as of `_texts`."""
    if not corpus.unlabelled:
        return
    column = mapped(storage.join(corpus.directory, FILE)).column("ids")
    offsets, ids = column.offsets.to_numpy(), column.values.to_numpy()
    first = 0
    while first < corpus.unlabelled:
        end = int(np.searchsorted(offsets, offsets[first] + CHUNK_TOKENS, side="right")) - 1
        last = max(end, first + 1)
        yield ids[offsets[first] : offsets[last]], offsets[first : last + 1] - offsets[first]
        first = last
