"""The kernel computes the formula, to the last bit the same in any batch and vector width."""

import copy
import math
import os
import pickle
import subprocess
import sys
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numba.core.codegen import get_host_cpu_features

from sentiment.model import kernel as kernel_module
from sentiment.model.kernel import LSTMKernel
from sentiment.network import Network
from sentiment.text.bigrams import Bigrams
from testing.networks import (
    BOTH,
    probabilities,
    random_texts,
    random_vocabulary,
    random_weights,
    sigmoid,
)
from testing.properties import examples


def by_gates(gates, recurrent=None, dense=((-2, 2),), bias=(0, 0)):
    """Weights of one unit whose gate inputs i, f, c, o are given for each token."""
    return {
        "embedding": np.eye(len(gates), dtype="f4"),
        "lstm/kernel": np.array(gates, "f4"),
        "lstm/recurrent_kernel": np.array(recurrent or [[0] * 4], "f4"),
        "lstm/bias": np.zeros(4, "f4"),
        "dense/kernel": np.array(dense, "f4"),
        "dense/bias": np.array(bias, "f4"),
    }


def assert_formula(network, batch, tolerance):
    """The kernel's probabilities are those of the formula."""
    found, expected = LSTMKernel(network)(*batch), probabilities(network, *batch)
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)


lengths = st.lists(st.integers(0, 30), max_size=40)
seeds = st.integers(0, 2**32 - 1)


@examples(40)
@given(
    hidden=st.sampled_from([1, 7, 8, 15, 16, 17, 75, 80, 128]) | st.integers(1, 100),
    embedding=st.integers(1, 20),
    vocabulary=st.integers(1, 30),
    classes=st.sampled_from([2, 3, 10, 1000]),
    lengths=lengths,
    seed=seeds,
)
def test_it_computes_the_formulas(hidden, embedding, vocabulary, classes, lengths, seed):
    w = random_weights(vocabulary, embedding, hidden, seed, classes=classes)
    batch = random_texts(vocabulary, lengths, seed)
    found = LSTMKernel(Network(w))(*batch)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(found, probabilities(Network(w), *batch), rtol=0, atol=1e-5)


@examples(40)
@given(
    hidden=st.sampled_from([1, 8, 17, 75]),
    words=st.integers(3, 12),
    bigrams=st.integers(0, 60),
    names=st.sampled_from([("lstm",), BOTH]),
    classes=st.integers(2, 4),
    lengths=lengths,
    seed=seeds,
)
def test_it_adds_bigrams_and_reads_both_ways(hidden, words, bigrams, names, classes, lengths, seed):
    vocabulary = random_vocabulary(words, bigrams, seed)
    w = random_weights(len(vocabulary), 7, hidden, seed, names=names, classes=classes)
    batch = random_texts(words, lengths, seed)
    network = Network(w, Bigrams(vocabulary))
    kernel = LSTMKernel(network)
    found = kernel(*batch)
    np.testing.assert_allclose(found, probabilities(network, *batch), rtol=0, atol=1e-5)
    order = np.random.default_rng(seed).permutation(len(lengths))
    ids, offsets = batch
    others = [ids[offsets[text] : offsets[text + 1]] for text in order]
    mixed = np.concatenate([np.zeros(3, np.int32), *others, np.ones(2, np.int32)])
    again = kernel(mixed, np.cumsum([3, *map(len, others)]))
    np.testing.assert_array_equal(again, found[order])


NETWORK = Network(random_weights(50, 12, 37))


@pytest.fixture(scope="module")
def kernel():
    return LSTMKernel(NETWORK)


@examples(30)
@given(lengths=lengths, seed=seeds)
def test_neither_order_nor_company_changes_a_bit(kernel, lengths, seed):
    ids, offsets = random_texts(50, lengths, seed)
    together = kernel(ids, offsets)
    cut = np.split(ids, offsets[1:-1]) if lengths else []
    for text, expected in zip(cut, together, strict=True):
        assert kernel(text, np.array([0, len(text)])).tobytes() == expected.tobytes()
    order = np.random.default_rng(seed).permutation(len(lengths))
    shuffled = np.concatenate([ids[:0], *(cut[n] for n in order)])
    ends = np.cumsum([0, *(lengths[n] for n in order)])
    assert kernel(shuffled, ends).tobytes() == together[order].tobytes()


