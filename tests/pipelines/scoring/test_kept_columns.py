"""The columns of an output: its first plan decides them, later shards are cast or refused."""

import pyarrow as pa
import pytest

from pipelines.scoring.counts import Counts
from pipelines.scoring.planner import make_plan
from pipelines.scoring.shards import Shards
from pipelines.sources.detected import with_detected
from pipelines.sources.shard import Counted, Shard
from sentiment.errors import InputError

SETTINGS = {"text_column": "text", "keep_columns": None, "part_rows": 100, "encoding": "utf-8"}
FIRST = {"id": pa.int64(), "at": pa.timestamp("us", "UTC"), "tags": pa.list_(pa.string())}


def plan(*shards, kept=None, **changed):
    """The plan of shards of one row with these columns beside the text."""
    schemas = [pa.schema([("text", pa.string()), *columns.items()]) for columns in shards]
    listed = [Shard(f"{i}.parquet", 1, 1) for i in range(len(shards))]
    counts = [Counted(1, schema) for schema in schemas]
    return make_plan(listed, counts, SETTINGS | changed, 0 if kept is None else 1, kept)


def test_later_plans_have_the_schema_of_the_first():
    first = plan(FIRST)
    later = plan(
        {"tags": pa.null(), "id": pa.float64(), "at": pa.timestamp("ns", "UTC")},
        {"country": pa.string(), "id": pa.int64()},
        kept=first.schema,
    )
    assert later.schema.equals(first.schema)
    assert len(later.parts[0].pieces) == 2
    assert later.notes == (
        "Not kept, since the output has no such column: country (--overwrite)",
        "Null in the rows of shards that lack it: at (1 of 2 shards), tags (1 of 2 shards)",
        "Column 'id' is int64 in the output: it is double and int64 in the shards",
        "Column 'at' is timestamp[us, tz=UTC] in the output: it is timestamp[ns, tz=UTC] in the "
        "shards",
    )


def test_columns_that_readers_take_for_one_are_named():
    made = plan({"id": pa.int64()}, {"ID": pa.int64(), "day": pa.string()})
    assert made.schema.names == ["id", "ID", "day"]
    assert made.notes[1] == (
        "Columns that differ only in case, and may be one: id, ID; DuckDB and Spark would take "
        "them for one"
    )


def test_how_shards_were_read_is_told_where_they_told_it_themselves():
    line = "Read with ';' between columns, as the first line has it"
    plain = pa.schema([("text", pa.string())])
    told = with_detected(plain, [line])
    listed = [Shard(f"{i}.csv", 1, 1) for i in range(5)]
    schemas = [plain, told, told.append(pa.field("id", pa.string())), plain]
    counts = Counts.of([*(Counted(1, schema) for schema in schemas), "5.csv is empty"])
    # As another process reads it.
    shards, counts = Counts.from_table(counts.to_table(Shards.of(listed)))
    made = make_plan(shards, counts, SETTINGS, 0)
    assert made.notes[0] == f"{line}: 2 shards (1.csv, ...)"
    assert not any("Read with" in note for note in made.notes[1:])
    assert made.schema.metadata is None
    alone = make_plan(listed[:1], [Counted(1, plain)], SETTINGS, 0)
    assert alone.notes == ()


def test_a_type_that_never_converts_refuses_its_shard_by_column():
    kept = plan(FIRST).schema
    later = plan(FIRST, {**FIRST, "tags": pa.string()}, {**FIRST, "id": pa.date32()}, kept=kept)
    assert later.unreadable == {
        1: "1.parquet: column 'tags' is string, which does not convert to list<item: string>, its "
        "type in the output: write it as that type, or begin another output",
        2: "2.parquet: column 'id' is date32[day], which does not convert to int64, its type in "
        "the output: write it as that type, or begin another output",
    }
    assert [piece.shard for part in later.parts for piece in part.pieces] == [0]


