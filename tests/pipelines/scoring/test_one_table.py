"""Whatever shards come night after night, the output is one table, and each row is in it once."""

import datetime
import json
import math
import random
import tempfile
import uuid
from collections import Counter
from decimal import Decimal
from pathlib import Path

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.scoring.config import ScoreConfig
from pipelines.scoring.executor import LocalExecutor
from pipelines.scoring.job import run
from pipelines.scoring.output import Output
from pipelines.sources.arrow_types import is_text
from pipelines.sources.listing import find_shards
from sentiment.checkpoint import Checkpoint
from sentiment.errors import InputError
from testing.properties import examples

UTC = datetime.UTC
TIMES = [datetime.datetime(1, 1, 1), datetime.datetime(2024, 5, 6, 7, 8, 9, 10)]
NANOSECONDS = [1, 1_700_000_000_000_001_000]
NUMBERS = [2**53 + 1, 7, -(2**63), 2**31]

# Of each type that a column may have in some shard: values.
COLUMNS: dict[pa.DataType, list[object]] = {
    pa.int64(): NUMBERS,
    pa.int8(): [7, -3],
    pa.uint64(): [2**64 - 1, 7],
    pa.float64(): [1.5, 7.0, 0.1, math.nan, 2.0**60],
    pa.float32(): [1.5, 7.0],
    pa.bool_(): [True, False],
    pa.string(): ["007", "7", "", "1.5", "true", "bob", "2024-05-06"],
    pa.large_string(): ["7", "eve"],
    pa.dictionary(pa.int8(), pa.string()): ["7", "ann"],
    pa.null(): [],
    pa.decimal128(9, 2): [Decimal("7.00"), Decimal("1.50"), Decimal("-0.01")],
    pa.decimal128(12, 4): [Decimal("7.0000"), Decimal("1.2345")],
    pa.date32(): [datetime.date(2024, 5, 6), datetime.date(1, 1, 1)],
    pa.timestamp("us"): TIMES,
    pa.timestamp("ns"): NANOSECONDS,
    pa.timestamp("us", "UTC"): TIMES,
    pa.timestamp("ns", "UTC"): NANOSECONDS,
    pa.timestamp("ms", "Asia/Tokyo"): [datetime.datetime(2024, 5, 6, 7, 8, 9)],
    pa.time64("us"): [datetime.time(7, 8, 9, 10)],
    pa.binary(): [b"7", b"\xff"],
    pa.uuid(): [uuid.UUID(int=1).bytes, uuid.UUID(int=2**100).bytes],
    pa.json_(): ["{}", '{"a": 1}'],
    pa.list_(pa.int64()): [[], [1, None, 2**40]],
    pa.list_(pa.null()): [[], [None]],
    pa.struct([("x", pa.int64())]): [{"x": 7}, {"x": None}],
    pa.struct([("y", pa.string()), ("x", pa.float64())]): [{"x": 7.0, "y": "bob"}],
}


# Types that one column has in files of the same origin over the years.
FAMILIES = [
    [pa.int64(), pa.float64(), pa.int8(), pa.null()],
    [pa.int64(), pa.uint64(), pa.float32(), pa.decimal128(9, 2), pa.decimal128(12, 4)],
    [pa.null(), pa.string(), pa.int64(), pa.large_string(), pa.dictionary(pa.int8(), pa.string())],
    [pa.string(), pa.int64(), pa.float64(), pa.bool_(), pa.date32(), pa.binary(), pa.json_()],
    [pa.timestamp("us"), pa.timestamp("ns"), pa.date32(), pa.null(), pa.string()],
    [pa.timestamp("us", "UTC"), pa.timestamp("ns", "UTC"), pa.timestamp("ms", "Asia/Tokyo")],
    [pa.null(), pa.list_(pa.null()), pa.list_(pa.int64())],
    [*COLUMNS],
]


def some_nights(chance: random.Random) -> list[list[tuple[str, pa.Table]]]:
    """Nights of shards, each with its format, and its columns in its own order."""
    families = {name: chance.choice(FAMILIES) for name in ("a", "b")}

    def shard():
        rows = chance.randrange(5)
        columns = {"id": [""] * rows, "text": [""] * rows}
        for name in chance.choice([["a"], ["a", "b"], []]):
            kind = chance.choice(families[name])
            values = chance.choices([*COLUMNS[kind], None], k=rows)
            columns[name] = pa.array(values, kind)
        order = chance.sample([*columns], len(columns))
        return chance.choice(["parquet", "parquet", "csv", "jsonl"]), pa.table(columns).select(
            order
        )

    return [[shard() for _ in range(chance.randint(1, 2))] for _ in range(chance.randint(1, 4))]


