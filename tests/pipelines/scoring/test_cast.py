"""Casting kept columns: values stay what they are, or their rows are named."""

import datetime
import math
from decimal import Decimal

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.scoring.cast import cast_column
from testing.properties import examples

NAN = float("nan")
YEAR_1, YEAR_2024 = datetime.datetime(1, 1, 1), datetime.datetime(2024, 1, 1)

# Of each cast: the values, and those that do not convert.
CASTS = [
    (pa.int64(), pa.float64(), [1, 2**53, 2**54, -(2**63), None], [2**53 + 1, 2**63 - 1]),
    (pa.int64(), pa.int8(), [1, -128], [128]),
    (pa.uint64(), pa.int64(), [1, 2**63 - 1], [2**63]),
    (pa.float64(), pa.int64(), [1.0, 2.0**60, None], [1.5, NAN, math.inf, 2.0**63]),
    (pa.float64(), pa.float32(), [0.5, NAN, math.inf], [0.1, 1e300]),
    (pa.float16(), pa.float64(), [0.5, NAN], []),
    (pa.decimal128(9, 2), pa.decimal128(9, 1), [Decimal("1.20")], [Decimal("1.23")]),
    (pa.decimal128(20, 2), pa.float64(), [Decimal("1.10")], [Decimal("123456789012345678.11")]),
    (pa.decimal128(9, 2), pa.int64(), [Decimal("2.00")], [Decimal("2.50")]),
    (pa.float64(), pa.decimal128(9, 2), [0.1, 1.5], [0.123, NAN]),
    (pa.int64(), pa.decimal128(9, 2), [1, 9_999_999], [10_000_000]),
    (pa.timestamp("us"), pa.timestamp("ns"), [YEAR_2024], [YEAR_1]),
    (pa.timestamp("us"), pa.date32(), [YEAR_2024], [datetime.datetime(2024, 1, 1, 5)]),
    (pa.timestamp("us"), pa.timestamp("s"), [YEAR_1], [datetime.datetime(1, 1, 1, 0, 0, 0, 7)]),
    (pa.time64("us"), pa.time32("s"), [datetime.time(1)], [datetime.time(1, 0, 0, 7)]),
    (pa.binary(), pa.binary(3), [b"abc"], [b"ab"]),
    (pa.list_(pa.float64()), pa.list_(pa.float32()), [[0.5, NAN], [], None], [[0.5, 0.1]]),
    (pa.list_(pa.int8()), pa.list_(pa.int8(), 2), [[1, 2]], [[1]]),
]
WRITTEN = [
    (pa.int64(), ["7", "-3", "0", None], ["007", "+7", "7.0", "0x10", "-0", "x", ""]),
    (pa.float64(), ["7", "1.50", "1e-05", "0.30000000000000004"], ["007", "x", "9" * 20, ""]),
    (pa.decimal128(9, 2), ["7", "1.5"], ["007", "1.555", "1e9"]),
    (pa.bool_(), ["true", "False"], ["1", "yes"]),
    (pa.date32(), ["2024-01-01"], ["2024-1-1"]),
    (pa.timestamp("us"), ["2024-01-01", "2024-01-01T10:00:00.000001"], ["2024-01-01T10:00:00Z"]),
    (pa.timestamp("s", "UTC"), ["2024-01-01T10:00:00Z"], ["2024-01-01", "2024-01-01T10:00:00.5Z"]),
]


def same(one, other):
    return str(one) == str(other) or one == other


@pytest.mark.parametrize(("kind", "to", "good", "bad"), CASTS, ids=str)
def test_a_value_that_would_change_does_not_convert(kind, to, good, bad):
    values = pa.chunked_array([pa.array([*good, *bad], kind), pa.array(good, kind)])
    cast, invalid = cast_column(values, pa.field("c", to))
    assert cast.type == to
    assert sorted(invalid) == list(range(len(good), len(good) + len(bad)))
    assert all(
        reason.startswith("column 'c' does not convert from ") for reason in invalid.values()
    )
    found, length = cast.to_pylist(), len(good)
    assert found[length:-length] == [None] * len(bad)
    for value, original in zip(found[:length] + found[-length:], good * 2, strict=True):
        assert same(value, original) or pa.scalar(value, to).cast(kind).as_py() == original


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.binary()], ids=str)
@pytest.mark.parametrize(("to", "good", "bad"), WRITTEN, ids=str)
def test_a_text_converts_only_as_it_is_written(kind, to, good, bad):
    values = pa.chunked_array([pa.array([*good, *bad]).cast(kind)])
    cast, invalid = cast_column(values, pa.field("c", to))
    assert cast.slice(len(good)).null_count == len(bad)
    # CSV, whose columns are binary, has no other way to write a null.
    bad = [text for text in bad if text or kind != pa.binary()]
    assert sorted(invalid) == list(range(len(good), len(good) + len(bad)))
    assert cast.slice(0, len(good)).null_count == good.count(None)


def test_fields_of_structs_and_maps_convert_too():
    to = pa.struct([("b", pa.int8()), ("c", pa.string()), ("a", pa.string())])
    rows = [{"a": 1, "b": 1000}, {"a": 2, "b": 3}, None]
    cast, invalid = cast_column(pa.chunked_array([rows]), pa.field("x", to))
    assert (cast.to_pylist(), [*invalid]) == ([None, {"b": 3, "c": None, "a": "2"}, None], [0])
    kind = pa.map_(pa.string(), pa.float64())
    rows = pa.array([[("z", 0.1)], [("a", 0.1)], [("b", 0.5)], None], kind)[1:]
    cast, invalid = cast_column(
        pa.chunked_array([rows]), pa.field("x", pa.map_(pa.string(), pa.float32()))
    )
    assert (cast.to_pylist(), [*invalid]) == ([None, [("b", 0.5)], None], [0])


NUMBERS = [pa.int8(), pa.uint8(), pa.int64(), pa.uint64(), pa.float32(), pa.float64()]
NUMBERS += [pa.decimal128(12, 3)]


@examples(300)
@given(st.data())
def test_what_converts_is_the_same_number(data):
    kind, to = (data.draw(st.sampled_from(NUMBERS)) for _ in range(2))
    if pa.types.is_integer(kind):
        size = kind.bit_width
        low = -(2 ** (size - 1)) if pa.types.is_signed_integer(kind) else 0
        values = data.draw(st.lists(st.integers(low, 2**size + min(low * 3, -1)) | st.none()))
    elif pa.types.is_decimal(kind):
        values = data.draw(st.lists(st.decimals(-1000, 1000, places=3) | st.none()))
    else:
        width = kind.bit_width
        values = data.draw(st.lists(st.floats(width=width, allow_nan=False) | st.none()))
    cast, invalid = cast_column(pa.chunked_array([pa.array(values, kind)]), pa.field("c", to))
    for index, (value, found) in enumerate(zip(values, cast.to_pylist(), strict=True)):
        assert (found is None) == (value is None or index in invalid)
        if found is not None and not (pa.types.is_decimal(kind) or pa.types.is_decimal(to)):
            assert found == value
        elif found is not None:
            # 0.1 is a decimal, and the float that is written so.
            assert math.isclose(found, value, rel_tol=1e-6)