def test_threads_share_a_kernel(kernel):
    batches = [random_texts(50, np.arange(200) % 31, seed) for seed in range(8)]
    expected = [kernel(*batch).tobytes() for batch in batches]
    with ThreadPoolExecutor(4) as pool:
        found = pool.map(lambda batch: kernel(*batch).tobytes(), batches)
        assert list(found) == expected


def test_long_texts_among_short_ones(kernel):
    batch = random_texts(50, [3, 5000, 0, 1, 2000, 2, *[1] * 50])
    np.testing.assert_allclose(kernel(*batch), probabilities(NETWORK, *batch), rtol=0, atol=1e-5)


def test_memory_does_not_grow_with_length(kernel):
    def peak(length: int) -> int:
        batch = random_texts(50, [length])
        tracemalloc.start()
        kernel(*batch)
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    # The least of three: what other threads of this process allocate is counted, too.
    short, long = (min(peak(length) for _ in range(3)) for length in (100, 100_000))
    assert long < short + 1000


def test_a_gate_that_is_shut_holds_for_a_hundred_thousand_tokens():
    shut, wide = -1000, 1000
    w = by_gates([(wide, 0, 0.5, wide), (shut, wide, 0, wide)])
    ids = np.ones(100_000, np.int32)
    ids[0] = 0
    batch = ids, np.array([0, len(ids)])
    np.testing.assert_allclose(
        LSTMKernel(Network(w))(*batch), probabilities(Network(w), *batch), rtol=0, atol=1e-6
    )


def test_the_mean_over_a_hundred_thousand_tokens_loses_no_digits():
    # Each output is tanh(tanh(1)): summed in float32 the rounding would go one way for long.
    w = by_gates([(1000, -1000, 1, 1000)])
    batch = np.zeros(100_000, np.int32), np.array([0, 100_000])
    np.testing.assert_allclose(
        LSTMKernel(Network(w))(*batch), probabilities(Network(w), *batch), rtol=0, atol=1e-6
    )


huge = st.sampled_from([-3.4e38, -1e30, -1e4, -100.0, 100.0, 1e4, 1e30, 3.4e38])


@examples(30)
@given(
    gates=st.lists(st.tuples(huge, huge, huge, huge), min_size=1, max_size=5),
    recurrent=st.tuples(*[st.floats(-3, 3)] * 4),
    lengths=lengths,
)
def test_saturated_gates_are_open_or_shut(gates, recurrent, lengths):
    w = by_gates(gates, recurrent=[recurrent])
    batch = random_texts(len(gates), lengths)
    np.testing.assert_allclose(
        LSTMKernel(Network(w))(*batch), probabilities(Network(w), *batch), rtol=0, atol=1e-5
    )


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("scale", [1e3, 1e10, 1e20, 1e37])
def test_any_finite_weights_give_probabilities(scale):
    w = random_weights(20, 8, 20, scale=scale)
    # Near the largest float32: gate inputs and products overflow, in opposite directions, too.
    signs = np.sign(w["lstm/recurrent_kernel"])
    w["lstm/recurrent_kernel"] = (signs * min(scale * 34, 3.4e38)).astype(np.float32)
    found = LSTMKernel(Network(w))(*random_texts(20, np.arange(100)))
    assert ((found >= 0) & (found <= 1)).all()
    # A word's row and its bigram's, the other way.
    vocabulary = random_vocabulary(10, 200)
    w = random_weights(len(vocabulary), 8, 20, scale=scale)
    w["embedding"][10:] = -w["embedding"][1]
    w["embedding"][:10] = w["embedding"][1]
    found = LSTMKernel(Network(w, Bigrams(vocabulary)))(*random_texts(10, np.arange(100)))
    assert ((found >= 0) & (found <= 1)).all()


@pytest.mark.parametrize("scale", [10, 1e3, 1e15])
def test_large_weights_give_what_the_formulas_give(scale):
    w = random_weights(30, 5, 7, scale=scale, recurrence=scale)
    batch = random_texts(30, [0, 1, 2, 9, 300])
    found, expected = LSTMKernel(Network(w))(*batch), probabilities(Network(w), *batch)
    # Others hang on float32's rounding of gates that are between open and shut.
    clear = expected.min(axis=1) < 1e-12
    assert clear.any()
    np.testing.assert_allclose(found[clear], expected[clear], rtol=0, atol=1e-5)