class Nights:
    """A corpus and its output, which a job scores night after night."""

    def __init__(self, root: Path, model: Checkpoint, **flags: object) -> None:
        self.corpus, self.scored, self.model = root / "corpus", root / "scored", model
        self.corpus.mkdir()
        paths = {"checkpoints_dir": "", "input": (str(self.corpus),), "output": str(self.scored)}
        self.config = ScoreConfig(**paths, max_rejected="100%", part_rows=5, **flags)
        self.rows: dict[str, dict[str, pa.Scalar]] = {}
        """The kept columns of each row as its shard has them, by id."""

    def add(self, table: pa.Table, kind: str = "parquet") -> str:
        """Write a shard with ids and texts, if it has none; its path."""
        path = self.corpus / f"{len([*self.corpus.iterdir()]):03d}.{kind}"
        ids = [f"{path.stem}-{i}" for i in range(1, len(table) + 1)]
        texts = ["lovely day"] * len(table)
        for name, values in (("id", ids), ("text", texts)):
            if name in table.column_names:
                table = table.set_column(table.column_names.index(name), name, pa.array(values))
            else:
                table = table.append_column(name, pa.array(values, pa.string()))
        if kind == "csv":
            frame = pd.DataFrame({n: [_field(v) for v in table[n]] for n in table.column_names})
            frame.to_csv(path, index=False)
            table = pa.table({name: pa.array(frame[name], pa.string()) for name in frame})
        elif kind == "jsonl":
            lines = [{n: _json(v) for n, v in row.items()} for row in table.to_pylist()]
            path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
            columns = {n: [_text(line[n]) for line in lines] for n in table.column_names}
            table = pa.table({n: pa.array(c, pa.string()) for n, c in columns.items()})
        else:
            pq.write_table(table, path)
        for index, row in enumerate(ids):
            self.rows[row] = {name: table[name][index] for name in table.column_names}
        return str(path)

    def score(self) -> Output:
        """A night: score what is new."""
        output = Output(str(self.scored))
        run(
            self.config,
            self.model,
            output,
            find_shards([str(self.corpus)], "--input"),
            LocalExecutor(),
        )
        return output

    def rejected(self) -> Counter[tuple[str, int | None]]:
        """Rejected rows by shard and row number, and shards with None."""
        tables = [pq.read_table(path) for path in self.scored.glob("_rejected/*.parquet")]
        rows = [row for table in tables for row in table.to_pylist()]
        return Counter((row["shard"], row["row"]) for row in rows)


def _json(value: object) -> object:
    """The value as JSON has it: a text, if there is nothing nearer."""
    if isinstance(value, float) and math.isnan(value):
        return None
    return value if isinstance(value, str | bool | int | float | None) else str(value)


def _text(value: object) -> str | None:
    return value if isinstance(value, str | None) else json.dumps(value)


def _field(value: pa.Scalar) -> str:
    return "" if value.as_py() is None else str(value.as_py())


def rows_of(scored: Path) -> list[list[str]]:
    """The ids of the rows in an output, as each of four libraries reads it."""
    if not [*scored.glob("*.parquet")]:
        return []
    pattern = str(scored / "*.parquet")
    frame = pl.scan_parquet(pattern).collect()
    return [
        sorted(pd.read_parquet(scored)["id"]),
        sorted(row[0] for row in duckdb.sql(f"SELECT id, * FROM '{pattern}'").fetchall()),
        sorted(frame["id"]),
        sorted(pads.dataset(scored, format="parquet").to_table()["id"].to_pylist()),
    ]


def is_same(found: pa.Scalar, given: pa.Scalar) -> bool:
    """Whether a value of the output is that of the shard, whatever the types say."""
    kind, to = given.type, found.type
    if pa.types.is_dictionary(kind):
        return is_same(found, given.cast(kind.value_type))
    value, other = given.as_py(), found.as_py()
    if value is None or other is None:
        # An empty field of CSV is null where the output has no texts.
        return value is other or (value == "" and not is_text(to))
    if isinstance(value, list):
        return len(value) == len(other) and all(map(is_same, found.values, given.values))
    if isinstance(value, dict):
        return all(is_same(found[name], given[name]) for name in value) and all(
            other[name] is None for name in other.keys() - value.keys()
        )
    if pa.types.is_temporal(kind) and not is_text(to):
        return moment(found) == moment(given)
    if isinstance(value, float) and math.isnan(value):
        return str(other) == "nan"
    if isinstance(other, str) and not isinstance(value, str):
        return is_written(other, given)
    if isinstance(value, str) and not isinstance(other, str):
        return is_written(value, found)
    if isinstance(value, Decimal | float) and isinstance(other, Decimal | float):
        # A decimal is the float that is written so.
        digits = 1e-6 if pa.float32() in (kind, to) else 0
        return math.isclose(value, other, rel_tol=digits)
    return bool(value == other)


