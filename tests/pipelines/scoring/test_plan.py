"""Plans: every row in one part, parts alike in size, and a file that says the same again."""

import datetime
import itertools
import json
import time

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.scoring.plan import Plan
from pipelines.scoring.planner import make_plan
from pipelines.sources.rows import Span
from pipelines.sources.shard import Counted, Shard
from sentiment.errors import InputError
from testing.properties import examples

TEXT = pa.schema([("text", pa.string())])


def flags(**changed):
    return {
        "text_column": "text",
        "keep_columns": None,
        "part_rows": 100,
        "encoding": "utf-8",
    } | changed


def shards_of(counts):
    return [
        Shard(f"dir/{i}.csv", 10 * i, 1_700_000_000_000_000_000 + i) for i, _ in enumerate(counts)
    ]


def make(counts, first_part=0, **changed):
    """The plan of shards by their number of rows, `Counted`, or the reason they cannot be read."""
    counts = [Counted(count, TEXT) if isinstance(count, int) else count for count in counts]
    return make_plan(shards_of(counts), counts, flags(**changed), first_part)


def kept(*schemas, **changed):
    """The kept columns of shards by their columns."""
    counts = [Counted(1, pa.schema(list(schema.items()))) for schema in schemas]
    schema = make(counts, **changed).schema
    return dict(zip(schema.names, schema.types, strict=True))


ROWS = st.lists(st.integers(0, 5) | st.integers(0, 1000) | st.just("cannot be read"), max_size=30)


@examples(300)
@given(ROWS, st.integers(1, 300))
def test_every_row_is_in_one_part(counts, part_rows):
    made = make(["unreadable", *counts], first_part=1, part_rows=part_rows)
    rows = [count if isinstance(count, int) else 0 for count in ["unreadable", *counts]]
    spans = [(piece.shard, piece.span) for part in made.parts for piece in part.pieces]
    assert all(part.pieces for part in made.parts)
    assert all(span.rows > 0 for _, span in spans)
    assert [shard for shard, _ in spans] == sorted(shard for shard, _ in spans)
    for shard, count in enumerate(rows):
        mine = [span for index, span in spans if index == shard]
        edges = [0, *(span.last for span in mine)]
        assert [span.first for span in mine] == edges[:-1]
        assert edges[-1] == count
    assert [part.name for part in made.parts] == [
        f"part-{1 + i:06d}" for i in range(len(made.parts))
    ]
    told = enumerate(["unreadable", *counts])
    assert made.unreadable == {i: why for i, why in told if isinstance(why, str)}


@examples(300)
@given(ROWS, st.integers(1, 300))
def test_parts_are_alike_in_size(counts, part_rows):
    counts = [count for count in counts if isinstance(count, int)]
    parts = make(counts, part_rows=part_rows).parts
    for part in parts:
        if len(part.pieces) > 1:
            assert part.rows <= part_rows
        assert part.rows <= 1.5 * part_rows
    for shard, count in enumerate(counts):
        sizes = [p.rows for p in parts if [piece.shard for piece in p.pieces] == [shard]]
        if count > part_rows:
            assert max(sizes) - min(sizes) <= 1
            assert min(sizes) >= part_rows // 1.5
    for pair in itertools.pairwise(parts):
        pieces = [piece for part in pair for piece in part.pieces]
        if all(piece.span.rows == counts[piece.shard] for piece in pieces):
            assert sum(part.rows for part in pair) > part_rows


def test_examples():
    def sizes(*counts):
        return [[piece.span.rows for piece in part.pieces] for part in make(counts).parts]

    assert sizes() == []
    assert sizes(0, 0) == []
    assert sizes(100) == [[100]]
    assert sizes(149) == [[149]]
    assert sizes(301) == [[100], [100], [101]]
    assert sizes(40, 0, 60, 1) == [[40, 60], [1]]
    assert sizes(10, 200, 10, 10) == [[10], [100], [100], [10, 10]]


def test_very_small_shards_make_more_parts():
    parts = make([1, 0] * 600, part_rows=10_000).parts
    assert [len(part.pieces) for part in parts] == [256, 256, 88]


def test_a_span_begins_to_look_at_the_last_mark_before_it():
    marks = ((0, 9), (120, 1000), (200, 2000), (390, 3000))
    parts = make([Counted(400, TEXT, marks)]).parts
    assert [part.pieces[0].span for part in parts] == [
        Span(0, 100, 0, 9),
        Span(100, 100, 0, 9),
        Span(200, 100, 200, 2000),
        Span(300, 100, 200, 2000),
    ]


def test_large_corpora_are_planned_at_once():
    schemas = [
        pa.schema([("text", pa.string()), *((f"c{i}", kind) for i in range(10))])
        for kind in (pa.string(), pa.int64())
    ]
    many = [Counted(50_000, schemas[i % 2]) for i in range(100_000)]
    marks = tuple((80_000 * i, 2**23 * i) for i in range(50_000))
    for counts, parts in ((many, 50_000), ([Counted(4 * 10**9, TEXT, marks)], 40_000)):
        shards = shards_of(counts)
        began = time.process_time()
        made = make_plan(shards, counts, flags(part_rows=100_000), 0)
        # It is a second; minutes, where the work grows as the square.
        assert time.process_time() - began < 5
        assert len(made.parts) == parts


