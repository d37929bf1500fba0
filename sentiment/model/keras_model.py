"""The model in Keras 3: token ids -> logits. Used for training, and as the reference for scoring.

Embedding -> dropout -> LSTM -> dropout -> mean over the text's own tokens -> dense over K classes.
If a word ends a bigram, the bigram's embedding is added to the word's. A bidirectional model has a
second LSTM that reads each text from its last token to its first; the dense layer takes both means.

Sizes: n texts, `length` tokens in the longest, E numbers per embedding, H units per LSTM.
Importing this module loads TensorFlow. `sentiment.model.kernel` scores on CPUs without it.
"""

import os
from collections.abc import Iterator, Mapping, Sequence

# Keras reads it on import. The user's environment or ~/.keras/keras.json may name another one.
os.environ["KERAS_BACKEND"] = "tensorflow"

import keras
import numpy as np
import tensorflow as tf

from sentiment.model.lstm import summed_outputs
from sentiment.model.tensorflow_internals import tensorflow_variable
from sentiment.network import BACKWARD, FORWARD, Network


class SentimentLSTM(keras.Model):
    """The classifier.

    Padding never counts. A forward LSTM's output at a token does not depend on the tokens after
    it, and the mean is over the text's own tokens. So a text has the same probability alone, padded
    or in any batch.
    """

    def __init__(
        self,
        vocabulary_size: int,
        embedding_size: int,
        hidden_size: int,
        dropout_keep_prob: float = 1.0,
        seed: int = 0,
        bidirectional: bool = False,
        classes: int = 2,
    ) -> None:
        """A model with random weights.

        Args:
            vocabulary_size: words and bigrams together.
            embedding_size: E.
            hidden_size: H.
            dropout_keep_prob: share of the values that dropout keeps, to the nearest 1/65,536;
                1: no dropout.
            seed: of the random weights.
            bidirectional: whether there is a second LSTM, which reads texts backwards.
            classes: K.
        """
        super().__init__(name="sentiment_lstm")
        self.dropout_keep_prob = dropout_keep_prob
        # Dropout draws int16 numbers and keeps those below a limit.
        kept_of_65536 = min(max(round(dropout_keep_prob * 2**16), 1), 2**16 - 1)
        self._keep_below, self._keep_scale = kept_of_65536 - 2**15, 2**16 / kept_of_65536
        uniform = keras.initializers.RandomUniform(-0.05, 0.05, seed=seed)
        self.embedding = keras.layers.Embedding(
            vocabulary_size, embedding_size, embeddings_initializer=uniform, name="embedding"
        )
        self.lstms = [
            keras.layers.LSTM(
                hidden_size,
                return_sequences=True,
                kernel_initializer=keras.initializers.GlorotUniform(seed=seed + 1 + seed_offset),
                recurrent_initializer=keras.initializers.Orthogonal(seed=seed + 2 + seed_offset),
                name=name,
            )
            for name, seed_offset in [(FORWARD, 0), (BACKWARD, 1000)][: 1 + bidirectional]
        ]
        glorot = keras.initializers.GlorotUniform(seed=seed + 3)
        self.dense = keras.layers.Dense(classes, kernel_initializer=glorot, name="dense")
        self.build([(None, None), (None,)])

    def build(self, input_shape: object) -> None:
        """Create the weights, which Keras otherwise does at the first batch."""
        self.embedding.build((None, None))
        for lstm in self.lstms:
            lstm.build((None, None, self.embedding.output_dim))
        self.dense.build((None, sum(lstm.units for lstm in self.lstms)))
        self.built = True

    def call(self, inputs: tuple[tf.Tensor, tf.Tensor, tf.Tensor]) -> tf.Tensor:
        """Logits of a batch of token ids.

        Args:
            inputs: ids: int32[n, length], padded on the right with any valid id;
                bigram_ids: int32[n, length], 0 where a word ends no bigram, padded like `ids`;
                lengths: int32[n], tokens of each text, 0 allowed.

        Returns:
            float32[n, K], as for `logits`.
        """
        ids, bigram_ids, lengths = inputs
        of_bigrams = tf.where((bigram_ids > 0)[:, :, None], self.embedding(bigram_ids), 0.0)
        return self.logits(self.embedding(ids) + of_bigrams, lengths)

    def logits(
        self,
        embedded: tf.Tensor,
        lengths: tf.Tensor,
        dropout_seed: tf.Tensor | None = None,
        cpu_lstm: bool = False,
    ) -> tf.Tensor:
        """Logits of a batch of embedded tokens.

        Args:
            embedded: float32[n, length, E], with any finite numbers to the right of each text.
            lengths: int32[n], tokens of each text, 0 allowed.
            dropout_seed: int64[2], the seed of this batch's dropout, which is applied to the input
                and to the outputs of each LSTM; None: no dropout.
            cpu_lstm: compute with `sentiment.model.lstm`, which is faster for training on CPUs,
                instead of Keras's layer. Dropout masks are the same. Results differ by rounding.

        Returns:
            float32[n, K]. For a text without tokens, the mean is 0 and the logits are the dense
            layer's bias.
        """
        seed = None if self.dropout_keep_prob == 1.0 else dropout_seed
        if seed is not None:
            embedded = self._dropped(embedded, _random_int16(seed, 0, tf.shape(embedded)))
        # The outputs of the backward LSTM stay reversed: their mean is the same.
        inputs = [embedded, tf.reverse_sequence(embedded, lengths, seq_axis=1)]
        rows, length, _ = tf.unstack(tf.shape(embedded))
        summed = self._summed_on_cpu if cpu_lstm else self._summed_by_keras
        totals = []
        for number, lstm in enumerate(self.lstms):
            shape = [length, lstm.units, rows]
            random = None if seed is None else _random_int16(seed, 1 + number, shape)
            totals.append(summed(lstm, inputs[number], lengths, random))
        tokens = tf.cast(tf.maximum(lengths, 1), embedded.dtype)
        return self.dense(tf.concat(totals, axis=1) / tokens[:, None])

    def _summed_by_keras(
        self,
        lstm: keras.layers.LSTM,
        inputs: tf.Tensor,
        lengths: tf.Tensor,
        random: tf.Tensor | None,
    ) -> tf.Tensor:
        """The sum of an LSTM's outputs over each text's own tokens, after dropout.

        Args:
            lstm: one of the model's.
            inputs: float32[n, length, E].
            lengths: int32[n].
            random: int16[length, H, n] for dropout, from `_random_int16`; None: no dropout.

        Returns:
            float32[n, H].
        """
        outputs = lstm(inputs)
        if random is not None:
            outputs = self._dropped(outputs, tf.transpose(random, [2, 0, 1]))
        in_text = tf.sequence_mask(lengths, tf.shape(outputs)[1], dtype=outputs.dtype)
        return tf.einsum("nth,nt->nh", outputs, in_text)

    def _summed_on_cpu(
        self,
        lstm: keras.layers.LSTM,
        inputs: tf.Tensor,
        lengths: tf.Tensor,
        random: tf.Tensor | None,
    ) -> tf.Tensor:
        """The same as `_summed_by_keras`, by `sentiment.model.lstm`."""
        inputs = tf.transpose(inputs, [1, 2, 0])
        in_text = tf.transpose(tf.sequence_mask(lengths, tf.shape(inputs)[0]))
        if random is None:

            def weight(token: tf.Tensor) -> tf.Tensor:
                return tf.cast(in_text[token], inputs.dtype)
        else:
            # No int16 is below the minimum, so nothing of the padding is kept.
            keep_below = tf.where(in_text, tf.constant(self._keep_below, tf.int16), tf.int16.min)

            def weight(token: tf.Tensor) -> tf.Tensor:
                return tf.cast(random[token] < keep_below[token], inputs.dtype)

        weights = (tensorflow_variable(variable) for variable in lstm.trainable_weights)
        total = summed_outputs(inputs, *weights, weight=weight)
        return tf.transpose(total if random is None else total * self._keep_scale)

    def _dropped(self, values: tf.Tensor, random: tf.Tensor) -> tf.Tensor:
        """Inverted dropout: zero some values and scale up the others.

        Args:
            values: float32[...].
            random: int16[...], uniform, of the same shape.
        """
        return values * (tf.cast(random < self._keep_below, values.dtype) * self._keep_scale)

    def probabilities(
        self, ids: np.ndarray, bigram_ids: np.ndarray, lengths: np.ndarray
    ) -> np.ndarray:
        """The probability of each class for each text of a batch: float32[n, K].

        Args:
            ids: int32[n, length], as for `call`.
            bigram_ids: int32[n, length], as for `call`.
            lengths: int32[n].
        """
        return np.asarray(self._softmax(ids, bigram_ids, lengths))

    # Without a graph, each token of a batch takes a dozen operations started from Python on a CPU,
    # and a batch of 0 texts raises an error.
    @tf.function(
        input_signature=[tf.TensorSpec([None] * axes, tf.int32) for axes in (2, 2, 1)],
        autograph=False,
    )
    def _softmax(self, ids: tf.Tensor, bigram_ids: tf.Tensor, lengths: tf.Tensor) -> tf.Tensor:
        return tf.nn.softmax(self([ids, bigram_ids, lengths]))

    def export(self) -> dict[str, np.ndarray]:
        """The weights by their names in a checkpoint, in the order of `trainable_variables`."""
        weights = {"embedding": self.embedding.get_weights()[0]}
        for layer, names in self._layers_after_embedding():
            weights |= {
                f"{layer.name}/{name}": value
                for name, value in zip(names, layer.get_weights(), strict=True)
            }
        return weights

    def _layers_after_embedding(self) -> Iterator[tuple[keras.Layer, tuple[str, ...]]]:
        """Each layer with the names of its weights, in the order of `trainable_variables`."""
        for lstm in self.lstms:
            yield lstm, ("kernel", "recurrent_kernel", "bias")
        yield self.dense, ("kernel", "bias")

    def restore(self, weights: Mapping[str, np.ndarray]) -> None:
        """Set the weights to those of a checkpoint, float32 arrays named as in `export`."""
        self.embedding.set_weights([weights["embedding"]])
        for layer, names in self._layers_after_embedding():
            layer.set_weights([weights[f"{layer.name}/{name}"] for name in names])


