"""Parts as blocks of a Ray dataset: a row each, which nothing cuts, joins or copies."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.scoring.part_data import (
    REJECTED,
    PartCounts,
    PartResult,
    PartTask,
    TokenizedPart,
    WrittenFile,
    from_block,
    to_block,
)
from pipelines.sources.rows import Span
from pipelines.sources.shard import Shard

TASK = PartTask("part-000007", ((Shard("a b.csv", 5, 2**62), Span(3, 4, 2, 99)),), 2, "abc")


@given(st.lists(st.lists(st.integers(0, 2**31 - 1), max_size=4), max_size=5), st.integers(0, 3))
def test_a_part_is_the_same_after_its_way(texts, rejected):
    ids = np.array([each for text in texts for each in text], np.int32)
    offsets = np.cumsum([0, *map(len, texts)])
    rows = [{"shard": "a", "row": i, "reason": "\0", "raw": b"\xff"} for i in range(rejected)]
    part = TokenizedPart(
        task=TASK,
        kept=pa.table({"id": pa.array(range(len(texts)), pa.int64())}),
        rejected=pa.Table.from_pylist(rows, REJECTED),
        ids=ids,
        offsets=offsets,
        piece_rows=np.array([len(texts)]),
        truncated=1,
        rejected_rows=rejected,
        reasons={"\0": rejected},
    )
    block = to_block(part)
    assert len(block) == 1
    # As Ray Data may hand it on: joined with others, and cut between rows.
    found = from_block(pa.concat_tables([block, block])[1:])
    assert found.task == TASK
    assert found.kept.equals(part.kept)
    assert found.rejected.equals(part.rejected)
    for name in ("ids", "offsets", "piece_rows"):
        before, after = getattr(part, name), getattr(found, name)
        assert (after.dtype, after.tolist()) == (before.dtype, before.tolist())
    assert (found.truncated, found.rejected_rows) == (1, rejected)
    assert found.reasons == part.reasons


def test_arrays_are_shared_with_the_block():
    ids = np.arange(1000, dtype=np.int32)
    part = TokenizedPart(
        *(TASK, pa.table({}), REJECTED.empty_table(), ids, np.array([0, 1000]), np.array([1])),
        *(0, 0, {}),
    )
    assert np.shares_memory(from_block(to_block(part)).ids, ids)


@pytest.mark.parametrize("error", ["", "part-000007: an outage \ud7ff"])
def test_a_result_is_passed_on(error):
    file = WrittenFile(10, "ab" * 32, 2**62)
    result = PartResult("part-000007", PartCounts(rows=3), error, [1] * 20, [3, 1], {"x": 1}, file)
    result = replace(result, by={"key": [[None, [1, 2]], ["a", [0, 1]]], "id": None})
    assert from_block(to_block(result)) == result
    assert PartResult.from_json(result.to_json()) == result
