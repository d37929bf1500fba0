"""Token ids -> probabilities: one interface for the kernel on CPUs, TensorFlow on GPUs."""

from collections.abc import Mapping
from typing import Protocol

import numpy as np

from sentiment.text.bigrams import Bigrams


class Inference(Protocol):
    """Computes probabilities with one model. Can be pickled."""

    load_seconds: float
    """Seconds this process took to load the model; 0 until it is loaded."""

    def __call__(self, ids: np.ndarray, offsets: np.ndarray) -> np.ndarray:
        """The probability of each class for each text.

        Args:
            ids: int32[tokens], the token ids of all texts, one text after another.
            offsets: int64[n + 1], where each text begins in `ids`, and the end of the last.

        Returns:
            float32[n, classes], in the order of the texts.
        """


def inference(
    weights: Mapping[str, np.ndarray],
    bigrams: Bigrams | None = None,
    use_gpu: bool = False,
    batch_size: int = 16_384,
) -> Inference:
    """The inference for a model with these weights and bigrams.

    Args:
        weights: float32 arrays by name, as in `sentiment.checkpoint.Checkpoint.weights`.
        bigrams: the same checkpoint's bigrams; None for a model without bigrams.
        use_gpu: compute with TensorFlow, on a GPU if there is one.
        batch_size: texts per batch on a GPU. The kernel ignores it.
    """
    if use_gpu:
        # Imported here, because importing TensorFlow takes seconds.
        from sentiment.model.gpu_inference import GPUInference

        return GPUInference(weights, bigrams, batch_size)
    # Imported here, because importing Numba takes half a second.
    from sentiment.model.kernel import LSTMKernel

    return LSTMKernel(weights, bigrams)