def of_network(network: Network) -> SentimentLSTM:
    """The model with a checkpoint's weights, for inference."""
    model = SentimentLSTM(
        len(network.weights["embedding"]),
        network.embedding_size,
        network.units,
        bidirectional=len(network.lstms) == 2,
        classes=network.classes,
    )
    model.restore(network.weights)
    return model


def _random_int16(
    seed: tf.Tensor, stream: int, shape: tf.Tensor | Sequence[int | tf.Tensor]
) -> tf.Tensor:
    """Uniform int16 numbers that depend on the arguments alone, so that training can resume.

    Args:
        seed: int64[2].
        stream: numbers the tensors that are drawn with the same seed.
        shape: of the tensor.
    """
    seed = seed + tf.constant([0, stream * 2**48], tf.int64)
    count = tf.reduce_prod(tf.cast(shape, tf.int64))
    # Two int16 from each int32: drawing numbers is most of what dropout costs on a CPU.
    # philox is named because the default may differ between kinds of devices.
    int32_numbers = tf.random.stateless_uniform(
        [(count + 1) // 2], seed, minval=None, maxval=None, dtype=tf.int32, alg="philox"
    )
    return tf.reshape(tf.reshape(tf.bitcast(int32_numbers, tf.int16), [-1])[:count], shape)
