"""The common type of a column: it holds the values of every shard exactly."""

import datetime
import re

import pyarrow as pa
import pytest

from pipelines.scoring.cast import cast_column
from pipelines.scoring.column_types import common_type, converts
from sentiment.errors import InputError

COMMON = [
    ([pa.int8(), pa.int64()], pa.int64()),
    ([pa.int32(), pa.float32()], pa.float64()),
    ([pa.float32(), pa.float64()], pa.float64()),
    ([pa.int64(), pa.float64()], pa.string()),
    ([pa.int64(), pa.uint64()], pa.string()),
    ([pa.decimal128(9, 2), pa.float64()], pa.string()),
    ([pa.int64(), pa.string()], pa.string()),
    ([pa.bool_(), pa.int64()], pa.string()),
    ([pa.null(), pa.int64()], pa.int64()),
    ([pa.string(), pa.large_string()], pa.large_string()),
    ([pa.string(), pa.binary()], pa.binary()),
    ([pa.timestamp("s"), pa.timestamp("us")], pa.timestamp("us")),
    ([pa.timestamp("us", "UTC"), pa.timestamp("s", "Asia/Tokyo")], pa.timestamp("us", "UTC")),
    ([pa.timestamp("us"), pa.timestamp("us", "UTC")], pa.string()),
    ([pa.date32(), pa.timestamp("us")], pa.timestamp("us")),
    ([pa.date32(), pa.int32()], pa.string()),
    ([pa.decimal128(9, 2), pa.decimal128(12, 4)], pa.decimal128(12, 4)),
    ([pa.decimal128(9, 2), pa.int64()], pa.decimal128(21, 2)),
    ([pa.decimal128(9, 2), pa.uint64()], pa.decimal128(22, 2)),
    ([pa.decimal128(38, 0), pa.decimal128(38, 10)], pa.string()),
    ([pa.uint32(), pa.int32()], pa.int64()),
    ([pa.list_(pa.int8()), pa.list_(pa.int64())], pa.list_(pa.int64())),
    ([pa.list_(pa.null()), pa.list_(pa.int64())], pa.list_(pa.int64())),
    (
        [pa.map_(pa.string(), pa.int8()), pa.map_(pa.string(), pa.int32())],
        pa.map_(pa.string(), pa.int32()),
    ),
    (
        [pa.struct([("a", pa.int8())]), pa.struct([("a", pa.int64()), ("b", pa.null())])],
        pa.struct([("a", pa.int64()), ("b", pa.string())]),
    ),
    ([pa.json_(), pa.string()], pa.string()),
]
VALUES = {
    "int8": [0, -(2**7), 2**7 - 1],
    "int32": [-(2**31), 2**31 - 1],
    "int64": [-(2**63), 2**63 - 1],
    "uint64": [0, 2**64 - 1],
    "null": [None],
    "timestamp[s]": [datetime.datetime(1, 1, 1), datetime.datetime(9999, 12, 31)],
    "timestamp[us]": [
        datetime.datetime(1, 1, 1, microsecond=1),
        datetime.datetime(9999, 12, 31, microsecond=1),
    ],
}


@pytest.mark.parametrize(("types", "common"), COMMON, ids=str)
def test_a_columns_type_holds_every_shards_values(types, common):
    assert common_type("kept", types) == common
    assert common_type("kept", types[::-1]) == common
    for kind in types:
        values = pa.array(VALUES.get(str(kind), []), kind)
        assert values.cast(common).to_pylist() in (values.to_pylist(), [*map(str, values)])


@pytest.mark.parametrize(
    "types",
    [
        (pa.list_(pa.int8()), pa.string()),
        (pa.list_(pa.int64()), pa.list_(pa.float64())),
        (pa.struct([("a", pa.int8())]), pa.list_(pa.int8())),
        (pa.uuid(), pa.string()),
        (pa.duration("s"), pa.string()),
        (pa.map_(pa.string(), pa.string()), pa.int64()),
    ],
    ids=str,
)
def test_types_that_no_type_holds_are_refused(types):
    names = re.escape(f"column 'c' is {types[0]} and {types[1]} in different shards, ")
    with pytest.raises(InputError, match=f"{names}.*--keep_columns"):
        common_type("c", types)


