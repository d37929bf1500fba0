"""Vector instructions for the kernel, written in LLVM through Numba's and llvmlite's internals.

This is the only module of the package that uses more of them than `numba.njit`. When an upgrade
moves something, `tests/sentiment/model/test_numba_internals.py` names it.

Layout of the kernel's arrays, all flat: LANES units of a hidden state make a panel. A state is
float32[panels, SLOTS, LANES], one slot per text in progress; the gates of one panel are
float32[4, SLOTS, LANES]. Slots are multiplied in GROUPS of GROUP_SLOTS.
"""

import platform

from llvmlite import ir
from numba import config, types
from numba.core import cgutils
from numba.core.codegen import get_host_cpu_features
from numba.extending import intrinsic


def cpu_features() -> set[str]:
    """LLVM's names of what this CPU can do, such as `+avx2`, as Numba compiles for it."""
    features = config.CPU_FEATURES
    return set((get_host_cpu_features() if features is None else features).split(","))


def _vector_sizes() -> tuple[int, int]:
    """float32 numbers in a vector, and slots whose sums fit into the registers.

    For each slot a product holds 4 vectors of sums and one of h, and for all slots one of the
    recurrent kernel. So 6 slots take 31 of 32 registers, and 3 slots take 16 of 16.
    """
    features = cpu_features()
    is_arm = platform.machine() in ("aarch64", "arm64")
    lanes = 16 if "+avx512f" in features else 8 if "+avx" in features else 4
    return lanes, 6 if lanes == 16 or is_arm else 3


LANES, GROUP_SLOTS = _vector_sizes()
GROUPS = 4
"""Products that use a panel of the recurrent kernel in turn, while it is in the L1 cache."""
SLOTS = GROUPS * GROUP_SLOTS
PANEL_FLOATS = SLOTS * LANES
"""float32 numbers of one panel and one gate, for all slots."""


@intrinsic
def fma(typing_context, a, b, c):
    """a * b + c, rounded once if the CPU can. Numba's fastmath would let the compiler decide."""
    return c(c, c, c), lambda context, builder, signature, values: _call_fma(builder, values)


def _call_fma(builder, values):
    kind = values[0].type
    name = f"v{LANES}f32" if isinstance(kind, ir.VectorType) else kind.intrinsic_name
    function = ir.FunctionType(kind, [kind] * 3)
    name = f"llvm.fmuladd.{name}"
    return builder.call(cgutils.get_or_insert_function(builder.module, function, name), values)


@intrinsic
def times_power_of_two(typing_context, value, exponent):
    """value * 2**n for float32 arguments, n being the integer in the last bits of `exponent`."""

    def generate(context, builder, signature, values):
        int32 = ir.IntType(32)
        value, exponent = (builder.bitcast(argument, int32) for argument in values)
        exponent = builder.shl(exponent, int32(23))
        return builder.bitcast(builder.add(value, exponent), values[0].type)

    return types.float32(types.float32, types.float32), generate


@intrinsic
def prefetch(typing_context, array, index):
    """Ask for the cache line of `array[index]` without waiting for it."""

    def generate(context, builder, signature, values):
        data = context.make_array(signature.args[0])(context, builder, values[0]).data
        line = builder.bitcast(builder.gep(data, [values[1]]), cgutils.voidptr_t)
        int32 = ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [line.type, int32, int32, int32])
        function = builder.module.declare_intrinsic("llvm.prefetch", [line.type], kind)
        read, into_l2, data_cache = int32(0), int32(2), int32(1)
        builder.call(function, [line, read, into_l2, data_cache])
        return context.get_dummy_value()

    return types.void(array, index), generate


@intrinsic
def gate_inputs(
    typing_context, gates, table, rows, bigram_rows, slot, h, recurrent, panel_start, units
):
    """gates = table rows of words + table rows of bigrams + h @ recurrent, for one group and panel.

    Written in LLVM's vectors: from loops over arrays Numba makes code that loads and stores the
    sums at every step.

    Args:
        typing_context: given by Numba.
        gates: float32[4, SLOTS, LANES], gets the gate inputs of the group's slots.
        table: float32[...], the folded table.
        rows: int64[SLOTS], where in `table` each slot's word has its numbers of this panel.
        bigram_rows: int64[SLOTS], the same for bigrams; None for a model without bigrams.
        slot: int64, the first slot of the group.
        h: float32[panels, SLOTS, LANES], the previous outputs.
        recurrent: float32[panels, units, 4, LANES], the recurrent kernel.
        panel_start: int64, where in `recurrent` the panel begins.
        units: int64, H.
    """
    int64 = types.int64
    signature = types.void(gates, table, rows, bigram_rows, int64, h, recurrent, int64, int64)

    def generate(context, builder, signature, values):
        gates, table, rows, h, recurrent, *if_bigram_rows = (
            context.make_array(signature.args[n])(context, builder, values[n]).data
            for n in (0, 1, 2, 5, 6, 3)
            if signature.args[n] != types.none
        )
        slot, panel_start, units = (values[n] for n in (4, 7, 8))
        number, vector = ir.IntType(64), ir.VectorType(ir.FloatType(), LANES)
        slot_start = builder.mul(slot, number(LANES))
        first_lane = ir.Constant(ir.VectorType(ir.IntType(32), LANES), None)
        sums = {
            (gate, member): cgutils.alloca_once(builder, vector)
            for gate in range(4)
            for member in range(GROUP_SLOTS)
        }

        def address(array, start, offset):
            return builder.gep(array, [builder.add(start, number(offset))])

        def load(array, start, offset):
            place = builder.bitcast(address(array, start, offset), vector.as_pointer())
            return builder.load(place, align=4)

        for (gate, member), total in sums.items():
            row = builder.load(address(rows, slot, member))
            value = load(table, row, gate * LANES)
            for bigram_rows in if_bigram_rows:
                bigram_row = builder.load(address(bigram_rows, slot, member))
                value = builder.fadd(value, load(table, bigram_row, gate * LANES))
            builder.store(value, total)
        with cgutils.for_range(builder, units) as unit:
            panel = builder.udiv(unit.index, number(LANES))
            h_unit = builder.add(unit.index, builder.mul(panel, number((SLOTS - 1) * LANES)))
            h_unit = builder.add(slot_start, h_unit)
            weights = builder.add(panel_start, builder.mul(unit.index, number(4 * LANES)))
            # The values of h stay in registers while the recurrent kernel passes. The other way
            # round takes one register too many on CPUs with 16.
            spread = []
            for member in range(GROUP_SLOTS):
                place = address(h, h_unit, member * LANES)
                place = builder.bitcast(place, vector.element.as_pointer())
                value = builder.load(place)
                value = builder.insert_element(vector(ir.Undefined), value, number(0))
                spread.append(builder.shuffle_vector(value, value, first_lane))
            for gate in range(4):
                factor = load(recurrent, weights, gate * LANES)
                for member in range(GROUP_SLOTS):
                    total = builder.load(sums[gate, member])
                    total = _call_fma(builder, [spread[member], factor, total])
                    builder.store(total, sums[gate, member])
        for (gate, member), total in sums.items():
            place = address(gates, slot_start, gate * PANEL_FLOATS + member * LANES)
            place = builder.bitcast(place, vector.as_pointer())
            builder.store(builder.load(total), place, align=4)
        return context.get_dummy_value()

    return signature, generate
