"""The common type of a column: it holds the values of every shard exactly."""

import datetime
import re

import pyarrow as pa
import pytest

from pipelines.scoring.column_types import common_type
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
    ([pa.string(), pa.string_view()], pa.string()),
    ([pa.timestamp("s"), pa.timestamp("us")], pa.timestamp("us")),
    ([pa.timestamp("us"), pa.timestamp("ns")], pa.string()),
    ([pa.timestamp("us"), pa.timestamp("us", "UTC")], pa.string()),
    ([pa.list_(pa.int8()), pa.list_(pa.int64())], pa.list_(pa.int64())),
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
        (pa.struct([("a", pa.int8())]), pa.struct([("a", pa.int8()), ("b", pa.int8())])),
        (pa.map_(pa.string(), pa.string()), pa.int64()),
    ],
    ids=str,
)
def test_types_that_no_type_holds_are_refused(types):
    names = re.escape(f"column 'c' is {types[0]} and {types[1]} in different shards, ")
    with pytest.raises(InputError, match=f"{names}.*--keep_columns"):
        common_type("c", types)
