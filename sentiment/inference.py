"""Token ids -> probabilities: the kernel on CPUs, Keras on a GPU, behind one call."""

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

import numpy as np

from sentiment.batch import pad

Inference = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""ids, int32, all texts' ids one after another; offsets, int64 (n + 1,), where each text begins
-> float32 (n,), the probability that each text is positive, in the same order."""


def inference(
    weights: Mapping[str, np.ndarray], use_gpu: bool = False, batch_size: int = 4096
) -> Inference:
    """What computes a model's probabilities; see `Checkpoint.weights`. It can be pickled.

    `batch_size`: texts that a GPU computes at once. The kernel chooses for itself.
    """
    if use_gpu:
        return _KerasInference(weights, batch_size)
    # Numba, like TensorFlow, loads only where it computes.
    from sentiment.kernel import LSTMKernel

    return LSTMKernel(weights)


class _KerasInference:
    """The Keras model over batches of texts of similar length, each padded to its longest.

    The model is made at the first call: in the process that has the GPU.
    """

    def __init__(self, weights: Mapping[str, np.ndarray], batch_size: int) -> None:
        self._weights, self._batch_size = dict(weights), batch_size

    @cached_property
    def _model(self) -> Any:
        from sentiment.model import from_weights

        return from_weights(self._weights)

    def __call__(self, ids: np.ndarray, offsets: np.ndarray) -> np.ndarray:
        lengths = np.diff(offsets).astype(np.int32)
        order = np.argsort(-lengths, kind="stable")
        probabilities = np.empty(len(lengths), np.float32)
        for start in range(0, len(order), self._batch_size):
            rows = order[start : start + self._batch_size]
            padded = pad(ids, offsets[rows], lengths[rows])
            probabilities[rows] = self._model.probabilities(padded, lengths[rows])
        return probabilities
