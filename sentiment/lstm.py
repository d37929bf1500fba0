"""An LSTM's outputs, added up over the tokens, and their gradient: for training on CPUs.

What Keras's layer and TensorFlow's automatic gradient compute, in half as many operations, each of
which costs a small batch more than its arithmetic, and most of them on memory that is still in
cache. At each token the input, the last output and a one, for the bias, are one matrix: one product
gives all gates, and in the gradient one all the weights' share. Matrices are (features, rows), so
that the gates are slices of it rather than copies.

    i, f, o = sigmoid(W x + U h + b),  g = tanh(W x + U h + b)       (Hochreiter and Schmidhuber
    c = f c + i g,  h = o tanh(c)                                     1997; Gers et al. 2000)
"""

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf


class _Kept(NamedTuple):
    """What the gradient needs of each token: float32 (features, n), one for each."""

    x: tf.TensorArray
    """The token's input, the output before, and a one."""
    sigmoids: tf.TensorArray
    """The gates i, f and o."""
    g: tf.TensorArray
    before: tf.TensorArray
    """c of the token before."""
    tanh: tf.TensorArray
    """Of c."""


def summed_outputs(
    inputs: tf.Tensor,
    kernel: tf.Tensor,
    recurrent_kernel: tf.Tensor,
    bias: tf.Tensor,
    *,
    weight: Callable[[tf.Tensor], tf.Tensor],
) -> tf.Tensor:
    """The sum over tokens of an LSTM's outputs, each multiplied by its weight.

    Args:
        inputs: float32 (longest, E, n).
        kernel: float32 (E, 4H), as Keras has it: for the gates i, f, g and o.
        recurrent_kernel: float32 (H, 4H), alike.
        bias: float32 (4H,), alike.
        weight: what the outputs at a token, whose number it gets, are multiplied by: float32,
            (H, n) or what broadcasts to it. It has no gradient, and is asked for again by that
            of the others.

    Returns:
        float32 (H, n).
    """
    gates = tf.split(tf.concat([kernel, recurrent_kernel, bias[None]], axis=0), 4, axis=1)
    i, f, g, o = map(tf.transpose, gates)

    def summed(
        inputs: tf.Tensor, weights: tf.Tensor
    ) -> tuple[tf.Tensor, Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]]:
        total, kept = _forward(inputs, weights, weight)
        return total, lambda of_total: _backward(of_total, weights, weight, kept)

    # Those with a sigmoid side by side: one operation for the three.
    return tf.custom_gradient(summed)(inputs, tf.concat([i, f, o, g], axis=0))


def _forward(
    inputs: tf.Tensor, weights: tf.Tensor, weight: Callable[[tf.Tensor], tf.Tensor]
) -> tuple[tf.Tensor, _Kept]:
    """The sum; weights: float32 (4H, E + H + 1), a row for each feature of i, f, o and g."""
    longest, rows = tf.unstack(tf.shape(inputs))[::2]
    hidden = weights.shape[0] // 4
    zeros, ones = tf.zeros([hidden, rows]), tf.ones([1, rows])

    def step(
        token: tf.Tensor, h: tf.Tensor, c: tf.Tensor, total: tf.Tensor, kept: _Kept
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor, _Kept]:
        x = tf.concat([inputs[token], h, ones], axis=0)
        product = tf.matmul(weights, x)
        sigmoids, g = tf.sigmoid(product[: 3 * hidden]), tf.tanh(product[3 * hidden :])
        i, f, o = tf.split(sigmoids, 3)
        before, c = c, f * c + i * g
        tanh = tf.tanh(c)
        h = o * tanh
        values = _Kept(x, sigmoids, g, before, tanh)
        kept = _Kept(*(array.write(token, v) for array, v in zip(kept, values, strict=True)))
        return token + 1, h, c, total + h * weight(token), kept

    sizes = _Kept(weights.shape[1], 3 * hidden, hidden, hidden, hidden)
    arrays = _Kept(*(_array(longest, size) for size in sizes))
    _, _, _, total, kept = tf.while_loop(
        lambda token, *_: token < longest, step, (0, zeros, zeros, zeros, arrays)
    )
    return total, kept


def _backward(
    of_total: tf.Tensor,
    weights: tf.Tensor,
    weight: Callable[[tf.Tensor], tf.Tensor],
    kept: _Kept,
) -> tuple[tf.Tensor, tf.Tensor]:
    """The gradients of inputs and weights, from the last token to the first."""
    longest, hidden = kept.x.size(), weights.shape[0] // 4
    size = weights.shape[1] - hidden - 1

    def step(
        token: tf.Tensor,
        of_h: tf.Tensor,
        of_c: tf.Tensor,
        of_inputs: tf.TensorArray,
        of_weights: tf.Tensor,
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.TensorArray, tf.Tensor]:
        x, sigmoids, g, before, tanh = (array.read(token) for array in kept)
        i, f, o = tf.split(sigmoids, 3)
        of_h += of_total * weight(token)
        of_c += _of_tanh(tanh, of_h * o)
        of_product = tf.concat(
            [
                _of_sigmoid(i, of_c * g),
                _of_sigmoid(f, of_c * before),
                _of_sigmoid(o, of_h * tanh),
                _of_tanh(g, of_c * i),
            ],
            axis=0,
        )
        of_x = tf.matmul(weights[:, :-1], of_product, transpose_a=True)
        of_inputs = of_inputs.write(token, of_x[:size])
        of_weights += tf.matmul(of_product, x, transpose_b=True)
        return token - 1, of_x[size:], of_c * f, of_inputs, of_weights

    zeros = tf.zeros_like(of_total)
    _, _, _, of_inputs, of_weights = tf.while_loop(
        lambda token, *_: token >= 0,
        step,
        (longest - 1, zeros, zeros, _array(longest, size), tf.zeros_like(weights)),
    )
    return of_inputs.stack(), of_weights


def _array(tokens: tf.Tensor, features: int) -> tf.TensorArray:
    return tf.TensorArray(tf.float32, tokens, element_shape=[features, None])


def _of_sigmoid(y: tf.Tensor, of_y: tf.Tensor) -> tf.Tensor:
    """The gradient of what a sigmoid made y of."""
    return tf.raw_ops.SigmoidGrad(y=y, dy=of_y)


def _of_tanh(y: tf.Tensor, of_y: tf.Tensor) -> tf.Tensor:
    """The same of a tanh."""
    return tf.raw_ops.TanhGrad(y=y, dy=of_y)
