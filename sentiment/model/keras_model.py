"""The model in Keras 3: token ids -> logits, for training, and as the reference for scoring.

Embedding -> dropout -> LSTM -> dropout -> mean over the text's own tokens -> dense over 2 classes.
The embedding of a word that ends a bigram is the sum of both of theirs. A model that reads both
ways has another LSTM, over the tokens from the last to the first; the dense layer sees both means.
TensorFlow loads with this module; scoring on CPUs does without (`sentiment.model.kernel`).
"""

from collections.abc import Iterator, Sequence

import keras
import numpy as np
import tensorflow as tf

from sentiment.checkpoint import BACKWARD, FORWARD, lstms
from sentiment.model.lstm import summed_outputs

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
        bidirectional: bool = False,
    ) -> None:
        super().__init__(name="sentiment_lstm")
        share = min(max(round(dropout_keep_prob * 2**16), 1), 2**16 - 1)
        self.dropout_keep_prob = dropout_keep_prob
        # Numbers drawn of 2**16, from -2**15 on: what is kept has one below, and is scaled.
        self._below, self._scale = share - 2**15, 2**16 / share
        uniform = keras.initializers.RandomUniform(-0.05, 0.05, seed=seed)
        self.embedding = keras.layers.Embedding(
            vocabulary_size, embedding_size, embeddings_initializer=uniform, name="embedding"
        )
        self.lstms = [
            keras.layers.LSTM(
                hidden_size,
                return_sequences=True,
                kernel_initializer=keras.initializers.GlorotUniform(seed=seed + 1 + more),
                recurrent_initializer=keras.initializers.Orthogonal(seed=seed + 2 + more),
                name=name,
            )
            for name, more in [(FORWARD, 0), (BACKWARD, 1000)][: 1 + bidirectional]
        ]
        glorot = keras.initializers.GlorotUniform(seed=seed + 3)
        self.dense = keras.layers.Dense(CLASSES, kernel_initializer=glorot, name="dense")
        self.build([(None, None), (None,)])

    def build(self, input_shape: object) -> None:
        """Make the weights, so that they are there before the first batch."""
        self.embedding.build((None, None))
        for lstm in self.lstms:
            lstm.build((None, None, self.embedding.output_dim))
        self.dense.build((None, sum(lstm.units for lstm in self.lstms)))
        self.built = True

    def call(self, inputs: tuple[tf.Tensor, tf.Tensor, tf.Tensor]) -> tf.Tensor:
        """Logits of a batch.

        Args:
            inputs: the words' ids, int32 (n, longest), each row padded on its right with any valid
                id; the bigrams', alike, 0 where a word ends none; and lengths, int32 (n,), the
                number of tokens of each text, 0 included.

        Returns:
            As `logits`.
        """
        ids, bigrams, lengths = inputs
        pairs = tf.where((bigrams > 0)[:, :, None], self.embedding(bigrams), 0.0)
        return self.logits(self.embedding(ids) + pairs, lengths)

    def logits(
        self,
        embedded: tf.Tensor,
        lengths: tf.Tensor,
        dropout_seed: tf.Tensor | None = None,
        own_lstm: bool = False,
    ) -> tf.Tensor:
        """Logits of a batch whose tokens are embedded already.

        Args:
            embedded: float32 (n, longest, E), anything finite to the right of each text.
            lengths: int32 (n,), the number of tokens of each text, 0 included.
            dropout_seed: int64 (2,), the seed of this batch's dropout, applied to the LSTMs'
                input and to the outputs of each; None: no dropout.
            own_lstm: compute by `sentiment.model.lstm`, for training on CPUs, rather than by Keras:
                the same but for rounding, masks included.

        Returns:
            float32 (n, 2) logits. A text without tokens has the mean 0, so the dense layer's
            bias alone answers.
        """
        seed = None if self.dropout_keep_prob == 1.0 else dropout_seed
        if seed is not None:
            embedded = self._dropped(embedded, _drawn(seed, 0, tf.shape(embedded)))
        # Not turned back: the mean does not mind.
        inputs = [embedded, tf.reverse_sequence(embedded, lengths, seq_axis=1)]
        rows, longest, _ = tf.unstack(tf.shape(embedded))
        total = self._own_total if own_lstm else self._keras_total
        totals = []
        for number, lstm in enumerate(self.lstms):
            drawn = None if seed is None else _drawn(seed, 1 + number, [longest, lstm.units, rows])
            totals.append(total(lstm, inputs[number], lengths, drawn))
        tokens = tf.cast(tf.maximum(lengths, 1), embedded.dtype)
        return self.dense(tf.concat(totals, axis=1) / tokens[:, None])

    def _keras_total(
        self,
        lstm: keras.layers.LSTM,
        inputs: tf.Tensor,
        lengths: tf.Tensor,
        drawn: tf.Tensor | None,
    ) -> tf.Tensor:
        """float32 (n, H): an LSTM's outputs at each text's own tokens, after dropout, added up.

        Args:
            lstm: one of the model's.
            inputs: float32 (n, longest, E).
            lengths: int32 (n,).
            drawn: for dropout: of `_drawn`, (longest, H, n); None: without.
        """
        outputs = lstm(inputs)
        if drawn is not None:
            outputs = self._dropped(outputs, tf.transpose(drawn, [2, 0, 1]))
        own = tf.sequence_mask(lengths, tf.shape(outputs)[1], dtype=outputs.dtype)
        return tf.einsum("nth,nt->nh", outputs, own)

    def _own_total(
        self,
        lstm: keras.layers.LSTM,
        inputs: tf.Tensor,
        lengths: tf.Tensor,
        drawn: tf.Tensor | None,
    ) -> tf.Tensor:
        """As `_keras_total`, by `sentiment.model.lstm`."""
        inputs = tf.transpose(inputs, [1, 2, 0])
        own = tf.transpose(tf.sequence_mask(lengths, tf.shape(inputs)[0]))
        if drawn is None:

            def weight(token: tf.Tensor) -> tf.Tensor:
                return tf.cast(own[token], inputs.dtype)
        else:
            # Of padding nothing is kept: no number drawn is less than the least.
            below = tf.where(own, tf.constant(self._below, tf.int16), tf.int16.min)

            def weight(token: tf.Tensor) -> tf.Tensor:
                return tf.cast(drawn[token] < below[token], inputs.dtype)

        weights = (variable.value for variable in lstm.trainable_weights)
        total = summed_outputs(inputs, *weights, weight=weight)
        return tf.transpose(total if drawn is None else total * self._scale)

    def _dropped(self, values: tf.Tensor, drawn: tf.Tensor) -> tf.Tensor:
        """Inverted dropout: what is kept is the share asked for, to a 65,536th."""
        return values * (tf.cast(drawn < self._below, values.dtype) * self._scale)

    def probabilities(
        self, ids: np.ndarray, bigrams: np.ndarray, lengths: np.ndarray
    ) -> np.ndarray:
        """float32 (n,): the probability that each text of a batch is positive. As for `call`."""
        return np.asarray(self._positive(ids, bigrams, lengths))

    # A graph: without, each token of a batch on a CPU is a dozen operations from Python, and a
    # batch without texts is an error.
    @tf.function(input_signature=[tf.TensorSpec([None] * axes, tf.int32) for axes in (2, 2, 1)])
    def _positive(self, ids: tf.Tensor, bigrams: tf.Tensor, lengths: tf.Tensor) -> tf.Tensor:
        return tf.nn.softmax(self([ids, bigrams, lengths]))[:, 1]

    def export(self) -> dict[str, np.ndarray]:
        """The weights under the names of a checkpoint."""
        named = {"embedding": self.embedding.get_weights()[0]}
        for layer, names in self._later_layers():
            named |= {
                f"{layer.name}/{name}": value
                for name, value in zip(names, layer.get_weights(), strict=True)
            }
        return named

    def _later_layers(self) -> Iterator[tuple[keras.Layer, tuple[str, ...]]]:
        """The layers after the embedding, in the order of the model's weights, and theirs."""
        for lstm in self.lstms:
            yield lstm, ("kernel", "recurrent_kernel", "bias")
        yield self.dense, ("kernel", "bias")

    def restore(self, weights: dict[str, np.ndarray]) -> None:
        """Set the weights from a checkpoint's."""
        self.embedding.set_weights([weights["embedding"]])
        for layer, names in self._later_layers():
            layer.set_weights([weights[f"{layer.name}/{name}"] for name in names])


