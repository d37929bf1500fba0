"""Vectors are those of loops over texts and a dense decomposition, whatever brings the texts."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from threadpoolctl import threadpool_limits

from sentiment.text import cooccurrence
from sentiment.text.cooccurrence import SCALE, word_vectors

Texts = list[list[int]]
texts = st.lists(st.lists(st.integers(1, 7), max_size=9), max_size=8)


def batches(texts: Texts, size: int = 10_000) -> list[tuple[np.ndarray, np.ndarray]]:
    """So many texts at a time."""
    found = []
    for start in range(0, len(texts), size):
        some = texts[start : start + size]
        ids = np.array([token for text in some for token in text], np.int32)
        found.append((ids, np.cumsum([0, *map(len, some)], dtype=np.int64)))
    return found


def information(texts: Texts, vocabulary: int) -> np.ndarray:
    """Positive pointwise mutual information, pair by pair."""
    counts = np.zeros((vocabulary, vocabulary))
    for text in texts:
        for here, word in enumerate(text):
            for there, context in enumerate(text):
                if here != there and abs(here - there) <= 5:
                    counts[word, context] += 1
    of_word = counts.sum(axis=1)
    of_context = of_word**0.75
    found = np.zeros_like(counts)
    for word, context in np.argwhere(counts):
        expected = of_word[word] * of_context[context] / of_context.sum()
        found[word, context] = max(np.log(counts[word, context] / expected), 0)
    return np.where(found > 1e-9, found, 0)


def known(texts: Texts, vocabulary: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Which words something is known of, and U sqrt(S) of them, but for signs and scale."""
    matrix = information(texts, vocabulary)
    left, values, _ = np.linalg.svd(matrix)
    rank = min(np.linalg.matrix_rank(matrix), size)
    vectors = left[:, :rank] * np.sqrt(values[:rank])
    words = np.flatnonzero(np.abs(vectors).max(axis=1, initial=0) > 1e-7)
    return words, vectors[words]


def require_same(found: np.ndarray, texts: Texts, vocabulary: int, size: int) -> None:
    """Products of vectors have no sign, and do not depend on which of equal values comes first."""
    assert found.dtype == np.float32
    assert found.shape == (vocabulary, size)
    words, expected = known(texts, vocabulary, size)
    rank = expected.shape[1]
    counted, drawn = found[words, :rank], np.ones(found.shape, bool)
    drawn[words, :rank] = False
    if len(words):
        expected *= SCALE / np.sqrt(np.mean(expected**2))
        products = expected @ expected.T
        tolerance = 1e-5 * np.abs(products).max()
        np.testing.assert_allclose(counted @ counted.T, products, rtol=0, atol=tolerance)
        # Save for rounding, where the farthest above and below 0 are as far.
        assert (counted.max(axis=0) >= (1 - 1e-5) * np.abs(counted).max(axis=0)).all()
    random = np.random.default_rng(0).uniform(-SCALE, SCALE, found.shape)
    np.testing.assert_array_equal(found[drawn], random.astype(np.float32)[drawn])


