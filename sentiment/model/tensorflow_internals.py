"""Unstable parts of TensorFlow and Keras that training and scoring on GPUs use.

`tests/sentiment/model/test_tensorflow_internals.py` names what moved when an upgrade breaks one.
"""

from typing import TYPE_CHECKING

import tensorflow as tf

if TYPE_CHECKING:  # Scoring on GPUs does without.
    import keras

CommunicationOptions = tf.distribute.experimental.CommunicationOptions
"""How workers sum their gradients: the implementation, bytes per message, timeout."""


def make_deterministic() -> None:
    """Make TensorFlow's operations give the same bits on every run."""
    tf.config.experimental.enable_op_determinism()


def communication_options(use_gpu: bool) -> tf.distribute.experimental.CommunicationOptions:
    """Workers sum over NCCL between GPUs, else over a ring of gRPC connections."""
    ways = tf.distribute.experimental.CommunicationImplementation
    return CommunicationOptions(implementation=ways.NCCL if use_gpu else ways.RING)


def forbid_tf32() -> None:
    """Make TensorFlow, and what XLA compiles, multiply in full float32."""
    tf.config.experimental.enable_tensor_float_32_execution(False)


def tensorflow_variable(variable: "keras.Variable") -> tf.Variable:
    """The TensorFlow variable that holds a Keras variable's values.

    Training updates single rows of it, which a Keras variable cannot do. Keras's documentation
    calls `value` a tensor; with the TensorFlow backend it is this variable.
    """
    return variable.value