def from_weights(weights: dict[str, np.ndarray]) -> SentimentLSTM:
    """The model that a checkpoint's weights make, for inference."""
    vocabulary_size, embedding_size = weights["embedding"].shape
    hidden_size = len(weights["lstm/recurrent_kernel"])
    both = len(lstms(weights)) == 2
    model = SentimentLSTM(vocabulary_size, embedding_size, hidden_size, bidirectional=both)
    model.restore(weights)
    return model


def _drawn(seed: tf.Tensor, which: int, shape: tf.Tensor | Sequence[int | tf.Tensor]) -> tf.Tensor:
    """int16, all as likely: from what is given alone, so that training can resume.

    Args:
        seed: int64 (2,).
        which: of the tensors drawn with the same seed.
        shape: of the tensor.
    """
    seed = seed + tf.constant([0, which * 2**48], tf.int64)
    count = tf.reduce_prod(tf.cast(shape, tf.int64))
    # Two from each number: to draw is most of what dropout costs on a CPU.
    # philox: the default may differ from one kind of device to another.
    wide = tf.random.stateless_uniform(
        [(count + 1) // 2], seed, minval=None, maxval=None, dtype=tf.int32, alg="philox"
    )
    return tf.reshape(tf.reshape(tf.bitcast(wide, tf.int16), [-1])[:count], shape)
