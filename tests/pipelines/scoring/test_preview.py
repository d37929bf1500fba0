"""What a job does before and beside its usual way: --dry_run, --limit and --retry_rejected."""

import io
import json
import os
from collections import Counter
from contextlib import redirect_stdout

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.errors import Failure
from pipelines.scoring.config import ScoreConfig
from pipelines.scoring.executor import LocalExecutor
from pipelines.scoring.output import Output
from pipelines.scoring.preview import preview
from pipelines.scoring.shards import Shards
from pipelines.sources.listing import find_shards
from sentiment.errors import InputError
from testing.lake import Lake


@pytest.fixture
def lake(tmp_path, model):
    lake = Lake(tmp_path, model)
    lake.put("day=1/a.csv", *(f"0{i}" for i in range(8)))
    lake.put("day=2/b.parquet", *(f"1{i}" for i in range(8)))
    return lake


def dry_run(lake, **flags):
    """What it says."""
    config = ScoreConfig(
        checkpoints_dir="",
        input=(str(lake.corpus),),
        output=str(lake.scored),
        part_rows=10,
        dry_run=True,
        **flags,
    )
    output = Output(str(lake.scored))
    shards = Shards.of(find_shards(config.input, "--input"))
    with redirect_stdout(io.StringIO()) as said:
        preview(config, lake.model, output, shards, LocalExecutor())
    return said.getvalue()


def tree(lake):
    return {
        path: (path.stat().st_mtime_ns, path.is_file() and path.read_bytes())
        for path in lake.scored.rglob("*")
    }


def test_a_dry_run_shows_what_a_job_would_do_and_writes_nothing(lake):
    said = dry_run(lake)
    assert "Input: 2 shards, " in said
    assert "1 csv, 1 parquet" in said
    assert "Partition column: day, 2 values" in said
    assert "Plan: 16 rows in 2 parts; 0 shards could not be read" in said
    assert "Columns: id string, day string, positive_probability float, sentiment string" in said
    assert "Time: under 1 s of one core, " in said
    assert "measured on the first 8 rows" in said
    columns = (
        "id string, day string, source_shard string, source_row int64, positive_probability float"
    )
    assert f"Columns: {columns}, sentiment" in dry_run(lake, with_source=True)
    assert not lake.scored.exists()


def test_a_dry_run_names_the_format_that_a_txt_file_is_read_as(lake):
    (lake.corpus / "c.txt").write_text("id,text\n1,what a day\n")
    assert "1 text, 1 csv, 1 parquet" in dry_run(lake)
    assert "2 csv, 1 parquet" in dry_run(lake, format="csv")


def test_a_dry_run_tells_what_has_changed_and_is_missing(lake):
    lake.night()
    (lake.scored / "part-000000.parquet").unlink()
    lake.put("day=1/a.csv", "99")
    lake.put("day=3/c.csv", "20")
    (lake.corpus / "day=3" / "bad.parquet").write_bytes(b"PAR1")
    before = tree(lake)
    said = dry_run(lake)
    assert "Output: 2 parts, of which 1 part missing" in said
    assert "1 shard could not be read" in said
    # Its rows were to be scored again anyway, so the changed shard is followed.
    assert "Plan: 2 rows in 1 part" in said
    assert "Scored again to follow the input: 1 part" in said
    assert tree(lake) == before


def test_a_dry_run_of_what_is_complete_plans_nothing(lake):
    lake.night()
    said = dry_run(lake)
    assert "Plan: nothing new" in said


@pytest.mark.parametrize("rows", [1, 8, 9, 16, 100])
def test_a_limit_scores_the_first_rows(lake, rows):
    everything = [f"{n}{i}" for n in range(2) for i in range(8)]
    lake.night(limit=rows)
    assert lake.ids() == Counter(everything[:rows])
    lake.put("day=3/c.csv", "30")
    lake.night(limit=rows)
    assert lake.ids() == Counter(everything[:rows])
    with pytest.raises(InputError, match=r"started with another limit \(\d+, now None\)"):
        Output(str(lake.scored)).require_same(
            ScoreConfig(checkpoints_dir="", input=(), output="", part_rows=10).settings(
                lake.model.model_hash
            )
        )


