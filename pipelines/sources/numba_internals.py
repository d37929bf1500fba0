"""What scanning uses of Numba and llvmlite beyond `numba.njit`.

One private option: no reference counts. Numba counts references to arrays each time a function is
called with them. In a loop over the tokens of a file, that takes three quarters of the time.
Functions that make no array need no counts. The option has no public name.

Vector instructions, written in LLVM: BLOCK_BYTES bytes are compared or copied at once, in as few
instructions as the CPU has for it.

When an upgrade moves something, `tests/pipelines/sources/test_numba_internals.py` fails.
"""

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from sentiment.numba_cache import cached_njit

BLOCK_BYTES = 64
"""Bytes that are compared or copied at once. A uint64 has a bit for each."""

_BLOCK = ir.VectorType(ir.IntType(8), BLOCK_BYTES)


def scanner(function: Callable[..., Any]) -> Callable[..., Any]:
    """Decorator: compile a function that makes no array; it runs without the GIL."""
    # It may call the intrinsics of this file.
    compiled: Callable[..., Any] = cached_njit(__file__, nogil=True, _nrt=False)(function)
    return compiled


def step(function: Callable[..., Any]) -> Callable[..., Any]:
    """Decorator: compile a function as a part of the scanners that call it."""
    compiled: Callable[..., Any] = njit(nogil=True, _nrt=False)(function)
    return compiled


@intrinsic
def places_of(typing_context, data, start, byte):
    """uint64 with a bit for each of the BLOCK_BYTES bytes `data[start:]`: whether it is `byte`.

    The lowest bit is for the first byte. Nothing checks that the array has so many bytes.
    """

    def generate(context, builder, signature, values):
        block = builder.load(_address(context, builder, signature.args[0], *values[:2]), align=1)
        byte = builder.trunc(values[2], _BLOCK.element)
        byte = builder.insert_element(_BLOCK(ir.Undefined), byte, ir.IntType(32)(0))
        first_lane = ir.Constant(ir.VectorType(ir.IntType(32), BLOCK_BYTES), None)
        everywhere = builder.shuffle_vector(byte, byte, first_lane)
        return builder.bitcast(builder.icmp_unsigned("==", block, everywhere), ir.IntType(64))

    return types.uint64(data, types.int64, types.int64), generate


@intrinsic
def copy_block(typing_context, source, source_start, target, target_start):
    """Copy BLOCK_BYTES bytes from one uint8 array to another. Nothing checks that they have so
    many."""

    def generate(context, builder, signature, values):
        read = _address(context, builder, signature.args[0], *values[:2])
        write = _address(context, builder, signature.args[2], *values[2:])
        builder.store(builder.load(read, align=1), write, align=1)
        return context.get_dummy_value()

    return types.void(source, types.int64, target, types.int64), generate


@intrinsic
def lowest_bit(typing_context, bits):
    """int64: the number of the lowest bit that is set in a uint64 that is not 0."""

    def generate(context, builder, signature, values):
        return builder.cttz(values[0], ir.IntType(1)(1))

    return types.int64(types.uint64), generate


def _address(context, builder, kind, array, start):
    """Pointer to the BLOCK_BYTES bytes of an array from an index on."""
    data = context.make_array(kind)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [start]), _BLOCK.as_pointer())
