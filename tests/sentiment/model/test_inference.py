"""Every implementation answers as the formula does, whatever the order and the batches."""

import numpy as np
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentiment.model.batch import pad
from sentiment.model.inference import inference
from sentiment.model.keras_model import of_network
from sentiment.model.onnx_graph import onnx_model
from sentiment.network import Network
from testing.networks import (
    BOTH,
    KINDS,
    flat,
    probabilities,
    random_checkpoint,
    random_texts,
    random_weights,
)
from testing.properties import examples
from tests.sentiment.model.test_keras_model import PAIRS, SIZES, VOCABULARY, WORDS

NETWORK = Network(random_weights(*SIZES, seed=1, scale=1, names=BOTH), PAIRS)


def generated(n: int, longest: int, seed: int = 0) -> list[list[int]]:
    random = np.random.default_rng(seed)
    return [random.integers(0, WORDS, random.integers(0, longest + 1)).tolist() for _ in range(n)]


@pytest.fixture(scope="module", params=[False, True], ids=["kernel", "keras"])
def infer(request):
    return inference(NETWORK, use_gpu=request.param, batch_size=3)


@examples(20)
@given(texts=st.lists(st.lists(st.integers(0, WORDS - 1), max_size=15), max_size=12))
def test_probabilities_are_those_of_the_formulas(infer, texts):
    found = infer(*flat(texts))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, probabilities(NETWORK, *flat(texts)), atol=1e-5)


def by_keras(trained, ids, offsets):
    starts, lengths = offsets[:-1], np.diff(offsets).astype(np.int32)
    bigrams = trained.network.bigrams(ids, offsets)
    padded = pad(ids, starts, lengths), pad(bigrams, starts, lengths)
    return of_network(trained.network).probabilities(*padded, lengths)


def by_onnx(trained, ids, offsets):
    session = onnxruntime.InferenceSession(onnx_model(trained).SerializeToString())
    padded = pad(ids, offsets[:-1], np.diff(offsets)).astype(np.int64)
    return session.run(None, {"ids": padded})[0]


IMPLEMENTATIONS = {
    "kernel": lambda trained, *texts: inference(trained.network)(*texts),
    "GPU": lambda trained, *texts: inference(trained.network, use_gpu=True)(*texts),
    "Keras": by_keras,
    "ONNX": by_onnx,
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_every_implementation_computes_every_kind_of_network(implementation, kind):
    trained = random_checkpoint(**KINDS[kind])
    # An id of 0 is padding in Keras and ONNX.
    ids, offsets = random_texts(29, [0, 1, 2, 60, *range(30)])
    found = IMPLEMENTATIONS[implementation](trained, ids + 1, offsets)
    expected = probabilities(trained.network, ids + 1, offsets)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def test_no_texts_and_empty_texts(infer):
    assert infer(*flat([])).shape == (0, 2)
    empty = flat([[], [], []])
    np.testing.assert_allclose(infer(*empty), probabilities(NETWORK, *empty), atol=1e-6)


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
    whole = inference(NETWORK, use_gpu=True)(ids, offsets)
    found = inference(NETWORK, use_gpu=True, batch_size=batch_size)(ids, offsets)
    np.testing.assert_allclose(found, whole, atol=1e-6)


@pytest.mark.parametrize(
    ("embedding", "hidden", "classes"), [(1, 1, 2), (3, 16, 3), (40, 17, 25), (75, 75, 2)]
)
def test_kernel_and_keras_agree_for_models_of_any_size(embedding, hidden, classes):
    weights = random_weights(VOCABULARY, embedding, hidden, names=BOTH, classes=classes)
    network, texts = Network(weights, PAIRS), generated(60, 30)
    kernel = inference(network)(*flat(texts))
    keras = inference(network, use_gpu=True)(*flat(texts))
    np.testing.assert_allclose(kernel, keras, atol=1e-5)
    np.testing.assert_allclose(kernel, probabilities(network, *flat(texts)), atol=1e-5)


def test_order_and_company_do_not_matter(infer):
    texts = generated(50, 25, seed=2)
    found = infer(*flat(texts))
    order = np.random.default_rng(0).permutation(len(texts))
    np.testing.assert_allclose(infer(*flat([texts[i] for i in order])), found[order], atol=1e-6)
    np.testing.assert_allclose(infer(*flat(texts[:7])), found[:7], atol=1e-6)


def test_a_text_far_longer_than_the_others(infer):
    texts = [[1, 2], generated(1, 3000, seed=5)[0], [3]]
    expected = probabilities(NETWORK, *flat(texts))
    np.testing.assert_allclose(infer(*flat(texts)), expected, atol=1e-5)