def test_a_limit_counts_no_more_shards_than_it_needs(lake, monkeypatch):
    for number in range(20):
        lake.put(f"day=3/{number:02}.csv", f"3{number}")
    bad = lake.put("day=4/later.csv", "40")
    os.truncate(bad, 0)
    said = lake.night(limit=9)
    assert "could not" not in said
    assert len(Output(str(lake.scored)).plans[0].shards) == 2


def test_a_limit_within_row_groups(tmp_path, model):
    lake = Lake(tmp_path, model)
    table = pa.table({"id": [str(i) for i in range(60)], "text": ["word"] * 60})
    pq.write_table(table, lake.corpus / "a.parquet", row_group_size=15)
    lake.night(limit=37)
    assert lake.ids() == Counter(str(i) for i in range(37))


def test_what_was_rejected_is_scored_again_on_demand(lake):
    (lake.corpus / "c.csv").write_text("id,text\n20,word\n21\n")
    (lake.corpus / "bad.parquet").write_bytes(b"PAR1")
    lake.night(max_rejected="100%")
    before = tree(lake)
    part = next(path for path in lake.scored.glob("_rejected/part-*"))
    said = lake.night(max_rejected="100%", retry_rejected=True)
    assert "Scored again for their rejected rows: 1 part" in said
    assert pq.read_table(part)["plan"].to_pylist() == [0]
    after = tree(lake)
    again = lake.scored / part.name
    assert after[again][1] == before[again][1]
    assert after[again][0] > before[again][0]
    # Others are not touched.
    others = {path for path in lake.scored.glob("part-*") if path != again}
    assert {path: after[path] for path in others} == {path: before[path] for path in others}
    assert (lake.scored / "_rejected" / "shards.parquet").exists()


def test_rows_that_are_removed_because_their_shard_has_changed_are_counted(lake):
    path = lake.corpus / "c.csv"
    path.write_text("id,text\n20,word\n21,word\n22\n")
    lake.night(max_rejected="100%")
    path.write_text("id,text\n20,word\n")
    lake.night(retry_rejected=True)
    *_, last = sorted((lake.scored / "_manifest").glob("run-*.json"))
    assert json.loads(last.read_text())["removed"] == {"parts": 1, "rows": 2}


class Watched(LocalExecutor):
    """Scores parts, and looks before and after each what readers would find."""

    def __init__(self, lake, ids):
        self.lake, self.ids, self.looks = lake, ids, 0

    def score(self, tasks, number, worker, say):
        for task in tasks:
            assert self.lake.ids() == self.ids
            yield worker(task)
            assert self.lake.ids() == self.ids
            self.looks += 1


def test_no_row_is_missing_while_it_is_scored_again(lake):
    (lake.corpus / "c.csv").write_text("id,text\n20,word\n21\n")
    (lake.corpus / "d.csv").write_text("id,text\n" + "30,word\n" * 9 + "31\n")
    lake.night(max_rejected="100%")
    before = {path: path.read_bytes() for path in lake.scored.glob("*part-*")}
    watched = Watched(lake, lake.ids())
    lake.night(executor=watched, retry_rejected=True)
    assert watched.looks == 2
    assert {path: path.read_bytes() for path in lake.scored.glob("*part-*")} == before
    # Killed between both files of a part: the pair is not whole, and is made again.
    rejected = next(lake.scored.glob("_rejected/part-*"))
    rejected.write_bytes(b"another version's")
    assert "has another file in _rejected/" in lake.night()
    assert lake.ids() == watched.ids


def test_a_job_that_dies_before_it_retries_goes_on(lake):
    (lake.corpus / "c.csv").write_text("id,text\n20,word\n21\n")
    lake.night(max_rejected="100%")

    class Outage(LocalExecutor):
        def score(self, tasks, number, worker, say):
            raise Failure("an outage")
            yield

    with pytest.raises(Failure, match="an outage"):
        lake.night(executor=Outage(), max_rejected="100%", retry_rejected=True)
    assert not (lake.scored / "_SUCCESS").exists()
    lake.night(max_rejected="100%")
    assert lake.ids() == Counter([*(f"{n}{i}" for n in range(2) for i in range(8)), "20"])
