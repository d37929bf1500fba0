"""Thirty nights of one output, while its input does what inputs do; three engines read the end."""

import os
from datetime import datetime, timedelta
from pathlib import Path

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.errors import Failure
from pipelines.scoring.audit import VerifyConfig
from pipelines.scoring.audit import main as verify
from pipelines.scoring.job import InputChanged
from sentiment.checkpoint import load
from sentiment.errors import InputError
from testing.faulty_files import Faults, faulty
from testing.generated import save_checkpoint
from testing.lake import Lake

ROWS = 20
NIGHTS = range(1, 31)
NULLS_UNTIL, NANOSECONDS_FROM, COUNTRY_FROM = 5, 10, 15
BEGINNING = datetime(2026, 11, 1)

Row = tuple[str, datetime, str | None]
"""Of a row: its day, when it was written, and what it replies to."""


class Reviews:
    """What the input holds by now, and how it is written on which night."""

    def __init__(self, lake: Lake) -> None:
        self.lake = lake
        self.rows: dict[int, Row] = {}
        """By id, what the output should say."""

    def write(self, night: int, day: int, name: str, first: int, rows: int = ROWS) -> Path:
        """A shard of a day, as its writer writes it on that night."""
        ids = list(range(first, first + rows))
        times = [BEGINNING + timedelta(days=day, seconds=i) for i in ids]
        replies = [None if night < NULLS_UNTIL or i % 3 else f"review {i - 1}" for i in ids]
        unit = "us" if night < NANOSECONDS_FROM else "ns"
        columns = {
            "id": pa.array(ids, pa.int64() if night % 2 else pa.int32()),
            "text": [f"a lovely day {i}" for i in ids],
            "created_at": pa.array(times, pa.timestamp(unit)),
            "reply_to": pa.array(replies, pa.null() if night < NULLS_UNTIL else pa.string()),
        }
        if night >= COUNTRY_FROM:
            columns["country"] = ["NZ"] * rows
        path = self.lake.corpus / f"day={day:02}" / name
        path.parent.mkdir(exist_ok=True)
        pq.write_table(pa.table(columns), path)
        values = zip(ids, times, replies, strict=True)
        self.rows |= {i: (f"{day:02}", time, reply) for i, time, reply in values}
        return path

    def forget(self, path: Path) -> list[int]:
        """The rows of a shard are no longer in the input; their ids."""
        ids = pq.read_table(path, columns=["id"], partitioning=None)["id"].to_pylist()
        for i in ids:
            del self.rows[i]
        return ids


def compact(reviews: Reviews, day: int) -> None:
    """Write the shards of a day as one, in other bytes."""
    directory = reviews.lake.corpus / f"day={day:02}"
    paths = sorted(directory.iterdir())
    tables = [pq.read_table(path, partitioning=None) for path in paths]
    pq.write_table(
        pa.concat_tables(tables, promote_options="permissive"),
        directory / "compacted.parquet",
        compression="zstd",
    )
    for path in paths:
        path.unlink()


@pytest.mark.slow(15)
def test_thirty_nights(tmp_path, model):
    lake = Lake(tmp_path, model)
    reviews = Reviews(lake)
    for night in NIGHTS:
        said = ""
        reviews.write(night, night, "part-0.parquet", 1000 * night)
        match night:
            case 7:
                lake.corpus.rename(tmp_path / "reviews")
                lake.corpus = tmp_path / "reviews"
                said = "Moved, or written again with the same content: 6 scored shards"
            case 9:
                reviews.write(night, 3, "late.parquet", 3500)
            case 12:
                for path in lake.corpus.rglob("*.parquet"):
                    os.utime(path, ns=(0, 10**18))
                said = "Moved, or written again with the same content: 12 scored shards"
            case 14:
                compact(reviews, 3)
                with pytest.raises(InputChanged, match="compacted or written again"):
                    lake.night()
                lake.night(sync=True)
                continue
            case 15:
                said = "country"
            case 18:
                path = lake.corpus / "day=04" / "part-0.parquet"
                gone = reviews.forget(path)
                path.unlink()
                expected = reviews.rows.keys() | set(gone)
                assert "Not in --input: 1 known shard" in lake.night()
                assert set(lake.ids()) == expected
                lake.night(sync=True)
                continue
            case 22:
                faults = Faults(at="read", error=OSError(5, "Input/output error"), after=2)
                with faulty(faults, str(lake.corpus)), pytest.raises(Failure, match="Input/output"):
                    lake.night(max_attempts=1)
                assert not (lake.scored / "_SUCCESS").exists()
            case 25:
                reviews.forget(lake.corpus / "day=06" / "part-0.parquet")
                reviews.write(night, 6, "part-0.parquet", 6100, rows=7)
                with pytest.raises(InputChanged, match="1 scored shard has changed"):
                    lake.night()
                lake.night(sync=True)
                continue
            case 27:
                save_checkpoint(tmp_path / "another", seed=1)
                another = load(str(tmp_path / "another"))
                with pytest.raises(InputError, match="started with another model "):
                    Lake(tmp_path, another, lake.corpus).night()
        assert said in lake.night()
        assert set(lake.ids()) == reviews.rows.keys()
    require_whole(lake, reviews)
    verify(VerifyConfig(str(lake.scored), (str(lake.corpus),)))

    # A new model scores into a new output, and so do people who keep the old one.
    again = Lake(tmp_path / "again", another, lake.corpus, partition_by=("day",))
    again.night()
    require_whole(again, reviews)


def require_whole(lake: Lake, reviews: Reviews) -> None:
    """Three engines read each row once, with the same values."""
    is_partitioned = "partition_by" in lake.flags
    files = f"{lake.scored}/{'day=*/' if is_partitioned else ''}*.parquet"
    columns = "id, day, created_at, reply_to"
    read = {
        "pandas": pd.read_parquet(lake.scored).to_dict("records"),
        "DuckDB": duckdb.sql(f"SELECT {columns} FROM '{files}'").df().to_dict("records"),
        "Polars": pl.read_parquet(files, hive_partitioning=is_partitioned).to_dicts(),
    }
    for engine, records in read.items():
        rows = {
            record["id"]: (
                f"{int(record['day']):02}",
                pd.Timestamp(record["created_at"]).to_pydatetime(),
                None if pd.isna(record["reply_to"]) else record["reply_to"],
            )
            for record in records
        }
        assert len(records) == len(rows), engine
        assert rows == reviews.rows, engine


@pytest.fixture
def model(tmp_path):
    save_checkpoint(tmp_path / "model")
    return load(str(tmp_path / "model"))
