"""The planner: each row is in one part, parts are alike in size, kept columns have a schema."""

import itertools
import time

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.scoring.planner import group_edges, make_plan
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
    marks = ((0, 5),)
    counts = [Counted(count, TEXT, marks) if isinstance(count, int) else count for count in counts]
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


@examples(300)
@given(
    st.lists(st.integers(0, 30) | st.integers(0, 1000), max_size=30),
    st.integers(1, 300),
    st.floats(1, 10),
)
def test_parts_of_parquet_end_where_row_groups_do(groups, part_rows, growth):
    edges = group_edges(groups, part_rows, growth)
    ends = [0, *itertools.accumulate(groups)]
    assert edges == sorted(set(edges))
    assert (edges[0], edges[-1]) == (0, sum(groups))
    for first, last in itertools.pairwise(edges):
        if first in ends and last in ends and last - first <= 2 * part_rows:
            continue
        # It is in one large row group, which is cut evenly.
        (group,) = [i for i, rows in enumerate(groups) if rows and ends[i] <= first < ends[i + 1]]
        assert groups[group] > 2 * part_rows
        assert last <= ends[group + 1]
        assert last - first <= 1.5 * growth * part_rows + 1
        assert last - first >= growth * part_rows / 2 - 1 or growth * part_rows > groups[group]


def test_row_groups_of_a_usual_size_are_read_once():
    """A row group that is cut into n parts is decoded (n + 1) / 2 times."""

    def parts(shards, *groups, size=10**8):
        listed = [Shard(f"dir/{i}.parquet", size, 1) for i in range(shards)]
        counts = [Counted(sum(groups), TEXT, groups=groups)] * shards
        return make_plan(listed, counts, flags(part_rows=100_000), 0).parts.rows.tolist()

    default = 2**20  # Of pyarrow and pandas.
    assert parts(100, default, default, 5000) == [default, default, 5000] * 100
    assert parts(10, 122_880, 122_880, 122_880, 7) == [122_880, 122_880, 122_887] * 10  # DuckDB's.
    assert parts(1, *[10_000] * 25) == [100_000, 100_000, 50_000]
    # Of one row group, all CPUs shall have some; nor shall a part of long texts be held in memory.
    assert parts(1, 10**6) == [100_000] * 10
    assert parts(100, 10**6, size=10**10) == [100_000] * 1000


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


def test_columns_are_kept_in_the_order_they_are_found():
    one = {"id": pa.int64(), "text": pa.string(), "a": pa.string()}
    two = {"b": pa.date32(), "text": pa.binary(), "id": pa.int64()}
    assert kept(one, two) == {"id": pa.int64(), "a": pa.string(), "b": pa.date32()}
    assert kept(one, two, keep_columns=["b", "id"]) == {"b": pa.date32(), "id": pa.int64()}
    assert kept(one, keep_columns=["text"]) == {"text": pa.string()}
    assert kept(one, keep_columns=[]) == {}


def test_a_kept_column_has_a_type_that_holds_every_shards():
    one = {"text": pa.string(), "a": pa.int8(), "b": pa.list_(pa.int8())}
    two = {"text": pa.string(), "a": pa.int64(), "b": pa.string()}
    assert kept(one, two, keep_columns=["a"]) == {"a": pa.int64()}
    with pytest.raises(InputError, match=r"column 'b' is list.* and string in different shards"):
        kept(one, two)


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
    assert not make([twice], first_part=1).parts
    assert make([twice, 10], keep_columns=["text"]).unreadable == {}


def test_a_job_that_would_begin_with_no_shard_that_reads_is_refused():
    with pytest.raises(InputError, match=r"dir/0\.csv is empty"):
        make(["dir/0.csv is empty", "dir/1.csv is empty"])
    others = [f"dir/{i}.csv has no column 'a'; its columns: {i}" for i in range(1, 3)]
    said = r"^dir/1\.csv has no .* \(no shard can be read, 2 of 3 for this reason\)$"
    with pytest.raises(InputError, match=said):
        make(["dir/0.csv is empty", *others])
