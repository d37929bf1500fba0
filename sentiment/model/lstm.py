"""LSTM for training on CPUs: the weighted sum of its outputs over the tokens, and the gradient.

Keras's layer and TensorFlow's automatic gradient compute the same in 124 operations per token. This
module takes 74. For a small batch an operation costs more than its arithmetic, and here most
operations read memory that is still in the cache. At each token, the input, the previous output and
a one (for the bias) are a single matrix. So one product gives all gates, and in the gradient one
product gives the gradients of all weights. Matrices are [features, n], which keeps each gate
contiguous. If n is a multiple of 16, TensorFlow does not copy them.

    i, f, o = sigmoid(W x + U h + b),  g = tanh(W x + U h + b)    W, U, b: one of each per gate
    c = f c + i g,  h = o tanh(c)

Hochreiter and Schmidhuber 1997, with the forget gate f of Gers et al. 2000.

Sizes: n texts, `length` tokens in the longest, E numbers per embedding, H units. Weights of all
gates are W: float32[4H, E + H + 1], in the order i, f, o, g: one product and one sigmoid serve
three gates.
"""

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

TokenWeight = Callable[[tf.Tensor], tf.Tensor]
"""Takes the number of a token, int32[]. Returns what the outputs at this token are multiplied by:
float32[H, n], or what broadcasts to it."""


class _Steps(NamedTuple):
    """What the gradient needs of each token. Arrays of `length` elements, float32[features, n]."""

    x: tf.TensorArray
    """float32[E + H + 1, n]: the token's input, the previous output, and a one."""
    sigmoids: tf.TensorArray
    """float32[3H, n]: the gates i, f and o, one below the other."""
    g: tf.TensorArray
    """float32[H, n]."""
    previous_c: tf.TensorArray
    """float32[H, n]: c of the previous token."""
    tanh_c: tf.TensorArray
    """float32[H, n]."""


def summed_outputs(
    inputs: tf.Tensor,
    kernel: tf.Tensor,
    recurrent_kernel: tf.Tensor,
    bias: tf.Tensor,
    *,
    weight: TokenWeight,
) -> tf.Tensor:
    """The sum over tokens of an LSTM's outputs, each multiplied by its weight.

    Args:
        inputs: float32[length, E, n], with at least one token.
        kernel: float32[E, 4H], as in Keras: for the gates i, f, g and o.
        recurrent_kernel: float32[H, 4H], in the same order.
        bias: float32[4H], in the same order.
        weight: called for each token in the forward pass and again in the gradient. It must return
            the same values both times. No gradient flows into it.

    Returns:
        float32[H, n].
    """
    gates = tf.split(tf.concat([kernel, recurrent_kernel, bias[None]], axis=0), 4, axis=1)
    i, f, g, o = map(tf.transpose, gates)

    def summed(
        inputs: tf.Tensor, weights: tf.Tensor
    ) -> tuple[tf.Tensor, Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]]:
        total, steps = _forward(inputs, weights, weight)
        return total, lambda d_total: _backward(d_total, weights, weight, steps)

    return tf.custom_gradient(summed)(inputs, tf.concat([i, f, o, g], axis=0))


