"""A plan's file: equal plans give equal bytes, it reads back the same, and damage is noticed."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.errors import Failure
from pipelines.scoring.plan import Plan
from pipelines.scoring.planner import make_plan
from pipelines.scoring.sealed_parquet import SHA256, parquet_content
from pipelines.sources.shard import Counted, Shard
from sentiment.errors import InputError
from testing.properties import examples

SCHEMA = pa.schema([("text", pa.string())])
ROWS = st.lists(st.integers(0, 1000) | st.just("cannot be read"), max_size=30)


def make(counts, first_part=0, **changed):
    """The plan of shards by what they hold, or the reason why they cannot be read."""
    settings = {"text_column": "text", "keep_columns": None, "part_rows": 100, "encoding": "utf-8"}
    shards = [
        Shard(f"dir/{i}.csv", 10 * i, 1_700_000_000_000_000_000 + i) for i in range(len(counts))
    ]
    return make_plan(shards, counts, settings | changed, first_part)


@examples(100)
@given(ROWS, st.integers(1, 300), st.text())
def test_the_file_says_the_same_again(counts, part_rows, word):
    def again():
        counted = [word, *(c if isinstance(c, str) else Counted(c, schema) for c in counts)]
        return make(counted, 7, part_rows=part_rows, model_hash=word)

    schema = pa.schema([("text", pa.string()), (word + "x", pa.timestamp("us", "UTC"))])
    made = again()
    content = made.to_bytes()
    assert again().to_bytes() == content
    read = Plan.from_bytes(content, "plan.parquet")
    assert read == made
    assert read.to_bytes() == content


def test_a_plan_of_a_version_without_notes_is_read():
    made = make([Counted(3, pa.schema([("text", pa.string()), ("id", pa.null())]))])
    assert made.notes
    file = pq.ParquetFile(pa.BufferReader(made.to_bytes()))
    metadata = {key: value.decode() for key, value in file.metadata.metadata.items()}
    del metadata[b"notes"], metadata[SHA256]
    table = file.read().replace_schema_metadata(None)
    older = Plan.from_bytes(parquet_content(table, metadata).to_pybytes(), "plan.parquet")
    assert older == replace(made, notes=())


def damaged(content):
    """Whether a plan's file is refused, as it should be where it is not one."""
    try:
        Plan.from_bytes(content, "dir/plan.parquet")
    except (Failure, InputError) as error:
        return str(error)
    return ""


REFUSED = "dir/plan.parquet is damaged: choose another --output, or pass --overwrite"


@examples(300)
@given(st.data())
def test_a_damaged_file_is_refused(data):
    schema = pa.schema([("text", pa.string()), ("id", pa.int64())])
    content = bytearray(make(["bad", Counted(250, schema), Counted(3, schema)], 1).to_bytes())
    index = data.draw(st.integers(0, len(content) - 1))
    assert damaged(bytes(content[:index])) == REFUSED
    content[index] ^= data.draw(st.integers(1, 255))
    message = damaged(bytes(content))
    assert message == REFUSED or "has format" in message
    assert "\n" not in message


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"1", b"{}", b"{\xff", b'{"format": []', b"\0" * 99, b"PAR1PAR1", b"PAR1" * 9],
)
def test_what_is_no_plan_is_refused(content):
    assert damaged(content) == REFUSED


def test_another_format_is_named():
    message = "dir/plan.parquet has format {}, not 2: finish the job with the version that began it"
    old = b'{"format": 1, "parts": [], "sha256": "0"}'
    assert damaged(old).startswith(message.format(1))
    content = make([Counted(1, pa.schema([("text", pa.string())]))]).to_bytes()
    table = pq.read_table(pa.BufferReader(content))
    sink = pa.BufferOutputStream()
    pq.write_table(table.replace_schema_metadata({"format": "3"}), sink)
    assert damaged(sink.getvalue().to_pybytes()).startswith(message.format(3))


@examples(100)
@given(ROWS, st.integers(1, 300), st.data())
def test_columns_are_the_objects_they_stand_for(counts, part_rows, data):
    counts = [c if isinstance(c, str) else Counted(c, SCHEMA) for c in [3, *counts]]
    made = make(counts, 999_990, part_rows=part_rows)
    parts, shards = list(made.parts), list(made.shards)
    assert shards == [made.shards[i] for i in range(len(shards))]
    assert parts == [made.parts[i] for i in range(len(parts))]
    assert made.parts[-1] == parts[-1]
    assert (len(made.parts), made.parts.names.to_pylist()) == (len(parts), [p.name for p in parts])
    assert made.parts.rows.tolist() == [part.rows for part in parts]
    missing = sorted(data.draw(st.sets(st.integers(0, len(parts) - 1))))
    taken = made.parts.take(np.array(missing, np.int64))
    assert list(taken) == [parts[i] for i in missing]
    chosen = slice(*data.draw(st.tuples(st.integers(-9, 9), st.integers(-9, 40))))
    assert list(made.parts[chosen]) == parts[chosen]
    assert list(made.shards[chosen]) == shards[chosen]
    for beyond in (len(parts), -len(parts) - 1):
        with pytest.raises(IndexError):
            made.parts[beyond]
    rows = [None if isinstance(count, str) else count.rows for count in counts]
    assert made.rows == rows


def test_the_file_is_a_table_of_pieces():
    """What a user finds there: a row for each piece, and for each shard without one."""
    made = make(["gone", *(Counted(rows, SCHEMA) for rows in (0, 40, 60, 210))], first_part=5)
    table = pq.read_table(pa.BufferReader(made.to_bytes()))
    left_out = ["bytes", "modified", "digest", "change", "earlier"]
    rows = [[*row.values()] for row in table.drop(left_out).to_pylist()]
    assert rows == [
        [None, 0, "dir/0.csv", 0, 0, 0, 0, "gone"],
        [None, 1, "dir/1.csv", 0, 0, 0, 0, None],
        [5, 2, "dir/2.csv", 0, 40, 0, 0, None],
        [5, 3, "dir/3.csv", 0, 60, 0, 0, None],
        [6, 4, "dir/4.csv", 0, 105, 0, 0, None],
        [7, 4, "dir/4.csv", 105, 105, 0, 0, None],
    ]
