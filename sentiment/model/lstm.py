"""An LSTM's outputs, added up over the tokens, and their gradient: for training on CPUs.

What Keras's layer and TensorFlow's automatic gradient compute, in 74 operations a token where they
take 124. Each costs a small batch more than its arithmetic, and most of ours are on memory that is
still in cache. At each token the input, the last output and a one, for the bias, are one matrix:
one product gives all gates, and in the gradient one all the weights' share. Matrices are (features,
rows), so that each gate is contiguous; of a multiple of 16 rows TensorFlow need not even copy it.

    i, f, o = sigmoid(W x + U h + b),  g = tanh(W x + U h + b),  each with W, U and b of its own
    c = f c + i g,  h = o tanh(c)

Hochreiter and Schmidhuber 1997, with the gate f of Gers et al. 2000.
"""

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf


class _Kept(NamedTuple):
    """For the gradient: of each of these float32 (features, n) by token."""

    x: tf.TensorArray
    """The token's input, the output before, and a one; E + H + 1 features."""
    sigmoids: tf.TensorArray
    """The gates i, f and o; 3H features, those below H."""
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
        inputs: float32 (longest, E, n), of at least one token.
        kernel: float32 (E, 4H), as Keras has it: for the gates i, f, g and o.
        recurrent_kernel: float32 (H, 4H), alike.
        bias: float32 (4H,), alike.
        weight: what the outputs at a token, whose number it gets, are multiplied by: float32,
            (H, n) or what broadcasts to it. It is called in the loop of the sum and again in that
            of the gradient, and must give the same; no gradient flows into it.

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
    # The bias's column sees a one, whose gradient nobody wants. Not in the loop: a copy.
    without_bias = weights[:, :-1]

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
        of_x = tf.matmul(without_bias, of_product, transpose_a=True)
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
    """Of float32 (features, n), which can be read more than once."""
    shape = [features, None]
    return tf.TensorArray(tf.float32, tokens, element_shape=shape, clear_after_read=False)


def _of_sigmoid(y: tf.Tensor, of_y: tf.Tensor) -> tf.Tensor:
    """The gradient of a sigmoid's input, from its output y and that of y."""
    return tf.raw_ops.SigmoidGrad(y=y, dy=of_y)


def _of_tanh(y: tf.Tensor, of_y: tf.Tensor) -> tf.Tensor:
    """The same for a tanh."""
    return tf.raw_ops.TanhGrad(y=y, dy=of_y)