def moment(value: pa.Scalar) -> int | str:
    """Nanoseconds of a time."""
    kind = value.type
    if pa.types.is_time(kind):
        return str(value)
    day = 86_400 * 10**9
    if pa.types.is_date(kind):
        return int(value.cast(pa.int32()).as_py()) * day
    return int(value.value) * {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}[kind.unit]


def is_written(text: str, value: pa.Scalar) -> bool:
    """Whether a text says the value."""
    kind, written = value.type, value.as_py()
    if pa.types.is_boolean(kind):
        return text.lower() == str(written).lower()
    if isinstance(written, bytes):
        return text.encode() == written
    if isinstance(written, uuid.UUID):
        return False
    if isinstance(written, float) and math.isnan(written):
        return text == "nan"
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        digits = 1e-6 if kind == pa.float32() else 0
        return not text.startswith("00") and math.isclose(float(text), written, rel_tol=digits)
    if pa.types.is_timestamp(kind):
        same = pa.scalar(text.replace("+0900", "+09:00")).cast(kind)
        return bool(same.value == value.value)
    return text == str(value.cast(pa.string()) if pa.types.is_temporal(kind) else written)


@settings(examples(60), suppress_health_check=[*HealthCheck])
@given(chance=st.randoms(use_true_random=True))
def test_four_libraries_read_one_table_with_each_row_once(model, chance):
    with tempfile.TemporaryDirectory() as directory:
        corpus = Nights(Path(directory), model)
        for night in some_nights(chance):
            for kind, shard in night:
                corpus.add(shard, kind)
            try:
                output = corpus.score()
            except InputError as error:
                # No type holds all values of a column, of the first shards.
                has_begun = any(corpus.scored.glob("*.parquet"))
                if has_begun or "different shards, which no type" not in str(error):
                    raise
                return
        check(corpus, output)


def check(corpus: Nights, output: Output) -> None:
    """Each row is in the output or rejected, with the values of its shard, under one schema."""
    schemas = [plan.schema for plan in output.plans if len(plan.parts)]
    schema = schemas[0] if schemas else pa.schema([])
    assert all(other.equals(schema) for other in schemas)
    parts = [pq.read_table(path) for path in sorted(corpus.scored.glob("*.parquet"))]
    assert len({str(part.schema) for part in parts}) <= 1
    rejected = corpus.rejected()
    assert max(rejected.values(), default=0) <= 1
    refused = {Path(shard).stem for shard, row in rejected if row is None}
    lost = {f"{Path(shard).stem}-{row}" for shard, row in rejected}
    expected = sorted(
        row for row in corpus.rows if row not in lost and row.partition("-")[0] not in refused
    )
    assert all(ids == expected for ids in rows_of(corpus.scored))
    for part in parts:
        for index, row in enumerate(part["id"].to_pylist()):
            given = corpus.rows[row]
            for name in schema.names:
                found = part[name][index]
                if name in given:
                    assert is_same(found, given[name]), (name, found, given[name])
                else:
                    assert found.as_py() is None


def table(**columns):
    return pa.table(columns)


def test_a_column_that_was_null_on_the_first_night_takes_the_values_of_the_second(model, tmp_path):
    corpus = Nights(tmp_path, model)
    corpus.add(table(reply_to=pa.nulls(2), tags=pa.array([[], [None]])))
    corpus.score()
    corpus.add(table(reply_to=["bob", None], tags=[["x"], None]))
    check(corpus, corpus.score())
    found = pads.dataset(corpus.scored, format="parquet").to_table()
    assert found["reply_to"].to_pylist() == [None, None, "bob", None]
    assert found["tags"].to_pylist() == [[], [None], ["x"], None]


@pytest.mark.parametrize("kind", ["parquet", "csv", "jsonl"])
def test_a_night_without_rows_decides_nothing(model, tmp_path, kind):
    corpus = Nights(tmp_path, model)
    corpus.add(table(n=pa.array([], pa.null())), kind)
    corpus.score()
    corpus.add(table(n=[7]))
    check(corpus, corpus.score())
    assert pads.dataset(corpus.scored, format="parquet").schema.field("n").type == pa.int64()


