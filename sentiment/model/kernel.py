"""Token ids -> probabilities on one CPU core: the LSTM as one compiled function, no TensorFlow.

Two identities make a step of the recurrence one gather, one product and one exponential. The
embedding, the input kernel and the bias fold into one table with a row of gate inputs a token. And
since sigmoid(x) = 1 / (1 + exp(-x)) and tanh(x) = (exp(2x) - 1) / (exp(2x) + 1), the factors, with
log2(e) for a power of two, fold into table and recurrent kernel too, so that all four gates are one
loop of 2**x. A bigram has a row of the table, too, which is added to that of its second word.

Texts flow through a fixed number of slots: a text that ends makes room for the next one, so nothing
is sorted or padded, and memory does not grow with length. A text's numbers go through the same
operations in the same order in every slot, and every fused multiply-add is written as one, so its
probability is the same to the last bit in any batch and with vectors of any width.

A model that reads both ways is two such LSTMs, the second over texts that are turned round: the
mean does not mind in which order outputs come.
"""

import math
import platform
import time
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from llvmlite import ir
from numba import config, njit, types
from numba.core import cgutils
from numba.core.codegen import get_host_cpu_features
from numba.extending import intrinsic

from sentiment.checkpoint import lstms
from sentiment.text.bigrams import Bigrams


def _machine() -> tuple[int, int]:
    """float32 in a vector, and texts whose sums fit into the registers, as Numba sees this CPU.

    A product keeps 4 vectors of sums and one of h a text, and one of the recurrent kernel: 6 texts
    take 31 of 32 registers, 3 take 16 of 16.
    """
    features = config.CPU_FEATURES
    known = set((get_host_cpu_features() if features is None else features).split(","))
    arm = platform.machine() in ("aarch64", "arm64")
    lanes = 16 if "+avx512f" in known else 8 if "+avx" in known else 4
    return lanes, 6 if lanes == 16 or arm else 3


LANES, ROWS = _machine()
GROUPS = 4
"""Products that share a panel of the recurrent kernel while it is in the nearest cache."""
SLOTS = GROUPS * ROWS
CELLS = SLOTS * LANES
"""Numbers of a panel, of one gate and all slots."""

_LINE = 16
"""float32 in a cache line, on most machines."""

_LOG2E = math.log2(math.e)
_GATES = np.array([-_LOG2E, -_LOG2E, 2 * _LOG2E, -_LOG2E])
"""What makes 2**x of the input, forget, candidate and output gate's x."""

_MOST_INPUT = 1e38
"""A gate's input from a row of the table is at most that: two rows add up to a finite number."""

_FLUSH = 64
"""Outputs of a text that are summed in float32 before float64 takes them: of 100,000 it would lose
the third digit."""

_ARRAYS = ("_table", "_recurrent", "_dense")


