import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentiment.kernel import LSTMKernel


def random_weights(vocabulary, embedding, hidden, seed=0, scale=1.0):
    random = np.random.default_rng(seed)
    shapes = {
        "embedding": (vocabulary, embedding),
        "lstm/kernel": (embedding, 4 * hidden),
        "lstm/recurrent_kernel": (hidden, 4 * hidden),
        "lstm/bias": (4 * hidden,),
        "dense/kernel": (hidden, 2),
        "dense/bias": (2,),
    }
    return {
        name: (scale * random.normal(0, 1, shape) / np.sqrt(shape[0])).astype(np.float32)
        for name, shape in shapes.items()
    }


def reference(weights, ids, offsets):
    """The model text by text, in float64, as the papers write it."""
    w = {name: value.astype(np.float64) for name, value in weights.items()}
    hidden = len(w["lstm/recurrent_kernel"])
    probabilities = []
    for start, stop in zip(offsets[:-1], offsets[1:], strict=True):
        h = c = total = np.zeros(hidden)
        for token in ids[start:stop]:
            inputs = w["embedding"][token] @ w["lstm/kernel"]
            gates = inputs + h @ w["lstm/recurrent_kernel"] + w["lstm/bias"]
            i, f, candidate, o = np.split(gates, 4)
            c = _sigmoid(f) * c + _sigmoid(i) * np.tanh(candidate)
            h = _sigmoid(o) * np.tanh(c)
            total = total + h
        logits = total / max(stop - start, 1) @ w["dense/kernel"] + w["dense/bias"]
        probabilities.append(_sigmoid(logits[1] - logits[0]))
    return np.array(probabilities)


def _sigmoid(x):
    return 0.5 + 0.5 * np.tanh(x / 2)


def random_texts(vocabulary, lengths, seed=0):
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    random = np.random.default_rng(seed)
    return random.integers(0, vocabulary, offsets[-1]).astype(np.int32), offsets


@settings(max_examples=60, deadline=None)
@given(
    vocabulary=st.integers(2, 40),
    embedding=st.integers(1, 20),
    hidden=st.integers(1, 40) | st.sampled_from([64, 75, 80, 128]),
    lengths=st.lists(st.integers(0, 30), max_size=24),
    seed=st.integers(0, 2**32 - 1),
)
def test_equals_the_reference_for_every_size(vocabulary, embedding, hidden, lengths, seed):
    weights = random_weights(vocabulary, embedding, hidden, seed)
    ids, offsets = random_texts(vocabulary, lengths, seed)
    probabilities = LSTMKernel(weights)(ids, offsets)
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities, reference(weights, ids, offsets), atol=1e-5)


def test_equals_keras():
    from sentiment.inference import inference

    weights = random_weights(1000, 75, 75)
    ids, offsets = random_texts(1000, np.arange(150) % 60)
    keras = inference(weights, use_gpu=True, batch_size=64)(ids, offsets)
    np.testing.assert_allclose(LSTMKernel(weights)(ids, offsets), keras, atol=1e-5)


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 40), min_size=1, max_size=30),
    seed=st.integers(0, 2**32 - 1),
)
def test_a_text_gives_the_same_bits_in_any_batch(lengths, seed):
    kernel = LSTMKernel(random_weights(50, 8, 23))
    ids, offsets = random_texts(50, lengths, seed)
    together = kernel(ids, offsets)
    order = np.random.default_rng(seed).permutation(len(lengths))[: 1 + len(lengths) // 2]
    texts = [ids[offsets[i] : offsets[i + 1]] for i in order]
    some = np.concatenate([[0], np.cumsum([len(text) for text in texts])]).astype(np.int64)
    np.testing.assert_array_equal(kernel(np.concatenate(texts), some), together[order])


@pytest.mark.parametrize("scale", [10, 1e3, 1e15])
def test_saturated_gates_give_what_the_reference_gives(scale):
    weights = random_weights(30, 5, 7, scale=scale)
    ids, offsets = random_texts(30, [0, 1, 2, 9, 300])
    probabilities = LSTMKernel(weights)(ids, offsets)
    assert np.isfinite(probabilities).all()
    # Where float32 itself decides between 0 and 1, only those are asked for.
    expected = reference(weights, ids, offsets)
    clear = np.minimum(expected, 1 - expected) < 1e-12
    np.testing.assert_allclose(probabilities[clear], expected[clear], atol=1e-5)
    if scale == 10:
        np.testing.assert_allclose(probabilities, expected, atol=1e-3)


def test_a_very_long_text_beside_short_ones():
    weights = random_weights(100, 6, 9)
    ids, offsets = random_texts(100, [3, 50_000, 0, 1])
    expected = reference(weights, ids, offsets)
    np.testing.assert_allclose(LSTMKernel(weights)(ids, offsets), expected, atol=1e-5)


def test_nothing_to_score():
    kernel = LSTMKernel(random_weights(10, 3, 4))
    assert kernel(np.empty(0, np.int32), np.zeros(1, np.int64)).shape == (0,)
    bias = random_weights(10, 3, 4)["dense/bias"].astype(np.float64)
    empty = kernel(np.empty(0, np.int32), np.zeros(4, np.int64))
    np.testing.assert_allclose(empty, _sigmoid(bias[1] - bias[0]), atol=1e-7)


@pytest.mark.parametrize(
    ("ids", "offsets"),
    [
        ([10], [0, 1]),
        ([-1], [0, 1]),
        ([1, 2], [0, 3]),
        ([1, 2], [-1, 2]),
        ([1, 2], [0, 2, 1]),
        ([], []),
    ],
)
def test_what_would_read_past_the_tables_is_refused(ids, offsets):
    kernel = LSTMKernel(random_weights(10, 3, 4))
    with pytest.raises(ValueError, match="not"):
        kernel(np.array(ids, np.int32), np.array(offsets, np.int64))


def test_the_table_costs_what_it_says():
    assert LSTMKernel(random_weights(10, 3, 20)).table_bytes == 10 * 4 * 32 * 4
