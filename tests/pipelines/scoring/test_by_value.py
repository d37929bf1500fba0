"""`--by` counts each row once, under the value that a reader sees."""

import json
from collections import Counter
from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.scoring.by_value import (
    MAX_VALUE_CHARACTERS,
    MAX_VALUES,
    MAX_VALUES_IN_ALL,
    count_by,
    require_countable,
    sum_by,
)
from pipelines.scoring.config import ScoreConfig
from pipelines.scoring.executor import LocalExecutor
from pipelines.scoring.job import run
from pipelines.scoring.manifest import PLAN
from pipelines.scoring.output import Output
from pipelines.scoring.report_data import collect
from pipelines.scoring.sealed_parquet import parquet_content
from pipelines.scoring.shards import Shards
from pipelines.sources.listing import find
from pipelines.sources.shard import Shard
from sentiment.errors import InputError
from testing.generated import save_checkpoint, texts_and_labels
from testing.properties import examples


@examples(100)
@given(
    st.lists(
        st.lists(st.tuples(st.none() | st.text(max_size=3), st.integers(0, 2)), max_size=20),
        max_size=4,
    )
)
def test_parts_sum_up_to_each_row_once(parts):
    counts, rows = [], []
    for part in parts:
        table = pa.table({"key": pa.array([value for value, _ in part], pa.string())})
        winners = np.array([winner for _, winner in part], np.int64)
        counts.append(json.dumps(count_by(table, ["key"], winners, 3)))
        rows.append(len(part))
    (by,) = sum_by(counts, np.array(rows, np.int64), ["key"], 3)
    expected = Counter(row for part in parts for row in part)
    found = {
        (value, k): n
        for value, of_classes in zip(by.values, by.class_rows if expected else [], strict=True)
        for k, n in enumerate(of_classes.tolist())
        if n
    }
    assert found == expected
    assert by.rows.sum() == sum(rows)
    assert by.note == ""


@pytest.mark.parametrize(
    ("values", "kind", "expected"),
    [
        ([True, None, True], pa.bool_(), {"true": 2, None: 1}),
        ([1, 5, 5], pa.int8(), {"1": 1, "5": 2}),
        (["a", "b", "a"], pa.dictionary(pa.int32(), pa.string()), {"a": 2, "b": 1}),
        ([None, None], pa.null(), {None: 2}),
        (["x" * 300 + "1", "x" * 300 + "2"], pa.large_string(), {"x" * MAX_VALUE_CHARACTERS: 2}),
        (
            ["2026-11-01T23:59:00Z", "2026-11-01 00:00", "2026-11-01", "2026-11-x"],
            pa.string(),
            {"2026-11-01": 3, "2026-11-x": 1},
        ),
        ([datetime(1950, 1, 1, 23), datetime(1950, 1, 1)], pa.timestamp("ns"), {"1950-01-01": 2}),
    ],
)
def test_values_are_as_a_reader_sees_them(values, kind, expected):
    table = pa.table({"key": pa.array(values, kind)})
    counted = count_by(table, ["key"], np.zeros(len(values), np.int64), 2)["key"]
    assert {value: numbers[0] for value, numbers in counted} == expected


@pytest.mark.parametrize("zone", ["America/New_York", "-05:00"])
def test_a_day_is_that_of_the_columns_zone(zone):
    late = datetime(2026, 11, 2, 3, tzinfo=UTC)
    table = pa.table({"key": pa.array([late], pa.timestamp("us", zone))})
    ((day, _),) = count_by(table, ["key"], np.zeros(1, np.int64), 2)["key"]
    assert day in ({"2026-11-01"} if zone != "-05:00" else {"2026-11-01", "2026-11-02"})


def test_too_many_values_and_texts_that_are_none_are_not_counted():
    ids = pa.array(range(MAX_VALUES + 1))
    broken = pa.array([b"\xff"] * len(ids)).view(pa.string())
    table = pa.table({"id": ids, "broken": broken})
    counts = count_by(table, ["id", "broken", "gone"], np.zeros(len(ids), np.int64), 2)
    assert counts == {"id": None, "broken": None}
    for by in sum_by([json.dumps(counts), None], np.array([401, 7]), ["id", "gone"], 2):
        assert not len(by.values)
        assert "scored without --by" in by.note


