"""Kernel and Keras answer as the formulas do, whatever the order and the batches."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentiment.checkpoint import weight_shapes
from sentiment.model.inference import inference
from sentiment.text.bigrams import Bigrams
from sentiment.text.tokenizer import SPECIALS
from testing.properties import examples
from tests.sentiment.model.test_keras_model import (
    BIGRAMS,
    BOTH,
    VOCABULARY,
    WORDS,
    forward,
    random_weights,
)

WEIGHTS = random_weights(seed=1)
NAMES = [*SPECIALS, *(f"w{number}" for number in range(2, WORDS))]
PAIRS = Bigrams([*NAMES, *(f"{NAMES[first]} {NAMES[second]}" for first, second in BIGRAMS)])


def flat(texts: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    ids = np.array([token for text in texts for token in text], np.int32)
    return ids, np.cumsum([0, *map(len, texts)], dtype=np.int64)


def generated(n: int, longest: int, seed: int = 0) -> list[list[int]]:
    random = np.random.default_rng(seed)
    return [random.integers(0, WORDS, random.integers(0, longest + 1)).tolist() for _ in range(n)]


@pytest.fixture(scope="module", params=[False, True], ids=["kernel", "keras"])
def infer(request):
    return inference(WEIGHTS, PAIRS, use_gpu=request.param, batch_size=3)


@examples(20)
@given(texts=st.lists(st.lists(st.integers(0, WORDS - 1), max_size=15), max_size=12))
def test_probabilities_are_those_of_the_formulas(infer, texts):
    found = infer(*flat(texts))
    assert found.dtype == np.float32
    expected = np.array([forward(WEIGHTS, text) for text in texts]).reshape(len(texts), 2)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_no_texts_and_empty_texts(infer):
    assert infer(*flat([])).shape == (0, 2)
    bias = forward(WEIGHTS, [])
    np.testing.assert_allclose(infer(*flat([[], [], []])), [bias] * 3, atol=1e-6)


def test_ids_may_be_views_that_cannot_be_written(infer):
    ids, offsets = flat([[1, 2, 3], [4, 5], [6]])
    expected = infer(ids, offsets)
    ids.flags.writeable = False
    offsets.flags.writeable = False
    np.testing.assert_array_equal(infer(ids, offsets), expected)
    # A slice of a column: its offsets do not begin at 0.
    np.testing.assert_allclose(infer(ids, offsets[1:]), expected[1:], atol=1e-6)


@pytest.mark.parametrize("batch_size", [1, 7, 1000])
def test_the_batch_size_does_not_matter(batch_size):
    ids, offsets = flat(generated(40, 20))
    whole = inference(WEIGHTS, PAIRS, use_gpu=True)(ids, offsets)
    found = inference(WEIGHTS, PAIRS, use_gpu=True, batch_size=batch_size)(ids, offsets)
    np.testing.assert_allclose(found, whole, atol=1e-6)


@pytest.mark.parametrize(
    ("embedding", "hidden", "classes"), [(1, 1, 2), (3, 16, 3), (40, 17, 25), (75, 75, 2)]
)
def test_kernel_and_keras_agree_for_models_of_any_size(embedding, hidden, classes):
    shapes = weight_shapes(VOCABULARY, embedding, hidden, BOTH, classes)
    weights = random_weights(shapes, scale=0.3)
    texts = generated(60, 30)
    kernel = inference(weights, PAIRS)(*flat(texts))
    reference = inference(weights, PAIRS, use_gpu=True)(*flat(texts))
    np.testing.assert_allclose(kernel, reference, atol=1e-5)
    some = [forward(weights, text) for text in texts[:10]]
    np.testing.assert_allclose(kernel[:10], some, atol=1e-5)


def test_order_and_company_do_not_matter(infer):
    texts = generated(50, 25, seed=2)
    found = infer(*flat(texts))
    order = np.random.default_rng(0).permutation(len(texts))
    np.testing.assert_allclose(infer(*flat([texts[i] for i in order])), found[order], atol=1e-6)
    np.testing.assert_allclose(infer(*flat(texts[:7])), found[:7], atol=1e-6)


def test_a_text_far_longer_than_the_others(infer):
    texts = [[1, 2], generated(1, 3000, seed=5)[0], [3]]
    expected = [forward(WEIGHTS, text) for text in texts]
    np.testing.assert_allclose(infer(*flat(texts)), expected, atol=1e-5)
