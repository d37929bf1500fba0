"""The model without bigrams, as a plain Keras model whose `predict` is measured."""

from collections.abc import Mapping

import keras
import numpy as np
import tensorflow as tf

from sentiment.model.keras_model import of_network
from sentiment.network import Network


class WordsAlone(keras.Model):
    """A Keras model: `ids: int32[n, length]`, `lengths: int32[n]` -> `logits: float32[n, 2]`."""

    def __init__(self, weights: Mapping[str, np.ndarray]) -> None:
        super().__init__()
        self._model = of_network(Network(weights))

    def call(self, inputs: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
        """Compute the logits without a bigram lookup, which `SentimentLSTM.call` does."""
        ids, lengths = inputs
        return self._model.logits(self._model.embedding(ids), lengths)
