"""Word vectors from co-occurrence counts: initial embeddings for training.

Counts of neighbours -> positive pointwise mutual information -> its truncated singular value
decomposition, as in Levy, Goldberg and Dagan 2015, "Improving Distributional Similarity with
Lessons Learned from Word Embeddings". No labels are needed.
"""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import scipy.sparse
from scipy.sparse.linalg import LinearOperator, eigsh
from threadpoolctl import threadpool_limits

WINDOW_TOKENS = 5
"""Tokens of a text at this distance or less are neighbours."""

SMOOTHING = 0.75
"""Exponent of the counts of contexts. Without it rare contexts count too much (Levy, Goldberg and
Dagan 2015, section 3.2)."""

SCALE = 0.2
"""Root mean square of the numbers that come from counts, and bound of the random ones. A step of
RMSProp at a rate of 0.01 moves a rare word's numbers by up to 0.03: of vectors as small as random
ones, whose bound is 0.05 in Keras, little is left after two of them."""

MAX_DENSE_WORDS = 1000
"""For up to this many words, all singular values are computed, in a second at most. For more words,
only the largest are."""


def word_vectors(
    batches: Iterable[tuple[np.ndarray, np.ndarray]], vocabulary: int, size: int
) -> npt.NDArray[np.float32]:
    """A vector for each word. Words with the same neighbours have similar vectors.

    A word that has no neighbours, or only by chance, gets a random vector from a fixed seed. So do
    the columns beyond the rank of the counts.

    On one machine, the same texts give the same bits, whatever their order, their batches and the
    number of threads.

    Memory: about 60 bytes for each pair of neighbouring words, 40 bytes for each number of the
    vectors, and 100 bytes for each token of the largest batch.

    Args:
        batches: ids: int32[tokens] and offsets: int64[n + 1] of the texts of a batch. Ids are below
            `vocabulary`, and none is padding.
        vocabulary: V, the number of ids.
        size: E, the numbers of a vector.

    Returns:
        float32[V, E], the columns by falling singular value. The number farthest from 0 in each
        column is positive.
    """
    counts = _counts(batches, vocabulary)
    words = np.flatnonzero(counts.sum(axis=1))
    # With another number of threads, sums would be split and rounded differently.
    with threadpool_limits(1, "blas"):
        counted = _factors(_information(counts[words][:, words]), size)
    vectors = np.random.default_rng(0).uniform(-SCALE, SCALE, (vocabulary, size))
    farthest = np.abs(counted).max(axis=1, initial=0)
    has_vector = farthest > 1e-9 * farthest.max(initial=0)
    if has_vector.any():
        counted = counted[has_vector]
        counted *= SCALE / np.sqrt(np.mean(counted**2))
        vectors[words[has_vector], : counted.shape[1]] = counted
    return vectors.astype(np.float32)


def _counts(
    batches: Iterable[tuple[np.ndarray, np.ndarray]], vocabulary: int
) -> scipy.sparse.csr_array:
    """int64[V, V], symmetric: how often each pair of words is within the window."""
    shape = (vocabulary, vocabulary)
    # Integers, because their sum does not depend on its order.
    before = scipy.sparse.csr_array(shape, dtype=np.int64)
    for ids, offsets in batches:
        text = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
        for distance in range(1, WINDOW_TOKENS + 1):
            same = text[distance:] == text[:-distance]
            pairs = ids[:-distance][same], ids[distance:][same]
            ones = np.ones(len(pairs[0]), np.int64)
            before += scipy.sparse.coo_array((ones, pairs), shape).tocsr()
    return before + before.T


def _information(counts: scipy.sparse.csr_array) -> scipy.sparse.csr_array:
    """float64[V, V]: the positive pointwise mutual information of words and contexts, in nats.

    `counts`: int64[V, V].
    """
    of_word = counts.sum(axis=1)
    of_context = of_word**SMOOTHING
    pairs = counts.tocoo()
    word, context = pairs.coords
    by_chance = of_word[word] * (of_context[context] / of_context.sum())
    information = np.log(pairs.data / by_chance)
    # Smaller values are 0 but for rounding.
    positive = information > 1e-9
    kept = (information[positive], (word[positive], context[positive]))
    return scipy.sparse.coo_array(kept, counts.shape).tocsr()


def _factors(matrix: scipy.sparse.csr_array, size: int) -> np.ndarray:
    """U sqrt(S) for the largest singular values of a float64[V, V] matrix.

    Returns float64[V, r], r being the rank of the matrix, at most `size`.
    """
    words = matrix.shape[0]
    if not matrix.nnz:
        return np.empty((words, 0))
    if words <= max(MAX_DENSE_WORDS, size):
        left, values, _ = np.linalg.svd(matrix.toarray())
        left, values = left[:, :size], values[:size]
    else:
        # Not svds: if the rank is small, it draws random numbers that cannot be seeded.
        square = LinearOperator(matrix.shape, lambda v: matrix @ (matrix.T @ v), dtype=np.float64)
        _, left = eigsh(square, size, rng=np.random.default_rng(0))
        left = left[:, ::-1]
        values = np.linalg.norm(matrix.T @ left, axis=0)
    # The same bound as in numpy.linalg.matrix_rank.
    rank = np.sum(values > values.max() * words * np.finfo(np.float64).eps)
    factors: np.ndarray = left[:, :rank] * np.sqrt(values[:rank])
    farthest = factors[np.abs(factors).argmax(axis=0), np.arange(rank)]
    factors *= np.sign(farthest)
    return factors