def test_no_row_is_lost_among_too_many_values_of_all_parts():
    winners = np.zeros(399, np.int64)
    counts = [
        json.dumps(count_by(pa.table({"id": np.arange(399) + 399 * part}), ["id"], winners, 2))
        for part in range(15)
    ]
    (by,) = sum_by(counts, np.full(15, 399), ["id"], 2)
    assert MAX_VALUES_IN_ALL < len(by.values) == by.rows.sum() < 15 * 399
    assert by.note.startswith(f"{15 * 399 - by.rows.sum():,} rows not counted: a part has more")


def test_of_many_classes_only_rows_are_counted():
    table = pa.table({"key": ["a", "b", "a"]})
    counts = count_by(table, ["key"], np.array([20, 3, 7]), 25)
    assert counts["key"] == [("a", [2]), ("b", [1])]
    (by,) = sum_by([json.dumps(counts)], np.array([3]), ["key"], 25)
    assert by.class_rows is None
    assert by.rows.tolist() == [2, 1]


def test_what_cannot_be_counted_is_refused():
    kept = pa.schema([("stars", pa.int8()), ("tags", pa.list_(pa.string()))])
    shards = Shards.of([Shard("/corpus/dt=1/a.csv", 1, 1)])
    require_countable(["stars", "dt"], kept, shards)
    with pytest.raises(InputError, match="--by star: the output keeps no such column; it keeps: s"):
        require_countable(["star"], kept, shards)
    with pytest.raises(InputError, match="--by tags: it is list<"):
        require_countable(["tags"], kept, shards)


def test_an_output_is_counted_also_after_a_crash_and_its_bytes_do_not_change(tmp_path):
    checkpoint = save_checkpoint(tmp_path / "model", sureness=40)
    texts, _ = texts_and_labels(300)
    (tmp_path / "corpus").mkdir()
    stars = np.arange(300) % 5
    pq.write_table(pa.table({"text": texts, "stars": stars}), tmp_path / "corpus" / "a.parquet")
    shards = find([str(tmp_path / "corpus")], "--input").shards

    def score(name: str, *by: str) -> tuple[ScoreConfig, Output]:
        config = ScoreConfig(
            checkpoints_dir=str(tmp_path / "model"),
            input=(str(tmp_path / "corpus"),),
            output=str(tmp_path / name),
            part_rows=100,
            by=by,
        )
        run(config, checkpoint, Output(config.output, is_own=True), shards, LocalExecutor())
        return config, Output(config.output)

    score("plain")
    config, output = score("counted", "stars")
    for path in sorted((tmp_path / "plain").glob("part-*")):
        assert path.read_bytes() == (tmp_path / "counted" / path.name).read_bytes()
    table = pd.read_parquet(tmp_path / "counted")
    expected = pd.crosstab(table["stars"], table["sentiment"])[["negative", "positive"]]

    def check(output: Output) -> str:
        results = collect(config, checkpoint, output, output.records.totals(), "")
        (by,) = results.breakdowns
        assert by.values == list("01234")
        assert by.class_rows is not None
        assert by.class_rows.tolist() == expected.to_numpy().tolist()
        return by.note

    assert check(output) == ""
    # The records are lost: the parts are verified, and counted again.
    for path in (tmp_path / "counted" / "_manifest").glob("parts-*"):
        path.unlink()
    (tmp_path / "counted" / "_SUCCESS").unlink()
    assert check(score("counted", "stars")[1]) == ""
    # A manifest of an earlier version has no such column.
    path = tmp_path / "plain" / "_manifest" / "parts-00000.parquet"
    file = pq.ParquetFile(path)
    path.write_bytes(
        parquet_content(file.read().drop_columns("by"), {PLAN: file.metadata.metadata[PLAN]})
    )
    earlier = Output(str(tmp_path / "plain"))
    assert earlier.unverified() == []
    assert earlier.records.totals().counts["rows"] == 300
    # A night without --by is told.
    results = collect(config, checkpoint, score("plain")[1], output.records.totals(), "")
    assert results.breakdowns[0].note == "300 rows not counted: scored without --by stars."