def test_texts_without_tokens_get_the_bias_alone(kernel):
    bias = NETWORK.weights["dense/bias"].astype(np.float64)
    expected = np.float32(sigmoid(bias[1] - bias[0]))
    found = kernel(np.array([4, 4], np.int32), np.array([0, 0, 0, 1, 1, 2, 2]))
    np.testing.assert_allclose(found[[0, 1, 3, 5], 1], expected, rtol=1e-6)
    np.testing.assert_array_equal(found[2], found[4])
    assert kernel(np.empty(0, np.int32), np.zeros(100, np.int64)).shape == (99, 2)


@pytest.mark.parametrize(
    ("bias", "expected"),
    [
        ([3e38, -3e38, 0], [1, 0, 0]),
        ([-3e38, 3e38, 3e38], [0, 0.5, 0.5]),
        ([0, 700, 701, 701], [0, 0.155362, 0.422319, 0.422319]),
        ([5, 5, -2000], [0.5, 0.5, 0]),
        ([-800, -800, -800 + np.log(2)], [0.25, 0.25, 0.5]),
    ],
)
def test_logits_of_any_size_give_probabilities(bias, expected):
    w = random_weights(5, 3, 4, classes=len(bias)) | {"dense/bias": np.array(bias, np.float32)}
    (found,) = LSTMKernel(Network(w))(np.zeros(0, np.int32), np.array([0, 0]))
    np.testing.assert_allclose(found, expected, atol=2e-5)


def test_two_classes_answer_as_the_sigmoid_of_their_difference():
    """To the last bit: so did models before there could be more classes."""
    for bias in np.linspace(-20, 20, 2001):
        w = {"dense/bias": np.array([0, bias], np.float32)}
        (found,) = LSTMKernel(Network(random_weights(5, 3, 4) | w))(
            np.zeros(0, np.int32), np.array([0, 0])
        )
        assert found[1] == np.float32(1 / (1 + math.exp(-float(np.float32(bias)))))


@pytest.mark.parametrize("offsets", [[0], [3]])
def test_no_texts_no_probabilities(kernel, offsets):
    found = kernel(np.arange(3, dtype=np.int32), np.array(offsets))
    assert found.shape == (0, 2)
    assert found.dtype == np.float32


@pytest.mark.parametrize("bad", [-1, 50, 2**31 - 1, -(2**31), 2**32, -(2**32) + 1])
def test_ids_that_are_not_in_the_vocabulary_are_refused(kernel, bad):
    dtype = np.int32 if -(2**31) <= bad < 2**31 else np.int64
    ids = np.array([0, 1, bad, 2], dtype)
    with pytest.raises(ValueError, match="not in a vocabulary of 50"):
        kernel(ids, np.array([0, 2, 4]))
    # But of a slice of a column, only what is in it counts.
    assert kernel(ids, np.array([0, 2])).shape == (1, 2)


@pytest.mark.parametrize(
    "offsets", [[], [-1, 3], [0, 5], [0, 3, 2], [2, 1], [0, 9, 4], [0, -2, 4], [4, 0]]
)
def test_offsets_that_leave_the_ids_are_refused(kernel, offsets):
    with pytest.raises(ValueError, match="offsets do not"):
        kernel(np.zeros(4, np.int32), np.array(offsets, np.int64))


def test_what_is_no_list_of_integers_is_refused(kernel):
    ids, offsets = np.zeros(4, np.int32), np.array([0, 4])
    for bad in (ids.astype(float), ids.astype(bool), ids.reshape(2, 2)):
        with pytest.raises(ValueError, match="integers"):
            kernel(bad, offsets)
    for bad in (offsets.astype(float), offsets.reshape(1, 2)):
        with pytest.raises(ValueError, match="integers"):
            kernel(ids, bad)