def test_times_of_several_units_and_text_are_refused_with_a_way_out():
    kinds = [pa.timestamp("us", "UTC"), pa.timestamp("ns", "UTC"), pa.string()]
    with pytest.raises(InputError, match="score the shards first in which it is a time"):
        common_type("c", kinds)
    assert all(converts(pa.string(), kind) for kind in kinds)


def test_the_unit_of_timestamps_is_the_finest():
    """A row whose year has no nanoseconds is rejected; a unit that cuts digits off rejects all."""
    kinds = [pa.timestamp("us", "UTC"), pa.timestamp("ns", "UTC")]
    assert common_type("c", kinds) == common_type("c", kinds[::-1]) == pa.timestamp("ns", "UTC")


@pytest.mark.parametrize(
    ("kind", "kept"),
    [
        (pa.null(), pa.string()),
        (pa.list_(pa.null()), pa.list_(pa.string())),
        (pa.struct([("a", pa.list_(pa.null()))]), pa.struct([("a", pa.list_(pa.string()))])),
        (pa.map_(pa.string(), pa.null()), pa.map_(pa.string(), pa.string())),
        (pa.int64(), pa.int64()),
    ],
    ids=str,
)
def test_a_column_without_values_has_a_type_that_takes_those_of_later_shards(kind, kept):
    assert common_type("c", [kind]) == kept


CONVERT = [
    (pa.int64(), pa.float64(), True),
    (pa.int64(), pa.timestamp("us"), False),
    (pa.int64(), pa.bool_(), False),
    (pa.timestamp("us"), pa.int64(), False),
    (pa.timestamp("us"), pa.timestamp("us", "UTC"), False),
    (pa.timestamp("ns", "UTC"), pa.timestamp("us", "Asia/Tokyo"), True),
    (pa.date32(), pa.timestamp("us"), True),
    (pa.date32(), pa.timestamp("us", "UTC"), False),
    (pa.duration("us"), pa.string(), False),
    (pa.binary(), pa.int64(), False),
    (pa.string(), pa.int64(), True),
    (pa.string(), pa.time64("us"), False),
    (pa.int64(), pa.binary(), False),
    (pa.uuid(), pa.binary(16), True),
    (pa.uuid(), pa.string(), False),
    (pa.string(), pa.json_(), False),
    (pa.null(), pa.list_(pa.uuid()), True),
    (pa.list_(pa.int8()), pa.large_list(pa.string()), True),
    (pa.list_(pa.int8()), pa.string(), False),
    (pa.list_(pa.int8(), 3), pa.list_(pa.int8(), 3), True),
    (pa.list_(pa.int8(), 3), pa.list_(pa.int8(), 2), False),
    (pa.list_(pa.int8(), 3), pa.list_(pa.int8()), True),
    (pa.struct([("a", pa.list_(pa.int8(), 3))]), pa.struct([("a", pa.list_(pa.int8(), 2))]), False),
    (pa.list_(pa.int8()), pa.struct([("a", pa.int8())]), False),
    (pa.struct([("a", pa.int8())]), pa.struct([("b", pa.int8()), ("a", pa.int64())]), True),
    (pa.struct([("a", pa.int8()), ("b", pa.int8())]), pa.struct([("a", pa.int8())]), False),
    (pa.map_(pa.string(), pa.int8()), pa.map_(pa.string(), pa.int64()), True),
    (pa.map_(pa.string(), pa.int8()), pa.list_(pa.int8()), False),
]


@pytest.mark.parametrize(("given", "to", "does"), CONVERT, ids=str)
def test_which_types_convert(given, to, does):
    assert converts(given, to) == does
    if does:
        cast, invalid = cast_column(pa.chunked_array([pa.nulls(2, given)]), pa.field("c", to))
        assert (cast.type, cast.null_count, invalid) == (to, 2, {})