def test_timestamps_of_other_units_stay_timestamps(model, tmp_path, capsys):
    us, ns = (pa.timestamp(unit, "UTC") for unit in ("us", "ns"))
    corpus = Nights(tmp_path, model)
    corpus.add(table(at=pa.array([1], us)))
    corpus.score()
    corpus.add(table(at=pa.array([2_000, 2_001], ns), country=["at", "at"]))
    output = corpus.score()
    check(corpus, output)
    assert output.plans[1].schema.field("at").type == us
    assert [row for _, row in corpus.rejected()] == [2]
    said = capsys.readouterr().out
    assert "Not kept, since the output has no such column: country (--overwrite)\n" in said
    assert (
        "Column 'at' is timestamp[us, tz=UTC] in the output: it is timestamp[ns, tz=UTC] in" in said
    )


def test_values_are_cast_where_none_changes_and_else_rejected(model, tmp_path):
    corpus = Nights(tmp_path, model)
    corpus.add(table(n=pa.array([1], pa.int64()), d=pa.array([Decimal("1.50")])))
    corpus.score()
    corpus.add(table(n=[1.0, 1.5, None], d=[1.5, 1.5, 1.5]))
    corpus.add(table(n=["7", "007", ""], d=["2", "2", "2.25"]), "csv")
    check(corpus, corpus.score())
    rejected = {f"{Path(shard).stem}-{row}" for shard, row in corpus.rejected()}
    assert rejected == {"001-2", "002-2"}


def test_a_shard_with_a_type_that_never_converts_is_refused(model, tmp_path):
    corpus = Nights(tmp_path, model)
    corpus.add(table(a=[1]))
    corpus.score()
    path = corpus.add(table(a=[[1]]))
    corpus.add(table(a=[2]))
    check(corpus, corpus.score())
    assert corpus.rejected() == {(path, None): 1}


def test_what_duckdb_writes_is_read_by_duckdb_as_the_same(model, tmp_path):
    corpus = Nights(tmp_path, model)
    path = corpus.corpus / "a.parquet"
    duckdb.sql(
        "COPY (SELECT '657aa8c1-c6a4-4a0b-89fc-d4d384f242db'::UUID AS id, 'what a day' AS text, "
        "[uuid()] AS ids, '{}'::JSON AS json, 7::UBIGINT AS big, 1.5::DECIMAL(30, 3) AS price) "
        f"TO '{path}' (FORMAT parquet)"
    )
    corpus.score()
    before, after = (duckdb.sql(f"FROM '{name}'") for name in (path, corpus.scored / "*.parquet"))
    columns = "id, ids, json, big, price"
    assert after.select(columns).types == before.select(columns).types
    assert after.select(columns).fetchall() == before.select(columns).fetchall()


def test_each_row_says_where_it_is_from(model, tmp_path):
    corpus = Nights(tmp_path, model, with_source=True)
    shards = [corpus.add(table(a=["x"] * 7), kind) for kind in ("csv", "parquet")]
    (corpus.corpus / "bad.csv").write_text("id,text\nbad-1\nbad-2,lovely\n")
    corpus.score()
    found = pads.dataset(corpus.scored, format="parquet").to_table().to_pylist()
    assert [*found[0]] == [
        *("a", "id", "source_shard", "source_row", "positive_probability", "sentiment")
    ]
    assert {(row["source_shard"], row["source_row"]): row["id"] for row in found} == {
        **{(path, i): f"{Path(path).stem}-{i}" for path in shards for i in range(1, 8)},
        (f"{corpus.corpus}/bad.csv", 2): "bad-2",
    }
    assert corpus.rejected() == {(f"{corpus.corpus}/bad.csv", 1): 1}


def test_a_source_that_the_input_has_already_is_refused(model, tmp_path):
    corpus = Nights(tmp_path, model, with_source=True)
    corpus.add(table(Source_row=[1]))
    with pytest.raises(InputError, match="the input has a column 'Source_row', which the output"):
        corpus.score()


def test_a_column_that_cannot_be_written_is_refused_before_anything_is_scored(model, tmp_path):
    corpus = Nights(tmp_path, model)
    query = "SELECT INTERVAL 3 DAY AS gap, 'what a day' AS text"
    duckdb.sql(f"COPY ({query}) TO '{corpus.corpus}/a.parquet' (FORMAT parquet)")
    with pytest.raises(InputError, match="column 'gap' has the type Interval, which can"):
        corpus.score()
    assert not corpus.scored.exists()
