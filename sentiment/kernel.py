"""Token ids -> probabilities on one CPU core: the LSTM as one compiled function, no TensorFlow.

Two identities make a step of the recurrence one gather and one product. The embedding, the input
kernel and the bias fold into one table with a row of gate inputs a token. And since
sigmoid(x) = 1/2 + tanh(x/2) / 2, the halving folds into table and recurrent kernel too, so that all
four gates are one loop of tanh over a contiguous row.

Texts are taken in order of falling length, `ROWS` at a time. Every text's numbers go through the
same operations in the same order wherever it stands, so its probability is the same to the last
bit in any batch.
"""

from collections.abc import Mapping

import numpy as np
from numba import njit

LANES = 16
"""Each gate is padded to a multiple of so many float32: whole vectors on every machine."""

ROWS = DEPTH = 5
"""Texts, and hidden units, whose products are written out together: 25 multiplications on 5 loads
of the recurrent kernel."""

# All of fastmath but reassociation, which could give two texts different roundings.
_FAST = {"contract", "nnan", "ninf", "nsz", "arcp"}


class LSTMKernel:
    """A model's weights, folded, ready to compute on one core."""

    def __init__(self, weights: Mapping[str, np.ndarray]) -> None:
        """See `sentiment.checkpoint.Checkpoint.weights`."""
        kernel, recurrent = weights["lstm/kernel"], weights["lstm/recurrent_kernel"]
        embedding, bias = weights["embedding"], weights["lstm/bias"]
        self._hidden = len(recurrent)
        self._padded = _round_up(self._hidden, LANES)
        halved = np.repeat([0.5, 0.5, 1.0, 0.5], self._hidden)
        self._table = np.empty((len(embedding), 4 * self._padded), np.float32)
        for start in range(0, len(embedding), 4096):
            rows = slice(start, start + 4096)
            gates = embedding[rows].astype(np.float64) @ kernel.astype(np.float64) + bias
            self._table[rows] = self._pad(gates * halved)
        depth = _round_up(self._hidden, DEPTH)
        self._recurrent = np.zeros((depth, 4 * self._padded), np.float32)
        self._recurrent[: self._hidden] = self._pad(recurrent * halved)
        # Softmax over two classes is the sigmoid of the difference of their logits.
        self._dense = np.zeros(self._padded, np.float32)
        self._dense[: self._hidden] = np.subtract(*weights["dense/kernel"].T[::-1])
        self._bias = np.float32(np.subtract(*weights["dense/bias"][::-1]))

    @property
    def table_bytes(self) -> int:
        """What the folded table costs: vocabulary x 4 x padded hidden size x 4 bytes."""
        return self._table.nbytes

    def __call__(self, ids: np.ndarray, offsets: np.ndarray) -> np.ndarray:
        """The probability that each text is positive.

        Args:
            ids: int32, the token ids of all texts, one after another.
            offsets: int64 (n + 1,), where each text's ids begin, and the end.

        Returns:
            float32 (n,), in the order of the texts.

        Raises ValueError for ids that are not in the vocabulary, or offsets not within the ids.
        """
        lengths = np.diff(offsets)
        if len(offsets) == 0 or offsets[0] < 0 or offsets[-1] > len(ids) or (lengths < 0).any():
            raise ValueError(f"offsets do not ascend from 0 to at most {len(ids)}")
        if len(ids) and not 0 <= ids.min() <= ids.max() < len(self._table):
            raise ValueError(
                f"ids from {ids.min()} to {ids.max()} are not below {len(self._table)}"
            )
        order = np.argsort(-lengths, kind="stable")
        probabilities = np.empty(len(lengths), np.float32)
        _compute(
            np.ascontiguousarray(ids, np.int32),
            np.ascontiguousarray(offsets, np.int64),
            order,
            self._table,
            self._recurrent,
            self._dense,
            self._bias,
            probabilities,
        )
        return probabilities

    def _pad(self, gates: np.ndarray) -> np.ndarray:
        padded = np.zeros((len(gates), 4, self._padded), np.float32)
        padded[:, :, : self._hidden] = gates.reshape(len(gates), 4, self._hidden)
        return padded.reshape(len(gates), -1)


