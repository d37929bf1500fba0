"""The ONNX graph, run by onnxruntime, gives the kernel's probabilities."""

import json

import numpy as np
import onnxruntime
import pytest

from sentiment.checkpoint import Checkpoint
from sentiment.errors import InputError
from sentiment.model import onnx_graph
from sentiment.model.kernel import LSTMKernel
from testing.networks import BOTH, random_checkpoint

WORDS = 300
TOLERANCE = 1e-6


def texts(bigrams: list[str]) -> list[np.ndarray]:
    """Texts of 0 to 600 words; in every third place begins a bigram of the vocabulary."""
    random = np.random.default_rng(1)
    found = []
    for length in [600, 512, 0, 1, 2, *random.integers(0, 30, 40)]:
        ids = random.integers(1, WORDS, length)
        for place in range(0, length - 1, 3) if bigrams else ():
            pair = bigrams[random.integers(len(bigrams))].split()
            ids[place : place + 2] = [int(word[1:]) for word in pair]
        found.append(ids)
    return found


def padded(rows: list[np.ndarray]) -> np.ndarray:
    ids = np.zeros((len(rows), max(map(len, rows), default=0)), np.int64)
    for place, row in zip(ids, rows, strict=True):
        place[: len(row)] = row
    return ids


def session(model: Checkpoint) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    content = onnx_graph.onnx_model(model).SerializeToString()
    return onnxruntime.InferenceSession(content, options)


@pytest.mark.parametrize("bigrams", [0, 100])
@pytest.mark.parametrize("lstms", [1, 2])
@pytest.mark.parametrize("classes", [2, 3])
def test_it_gives_the_kernels_probabilities(classes, lstms, bigrams):
    model = random_checkpoint(WORDS, bigrams, names=BOTH[:lstms], classes=classes)
    rows = texts(list(model.vocabulary[WORDS:]))
    (found,) = session(model).run(None, {"ids": padded(rows)})
    offsets = np.cumsum([0, *map(len, rows)])
    kernel = LSTMKernel(model.network)
    expected = kernel(np.concatenate(rows).astype(np.int32), offsets)
    assert (found.dtype, found.shape) == (np.float32, (len(rows), classes))
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE)
    # They depend on the texts, or any model would pass.
    assert expected.std(axis=0).max() > 0.05


@pytest.mark.parametrize("shape", [(0, 0), (0, 3), (2, 0), (1, 1)])
def test_a_batch_may_be_empty_and_a_text_without_tokens(shape):
    model = random_checkpoint(WORDS, names=BOTH, classes=3)
    (found,) = session(model).run(None, {"ids": np.zeros(shape, np.int64)})
    expected = LSTMKernel(model.network)(np.zeros(0, np.int32), np.zeros(shape[0] + 1, np.int64))
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE)


def test_a_text_has_the_same_probability_in_any_batch():
    model = random_checkpoint(WORDS, 50, names=BOTH)
    rows, run = texts(list(model.vocabulary[WORDS:])), session(model).run
    (together,) = run(None, {"ids": padded(rows)})
    alone = np.concatenate([run(None, {"ids": padded([row])})[0] for row in rows])
    np.testing.assert_allclose(alone, together, rtol=0, atol=TOLERANCE)


def test_an_id_beyond_the_words_is_refused():
    model = session(random_checkpoint(WORDS, 50))
    with pytest.raises(Exception, match="out of data bounds"):
        model.run(None, {"ids": np.full((1, 1), WORDS)})


def test_its_metadata_say_what_it_is():
    model = random_checkpoint()
    found = session(model).get_modelmeta().custom_metadata_map
    assert json.loads(found["classes"]) == ["a", "b"]
    assert json.loads(found["threshold"]) is None
    assert found["model_hash"] == model.model_hash


def test_a_model_too_large_for_one_file_is_refused(monkeypatch):
    monkeypatch.setattr(onnx_graph, "MAX_BYTES", 1000)
    with pytest.raises(InputError, match="too large for ONNX"):
        onnx_graph.onnx_model(random_checkpoint())
