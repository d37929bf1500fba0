"""The internals of Numba and llvmlite that the kernel uses are there, and do what we expect."""

import inspect
import re

import numpy as np
from numba import njit

from sentiment.model import kernel
from sentiment.model.numba_internals import (
    GROUP_SLOTS,
    LANES,
    SLOTS,
    cpu_features,
    fma,
    gate_inputs,
    prefetch,
    times_power_of_two,
)

MOVED = "see sentiment/model/numba_internals.py: {} of Numba or llvmlite has changed"


def test_the_names_it_imports_are_there():
    from llvmlite import ir
    from numba import config, types
    from numba.core import cgutils, codegen

    for owner, names in {
        config: ["CPU_FEATURES"],
        types: ["float32", "int64", "none", "void"],
        codegen: ["get_host_cpu_features"],
        cgutils: ["alloca_once", "for_range", "get_or_insert_function", "voidptr_t"],
        ir: ["Constant", "FloatType", "FunctionType", "IntType", "Undefined", "VectorType"],
        ir.VectorType: ["as_pointer"],
        ir.Module: ["declare_intrinsic"],
    }.items():
        for name in names:
            assert hasattr(owner, name), MOVED.format(f"{owner.__name__}.{name}")


def test_cpu_features_are_llvms_names():
    features = cpu_features()
    named = [feature for feature in features if re.fullmatch(r"[+-][\w.-]+", feature)]
    assert len(named) == len(features) > 1, MOVED.format("get_host_cpu_features()")


def test_fma_rounds_once():
    compiled = njit(lambda a, b, c: fma(a, b, c))
    value = 1 + 2.0**-30
    exact = 2.0**-29 + 2.0**-60
    expected = exact if "+fma" in cpu_features() else value * value - 1
    assert compiled(value, value, -1.0) == expected, MOVED.format("intrinsic `fma`")


def test_times_power_of_two_adds_to_the_exponent():
    compiled = njit(lambda value, exponent: times_power_of_two(value, exponent))
    for power in (-20, -1, 0, 3, 60):
        exponent = np.float32(1.5 * 2**23 + power)
        found = compiled(np.float32(1.25), exponent)
        assert found == 1.25 * 2.0**power, MOVED.format("builder.bitcast or shl")


def test_prefetch_compiles_to_the_instruction():
    @njit
    def compiled(array, index):
        prefetch(array, index)
        return array[index]

    assert compiled(np.arange(5.0), 3) == 3, MOVED.format("context.make_array")
    (llvm,) = compiled.inspect_llvm().values()
    assert "llvm.prefetch" in llvm, MOVED.format("declare_intrinsic")


def test_gate_inputs_are_rows_of_the_table_and_a_product():
    panels, units = 2, LANES + 1
    random = np.random.default_rng(0)
    table = random.normal(size=(7, panels, 4, LANES)).astype(np.float32)
    recurrent = random.normal(size=(panels, units, 4, LANES)).astype(np.float32)
    h = random.normal(size=(panels, SLOTS, LANES)).astype(np.float32)
    words, bigrams = random.integers(0, 7, (2, SLOTS))
    compiled = njit(lambda *inputs: gate_inputs(*inputs))
    by_unit = h.transpose(1, 0, 2).reshape(SLOTS, -1)[:, :units]
    for panel in range(panels):
        for with_bigrams in (True, False):
            gates = np.zeros((4, SLOTS, LANES), np.float32)
            rows = words * panels * 4 * LANES + panel * 4 * LANES
            pair_rows = bigrams * panels * 4 * LANES + panel * 4 * LANES
            start = GROUP_SLOTS
            compiled(
                gates.ravel(),
                table.ravel(),
                rows,
                pair_rows if with_bigrams else None,
                start,
                h.ravel(),
                recurrent.ravel(),
                panel * units * 4 * LANES,
                units,
            )
            expected = np.einsum("su,ugl->gsl", by_unit, recurrent[panel])
            expected += table[words, panel].transpose(1, 0, 2)
            if with_bigrams:
                expected += table[bigrams, panel].transpose(1, 0, 2)
            group = slice(start, start + GROUP_SLOTS)
            message = MOVED.format("a typed pointer, alloca_once or for_range")
            np.testing.assert_allclose(gates[:, group], expected[:, group], 0, 1e-4, True, message)
            gates[:, group] = 0
            assert not gates.any(), message


def test_each_cached_function_with_intrinsics_depends_on_their_source():
    names = {"fma", "gate_inputs", "prefetch", "times_power_of_two"}
    functions = {
        name: value.py_func for name, value in vars(kernel).items() if hasattr(value, "py_func")
    }

    def uses_intrinsics(function) -> bool:
        used = set(function.__code__.co_names)
        called = [functions[name] for name in used & functions.keys()]
        return bool(used & names) or any(map(uses_intrinsics, called))

    sources = {
        name: inspect.getsource(function)
        for name, function in functions.items()
        if uses_intrinsics(function)
    }
    cached = [name for name, source in sources.items() if "@cached_njit" in source]
    assert cached == ["_fill_table", "_add_logits"]
    for name in cached:
        assert "@cached_njit(numba_internals.__file__, " in sources[name]