def _round_up(number: int, to: int) -> int:
    return -(-number // to) * to


@njit(fastmath=_FAST, error_model="numpy", inline="always")
def _tanh(x):
    """Eigen's rational approximation (ptanh_float), exact to a few units in the last place."""
    x = min(max(x, np.float32(-7.90531110763549805)), np.float32(7.90531110763549805))
    x2 = x * x
    p = x2 * np.float32(-2.76076847742355e-16) + np.float32(2.00018790482477e-13)
    p = x2 * p + np.float32(-8.60467152213735e-11)
    p = x2 * p + np.float32(5.12229709037114e-08)
    p = x2 * p + np.float32(1.48572235717979e-05)
    p = x2 * p + np.float32(6.37261928875436e-04)
    p = x2 * p + np.float32(4.89352455891786e-03)
    q = x2 * np.float32(1.19825839466702e-06) + np.float32(1.18534705686654e-04)
    q = x2 * q + np.float32(2.26843463243900e-03)
    q = x2 * q + np.float32(4.89352518554385e-03)
    return x * p / q


# Without error_model="numpy" a check for division by zero keeps the loops from vectorizing.
@njit(fastmath=_FAST, error_model="numpy", cache=True, nogil=True)
def _compute(ids, offsets, order, table, recurrent, dense, bias, probabilities):
    width = table.shape[1]
    hidden = width // 4
    depth = recurrent.shape[0]
    n = len(order)
    half, one = np.float32(0.5), np.float32(1)
    z = np.zeros((ROWS, width), np.float32)
    h = np.zeros((ROWS, max(hidden, depth)), np.float32)
    cell = np.zeros((ROWS, hidden), np.float32)
    total = np.zeros((ROWS, hidden), np.float32)
    starts = np.zeros(ROWS, np.int64)
    lengths = np.zeros(ROWS, np.int64)
    for block in range(0, n, ROWS):
        rows = min(ROWS, n - block)
        for r in range(rows):
            starts[r] = offsets[order[block + r]]
            lengths[r] = offsets[order[block + r] + 1] - starts[r]
        z[:] = 0
        h[:] = 0
        cell[:] = 0
        total[:] = 0
        active = rows
        for t in range(lengths[0]):
            while lengths[active - 1] <= t:
                active -= 1
            for r in range(active):
                token = ids[starts[r] + t]
                for j in range(width):
                    z[r, j] = table[token, j]
            # z += h @ recurrent. Rows that have ended go along: their numbers are not looked at.
            for k in range(0, depth, DEPTH):
                a0, a1, a2, a3, a4 = h[0, k], h[0, k + 1], h[0, k + 2], h[0, k + 3], h[0, k + 4]
                b0, b1, b2, b3, b4 = h[1, k], h[1, k + 1], h[1, k + 2], h[1, k + 3], h[1, k + 4]
                c0, c1, c2, c3, c4 = h[2, k], h[2, k + 1], h[2, k + 2], h[2, k + 3], h[2, k + 4]
                d0, d1, d2, d3, d4 = h[3, k], h[3, k + 1], h[3, k + 2], h[3, k + 3], h[3, k + 4]
                e0, e1, e2, e3, e4 = h[4, k], h[4, k + 1], h[4, k + 2], h[4, k + 3], h[4, k + 4]
                for j in range(width):
                    u0, u1, u2 = recurrent[k, j], recurrent[k + 1, j], recurrent[k + 2, j]
                    u3, u4 = recurrent[k + 3, j], recurrent[k + 4, j]
                    z[0, j] = z[0, j] + a0 * u0 + a1 * u1 + a2 * u2 + a3 * u3 + a4 * u4
                    z[1, j] = z[1, j] + b0 * u0 + b1 * u1 + b2 * u2 + b3 * u3 + b4 * u4
                    z[2, j] = z[2, j] + c0 * u0 + c1 * u1 + c2 * u2 + c3 * u3 + c4 * u4
                    z[3, j] = z[3, j] + d0 * u0 + d1 * u1 + d2 * u2 + d3 * u3 + d4 * u4
                    z[4, j] = z[4, j] + e0 * u0 + e1 * u1 + e2 * u2 + e3 * u3 + e4 * u4
            # Gates in Keras's order: input, forget, candidate, output.
            for r in range(active):
                for j in range(width):
                    z[r, j] = _tanh(z[r, j])
                for j in range(hidden):
                    kept = (half + half * z[r, hidden + j]) * cell[r, j]
                    new = (half + half * z[r, j]) * z[r, 2 * hidden + j]
                    cell[r, j] = kept + new
                    h[r, j] = (half + half * z[r, 3 * hidden + j]) * _tanh(cell[r, j])
                    total[r, j] += h[r, j]
        for r in range(rows):
            logit = np.float32(0)
            for j in range(hidden):
                logit += total[r, j] * dense[j]
            logit = logit / np.float32(max(lengths[r], 1)) + bias
            probabilities[order[block + r]] = one / (one + np.exp(-logit))
