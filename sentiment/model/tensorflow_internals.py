"""What training uses of TensorFlow and Keras that their stable interfaces do not promise.

`tests/sentiment/model/test_tensorflow_internals.py` names what moved when an upgrade breaks one.
"""

import keras
import tensorflow as tf

CommunicationOptions = tf.distribute.experimental.CommunicationOptions
"""How workers sum their gradients: the implementation, bytes per message, timeout."""


def tensorflow_variable(variable: keras.Variable) -> tf.Variable:
    """The TensorFlow variable that holds a Keras variable's values.

    Training updates single rows of it, which a Keras variable cannot do. Keras's documentation
    calls `value` a tensor; with the TensorFlow backend it is this variable.
    """
    return variable.value
