"""Our LSTM is Keras's: the same sums and gradients, to what float32 can hold."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from sentiment.model.keras_model import SentimentLSTM
from sentiment.model.lstm import summed_outputs
from sentiment.model.tensorflow_internals import tensorflow_variable


@pytest.mark.parametrize(
    ("longest", "size", "rows", "hidden"),
    [(1, 3, 1, 2), (2, 1, 5, 1), (7, 5, 16, 4), (60, 2, 3, 3), (15, 75, 100, 75)],
)
def test_sums_and_gradients_are_those_of_keras(longest, size, rows, hidden):
    random = np.random.default_rng(longest)
    shapes = [(size, 4 * hidden), (hidden, 4 * hidden), (4 * hidden,)]
    weights = [tf.constant(random.normal(0, 0.4, s).astype(np.float32)) for s in shapes]
    inputs = tf.constant(random.normal(size=(longest, size, rows)).astype(np.float32))
    factors = tf.constant(random.normal(size=(longest, hidden, rows)).astype(np.float32))
    layer = keras.layers.LSTM(hidden, return_sequences=True)
    layer.build((None, None, size))
    layer.set_weights([weight.numpy() for weight in weights])

    @tf.function
    def ours():
        with tf.GradientTape() as tape:
            tape.watch([inputs, *weights])
            total = summed_outputs(inputs, *weights, weight=lambda token: factors[token])
            # Squared, so that the gradient depends on the sum.
            loss = tf.reduce_sum(total**2)
        return total, *tape.gradient(loss, [inputs, *weights])

    with tf.GradientTape() as tape:
        tape.watch(inputs)
        outputs = tf.transpose(layer(tf.transpose(inputs, [2, 0, 1])), [1, 2, 0])
        total = tf.reduce_sum(outputs * factors, axis=0)
        loss = tf.reduce_sum(total**2)
    wanted = total, *tape.gradient(loss, [inputs, *layer.trainable_weights])
    for found, value in zip(ours(), wanted, strict=True):
        assert found.shape == value.shape
        largest = np.abs(value).max(initial=0)
        np.testing.assert_allclose(found, value, rtol=1e-5, atol=1e-5 * largest)


def test_of_no_rows_the_gradient_is_zero():
    weights = [tf.ones(shape) for shape in ((3, 8), (2, 8), (8,))]
    inputs = tf.ones((4, 3, 0))
    with tf.GradientTape() as tape:
        tape.watch([inputs, *weights])
        total = summed_outputs(inputs, *weights, weight=lambda token: tf.constant(1.0))
    assert total.shape == (2, 0)
    of_inputs, *of_weights = tape.gradient(total, [inputs, *weights])
    assert of_inputs.shape == inputs.shape
    for gradient, weight in zip(of_weights, weights, strict=True):
        np.testing.assert_array_equal(gradient, tf.zeros_like(weight))


@pytest.mark.parametrize("keep", [1.0, 0.6])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_a_models_logits_and_gradients_are_the_same_with_either(keep, bidirectional):
    model = SentimentLSTM(30, 6, 5, keep, seed=2, bidirectional=bidirectional)
    for number, variable in enumerate(model.trainable_variables):
        variable.assign(tf.random.stateless_normal(variable.shape, [1, number], stddev=0.5))
    lengths = np.array([3, 0, 9, 1], np.int32)
    # Padding is a word like any other here: what is to the right of a text must not count.
    embedded = tf.random.stateless_normal([4, 9, 6], [3, 4])

    def computed(cpu_lstm: bool) -> list[tf.Tensor]:
        @tf.function(input_signature=[tf.TensorSpec([None, None, 6])])
        def graph(embedded):
            with tf.GradientTape() as tape:
                tape.watch(embedded)
                logits = model.logits(embedded, lengths, np.array([5, 6], np.int64), cpu_lstm)
                loss = tf.reduce_sum(logits**2)
            # The embedding is not used.
            sources = [embedded, *map(tensorflow_variable, model.trainable_variables[1:])]
            return logits, *tape.gradient(loss, sources)

        return graph(embedded)

    found = computed(True), computed(False)
    for ours, keras_ in zip(*found, strict=True):
        np.testing.assert_allclose(ours, keras_, rtol=1e-4, atol=1e-5)
    of_embedded = found[0][1].numpy()
    for row, length in enumerate(lengths):
        assert (of_embedded[row, length:] == 0).all()
        assert length == 0 or (of_embedded[row, :length] != 0).any()
