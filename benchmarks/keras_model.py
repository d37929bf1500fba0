"""A model without bigrams as users of Keras write it: what their `predict` is measured with."""

from collections.abc import Mapping

import keras
import numpy as np
import tensorflow as tf

from sentiment.model.keras_model import from_weights


class WordsAlone(keras.Model):
    """ids, int32 (n, longest), and lengths, int32 (n,) -> logits, float32 (n, 2)."""

    def __init__(self, weights: Mapping[str, np.ndarray]) -> None:
        super().__init__()
        self._model = from_weights(dict(weights))

    def call(self, inputs: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
        """`SentimentLSTM.call` would look up a bigram for each token, to add nothing."""
        ids, lengths = inputs
        return self._model.logits(self._model.embedding(ids), lengths)
