"""The Keras model is the LSTM that the formulas say, and padding never counts."""

import os
import runpy
import sys
from dataclasses import replace
from itertools import combinations, pairwise

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from sentiment.model import keras_model
from sentiment.model.batch import pad
from sentiment.model.keras_model import SentimentLSTM, _random_int16, of_network
from sentiment.network import Network, weight_shapes
from sentiment.text.bigrams import Bigrams
from sentiment.text.tokenizer import SPECIALS
from testing.networks import BOTH, flat, probabilities, random_weights
from testing.properties import examples

WORDS, VOCABULARY, EMBEDDING, HIDDEN = 9, 13, 5, 4
BIGRAMS = {(2, 3): 9, (3, 2): 10, (4, 4): 11, (5, 2): 12}
SIZES = VOCABULARY, EMBEDDING, HIDDEN
NAMES = [*SPECIALS, *(f"w{number}" for number in range(2, WORDS))]
PAIRS = Bigrams([*NAMES, *(f"{NAMES[first]} {NAMES[second]}" for first, second in BIGRAMS)])


def padded(texts: list[list[int]], more: int = 0, filler=None) -> tuple[np.ndarray, ...]:
    """Ids, bigrams and lengths; to the right of a text 0, or anything."""
    lengths = np.array([len(text) for text in texts], np.int32)
    width = max(lengths.max(initial=0) + more, 1)
    ids, bigrams = np.zeros((2, len(texts), width), np.int32)
    if filler is not None:
        ids[:], bigrams[:] = filler.integers(0, VOCABULARY, (2, *ids.shape))
    for row, pairs, text in zip(ids, bigrams, texts, strict=True):
        row[: len(text)] = text
        pairs[: len(text)] = [0, *(BIGRAMS.get(pair, 0) for pair in pairwise(text))][: len(text)]
    return ids, bigrams, lengths


@pytest.fixture(scope="module", params=[("lstm",), BOTH], ids=["one way", "both ways"])
def network(request):
    return Network(random_weights(*SIZES, scale=1, names=request.param), PAIRS)


@pytest.fixture(scope="module")
def model(network):
    return of_network(network)


class ImportsKeras(Exception):
    """Raised instead of loading Keras."""


class Finder:
    """Tells the backend that Keras would be loaded with."""

    def find_spec(self, name, path=None, target=None):
        if name == "keras":
            raise ImportsKeras(os.environ["KERAS_BACKEND"])


def test_the_backend_is_tensorflow_whatever_the_environment_says(monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    monkeypatch.delitem(sys.modules, "keras")
    monkeypatch.setattr(sys, "meta_path", [Finder(), *sys.meta_path])
    with pytest.raises(ImportsKeras, match=r"^tensorflow$"):
        runpy.run_path(keras_model.__file__)


texts = st.lists(st.lists(st.integers(0, WORDS - 1), max_size=12), min_size=1, max_size=8)


@examples(25)
@given(texts=texts)
def test_it_computes_what_the_formulas_say(model, network, texts):
    found = model.probabilities(*padded(texts))
    expected = probabilities(network, *flat(texts))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-5)


@examples(25)
@given(texts=texts, more=st.integers(0, 40), seed=st.integers(0, 2**32))
def test_padding_never_counts(model, texts, more, seed):
    together = model.probabilities(*padded(texts))
    random = np.random.default_rng(seed)
    wider = model.probabilities(*padded(texts, more, filler=random))
    order = random.permutation(len(texts))
    among_others = [texts[i] for i in order] + [[1] * 15]
    other = model.probabilities(*padded(among_others, filler=random))
    np.testing.assert_allclose(wider, together, atol=1e-6)
    np.testing.assert_allclose(other[:-1], together[order], atol=1e-6)
    for text, probability in zip(texts[:2], together, strict=False):
        alone = model.probabilities(*padded([text]))
        np.testing.assert_allclose(alone, [probability], atol=1e-6)


def test_a_text_without_tokens_has_the_answer_of_the_bias(model):
    logits = model.export()["dense/bias"]
    expected = np.exp(logits) / np.exp(logits).sum()
    for batch in (padded([[]]), padded([[], [1, 2]], 3)):
        np.testing.assert_allclose(model.probabilities(*batch)[0], expected, rtol=1e-6)


def test_no_texts_have_no_probabilities(model):
    none = np.zeros((0, 1), np.int32)
    found = model.probabilities(none, none, np.zeros(0, np.int32))
    assert found.shape == (0, 2)


def logits(model, seed, texts=((1, 2, 3), (4,), (5, 6, 7, 8), ())) -> np.ndarray:
    seed = None if seed is None else np.array(seed, np.int64)
    ids, _, lengths = padded([list(text) for text in texts])
    return model.logits(model.embedding(ids), lengths, seed).numpy()