def _forward(
    inputs: tf.Tensor, weights: tf.Tensor, weight: TokenWeight
) -> tuple[tf.Tensor, _Steps]:
    """The weighted sum, and what the gradient needs.

    Args:
        inputs: float32[length, E, n].
        weights: float32[4H, E + H + 1].
        weight: as in `summed_outputs`.
    """
    length, rows = tf.unstack(tf.shape(inputs))[::2]
    hidden = weights.shape[0] // 4
    zeros, ones = tf.zeros([hidden, rows]), tf.ones([1, rows])

    def step(
        token: tf.Tensor, h: tf.Tensor, c: tf.Tensor, total: tf.Tensor, steps: _Steps
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor, _Steps]:
        x = tf.concat([inputs[token], h, ones], axis=0)
        product = tf.matmul(weights, x)
        sigmoids, g = tf.sigmoid(product[: 3 * hidden]), tf.tanh(product[3 * hidden :])
        i, f, o = tf.split(sigmoids, 3)
        previous_c, c = c, f * c + i * g
        tanh_c = tf.tanh(c)
        h = o * tanh_c
        values = _Steps(x, sigmoids, g, previous_c, tanh_c)
        steps = _Steps(*(array.write(token, v) for array, v in zip(steps, values, strict=True)))
        return token + 1, h, c, total + h * weight(token), steps

    features = _Steps(weights.shape[1], 3 * hidden, hidden, hidden, hidden)
    arrays = _Steps(*(_array(length, size) for size in features))
    _, _, _, total, steps = tf.while_loop(
        lambda token, *_: token < length, step, (0, zeros, zeros, zeros, arrays)
    )
    return total, steps


def _backward(
    d_total: tf.Tensor,
    weights: tf.Tensor,
    weight: TokenWeight,
    steps: _Steps,
) -> tuple[tf.Tensor, tf.Tensor]:
    """The gradients of inputs and weights, computed from the last token to the first.

    `d_x` is the gradient of the loss with respect to x.

    Args:
        d_total: float32[H, n].
        weights: float32[4H, E + H + 1].
        weight: as in `summed_outputs`.
        steps: what `_forward` returned.

    Returns:
        float32[length, E, n] and float32[4H, E + H + 1].
    """
    length, hidden = steps.x.size(), weights.shape[0] // 4
    embedding_size = weights.shape[1] - hidden - 1
    # The last column is the bias. Its input is a constant, so no gradient is needed. The slice is
    # outside the loop because it copies.
    weights_without_bias = weights[:, :-1]

    def step(
        token: tf.Tensor,
        d_h: tf.Tensor,
        d_c: tf.Tensor,
        d_inputs: tf.TensorArray,
        d_weights: tf.Tensor,
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.TensorArray, tf.Tensor]:
        x, sigmoids, g, previous_c, tanh_c = (array.read(token) for array in steps)
        i, f, o = tf.split(sigmoids, 3)
        d_h += d_total * weight(token)
        d_c += _tanh_gradient(tanh_c, d_h * o)
        d_product = tf.concat(
            [
                _sigmoid_gradient(i, d_c * g),
                _sigmoid_gradient(f, d_c * previous_c),
                _sigmoid_gradient(o, d_h * tanh_c),
                _tanh_gradient(g, d_c * i),
            ],
            axis=0,
        )
        d_x = tf.matmul(weights_without_bias, d_product, transpose_a=True)
        d_inputs = d_inputs.write(token, d_x[:embedding_size])
        d_weights += tf.matmul(d_product, x, transpose_b=True)
        return token - 1, d_x[embedding_size:], d_c * f, d_inputs, d_weights

    zeros = tf.zeros_like(d_total)
    _, _, _, d_inputs, d_weights = tf.while_loop(
        lambda token, *_: token >= 0,
        step,
        (length - 1, zeros, zeros, _array(length, embedding_size), tf.zeros_like(weights)),
    )
    return d_inputs.stack(), d_weights


def _array(length: tf.Tensor, features: int) -> tf.TensorArray:
    """An empty array of `length` matrices, float32[features, n], that may be read repeatedly."""
    shape = [features, None]
    return tf.TensorArray(tf.float32, length, element_shape=shape, clear_after_read=False)


def _sigmoid_gradient(y: tf.Tensor, d_y: tf.Tensor) -> tf.Tensor:
    """The gradient of x where y = sigmoid(x), from the gradient of y."""
    return tf.raw_ops.SigmoidGrad(y=y, dy=d_y)


def _tanh_gradient(y: tf.Tensor, d_y: tf.Tensor) -> tf.Tensor:
    """The gradient of x where y = tanh(x), from the gradient of y."""
    return tf.raw_ops.TanhGrad(y=y, dy=d_y)