def test_any_integers_views_and_frozen_arrays_do(kernel):
    ids, offsets = random_texts(50, np.arange(20))
    expected = kernel(ids, offsets)
    frozen = ids.copy()
    frozen.flags.writeable = False
    for same in (frozen, ids.astype(np.uint8), ids.astype(np.int64), np.repeat(ids, 2)[::2]):
        np.testing.assert_array_equal(kernel(same, offsets), expected)
    np.testing.assert_array_equal(kernel(ids, offsets.astype(np.uint32)), expected)
    assert ids.flags.writeable
    assert offsets.flags.writeable


def test_weights_are_copied_and_left_alone():
    w = random_weights(20, 5, 9)
    before = {name: value.copy() for name, value in w.items()}
    batch = random_texts(20, [4, 5])
    kernel = LSTMKernel(Network(w))
    expected = kernel(*batch)
    for name, value in w.items():
        np.testing.assert_array_equal(value, before[name])
        value[:] = 7
    np.testing.assert_array_equal(kernel(*batch), expected)


def test_a_pickle_brings_its_table_along_out_of_band(kernel):
    batch = random_texts(50, np.arange(90) % 31)
    buffers = []
    pickled = pickle.dumps(kernel, protocol=5, buffer_callback=buffers.append)
    assert len(pickled) < 5_000 < kernel.table_bytes
    shared = pickle.loads(pickled, buffers=[buffer.raw() for buffer in buffers])
    assert np.shares_memory(shared._table, kernel._table)
    for copied in (shared, pickle.loads(pickle.dumps(kernel)), copy.deepcopy(kernel)):
        assert copied(*batch).tobytes() == kernel(*batch).tobytes()


def test_a_pickle_from_a_machine_of_another_width_folds_anew(kernel, monkeypatch):
    batch = random_texts(50, np.arange(90) % 31)
    pickled = pickle.dumps(kernel)
    monkeypatch.setattr(kernel_module, "LANES", 5)
    monkeypatch.setattr(kernel_module.LSTMKernel, "_compile", lambda self: None)
    assert pickle.loads(pickled).table_bytes == 51 * 4 * 40 * 4
    monkeypatch.undo()
    assert pickle.loads(pickled)(*batch).tobytes() == kernel(*batch).tobytes()


def test_the_table_costs_a_padded_row_a_token():
    lanes = kernel_module.LANES
    for hidden in (1, lanes, lanes + 1):
        padded = -(-hidden // lanes) * lanes
        assert LSTMKernel(Network(random_weights(21, 3, hidden))).table_bytes == 22 * 4 * padded * 4


OTHER_MACHINE = """
import sys
import numpy as np
from sentiment.model.kernel import LANES, LSTMKernel
from sentiment.network import Network
data = dict(np.load(sys.argv[1]))
batch = data.pop("ids"), data.pop("offsets")
np.save(sys.argv[2], LSTMKernel(Network(data))(*batch))
assert not {"tensorflow", "keras", "ray"} & set(sys.modules)
print(LANES)
"""


@pytest.mark.process
@pytest.mark.skipif("+fma" not in get_host_cpu_features(), reason="needs an x86 CPU with FMA")
@pytest.mark.parametrize(
    ("name", "features", "lanes", "recurrence", "tolerance"),
    [("haswell", "+avx,+avx2,+fma", 8, 5, 0), ("nehalem", "+sse4.2", 4, 1, 1e-6)],
)
def test_it_answers_alike_on_other_machines(tmp_path, name, features, lanes, recurrence, tolerance):
    """Code for CPUs that this one can stand in for: to the last bit where they have FMA."""
    w = random_weights(60, 11, 75, recurrence=recurrence)
    ids, offsets = random_texts(60, np.arange(90) % 41)
    np.savez(tmp_path / "in.npz", ids=ids, offsets=offsets, **w)
    done = subprocess.run(
        [sys.executable, "-c", OTHER_MACHINE, tmp_path / "in.npz", tmp_path / "out.npy"],
        env=os.environ | {"NUMBA_CPU_NAME": name, "NUMBA_CPU_FEATURES": features},
        check=True,
        capture_output=True,
        text=True,
    )
    assert int(done.stdout) == lanes
    found, here = np.load(tmp_path / "out.npy"), LSTMKernel(Network(w))(ids, offsets)
    np.testing.assert_allclose(found, here, rtol=0, atol=tolerance)
