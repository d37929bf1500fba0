"""A plan's file: equal plans give equal bytes, it reads back the same, and damage is noticed."""

import json

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.scoring.plan import Plan
from pipelines.scoring.planner import make_plan
from pipelines.sources.shard import Counted, Shard
from sentiment.errors import InputError
from testing.properties import examples

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
    content = bytearray(make(["bad", Counted(250, schema), Counted(3, schema)], 1).to_json())
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
    content = json.loads(make([Counted(1, pa.schema([("text", pa.string())]))]).to_json()) | {
        "format": 2
    }
    assert "dir/plan.json has format 2, not 1: " in damaged(json.dumps(content).encode())
