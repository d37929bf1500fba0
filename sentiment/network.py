"""The network of a model: the numbers that turn token ids into probabilities.

The kernel, the GPU's graph, the Keras model and the ONNX graph each compute one `Network`. What
changes a model's answers to token ids is a field of it, so none of them can be given a part.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from sentiment.text.bigrams import Bigrams

FORWARD, BACKWARD = "lstm", "backward"
"""Names of the LSTM that reads a text forward, and of that which reads it from its end."""


@dataclass(frozen=True, eq=False)
class Network:
    """An LSTM classifier, ready for any of the implementations. It can be pickled."""

    weights: Mapping[str, np.ndarray]
    """embedding: float32[V, E], lstm/kernel: float32[E, 4H], lstm/recurrent_kernel: float32[H, 4H],
    lstm/bias: float32[4H], dense/kernel: float32[H, K], dense/bias: float32[K] for K classes. The
    gates are in Keras's order i, f, c, o. A bidirectional model also has backward/kernel, ..., and
    its dense/kernel is float32[2H, K]."""
    bigrams: Bigrams = field(default_factory=lambda: Bigrams(()))
    """Finds the vocabulary's bigrams in texts. Their embeddings follow those of the words."""

    @property
    def lstms(self) -> tuple[str, ...]:
        """Names of the LSTMs: one, or two in a bidirectional model."""
        backward = any(name.startswith(f"{BACKWARD}/") for name in self.weights)
        return (FORWARD, BACKWARD) if backward else (FORWARD,)

    @property
    def words(self) -> int:
        """Number of words: the ids that a text may have."""
        return len(self.weights["embedding"]) - len(self.bigrams)

    @property
    def embedding_size(self) -> int:
        """E, the numbers per embedding."""
        return int(self.weights["embedding"].shape[1])

    @property
    def units(self) -> int:
        """H, the units of each LSTM."""
        return len(self.weights[f"{FORWARD}/recurrent_kernel"])

    @property
    def classes(self) -> int:
        """K, the number of classes."""
        return len(self.weights["dense/bias"])


def weight_shapes(
    vocabulary: int,
    embedding: int,
    hidden: int,
    names: tuple[str, ...] = (FORWARD,),
    classes: int = 2,
) -> dict[str, tuple[int, ...]]:
    """The shape of each weight by name.

    Args:
        vocabulary: V, words and bigrams.
        embedding: E.
        hidden: H.
        names: of the LSTMs.
        classes: K.
    """
    lstm_shapes = {
        f"{name}/{weight}": shape
        for name in names
        for weight, shape in (
            ("kernel", (embedding, 4 * hidden)),
            ("recurrent_kernel", (hidden, 4 * hidden)),
            ("bias", (4 * hidden,)),
        )
    }
    dense = {"dense/kernel": (len(names) * hidden, classes), "dense/bias": (classes,)}
    return {"embedding": (vocabulary, embedding), **lstm_shapes, **dense}
