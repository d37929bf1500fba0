"""Token ids -> probabilities on one CPU core: the LSTM as one compiled function, no TensorFlow.

With two identities a step of the recurrence is one gather, one product and one exponential:

- The embedding, the input kernel and the bias fold into one table with a row per token, which holds
  the token's gate inputs. A bigram has a row, too, which is added to that of its second word.
- sigmoid(x) = 1 / (1 + exp(-x)) and tanh(x) = (exp(2x) - 1) / (exp(2x) + 1). The factors, and
  log2(e) for a power of two, fold into the table and the recurrent kernel. So all four gates are
  one loop of 2**x.

Texts flow through a fixed number of slots. When a text ends, the next one takes its slot. So
nothing is sorted or padded, and memory does not grow with length. A text's numbers go through the
same operations in the same order in every slot, and every fused multiply-add is written as one. So
a text's probability has the same bits in any batch and with vectors of any width.

A bidirectional model is two such LSTMs, the second over reversed texts. The mean of the outputs
does not depend on their order.

Sizes: n texts, V words and bigrams, E numbers per embedding, H units, K classes. `numba_internals`
describes slots, panels and the layout of the arrays.
"""

import math
import time
from typing import Any

import numpy as np
from numba import njit

from sentiment.model import numba_internals
from sentiment.model.numba_internals import (
    GROUP_SLOTS,
    GROUPS,
    LANES,
    PANEL_FLOATS,
    SLOTS,
    fma,
    gate_inputs,
    prefetch,
    times_power_of_two,
)
from sentiment.network import Network
from sentiment.numba_cache import cached_njit

_CACHE_LINE_FLOATS = 16
"""float32 numbers in a cache line, on most machines."""

_LOG2E = math.log2(math.e)
_GATE_FACTORS = np.array([-_LOG2E, -_LOG2E, 2 * _LOG2E, -_LOG2E])
"""What makes 2**x of the input, forget, candidate and output gate's x."""

_MAX_GATE_INPUT = 1e38
"""Largest gate input in a row of the table. The sum of two rows is still a finite float32."""

_FLUSH_TOKENS = 64
"""Outputs that are summed in float32 before the sum is added to a float64. A float32 sum of 100,000
outputs would be wrong in the third digit."""

_MAX_EXPONENT = 600.0
"""exp of it is finite, also when 1,000 of them are added up."""

_ARRAYS = ("_table", "_recurrent", "_dense", "_bias")