@examples(100)
@given(ROWS, st.integers(1, 300), st.text())
def test_the_file_says_the_same_again(counts, part_rows, word):
    def again():
        counted = [word, *(c if isinstance(c, str) else Counted(c, schema) for c in counts)]
        return make(counted, 7, part_rows=part_rows, model_hash=word)

    schema = pa.schema([("text", pa.string()), (word + "x", pa.timestamp("us", "UTC"))])
    made = again()
    content = made.to_json()
    assert again().to_json() == content
    read = Plan.from_json(content, "plan.json")
    assert read == made
    assert read.to_json() == content


def damaged(content):
    """Whether a plan's file is refused, as it should be where it is not one."""
    try:
        Plan.from_json(content, "dir/plan.json")
    except InputError as error:
        return str(error)
    return ""


REFUSED = "dir/plan.json is damaged; choose another --output, or --overwrite"


@examples(300)
@given(st.data())
def test_a_damaged_file_is_refused(data):
    schema = pa.schema([("text", pa.string()), ("id", pa.int64())])
    content = bytearray(make(["bad", Counted(250, schema), 3], 1).to_json())
    index = data.draw(st.integers(0, len(content) - 1))
    assert damaged(bytes(content[:index])) == REFUSED
    content[index] ^= data.draw(st.integers(1, 255))
    message = damaged(bytes(content))
    assert message == REFUSED or "has format" in message
    assert "\n" not in message


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"1", b"null", b"{}", b'"plan"', b"\xff", b'{"format": 1}', b"\0" * 99]
)
def test_what_is_no_plan_is_refused(content):
    assert damaged(content) == REFUSED


def test_another_format_is_named():
    content = json.loads(make([1]).to_json()) | {"format": 2}
    assert "dir/plan.json has format 2, not 1: " in damaged(json.dumps(content).encode())


def test_columns_are_kept_in_the_order_they_are_found():
    one = {"id": pa.int64(), "text": pa.string(), "a": pa.string()}
    two = {"b": pa.date32(), "text": pa.binary(), "id": pa.int64()}
    assert kept(one, two) == {"id": pa.int64(), "a": pa.string(), "b": pa.date32()}
    assert kept(one, two, keep_columns=["b", "id"]) == {"b": pa.date32(), "id": pa.int64()}
    assert kept(one, keep_columns=["text"]) == {"text": pa.string()}
    assert kept(one, keep_columns=[]) == {}


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
def test_a_kept_columns_type_holds_every_shards(types, common):
    for order in (types, types[::-1]):
        schemas = [{"text": pa.string(), "kept": kind} for kind in order]
        assert kept(*schemas) == {"kept": common}
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
    schemas = [{"text": pa.string(), "c": kind} for kind in types]
    message = f"column 'c' is {types[0]} and {types[1]} in different shards, .*--keep_columns"
    with pytest.raises(InputError, match=message):
        kept(*schemas)
    assert kept(*schemas, keep_columns=["text"]) == {"text": pa.string()}


def test_a_kept_column_that_no_shard_has_is_named():
    schema = {"text": pa.string(), "id": pa.int64()}
    with pytest.raises(InputError, match=r"--keep_columns x: no shard .*; the columns: text, id$"):
        kept(schema, keep_columns=["id", "x"])
    assert make(["gone"], 3, keep_columns=["id"]).unreadable == {0: "gone"}


@pytest.mark.parametrize("name", ["sentiment", "positive_probability", "Sentiment"])
def test_a_kept_column_named_as_the_output_names_its_own_is_refused(name):
    schema = {"text": pa.string(), name: pa.string(), "id": pa.int64()}
    for changed in ({}, {"keep_columns": [name]}, {"keep_columns": [name], "text_column": name}):
        with pytest.raises(InputError, match=f"the input has a column '{name}', .*keep_columns"):
            kept(schema, **changed)
    assert kept(schema, keep_columns=["id"]) == {"id": pa.int64()}
    assert list(kept(schema, text_column=name)) == ["text", "id"]


def test_a_shard_with_two_of_a_kept_column_cannot_be_read():
    twice = Counted(9, pa.schema([("text", pa.string()), ("a", pa.string()), ("a", pa.string())]))
    made = make([twice, 10, twice])
    reason = "dir/0.csv has more than one column 'a'; its columns: text, a, a"
    assert made.unreadable == {0: reason, 2: reason.replace("0", "2")}
    assert [piece.shard for part in made.parts for piece in part.pieces] == [1]
    with pytest.raises(InputError, match="more than one column 'a'"):
        make([twice])
    assert make([twice], first_part=1).parts == ()
    assert make([twice, 10], keep_columns=["text"]).unreadable == {}


def test_a_job_that_would_begin_with_no_shard_that_reads_is_refused():
    with pytest.raises(InputError, match=r"dir/0\.csv is empty"):
        make(["dir/0.csv is empty", "dir/1.csv is empty"])
