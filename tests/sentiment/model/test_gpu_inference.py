"""What scoring on a GPU promises, with TensorFlow on whatever device is here."""

import os
import tempfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentiment.errors import InputError
from sentiment.model import gpu_inference
from sentiment.model.gpu_inference import TOLERANCE, GPUInference, _widths, require_close
from sentiment.model.kernel import LSTMKernel
from testing.networks import flat
from tests.sentiment.model.test_inference import NETWORK, generated


@given(st.lists(st.integers(0, 5000), min_size=1))
def test_widths_hold_their_texts_and_are_few(lengths):
    widths = _widths(np.array(lengths, np.int32))
    assert (widths >= lengths).all()
    assert set(widths.tolist()) <= {64, 512, 1024, 2048, 4096, 8192}


def test_a_text_has_the_same_bits_in_any_company():
    texts = generated(60, 40, seed=3)
    infer = GPUInference(NETWORK, batch_size=16)
    alone = infer(*flat(texts))
    order = np.random.default_rng(1).permutation(len(texts))
    np.testing.assert_array_equal(infer(*flat([texts[i] for i in order])), alone[order])
    np.testing.assert_array_equal(infer(*flat(texts[:5])), alone[:5])


def test_it_leaves_no_files(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    GPUInference(NETWORK, batch_size=16)(*flat([[2, 3]]))
    assert os.listdir(tmp_path) == []


def test_answers_beyond_the_tolerance_are_refused():
    texts = generated(50, 30, seed=4)
    reference = LSTMKernel(NETWORK)(*flat(texts))
    require_close(reference + np.float32(TOLERANCE / 2), reference)
    # As TF32 answers: a small difference in one text.
    wrong = reference.copy()
    wrong[17, 1] += np.float32(3e-5)
    with pytest.raises(
        InputError, match=r"differ from the CPU's by up to 3e-05.*without --use_gpu"
    ):
        require_close(wrong, reference)
    wrong[17] = np.nan
    with pytest.raises(InputError, match="nan"):
        require_close(wrong, reference)


def test_a_gpu_that_was_refused_answers_no_later_call(monkeypatch):
    monkeypatch.setattr("tensorflow.config.list_logical_devices", lambda kind: [kind])
    monkeypatch.setattr(gpu_inference, "TOLERANCE", -1.0)
    infer = GPUInference(NETWORK, batch_size=16)
    for _ in range(2):
        with pytest.raises(InputError, match="score without --use_gpu"):
            infer(*flat([[2, 3]]))
