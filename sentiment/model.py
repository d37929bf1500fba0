"""The model in Keras 3: token ids -> logits, for training, and as the reference for scoring.

Embedding -> dropout -> LSTM -> dropout -> mean over the text's own tokens -> dense over 2 classes.
TensorFlow loads with this module; scoring on CPUs does without (`sentiment.kernel`).
"""

import keras
import numpy as np
import tensorflow as tf

CLASSES = 2


class SentimentLSTM(keras.Model):
    """The classifier; class 1 is positive.

    Padding never counts: a forward LSTM's output at a text's own tokens does not depend on what
    is to their right, and the mean is taken over them alone. So a text's probability is the same
    alone, padded, or in any batch.
    """

    def __init__(
        self,
        vocabulary_size: int,
        embedding_size: int,
        hidden_size: int,
        dropout_keep_prob: float = 1.0,
        seed: int = 0,
    ) -> None:
        super().__init__(name="sentiment_lstm")
        self.dropout_keep_prob = dropout_keep_prob
        uniform = keras.initializers.RandomUniform(-0.05, 0.05, seed=seed)
        glorot = keras.initializers.GlorotUniform(seed=seed + 1)
        self.embedding = keras.layers.Embedding(
            vocabulary_size, embedding_size, embeddings_initializer=uniform, name="embedding"
        )
        self.lstm = keras.layers.LSTM(
            hidden_size,
            return_sequences=True,
            kernel_initializer=glorot,
            recurrent_initializer=keras.initializers.Orthogonal(seed=seed + 2),
            name="lstm",
        )
        self.dense = keras.layers.Dense(
            CLASSES, kernel_initializer=keras.initializers.GlorotUniform(seed=seed + 3)
        )
        self.build([(None, None), (None,)])

    def build(self, input_shape: object) -> None:
        """Make the weights, so that they are there before the first batch."""
        self.embedding.build((None, None))
        self.lstm.build((None, None, self.embedding.output_dim))
        self.dense.build((None, self.lstm.units))
        self.built = True

    def call(self, inputs: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
        """Logits of a batch.

        Args:
            inputs: ids, int32 (n, longest), each row padded on its right with any valid id; and
                lengths, int32 (n,), the number of tokens of each text, 0 included.

        Returns:
            As `logits`.
        """
        ids, lengths = inputs
        return self.logits(self.embedding(ids), lengths)

    def logits(
        self, embedded: tf.Tensor, lengths: tf.Tensor, dropout_seed: tf.Tensor | None = None
    ) -> tf.Tensor:
        """Logits of a batch whose tokens are embedded already.

        Args:
            embedded: float32 (n, longest, E), whatever there is to the right of each text.
            lengths: int32 (n,), the number of tokens of each text, 0 included.
            dropout_seed: int64 (2,), the seed of this batch's dropout, applied to the LSTM's
                input and output; None: no dropout.

        Returns:
            float32 (n, 2) logits. A text without tokens has the mean 0, so the dense layer's
            bias alone answers.
        """
        outputs = self.lstm(self._dropout(embedded, dropout_seed, 0))
        outputs = self._dropout(outputs, dropout_seed, 1)
        own = tf.sequence_mask(lengths, tf.shape(outputs)[1], dtype=outputs.dtype)
        total = tf.einsum("nth,nt->nh", outputs, own)
        mean = total / tf.cast(tf.maximum(lengths, 1), outputs.dtype)[:, None]
        return self.dense(mean)

    def _dropout(self, values: tf.Tensor, seed: tf.Tensor | None, which: int) -> tf.Tensor:
        """Inverted dropout whose mask follows from the seed alone, so that training can resume."""
        if seed is None or self.dropout_keep_prob == 1.0:
            return values
        seed = seed + tf.constant([0, which * 2**48], tf.int64)
        # philox: the default of stateless_uniform differs between CPUs and GPUs.
        draw = tf.random.stateless_uniform(tf.shape(values), seed, alg="philox")
        keep = self.dropout_keep_prob
        return tf.where(draw < keep, values / keep, tf.zeros_like(values))

    def probabilities(self, ids: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """float32 (n,): the probability that each text of a padded batch is positive."""
        return np.asarray(self._positive(ids, lengths))

    # A graph: without, each token of a batch on a CPU is a dozen operations from Python, and a
    # batch without texts is an error.
    @tf.function(
        input_signature=[tf.TensorSpec([None, None], tf.int32), tf.TensorSpec([None], tf.int32)]
    )
    def _positive(self, ids: tf.Tensor, lengths: tf.Tensor) -> tf.Tensor:
        return tf.nn.softmax(self([ids, lengths]))[:, 1]

    def export(self) -> dict[str, np.ndarray]:
        """The weights under the names of a checkpoint."""
        kernel, recurrent_kernel, bias = self.lstm.get_weights()
        dense_kernel, dense_bias = self.dense.get_weights()
        return {
            "embedding": self.embedding.get_weights()[0],
            "lstm/kernel": kernel,
            "lstm/recurrent_kernel": recurrent_kernel,
            "lstm/bias": bias,
            "dense/kernel": dense_kernel,
            "dense/bias": dense_bias,
        }

    def restore(self, weights: dict[str, np.ndarray]) -> None:
        """Set the weights from a checkpoint's."""
        self.embedding.set_weights([weights["embedding"]])
        self.lstm.set_weights(
            [weights[f"lstm/{n}"] for n in ("kernel", "recurrent_kernel", "bias")]
        )
        self.dense.set_weights([weights["dense/kernel"], weights["dense/bias"]])


def from_weights(weights: dict[str, np.ndarray]) -> SentimentLSTM:
    """The model that a checkpoint's weights make, for inference."""
    vocabulary_size, embedding_size = weights["embedding"].shape
    hidden_size = len(weights["lstm/recurrent_kernel"])
    model = SentimentLSTM(vocabulary_size, embedding_size, hidden_size)
    model.restore(weights)
    return model