class LSTMKernel:
    """A model's folded weights, ready to compute on one core. Threads may share it.

    A pickle holds the folded table as an out-of-band buffer. So processes that unpickle it from
    shared memory, such as Ray's actors, share the table. On a machine with another vector width,
    unpickling folds the weights again.
    """

    _table: np.ndarray
    """float32[LSTMs * (V + 1) * padded units * 4], read-only."""
    _recurrent: np.ndarray
    """float32[LSTMs * panels * H * 4 * LANES], read-only."""
    _dense: np.ndarray
    """float64[LSTMs, K - 1, H], read-only."""
    _bias: np.ndarray
    """float64[K - 1], read-only."""

    def __init__(self, network: Network) -> None:
        """Fold the weights, and compile or load compiled code."""
        started = time.monotonic()
        self._network = network
        self._fold()
        self._compile()
        self.load_seconds = time.monotonic() - started
        """Seconds this process took to get ready."""

    def _fold(self) -> None:
        """Make the arrays that the compiled code reads from the weights, for this machine."""
        weights, names, units = self._network.weights, self._network.lstms, self._network.units
        entries = len(weights["embedding"])
        self._lanes = LANES
        self._directions = len(names)
        self._width = -(-units // LANES) * LANES * 4
        # The last row stays zero: it is added for a word that ends no bigram.
        table = _aligned(len(names) * (entries + 1) * self._width)
        recurrent = _aligned(len(names) * units * self._width)
        for name, table_of_lstm, recurrent_of_lstm in zip(
            names, np.split(table, len(names)), np.split(recurrent, len(names)), strict=True
        ):
            self._fold_lstm(name, table_of_lstm, recurrent_of_lstm)
        # Softmax depends on the differences of the logits alone: here those to the last class.
        logits = weights["dense/kernel"].T.astype(np.float64)
        dense = logits[:-1] - logits[-1]
        by_direction = np.stack(np.split(dense, len(names), axis=1))
        self._table = _frozen(table, table.dtype)
        self._recurrent = _frozen(recurrent, recurrent.dtype)
        self._dense = _frozen(by_direction, by_direction.dtype)
        bias = weights["dense/bias"].astype(np.float64)
        self._bias = _frozen(bias[:-1] - bias[-1], bias.dtype)

    def _fold_lstm(self, name: str, table: np.ndarray, recurrent: np.ndarray) -> None:
        """Fill the table and the recurrent kernel of one LSTM."""
        weights = self._network.weights
        factors = np.repeat(_GATE_FACTORS, len(weights[f"{name}/recurrent_kernel"]))
        embedding = np.asarray(weights["embedding"], np.float32)
        kernel = _panels(weights[f"{name}/kernel"] * factors).swapaxes(0, 1)
        bias = _panels(weights[f"{name}/bias"][None] * factors)
        inputs = (_frozen(array, array.dtype) for array in (embedding, kernel, bias))
        _fill_table(*inputs, self._network.words, table)
        panels = _panels(weights[f"{name}/recurrent_kernel"] * factors)
        # Not infinity, which times an h of 0 is NaN.
        limit = np.finfo(np.float32).max
        recurrent[:] = panels.ravel().clip(-limit, limit)

    def __setstate__(self, state: dict[str, Any]) -> None:
        started = time.monotonic()
        self.__dict__.update(state)
        if self._lanes != LANES:
            self._fold()
        for name in _ARRAYS:
            # Some ways of pickling make arrays writable, for which Numba would compile again.
            array = getattr(self, name)
            setattr(self, name, _frozen(array, array.dtype))
        self._compile()
        self.load_seconds = time.monotonic() - started

    def _compile(self) -> None:
        """Compile now, so that the first batch does not wait for it."""
        self(np.zeros(0, np.int32), np.zeros(1, np.int64))

    @property
    def table_bytes(self) -> int:
        """Size of the folded table: (V + 1) x 4 x padded units x 4 bytes, twice that for a
        bidirectional model."""
        return self._table.nbytes

    def __call__(self, ids: np.ndarray, offsets: np.ndarray) -> np.ndarray:
        """The probability of each class for each text.

        Args:
            ids: int32[tokens], the words' ids of all texts, one text after another.
            offsets: int64[n + 1], where each text begins in `ids`, and the end of the last.

        Returns:
            float32[n, K], in the order of the texts.

        Raises ValueError for ids that are not in the vocabulary, and for offsets outside the ids.
        """
        tokens, offsets = self._checked(ids, offsets)
        bigrams = self._network.bigrams
        bigram_ids = bigrams(tokens, offsets) if bigrams else None
        # Numba compiles separate code, without bigrams, for None.
        bigram_rows = None if bigram_ids is None else np.zeros(SLOTS, np.int64)
        size = self._width // 4 * SLOTS
        state = (*(_aligned(size) for _ in range(4)), _aligned(size, np.float64))
        gates = _aligned(4 * PANEL_FLOATS)
        logits = np.zeros((len(offsets) - 1, len(self._bias)))
        for direction in range(self._directions):
            if direction == 1:
                reverse = np.repeat(offsets[:-1] + offsets[1:] - 1, np.diff(offsets))
                reverse -= np.arange(len(tokens))
                tokens = _frozen(tokens[reverse], np.int32)
                bigram_ids = None if bigram_ids is None else bigram_ids[reverse]
            table, recurrent = (
                np.split(array, self._directions)[direction]
                for array in (self._table, self._recurrent)
            )
            model = (table, recurrent, self._dense[direction])
            _add_logits(tokens, bigram_ids, bigram_rows, offsets, model, state, gates, logits)
        probabilities = np.empty((len(logits), len(self._bias) + 1), np.float32)
        _fill_probabilities(logits, self._bias, probabilities)
        return probabilities

    def _checked(self, ids: np.ndarray, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The ids that the offsets span, and the offsets into them; ValueError if they are bad.

        Returns int32[tokens] and int64[n + 1], both read-only.
        """
        if ids.ndim != 1 or offsets.ndim != 1 or {ids.dtype.kind, offsets.dtype.kind} - set("iu"):
            raise ValueError("ids and offsets are not one-dimensional arrays of integers")
        offsets = _frozen(offsets, np.int64)
        if not len(offsets) or offsets[0] < 0 or offsets[-1] > len(ids):
            raise ValueError(f"offsets do not go from 0 or more to at most {len(ids)}")
        if (offsets[1:] < offsets[:-1]).any():
            raise ValueError("offsets do not ascend")
        # Checked before the cast to int32, which could bring an id into the range.
        used, words = ids[offsets[0] : offsets[-1]], self._network.words
        if len(used) and not 0 <= used.min() <= used.max() < words:
            raise ValueError(
                f"ids from {used.min()} to {used.max()} are not in a vocabulary of {words}"
            )
        return _frozen(used, np.int32), _frozen(offsets - offsets[0], np.int64)


def _panels(gates: np.ndarray) -> np.ndarray:
    """Arrange float64[rows, 4H], four gates of H units, by panels: float64[panels, rows, 4, LANES].

    The units after the last are zero. With this order, a step's product for one panel ends with all
    gate inputs of its units in registers.
    """
    rows, units = len(gates), gates.shape[1] // 4
    panels = -(-units // LANES)
    padded = np.zeros((rows, 4, panels * LANES))
    padded[:, :, :units] = gates.reshape(rows, 4, units)
    return np.ascontiguousarray(padded.reshape(rows, 4, panels, LANES).transpose(2, 0, 1, 3))


def _aligned(size: int, dtype: type = np.float32) -> np.ndarray:
    """Zeros that begin at a cache line. A vector across two lines takes twice as long to load."""
    length = size * np.dtype(dtype).itemsize
    memory = np.zeros(length + 64, np.uint8)
    first = -memory.ctypes.data % 64
    return memory[first : first + length].view(dtype)


def _frozen(array: np.ndarray, dtype: np.dtype | type) -> np.ndarray:
    """A read-only view. Numba compiles once for writable and once for read-only arrays."""
    view = np.ascontiguousarray(array, dtype).view()
    view.flags.writeable = False
    return view


# What overflows becomes infinite, which as a gate input is the same as any large number. It cannot
# become NaN, because all that is added to it is finite: outputs are at most 1.
#
# Not a BLAS product: its rounding depends on the machine, and it starts a thread on each core.
@cached_njit(numba_internals.__file__, nogil=True)
def _fill_table(embedding, kernel, bias, words, table):
    """Fill the table: embedding @ kernel, plus the bias in the rows of words.

    Args:
        embedding: float32[V, E].
        kernel: float64[E, panels, 4, LANES].
        bias: float64[panels, 1, 4, LANES].
        words: the entries before the bigrams.
        table: float32[(V + 1) * panels * 4 * LANES], gets the rows of V entries.
    """
    entries, size = embedding.shape
    columns, gates = kernel.reshape(size, -1), bias.ravel()
    width = len(gates)
    row = np.empty(width)
    for entry in range(entries):
        row[:] = gates if entry < words else np.zeros_like(gates)
        for k in range(size):
            value = np.float64(embedding[entry, k])
            for j in range(width):
                row[j] = fma(value, columns[k, j], row[j])
        for j in range(width):
            table[entry * width + j] = min(max(row[j], -_MAX_GATE_INPUT), _MAX_GATE_INPUT)


@njit(inline="always", error_model="numpy")
def _exp2(x):
    """2**x to 1.3e-7, with x limited to ±60, where sigmoid and tanh are 0 or 1 already.

    Of the polynomials that are 1 at 0, this one has the least maximal error in [-1/2, 1/2].
    """
    x = min(max(x, np.float32(-60)), np.float32(60))
    # So large a float has no fraction bits: its last bits are the nearest integer.
    rounded = x + np.float32(1.5 * 2**23)
    x -= rounded - np.float32(1.5 * 2**23)
    p = fma(x, np.float32(0.001326472731307149), np.float32(0.009671512991189957))
    p = fma(x, p, np.float32(0.05550733581185341))
    p = fma(x, p, np.float32(0.24022242426872253))
    p = fma(x, p, np.float32(0.6931470036506653))
    p = fma(x, p, np.float32(1))
    return times_power_of_two(p, rounded)


@njit(inline="always", error_model="numpy")
def _next_cell(i, f, g, cell):
    """sigmoid(f) cell + sigmoid(i) tanh(g), from the gates' powers of two."""
    one = np.float32(1)
    return fma(one / (one + f), cell, (g - one) / ((one + i) * (one + g)))


@njit(inline="always", error_model="numpy")
def _output(o, c):
    """sigmoid(o) tanh(cell), from their powers of two."""
    one = np.float32(1)
    return (c - one) / ((one + o) * (one + c))


@cached_njit()
def _fill_probabilities(logits, bias, probabilities):
    """The softmax over K classes.

    Args:
        logits: float64[n, K - 1], less the bias and the last class's logit.
        bias: float64[K - 1], less the last class's bias.
        probabilities: float32[n, K], is filled.
    """
    last = len(bias)
    powers = np.empty(last + 1)
    for text in range(len(logits)):
        largest = 0.0
        for k in range(last):
            powers[k] = logits[text, k] + bias[k]
            largest = max(largest, powers[k])
        # No exponential overflows. Below the limit nothing is subtracted, so nothing is rounded.
        excess = max(largest - _MAX_EXPONENT, 0.0)
        powers[last] = 0
        total = 0.0
        for k in range(last + 1):
            powers[k] = math.exp(powers[k] - excess)
            total += powers[k]
        for k in range(last + 1):
            probabilities[text, k] = powers[k] / total


# The parts of `_add_logits`. Numba copies them into it: as calls they would take a third more time.
@njit(inline="always", error_model="numpy")
def _add_mean_logits(total, recent, dense, slot, length, logits):
    """Add the dense layer over the mean of a text's outputs to its `logits`: float64[K - 1]."""
    for k in range(len(logits)):
        logit = 0.0
        for unit in range(dense.shape[1]):
            j = (unit // LANES * SLOTS + slot) * LANES + unit % LANES
            logit += (total[j] + recent[j]) * dense[k, unit]
        logits[k] += logit / length


@njit(inline="always", error_model="numpy")
def _first_token(table, row, bigram_row, slot, panels, state, gates):
    """The state after a text's first token. The h before it is zero, so there is no product."""
    h, _, cell, recent, total = state
    for p in range(panels):
        base = (p * SLOTS + slot) * LANES
        for j in range(4 * LANES):
            gates[j] = _exp2(table[row + j] + table[bigram_row + j])
        for j in range(LANES):
            i, f, g = gates[j], gates[LANES + j], gates[2 * LANES + j]
            cell[base + j] = _next_cell(i, f, g, np.float32(0))
        for j in range(LANES):
            c = _exp2(np.float32(2 * _LOG2E) * cell[base + j])
            h[base + j] = recent[base + j] = _output(gates[3 * LANES + j], c)
            total[base + j] = 0
        row += 4 * LANES
        bigram_row += 4 * LANES


@njit(inline="always", error_model="numpy")
def _flush(total, recent, slot, panels):
    """Add a slot's float32 sums of recent outputs to its float64 sums."""
    for p in range(panels):
        for j in range((p * SLOTS + slot) * LANES, (p * SLOTS + slot + 1) * LANES):
            total[j] += recent[j]
            recent[j] = 0


@njit(inline="always", error_model="numpy")
def _next_outputs(gates, base, cell, recent, next_h):
    """The cells and outputs of one panel, which begins at `base`, from its gate inputs.

    The gates are in Keras's order: input, forget, candidate, output. Each loop has one 2**x at
    most: the constants and variables of two do not fit into 16 registers.
    """
    for j in range(4 * PANEL_FLOATS):
        gates[j] = _exp2(gates[j])
    for j in range(PANEL_FLOATS):
        i, f, g = gates[j], gates[PANEL_FLOATS + j], gates[2 * PANEL_FLOATS + j]
        cell[base + j] = _next_cell(i, f, g, cell[base + j])
    for j in range(PANEL_FLOATS):
        gates[j] = _exp2(np.float32(2 * _LOG2E) * cell[base + j])
    for j in range(PANEL_FLOATS):
        next_h[base + j] = _output(gates[3 * PANEL_FLOATS + j], gates[j])
        recent[base + j] += next_h[base + j]


# Without error_model="numpy" a check for division by zero keeps the loops from vectorizing.
@cached_njit(numba_internals.__file__, error_model="numpy", nogil=True)
def _add_logits(
    ids,
    bigram_ids,
    bigram_row,
    offsets,
    model,
    state,
    gates,
    logits,
):
    """Run one LSTM over texts, and add its share to each text's logits.

    Texts without tokens are skipped.

    Args:
        ids: int32[tokens], the words' ids.
        bigram_ids: int32[tokens], the id of the bigram that ends with each word, or 0; None for a
            model without bigrams.
        bigram_row: int64[SLOTS], working memory; None if `bigram_ids` is None.
        offsets: int64[n + 1].
        model: table: float32[(V + 1) * panels * 4 * LANES], recurrent: float32[panels * H * 4 *
            LANES] and dense: float64[K - 1, H].
        state: h, next_h, cell and recent: float32[panels * SLOTS * LANES], and total: float64 of
            the same size; working memory.
        gates: float32[4 * SLOTS * LANES], working memory.
        logits: float64[n, K - 1].
    """
    table, recurrent, dense = model
    h, next_h, cell, recent, total = state
    units, texts = dense.shape[1], len(logits)
    panels = (units + LANES - 1) // LANES
    width = panels * 4 * LANES
    zero_row = len(table) - width
    # The text in each slot, where its next token is, and where it ends.
    text = np.full(SLOTS, -1)
    at, end = np.zeros(SLOTS, np.int64), np.zeros(SLOTS, np.int64)
    # Where in the table the rows of this step and of the next begin.
    row, next_row = np.zeros(SLOTS, np.int64), np.zeros(SLOTS, np.int64)
    next_bigram_row = np.zeros(SLOTS, np.int64)
    # Slots of each group that have a text.
    running = np.zeros(GROUPS, np.int64)
    next_text = 0
    while True:
        running[:] = 0
        for s in range(SLOTS):
            while at[s] == end[s]:
                if text[s] >= 0:
                    length = offsets[text[s] + 1] - offsets[text[s]]
                    _add_mean_logits(total, recent, dense, s, length, logits[text[s]])
                    text[s] = -1
                while next_text < texts and offsets[next_text] == offsets[next_text + 1]:
                    next_text += 1
                if next_text == texts:
                    break
                text[s], at[s], end[s] = next_text, offsets[next_text], offsets[next_text + 1]
                next_text += 1
                first_row = np.int64(ids[at[s]]) * width
                first_bigram_row = zero_row
                if bigram_ids is not None and bigram_ids[at[s]]:
                    first_bigram_row = np.int64(bigram_ids[at[s]]) * width
                at[s] += 1
                memory = (h, next_h, cell, recent, total)
                _first_token(table, first_row, first_bigram_row, s, panels, memory, gates)
            if at[s] == end[s]:
                # An idle slot computes with any row of the table.
                row[s] = next_row[s] = 0
                if bigram_ids is not None:
                    bigram_row[s] = next_bigram_row[s] = 0
                continue
            if (at[s] - offsets[text[s]]) % _FLUSH_TOKENS == 0:
                _flush(total, recent, s, panels)
            row[s] = np.int64(ids[at[s]]) * width
            if bigram_ids is not None:
                after = at[s] + 1
                bigram_row[s] = next_bigram_row[s] = zero_row
                if bigram_ids[at[s]]:
                    bigram_row[s] = np.int64(bigram_ids[at[s]]) * width
                if after < end[s] and bigram_ids[after]:
                    next_bigram_row[s] = np.int64(bigram_ids[after]) * width
            at[s] += 1
            next_row[s] = np.int64(ids[at[s]]) * width if at[s] < end[s] else row[s]
            running[s // GROUP_SLOTS] += 1
        if running.sum() == 0:
            return
        for p in range(panels):
            for group in range(GROUPS):
                if running[group] == 0:
                    continue
                first = group * GROUP_SLOTS
                panel_start = p * units * 4 * LANES
                gate_inputs(gates, table, row, bigram_row, first, h, recurrent, panel_start, units)
                # The next step's rows are far away in memory, so they are asked for a step ahead.
                for s in range(first, first + GROUP_SLOTS):
                    for j in range(0, 4 * LANES, _CACHE_LINE_FLOATS):
                        prefetch(table, next_row[s] + j)
                    row[s] += 4 * LANES
                    next_row[s] += 4 * LANES
                    if bigram_ids is not None:
                        if next_bigram_row[s] < zero_row:
                            for j in range(0, 4 * LANES, _CACHE_LINE_FLOATS):
                                prefetch(table, next_bigram_row[s] + j)
                        bigram_row[s] += 4 * LANES
                        next_bigram_row[s] += 4 * LANES
            # Now, while the gates are in the L1 cache.
            _next_outputs(gates, p * PANEL_FLOATS, cell, recent, next_h)
        h, next_h = next_h, h
