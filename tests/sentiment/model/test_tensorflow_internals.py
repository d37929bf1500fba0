"""What we use of TensorFlow and Keras beyond their stable interfaces is where we expect it."""

import keras
import numpy as np
import tensorflow as tf

from sentiment.model.tensorflow_internals import (
    CommunicationOptions,
    communication_options,
    forbid_tf32,
    tensorflow_variable,
)


def test_a_keras_variables_value_is_a_tensorflow_variable():
    layer = keras.layers.Dense(2)
    layer.build((None, 3))
    kernel, _ = layer.trainable_variables
    variable = tensorflow_variable(kernel)
    moved = f"keras.Variable.value is now a {type(variable)}: see tensorflow_internals.py"
    assert isinstance(variable, tf.Variable), moved
    variable.scatter_update(tf.IndexedSlices(tf.constant([[5.0, 6.0]]), tf.constant([1])))
    found = layer.get_weights()[0][1]
    np.testing.assert_array_equal(found, [5, 6], "keras.Variable.value is now a copy")


def test_tensorflow_takes_communication_options():
    moved = "tf.distribute.experimental.CommunicationOptions moved: see tensorflow_internals.py"
    implementation = tf.distribute.experimental.CommunicationImplementation.RING
    options = CommunicationOptions(implementation=implementation, timeout_seconds=1.5)
    assert options.implementation == implementation, moved
    assert options.timeout_seconds == 1.5, moved
    assert communication_options(use_gpu=False).implementation == implementation, moved


def test_tensorflow_can_be_made_deterministic():
    moved = "tf.config.experimental.enable_op_determinism moved: see tensorflow_internals.py"
    assert callable(getattr(tf.config.experimental, "enable_op_determinism", None)), moved


def test_tf32_can_be_forbidden():
    moved = "tf.config.experimental.enable_tensor_float_32_execution moved"
    forbid_tf32()
    assert not tf.config.experimental.tensor_float_32_execution_enabled(), moved
