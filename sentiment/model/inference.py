"""Token ids -> probabilities: one interface for the kernel on CPUs, TensorFlow on GPUs."""

from typing import Protocol

import numpy as np

from sentiment.network import Network


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


def inference(network: Network, use_gpu: bool = False, batch_size: int = 16_384) -> Inference:
    """The inference for a network.

    Args:
        network: of a checkpoint.
        use_gpu: compute with TensorFlow, on a GPU if there is one.
        batch_size: texts per batch on a GPU. The kernel ignores it.
    """
    if use_gpu:
        # Imported here, because importing TensorFlow takes seconds.
        from sentiment.model.gpu_inference import GPUInference

        return GPUInference(network, batch_size)
    # Imported here, because importing Numba takes half a second.
    from sentiment.model.kernel import LSTMKernel

    return LSTMKernel(network)
