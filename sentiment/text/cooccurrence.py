"""Token ids -> vectors of words from which words they stand beside: where training may begin.

Counts of neighbours -> positive pointwise mutual information -> its truncated singular value
decomposition, as in Levy, Goldberg and Dagan 2015, "Improving Distributional Similarity with
Lessons Learned from Word Embeddings". Labels play no part.
"""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import scipy.sparse
from scipy.sparse.linalg import LinearOperator, eigsh
from threadpoolctl import threadpool_limits

WINDOW = 5
"""Tokens of a text that are this near, or nearer, stand beside each other."""

SMOOTHING = 0.75
"""A context's share is that of its count to this power, or rare contexts would say too much
(Levy, Goldberg and Dagan 2015, section 3.2)."""

SPREAD = 0.05
"""How far from 0 the numbers are: the root of the mean square of those that come of counts, the
bound of random ones. Keras's uniform embeddings have the same bound."""

DENSE = 1000
"""Up to so many words all singular values are computed, which takes a second at most; of more words
only the largest ones."""


def word_vectors(
    batches: Iterable[tuple[np.ndarray, np.ndarray]], vocabulary: int, size: int
) -> npt.NDArray[np.float32]:
    """A vector for each word: near each other where words stand beside the same ones.

    Of a word that is never beside another, or only by chance, nothing is known: its vector is
    random, always the same. So are the columns beyond the rank of what was counted.

    The same texts give the same bits on the same machine, in whatever order and batches they come
    and whatever number of threads it has.

    Memory: some 60 bytes for each pair of words that are beside each other, 40 for each number of
    the vectors, and 100 for each token of the largest batch.

    Args:
        batches: ids, int32, of all texts of a batch, one after another; and offsets, int64
            (n + 1,): where each begins. Ids are below `vocabulary`, and none is padding.
        vocabulary: V, how many ids there are.
        size: E, how many numbers a vector has.

    Returns:
        float32 (V, E); columns by falling singular value, each with its farthest number above 0.
    """
    counts = _counts(batches, vocabulary)
    words = np.flatnonzero(counts.sum(axis=1))
    # Threads would share out sums, and with other shares they round in other ways.
    with threadpool_limits(1, "blas"):
        counted = _factors(_information(counts[words][:, words]), size)
    vectors = np.random.default_rng(0).uniform(-SPREAD, SPREAD, (vocabulary, size))
    farthest = np.abs(counted).max(axis=1, initial=0)
    known = farthest > 1e-9 * farthest.max(initial=0)
    if known.any():
        counted = counted[known]
        counted *= SPREAD / np.sqrt(np.mean(counted**2))
        vectors[words[known], : counted.shape[1]] = counted
    return vectors.astype(np.float32)


def _counts(
    batches: Iterable[tuple[np.ndarray, np.ndarray]], vocabulary: int
) -> scipy.sparse.csr_array:
    """int64 (V, V), symmetric: how often each word is beside each, however far in the window."""
    shape = (vocabulary, vocabulary)
    # Whole numbers, since their sum does not depend on its order.
    before = scipy.sparse.csr_array(shape, dtype=np.int64)
    for ids, offsets in batches:
        text = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
        for distance in range(1, WINDOW + 1):
            same = text[distance:] == text[:-distance]
            pairs = ids[:-distance][same], ids[distance:][same]
            ones = np.ones(len(pairs[0]), np.int64)
            before += scipy.sparse.coo_array((ones, pairs), shape).tocsr()
    return before + before.T


def _information(counts: scipy.sparse.csr_array) -> scipy.sparse.csr_array:
    """float64 (V, V): the positive pointwise mutual information of words and contexts, in nats."""
    of_word = counts.sum(axis=1)
    of_context = of_word**SMOOTHING
    pairs = counts.tocoo()
    word, context = pairs.coords
    by_chance = of_word[word] * (of_context[context] / of_context.sum())
    information = np.log(pairs.data / by_chance)
    # What rounding makes of 0 is none.
    positive = information > 1e-9
    kept = (information[positive], (word[positive], context[positive]))
    return scipy.sparse.coo_array(kept, counts.shape).tocsr()


def _factors(matrix: scipy.sparse.csr_array, size: int) -> np.ndarray:
    """float64 (V, r): U sqrt(S) of the matrix's r largest singular values, r its rank or `size`."""
    words = matrix.shape[0]
    if not matrix.nnz:
        return np.empty((words, 0))
    if words <= max(DENSE, size):
        left, values, _ = np.linalg.svd(matrix.toarray())
        left, values = left[:, :size], values[:size]
    else:
        # Not svds: what it draws where the rank is small cannot be seeded.
        square = LinearOperator(matrix.shape, lambda v: matrix @ (matrix.T @ v), dtype=np.float64)
        _, left = eigsh(square, size, rng=np.random.default_rng(0))
        left = left[:, ::-1]
        values = np.linalg.norm(matrix.T @ left, axis=0)
    # As numpy.linalg.matrix_rank has it.
    rank = np.sum(values > values.max() * words * np.finfo(np.float64).eps)
    factors: np.ndarray = left[:, :rank] * np.sqrt(values[:rank])
    farthest = factors[np.abs(factors).argmax(axis=0), np.arange(rank)]
    factors *= np.sign(farthest)
    return factors