class LSTMKernel:
    """A model's weights, folded, ready to compute on one core, from several threads if need be.

    A pickle takes the folded table along: where several processes unpickle it from memory they
    share, as Ray's actors do, they share the table. On a machine of another vector width it folds
    anew.
    """

    _table: np.ndarray
    _recurrent: np.ndarray
    _dense: np.ndarray

    def __init__(self, weights: Mapping[str, np.ndarray], bigrams: Bigrams | None = None) -> None:
        """Compiles, or loads what was compiled.

        Args:
            weights: `sentiment.checkpoint.Checkpoint.weights`.
            bigrams: those of its vocabulary; None: it has none.
        """
        began = time.monotonic()
        self._weights = {name: _frozen(value, value.dtype) for name, value in weights.items()}
        self._bigrams = bigrams
        self._lanes = LANES
        entries = len(weights["embedding"])
        self._words = entries - (len(bigrams) if bigrams else 0)
        names = lstms(weights)
        units = len(weights["lstm/recurrent_kernel"])
        self._width = -(-units // LANES) * LANES * 4
        # The last row is of zeros: what a word has that ends no bigram.
        table = _aligned(len(names) * (entries + 1) * self._width)
        recurrent = _aligned(len(names) * units * self._width)
        for name, *its in zip(
            names, np.split(table, len(names)), np.split(recurrent, len(names)), strict=True
        ):
            self._fold(name, *its)
        # Softmax over two classes is the sigmoid of the difference of their logits.
        dense = np.subtract(*weights["dense/kernel"].T[::-1].astype(np.float64))
        for name, array in zip(_ARRAYS, (table, recurrent, dense), strict=True):
            setattr(self, name, _frozen(array, array.dtype))
        self._bias = float(np.subtract(*weights["dense/bias"][::-1].astype(np.float64)))
        self._directions = len(names)
        self._compile()
        self.load_seconds = time.monotonic() - began
        """How long it took to be ready in this process."""

    def _fold(self, name: str, table: np.ndarray, recurrent: np.ndarray) -> None:
        """Fill the table and the recurrent kernel of one of the LSTMs."""
        weights = self._weights
        scale = np.repeat(_GATES, len(weights[f"{name}/recurrent_kernel"]))
        embedding = np.asarray(weights["embedding"], np.float32)
        kernel = _panels(weights[f"{name}/kernel"] * scale).swapaxes(0, 1)
        bias = _panels(weights[f"{name}/bias"][None] * scale)
        fold = (_frozen(array, array.dtype) for array in (embedding, kernel, bias))
        _fold(*fold, self._words, table)
        panels = _panels(weights[f"{name}/recurrent_kernel"] * scale)
        # As good as infinite, which times an h of 0 would be no number.
        limit = np.finfo(np.float32).max
        recurrent[:] = panels.ravel().clip(-limit, limit)

    def __setstate__(self, state: dict[str, Any]) -> None:
        began = time.monotonic()
        if state["_lanes"] != LANES:
            self.__init__(state["_weights"], state["_bigrams"])  # type: ignore[misc]  # of this class, as pickled
        else:
            for name, value in state.items():
                # Not every way of pickling keeps arrays read-only, and others would be compiled
                # anew.
                setattr(self, name, _frozen(value, value.dtype) if name in _ARRAYS else value)
            self._compile()
        self.load_seconds = time.monotonic() - began

    def _compile(self) -> None:
        """No first batch shall wait for the compiler."""
        self(np.zeros(0, np.int32), np.zeros(1, np.int64))

    @property
    def table_bytes(self) -> int:
        """What the folded table costs: (vocabulary + 1) x 4 x padded hidden size x 4 bytes, twice
        for a model that reads both ways."""
        return self._table.nbytes

    def __call__(self, ids: np.ndarray, offsets: np.ndarray) -> np.ndarray:
        """The probability that each text is positive.

        Args:
            ids: int32, the words' ids of all texts, one after another.
            offsets: int64 (n + 1,), where each text's ids begin, and the end.

        Returns:
            float32 (n,), in the order of the texts.

        Raises ValueError for ids that are not in the vocabulary, or offsets not within the ids.
        """
        if ids.ndim != 1 or offsets.ndim != 1 or {ids.dtype.kind, offsets.dtype.kind} - set("iu"):
            raise ValueError("ids and offsets are not one-dimensional arrays of integers")
        offsets = _frozen(offsets, np.int64)
        if not len(offsets) or offsets[0] < 0 or offsets[-1] > len(ids):
            raise ValueError(f"offsets do not go from 0 or more to at most {len(ids)}")
        if (offsets[1:] < offsets[:-1]).any():
            raise ValueError("offsets do not ascend")
        # Checked in their own type: the cast could bring an id into the range.
        used = ids[offsets[0] : offsets[-1]]
        if len(used) and not 0 <= used.min() <= used.max() < self._words:
            raise ValueError(
                f"ids from {used.min()} to {used.max()} are not in a vocabulary of {self._words}"
            )
        tokens, offsets = _frozen(used, np.int32), _frozen(offsets - offsets[0], np.int64)
        pairs = self._bigrams(tokens, offsets) if self._bigrams else None
        # In `_score` what `row` is of words. Where it is None, nothing is compiled for bigrams.
        place = None if pairs is None else np.zeros(SLOTS, np.int64)
        size = self._width // 4 * SLOTS
        state = (*(_aligned(size) for _ in range(4)), _aligned(size, np.float64))
        logits = np.zeros(len(offsets) - 1)
        for direction in range(self._directions):
            if direction:
                turned = np.repeat(offsets[:-1] + offsets[1:] - 1, np.diff(offsets))
                turned -= np.arange(len(used))
                tokens = _frozen(tokens[turned], np.int32)
                pairs = None if pairs is None else pairs[turned]
            model = (np.split(array, self._directions)[direction] for array in self._arrays())
            _score(tokens, pairs, place, offsets, tuple(model), state, _aligned(4 * CELLS), logits)
        probabilities = np.empty(len(logits), np.float32)
        _answer(logits, self._bias, probabilities)
        return probabilities

    def _arrays(self) -> Iterator[np.ndarray]:
        return (getattr(self, name) for name in _ARRAYS)


def _panels(gates: np.ndarray) -> np.ndarray:
    """(panels, n, 4, LANES) from (n, 4H): a panel is what LANES units need, zeros after the last.

    So a step's product for some units ends with all that their cells need in registers.
    """
    n, units = len(gates), gates.shape[1] // 4
    panels = -(-units // LANES)
    padded = np.zeros((n, 4, panels * LANES))
    padded[:, :, :units] = gates.reshape(n, 4, units)
    return np.ascontiguousarray(padded.reshape(n, 4, panels, LANES).transpose(2, 0, 1, 3))


def _aligned(size: int, dtype: type = np.float32) -> np.ndarray:
    """Zeros that begin a cache line: a vector across two lines takes twice as long to load."""
    length = size * np.dtype(dtype).itemsize
    memory = np.zeros(length + 64, np.uint8)
    first = -memory.ctypes.data % 64
    return memory[first : first + length].view(dtype)


def _frozen(array: np.ndarray, dtype: np.dtype | type) -> np.ndarray:
    """A read-only view: callers give both kinds, and each kind would be compiled by itself."""
    view = np.ascontiguousarray(array, dtype).view()
    view.flags.writeable = False
    return view


@intrinsic
def _fma(typing_context, a, b, c):
    """a * b + c, rounded once where the machine can: fastmath would leave it to the compiler."""
    return c(c, c, c), lambda context, builder, signature, values: _call_fma(builder, values)


def _call_fma(builder, values):
    kind = values[0].type
    name = f"v{LANES}f32" if isinstance(kind, ir.VectorType) else kind.intrinsic_name
    function = ir.FunctionType(kind, [kind] * 3)
    name = f"llvm.fmuladd.{name}"
    return builder.call(cgutils.get_or_insert_function(builder.module, function, name), values)


@intrinsic
def _scaled(typing_context, value, exponent):
    """value * 2**n, n being what the last bits of the float exponent count."""

    def generate(context, builder, signature, values):
        number = ir.IntType(32)
        value, exponent = (builder.bitcast(each, number) for each in values)
        exponent = builder.shl(exponent, number(23))
        return builder.bitcast(builder.add(value, exponent), values[0].type)

    return types.float32(types.float32, types.float32), generate


@intrinsic
def _prefetch(typing_context, array, place):
    """Ask for the cache line of `array[place]`, without waiting for it."""

    def generate(context, builder, signature, values):
        data = context.make_array(signature.args[0])(context, builder, values[0]).data
        line = builder.bitcast(builder.gep(data, [values[1]]), cgutils.voidptr_t)
        number = ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [line.type, number, number, number])
        function = builder.module.declare_intrinsic("llvm.prefetch", [line.type], kind)
        # Data, to read, into the second cache.
        builder.call(function, [line, number(0), number(2), number(1)])
        return context.get_dummy_value()

    return types.void(array, place), generate


@intrinsic
def _product(typing_context, gates, table, rows, pairs, slot, h, recurrent, panel_at, units):
    """gates = two rows of the table + h @ recurrent, for ROWS texts from a slot on and one panel.

    gates is (4, SLOTS, LANES). The places in the table of the texts' words and bigrams are in
    rows[slot:] and pairs[slot:] (None: there are none), and the panel begins at panel_at. In
    LLVM's own vectors: from loops over arrays it makes code that loads and stores the sums at every
    step.
    """
    place = types.int64
    signature = types.void(gates, table, rows, pairs, place, h, recurrent, place, place)

    def generate(context, builder, signature, values):
        gates, table, rows, h, recurrent, *places = (
            context.make_array(signature.args[n])(context, builder, values[n]).data
            for n in (0, 1, 2, 5, 6, 3)
            if signature.args[n] != types.none
        )
        slot, panel_at, units = (values[n] for n in (4, 7, 8))
        number, vector = ir.IntType(64), ir.VectorType(ir.FloatType(), LANES)
        slot_at = builder.mul(slot, number(LANES))
        everywhere = ir.Constant(ir.VectorType(ir.IntType(32), LANES), None)
        sums = {(g, r): cgutils.alloca_once(builder, vector) for g in range(4) for r in range(ROWS)}

        def at(array, start, more):
            return builder.gep(array, [builder.add(start, number(more))])

        def load(array, start, more):
            return builder.load(
                builder.bitcast(at(array, start, more), vector.as_pointer()), align=4
            )

        for (g, r), total in sums.items():
            value = load(table, builder.load(at(rows, slot, r)), g * LANES)
            for pairs in places:
                pair = load(table, builder.load(at(pairs, slot, r)), g * LANES)
                value = builder.fadd(value, pair)
            builder.store(value, total)
        with cgutils.for_range(builder, units) as unit:
            panel = builder.udiv(unit.index, number(LANES))
            h_unit = builder.add(unit.index, builder.mul(panel, number((SLOTS - 1) * LANES)))
            h_unit = builder.add(slot_at, h_unit)
            weights = builder.add(panel_at, builder.mul(unit.index, number(4 * LANES)))
            # The values of h stay while the recurrent kernel passes: the other way round it is one
            # register too many where there are 16.
            spread = []
            for r in range(ROWS):
                value = builder.bitcast(at(h, h_unit, r * LANES), vector.element.as_pointer())
                value = builder.insert_element(vector(ir.Undefined), builder.load(value), number(0))
                spread.append(builder.shuffle_vector(value, value, everywhere))
            for g in range(4):
                factor = load(recurrent, weights, g * LANES)
                for r in range(ROWS):
                    total = builder.load(sums[g, r])
                    builder.store(_call_fma(builder, [spread[r], factor, total]), sums[g, r])
        for (g, r), total in sums.items():
            place = builder.bitcast(at(gates, slot_at, g * CELLS + r * LANES), vector.as_pointer())
            builder.store(builder.load(total), place, align=4)
        return context.get_dummy_value()

    return signature, generate


# What overflows becomes infinite, and as a gate input that is as good as any large number: no NaN
# can come of it, since all that is added to it is finite (outputs are at most 1).
#
# Not a BLAS product: those round by the machine, and start a thread a core.
@njit(cache=True, nogil=True)
def _fold(embedding, kernel, bias, words, table):
    tokens, size = embedding.shape
    columns, gates = kernel.reshape(size, -1), bias.ravel()
    width = len(gates)
    row = np.empty(width)
    for token in range(tokens):
        row[:] = gates if token < words else np.zeros_like(gates)
        for k in range(size):
            value = np.float64(embedding[token, k])
            for j in range(width):
                row[j] = _fma(value, columns[k, j], row[j])
        for j in range(width):
            table[token * width + j] = min(max(row[j], -_MOST_INPUT), _MOST_INPUT)


@njit(inline="always", error_model="numpy")
def _exp2(x):
    """2**x, for x beyond 60 as for 60: exact to 1.3e-7, and sigmoid and tanh then are 0 or 1.

    The polynomial has the least largest error between -1/2 and 1/2 of those that are 1 at 0.
    """
    x = min(max(x, np.float32(-60)), np.float32(60))
    # So large a float has no digits after the point: the nearest integer is in its last bits.
    rounded = x + np.float32(1.5 * 2**23)
    x -= rounded - np.float32(1.5 * 2**23)
    p = _fma(x, np.float32(0.001326472731307149), np.float32(0.009671512991189957))
    p = _fma(x, p, np.float32(0.05550733581185341))
    p = _fma(x, p, np.float32(0.24022242426872253))
    p = _fma(x, p, np.float32(0.6931470036506653))
    p = _fma(x, p, np.float32(1))
    return _scaled(p, rounded)


@njit(inline="always", error_model="numpy")
def _next_cell(i, f, g, cell):
    """sigmoid(f) cell + sigmoid(i) tanh(g), from the gates' powers of two."""
    one = np.float32(1)
    return _fma(one / (one + f), cell, (g - one) / ((one + i) * (one + g)))


@njit(inline="always", error_model="numpy")
def _output(o, c):
    """sigmoid(o) tanh(cell), from their powers of two."""
    one = np.float32(1)
    return (c - one) / ((one + o) * (one + c))


@njit(cache=True)
def _answer(logits, bias, probabilities):
    for text in range(len(logits)):
        probabilities[text] = 1 / (1 + math.exp(-(logits[text] + bias)))


# h, cell, recent and total are (panels, SLOTS, LANES), flat, and gates (4, SLOTS, LANES). Slot s's
# numbers of panel p begin at (p * SLOTS + s) * LANES.
#
# Without error_model="numpy" a check for division by zero keeps the loops from vectorizing. And a
# loop has no more than one 2**x: what two of them take does not fit into 16 registers.
@njit(error_model="numpy", cache=True, nogil=True)
def _score(ids, pairs, pair, offsets, model, state, gates, logits):
    table, recurrent, dense = model
    h, following_h, cell, recent, total = state
    units, texts = len(dense), len(logits)
    panels = (units + LANES - 1) // LANES
    width = panels * 4 * LANES
    nothing = len(table) - width
    twice = np.float32(2 * _LOG2E)
    text = np.full(SLOTS, -1)
    at, end = np.zeros(SLOTS, np.int64), np.zeros(SLOTS, np.int64)
    # Where in the table the rows of this step and of the next begin.
    row, following_row = np.zeros(SLOTS, np.int64), np.zeros(SLOTS, np.int64)
    following_pair = np.zeros(SLOTS, np.int64)
    running = np.zeros(GROUPS, np.int64)
    following = 0
    while True:
        running[:] = 0
        for s in range(SLOTS):
            while at[s] == end[s]:
                if text[s] >= 0:
                    logit = 0.0
                    for k in range(units):
                        j = (k // LANES * SLOTS + s) * LANES + k % LANES
                        logit += (total[j] + recent[j]) * dense[k]
                    length = offsets[text[s] + 1] - offsets[text[s]]
                    logits[text[s]] += logit / length
                    text[s] = -1
                while following < texts and offsets[following] == offsets[following + 1]:
                    following += 1
                if following == texts:
                    break
                text[s], at[s], end[s] = following, offsets[following], offsets[following + 1]
                following += 1
                # Before the first token h is zero, and there is no product.
                first = np.int64(ids[at[s]]) * width
                its_pair = nothing
                if pairs is not None and pairs[at[s]]:
                    its_pair = np.int64(pairs[at[s]]) * width
                at[s] += 1
                for p in range(panels):
                    base = (p * SLOTS + s) * LANES
                    for j in range(4 * LANES):
                        gates[j] = _exp2(table[first + j] + table[its_pair + j])
                    for j in range(LANES):
                        i, f, g = gates[j], gates[LANES + j], gates[2 * LANES + j]
                        cell[base + j] = _next_cell(i, f, g, np.float32(0))
                    for j in range(LANES):
                        c = _exp2(twice * cell[base + j])
                        h[base + j] = recent[base + j] = _output(gates[3 * LANES + j], c)
                        total[base + j] = 0
                    first += 4 * LANES
                    its_pair += 4 * LANES
            if at[s] == end[s]:
                # The slot runs idle, on any row of the table.
                row[s] = following_row[s] = 0
                if pairs is not None:
                    pair[s] = following_pair[s] = 0
                continue
            if (at[s] - offsets[text[s]]) % _FLUSH == 0:
                for p in range(panels):
                    for j in range((p * SLOTS + s) * LANES, (p * SLOTS + s + 1) * LANES):
                        total[j] += recent[j]
                        recent[j] = 0
            row[s] = np.int64(ids[at[s]]) * width
            if pairs is not None:
                more = at[s] + 1
                pair[s] = following_pair[s] = nothing
                if pairs[at[s]]:
                    pair[s] = np.int64(pairs[at[s]]) * width
                if more < end[s] and pairs[more]:
                    following_pair[s] = np.int64(pairs[more]) * width
            at[s] += 1
            following_row[s] = np.int64(ids[at[s]]) * width if at[s] < end[s] else row[s]
            running[s // ROWS] += 1
        if running.sum() == 0:
            return
        for p in range(panels):
            for group in range(GROUPS):
                if running[group] == 0:
                    continue
                first = group * ROWS
                panel_at = p * units * 4 * LANES
                _product(gates, table, row, pair, first, h, recurrent, panel_at, units)
                # The next step's rows come from far: they are asked for a step ahead.
                for s in range(first, first + ROWS):
                    for j in range(0, 4 * LANES, _LINE):
                        _prefetch(table, following_row[s] + j)
                    row[s] += 4 * LANES
                    following_row[s] += 4 * LANES
                    if pairs is not None:
                        if following_pair[s] < nothing:
                            for j in range(0, 4 * LANES, _LINE):
                                _prefetch(table, following_pair[s] + j)
                        pair[s] += 4 * LANES
                        following_pair[s] += 4 * LANES
            # While the gates are in the nearest cache, in Keras's order: input, forget, candidate,
            # output.
            base = p * CELLS
            for j in range(4 * CELLS):
                gates[j] = _exp2(gates[j])
            for j in range(CELLS):
                i, f, g = gates[j], gates[CELLS + j], gates[2 * CELLS + j]
                cell[base + j] = _next_cell(i, f, g, cell[base + j])
            for j in range(CELLS):
                gates[j] = _exp2(twice * cell[base + j])
            for j in range(CELLS):
                following_h[base + j] = _output(gates[3 * CELLS + j], gates[j])
                recent[base + j] += following_h[base + j]
        h, following_h = following_h, h