def test_a_column_that_is_not_kept_refuses_nothing_later():
    kept = plan(FIRST).schema
    assert plan({**FIRST, "sentiment": pa.string()}, kept=kept).unreadable == {}
    assert plan({**FIRST, "id": pa.string(), "x": pa.int8()}, kept=kept).unreadable == {}
    named = plan(FIRST, keep_columns=["id"]).schema
    assert plan({**FIRST, "new": pa.string()}, kept=named, keep_columns=["id"]).notes == ()


def test_a_column_without_any_value_is_said_to_be_text():
    made = plan({"reply_to": pa.null()}, {"reply_to": pa.null()})
    assert made.schema == pa.schema([("reply_to", pa.string())])
    said = ("Column 'reply_to' is string in the output: the shards have only nulls",)
    assert made.notes == said
    assert plan({"reply_to": pa.null()}, {"reply_to": pa.string()}).notes == ()
    assert plan({"reply_to": pa.null()}, kept=made.schema).notes == ()


def test_types_that_parquet_stores_alike_are_not_worth_a_word():
    kept = plan({"a": pa.string(), "b": pa.list_(pa.string())}).schema
    assert plan({"a": pa.large_string(), "b": pa.list_(pa.large_string())}, kept=kept).notes == ()


def test_a_shard_without_rows_decides_no_type():
    schemas = [pa.schema([("text", pa.string()), ("n", k)]) for k in (pa.string(), pa.int64())]
    listed = [Shard(f"{i}.parquet", 1, 1) for i in range(2)]
    for rows, kind in (([0, 1], pa.int64()), ([1, 1], pa.string()), ([0, 0], pa.string())):
        counts = [Counted(n, schema) for n, schema in zip(rows, schemas, strict=True)]
        assert make_plan(listed, counts, SETTINGS, 0).schema.field("n").type == kind


def test_few_lines_are_said_of_many_columns():
    made = plan({f"c{i}": pa.null() for i in range(500)})
    assert len(made.notes) == 21
    assert made.notes[-1] == "480 more columns have another type"
    later = plan({f"n{i}" * 9: pa.int8() for i in range(500)}, kept=made.schema)
    assert [len(note) < 1100 for note in later.notes] == [True, True]


def test_what_cannot_be_read_or_written_is_refused_by_column():
    gap, secret = (pa.opaque(pa.null(), kind, "parquet") for kind in ("Interval", "encrypted"))
    with pytest.raises(InputError, match=r"'gap' has the type Interval, which .*--keep_columns"):
        plan(FIRST, {**FIRST, "gap": gap})
    with pytest.raises(InputError, match=r"0\.parquet: column 'id' is encrypted: .*--keep_columns"):
        plan({**FIRST, "id": secret})
    mixed = plan(FIRST, {**FIRST, "id": secret})
    assert "column 'id' is encrypted" in mixed.unreadable[1]
    later = plan({**FIRST, "at": gap}, {**FIRST, "id": secret}, kept=mixed.schema)
    assert "column 'at' is Interval, which does not convert to" in later.unreadable[0]
    assert "column 'id' is encrypted" in later.unreadable[1]
    # Where they are not kept, they harm nobody.
    assert plan({**FIRST, "gap": gap, "x": secret}, keep_columns=["id"]).unreadable == {}
    assert plan({**FIRST, "gap": gap, "x": secret}, kept=mixed.schema).unreadable == {}


def test_an_output_without_columns_that_are_named_is_not_begun():
    with pytest.raises(InputError, match="--keep_columns x: no shard has that column"):
        plan(FIRST, keep_columns=["x"])
    for name, meant in (("idd", "id"), ("id,text", r"id text \(separated by blanks\)")):
        with pytest.raises(InputError, match=rf"that column; did you mean {meant}\? the columns"):
            plan(FIRST, keep_columns=[name])
    assert plan(FIRST, kept=plan(FIRST, keep_columns=["id"]).schema, keep_columns=["id"])