def test_dropout_follows_from_its_seed_alone():
    model = SentimentLSTM(*SIZES, dropout_keep_prob=0.5)
    again = SentimentLSTM(*SIZES, dropout_keep_prob=0.5)
    first = logits(model, (0, 0))
    keras.utils.set_random_seed(1)
    np.testing.assert_array_equal(logits(model, (0, 0)), first)
    np.testing.assert_array_equal(logits(again, (0, 0)), first)
    ids, _, lengths = padded([[1, 2, 3], [4]])
    compiled = tf.function(lambda seed: model.logits(model.embedding(ids), lengths, seed))
    np.testing.assert_allclose(
        compiled(np.array([0, 9], np.int64)), logits(model, (0, 9), ((1, 2, 3), (4,))), atol=1e-6
    )
    others = [logits(model, seed) for seed in ((0, 1), (0, 2), (1, 0), (2, 0), None)]
    for i, one in enumerate([first, *others]):
        for other in others[i:]:
            assert (one != other).any()


def test_without_dropout_the_seed_does_not_matter():
    model = SentimentLSTM(*SIZES, dropout_keep_prob=1.0)
    np.testing.assert_array_equal(logits(model, (0, 0)), logits(model, None))
    np.testing.assert_array_equal(logits(model, (0, 1)), logits(model, None))


@pytest.mark.parametrize("keep", [0.25, 0.5, 0.9])
def test_dropout_keeps_its_share_and_the_mean(keep):
    model = SentimentLSTM(*SIZES, dropout_keep_prob=keep)
    ones = tf.ones((200, 50, 10))
    seed = np.array([3, 4], np.int64)
    masks = [
        model._dropped(ones, _random_int16(seed, which, ones.shape)).numpy() for which in range(3)
    ]
    share = round(keep * 2**16) / 2**16
    for dropped in masks:
        np.testing.assert_allclose(np.unique(dropped), [0, 1 / share], rtol=1e-6)
        assert abs(dropped.mean() - 1) < 0.02
    # The masks of input and outputs have nothing to do with each other, nor do any two values'.
    for one, other in combinations(masks, 2):
        assert abs(((one > 0) & (other > 0)).mean() - keep**2) < 0.01
    kept = masks[0].ravel() > 0
    for other in (1, 2, 10, 500):
        assert abs((kept[::2] & np.roll(kept, other)[::2]).mean() - keep**2) < 0.01


@pytest.mark.parametrize(("keep", "wanted"), [(1 - 1e-9, 1), (1e-9, 0)])
def test_dropout_of_next_to_nothing_or_all_of_an_odd_number_of_values(keep, wanted):
    model = SentimentLSTM(*SIZES, dropout_keep_prob=keep)
    drawn = _random_int16(np.array([3, 4], np.int64), 0, (3, 7, 5))
    dropped = model._dropped(tf.ones((3, 7, 5)), drawn)
    np.testing.assert_allclose(dropped, np.full((3, 7, 5), wanted), rtol=1e-4)


def test_gradients_are_those_of_the_formulas(network):
    weights, model = network.weights, of_network(network)
    text = [4, 4, 5, 2, 5]
    with tf.GradientTape() as tape:
        answers = model(list(padded([text], 3)))
        loss = tf.nn.sparse_softmax_cross_entropy_with_logits([1], answers)[0]
    gradients = tape.gradient(loss, model.trainable_variables)
    random = np.random.default_rng(0)
    # The trainer relies on this order.
    for name, gradient in zip(model.export(), gradients, strict=True):
        direction = random.normal(size=weights[name].shape)
        losses = [
            -np.log(probabilities(replace(network, weights=moved), *flat([text]))[0, 1])
            for step in (1e-5, -1e-5)
            for moved in [weights | {name: weights[name] + step * direction}]
        ]
        slope = float((tf.convert_to_tensor(gradient).numpy() * direction).sum())
        assert (losses[0] - losses[1]) / 2e-5 == pytest.approx(slope, abs=1e-4)


def test_weights_go_in_and_out_bitwise():
    weights = random_weights(*SIZES, seed=3, names=BOTH)
    model = SentimentLSTM(*SIZES, bidirectional=True)
    shapes = {name: value.shape for name, value in model.export().items()}
    assert shapes == weight_shapes(*SIZES, BOTH)
    for each in (model, of_network(Network(weights, PAIRS))):
        each.restore(weights)
        found = each.export()
        assert found.keys() == weights.keys()
        for name, value in weights.items():
            assert found[name].dtype == np.float32
            np.testing.assert_array_equal(found[name], value)


def test_the_seed_decides_the_first_weights():
    one, same, other = (
        SentimentLSTM(*SIZES, seed=seed, bidirectional=True).export() for seed in (5, 5, 6)
    )
    assert (one["lstm/kernel"] != one["backward/kernel"]).any()
    for name in one:
        np.testing.assert_array_equal(one[name], same[name])
        if not name.endswith("bias"):
            assert (one[name] != other[name]).any()


@given(texts=st.lists(st.lists(st.integers(1, 99), max_size=9), max_size=9), before=st.integers(0))
def test_pad_puts_each_text_at_the_left_of_its_row(texts, before):
    before %= 5
    ids = np.array([7] * before + [token for text in texts for token in text], np.int32)
    lengths = np.array([len(text) for text in texts], np.int64)
    starts = before + np.cumsum(lengths) - lengths
    found = pad(ids, starts, lengths)
    expected, *_ = padded(texts)
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, expected)
