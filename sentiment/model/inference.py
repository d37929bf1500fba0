"""Token ids -> probabilities: one interface for the kernel (CPUs) and the Keras model (GPUs)."""

import os
import time
from collections.abc import Mapping
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from sentiment.model.batch import pad
from sentiment.text.bigrams import Bigrams


class Inference(Protocol):
    """Computes probabilities with one model. Can be pickled."""

    load_seconds: float
    """Seconds this process took to load the model; 0 until it is loaded."""

    def __call__(self, ids: np.ndarray, offsets: np.ndarray) -> np.ndarray:
        """The probability that each text is positive.

        Args:
            ids: int32[tokens], the token ids of all texts, one text after another.
            offsets: int64[n + 1], where each text begins in `ids`, and the end of the last.

        Returns:
            float32[n], in the order of the texts.
        """


def inference(
    weights: Mapping[str, np.ndarray],
    bigrams: Bigrams | None = None,
    use_gpu: bool = False,
    batch_size: int = 4096,
) -> Inference:
    """The inference for a model with these weights and bigrams.

    Args:
        weights: float32 arrays by name, as in `sentiment.checkpoint.Checkpoint.weights`.
        bigrams: the same checkpoint's bigrams; None for a model without bigrams.
        use_gpu: compute with TensorFlow, on a GPU if there is one.
        batch_size: texts per batch on a GPU. The kernel ignores it.
    """
    if use_gpu:
        return _KerasInference(weights, bigrams, batch_size)
    # Imported here, because importing Numba takes half a second.
    from sentiment.model.kernel import LSTMKernel

    return LSTMKernel(weights, bigrams)


class _KerasInference:
    """The Keras model over batches of texts of similar length, each padded to its longest text.

    The model is built at the first call, in the process that has the GPU.
    """

    def __init__(
        self, weights: Mapping[str, np.ndarray], bigrams: Bigrams | None, batch_size: int
    ) -> None:
        self._weights, self._bigrams, self._batch_size = dict(weights), bigrams, batch_size
        self.load_seconds = 0.0

    @cached_property
    def _model(self) -> Any:
        started = time.monotonic()
        # By default the first process on a GPU takes all of its memory. Others may share the GPU.
        os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
        from sentiment.model.keras_model import from_weights

        model = from_weights(self._weights)
        self.load_seconds = time.monotonic() - started
        return model

    def __call__(self, ids: np.ndarray, offsets: np.ndarray) -> np.ndarray:
        lengths = np.diff(offsets).astype(np.int32)
        bigram_ids = self._bigrams(ids, offsets) if self._bigrams else np.zeros_like(ids)
        longest_first = np.argsort(-lengths, kind="stable")
        probabilities = np.empty(len(lengths), np.float32)
        for start in range(0, len(lengths), self._batch_size):
            rows = longest_first[start : start + self._batch_size]
            padded_ids = pad(ids, offsets[rows], lengths[rows])
            padded_bigram_ids = pad(bigram_ids, offsets[rows], lengths[rows])
            probabilities[rows] = self._model.probabilities(
                padded_ids, padded_bigram_ids, lengths[rows]
            )
        return probabilities
