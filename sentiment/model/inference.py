"""Token ids -> probabilities: the kernel on CPUs, Keras on a GPU, behind one call."""

import os
import time
from collections.abc import Mapping
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from sentiment.model.batch import pad
from sentiment.text.bigrams import Bigrams


class Inference(Protocol):
    """Computes a model's probabilities. It can be pickled."""

    load_seconds: float
    """How long the model took to be ready in this process; 0: it is not yet."""

    def __call__(self, ids: np.ndarray, offsets: np.ndarray) -> np.ndarray:
        """The probability that each text is positive, float32 (n,).

        ids, int32: all texts' words, one after another; offsets, int64 (n + 1,): where each begins.
        """


def inference(
    weights: Mapping[str, np.ndarray],
    bigrams: Bigrams | None = None,
    use_gpu: bool = False,
    batch_size: int = 4096,
) -> Inference:
    """What computes the probabilities of a model with these weights and bigrams.

    Args:
        weights: of a `sentiment.checkpoint.Checkpoint`.
        bigrams: of the same; None: it has none.
        use_gpu: compute with TensorFlow, on a GPU if there is one.
        batch_size: texts that a GPU computes at once. The kernel chooses for itself.
    """
    if use_gpu:
        return _KerasInference(weights, bigrams, batch_size)
    # Numba, like TensorFlow, loads only where it computes.
    from sentiment.model.kernel import LSTMKernel

    return LSTMKernel(weights, bigrams)


class _KerasInference:
    """The Keras model over batches of texts of similar length, each padded to its longest.

    The model is made at the first call: in the process that has the GPU.
    """

    def __init__(
        self, weights: Mapping[str, np.ndarray], bigrams: Bigrams | None, batch_size: int
    ) -> None:
        self._weights, self._bigrams, self._batch_size = dict(weights), bigrams, batch_size
        self.load_seconds = 0.0

    @cached_property
    def _model(self) -> Any:
        began = time.monotonic()
        # Or the first process on a GPU takes all of its memory, and others may want a share.
        os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
        from sentiment.model.keras_model import from_weights

        model = from_weights(self._weights)
        self.load_seconds = time.monotonic() - began
        return model

    def __call__(self, ids: np.ndarray, offsets: np.ndarray) -> np.ndarray:
        lengths = np.diff(offsets).astype(np.int32)
        pairs = self._bigrams(ids, offsets) if self._bigrams else np.zeros_like(ids)
        order = np.argsort(-lengths, kind="stable")
        probabilities = np.empty(len(lengths), np.float32)
        for start in range(0, len(order), self._batch_size):
            rows = order[start : start + self._batch_size]
            padded = (pad(each, offsets[rows], lengths[rows]) for each in (ids, pairs))
            probabilities[rows] = self._model.probabilities(*padded, lengths[rows])
        return probabilities