def corpus(vocabulary: int, rows: int, seed: int = 0) -> Texts:
    """Texts of two subjects, whose words are seldom mixed; a few words are in no text."""
    random = np.random.default_rng(seed)
    found = []
    for length in random.integers(0, 12, rows):
        words = 1 + np.minimum(random.zipf(1.4, length), vocabulary // 2 - 3)
        found.append((words + random.integers(2) * (vocabulary // 2 - 2)).tolist())
    return found


@given(texts=texts, size=st.sampled_from([8, 9, 20]))
def test_they_are_those_of_loops_over_texts(texts, size):
    require_same(word_vectors(batches(texts), 8, size), texts, 8, size)


@pytest.mark.parametrize("dense", [0, 1000])
@pytest.mark.parametrize("size", [1, 5, 20])
def test_of_many_words_the_largest_values_are_kept(monkeypatch, dense, size):
    monkeypatch.setattr(cooccurrence, "MAX_DENSE_WORDS", dense)
    texts = corpus(120, 800)
    require_same(word_vectors(batches(texts), 120, size), texts, 120, size)


@pytest.mark.parametrize(
    ("texts", "size"),
    [
        ([[2, i] for i in range(3, 60)], 20),
        ([[2, 3, 4, 5], [7, 8], [3, 9]], 20),
        ([list(range(5 * i, 5 * i + 5)) for i in range(1, 12)], 11),
    ],
    ids=["rank 2", "rank 7", "eleven equal values"],
)
def test_small_ranks_and_equal_values_give_the_same_bits_again(monkeypatch, texts, size):
    monkeypatch.setattr(cooccurrence, "MAX_DENSE_WORDS", 0)
    found = [word_vectors(batches(texts), 60, size) for _ in range(2)]
    assert found[0].tobytes() == found[1].tobytes()
    require_same(found[0], texts, 60, size)


def test_nothing_is_counted_across_texts():
    apart = word_vectors(batches([[1], [2], [3], [1], [2], [3]]), 4, 3)
    nothing = word_vectors([], 4, 3)
    assert apart.tobytes() == nothing.tobytes()
    assert np.abs(nothing).max() <= SCALE
    assert len(np.unique(nothing)) == nothing.size
    together = word_vectors(batches([[1, 2, 3], [1, 2, 3]]), 4, 3)
    assert together.tobytes() != nothing.tobytes()
    # Six tokens apart is too far.
    far, near = [[1, 3, 4, 5, 6, 7, 2]], [[1, 3, 4, 5, 6, 2]]
    assert information(far, 8)[1, 2] == 0
    assert information(near, 8)[1, 2] > 0
    for texts in (far, near):
        require_same(word_vectors(batches(texts), 8, 8), texts, 8, 8)


@pytest.mark.parametrize("dense", [0, 1000])
def test_batches_and_order_of_texts_do_not_matter_to_the_last_bit(monkeypatch, dense):
    monkeypatch.setattr(cooccurrence, "MAX_DENSE_WORDS", dense)
    texts = corpus(80, 100)
    whole = word_vectors(batches(texts), 80, 10).tobytes()
    for size in (1, 7, 99):
        assert word_vectors(batches(texts, size), 80, 10).tobytes() == whole
    assert word_vectors(reversed(batches(texts, 20)), 80, 10).tobytes() == whole
    assert word_vectors(batches(texts[::-1]), 80, 10).tobytes() == whole


def test_so_many_threads_as_there_may_be_give_the_same_bits():
    # Of fewer words, sums are too short to be shared out.
    texts = np.random.default_rng(0).integers(1, 4000, (2000, 10)).tolist()
    found = set()
    for threads in (1, 2):
        with threadpool_limits(threads):
            found.add(word_vectors(batches(texts), 4000, 75).tobytes())
    assert len(found) == 1


@pytest.mark.parametrize("vocabulary", [2, 3])
@pytest.mark.parametrize("texts", [[], [[]], [[1]], [[1, 1]], [[1, 1, 1], [1]]])
def test_of_two_or_three_words_vectors_are_made_too(vocabulary, texts):
    for size in (1, 2, 75):
        require_same(word_vectors(batches(texts), vocabulary, size), texts, vocabulary, size)
    texts = [[1, vocabulary - 1], [1, 1]]
    require_same(word_vectors(batches(texts), vocabulary, 75), texts, vocabulary, 75)


def test_words_alone_in_their_texts_leave_the_others_as_they_are():
    texts = corpus(40, 200)
    with_others = word_vectors(batches([*texts, [39], [38], [], [38]]), 40, 8)
    assert with_others.tobytes() == word_vectors(batches(texts), 40, 8).tobytes()


def test_words_of_a_subject_are_nearer_to_each_other():
    found = word_vectors(batches(corpus(40, 500)), 40, 4)
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    one, other = found[2:8], found[20:26]
    assert (one @ one.T).mean() > (one @ other.T).mean() + 0.5
