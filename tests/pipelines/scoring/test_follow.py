"""A shard is known by its content: what happens when the input is moved, changed or compacted."""

import os
import shutil
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest

from pipelines.errors import Failure
from pipelines.scoring.commit import PartWriter
from pipelines.scoring.config import ScoreConfig
from pipelines.scoring.executor import LocalExecutor
from pipelines.scoring.job import InputChanged, PartsFailed, run
from pipelines.scoring.output import Output
from pipelines.sources.listing import find_shards
from sentiment.errors import InputError
from testing.lake import Lake


@pytest.fixture
def lake(tmp_path, model):
    """Three shards of four rows, scored: two of them share a part."""
    lake = Lake(tmp_path, model)
    for number, name in enumerate(("a.csv", "b.parquet", "c.csv")):
        lake.put(name, *(f"{number}{i}" for i in range(4)))
    lake.night()
    assert len(lake.parts()) == 2
    return lake


ALL = {f"{number}{i}" for number in range(3) for i in range(4)}


def touch(lake):
    for path in lake.corpus.iterdir():
        os.utime(path, ns=(0, 5))


def rename_shard(lake):
    (lake.corpus / "a.csv").rename(lake.corpus / "z.csv")


def rename_directory(lake):
    lake.corpus.rename(lake.corpus.with_name("moved"))
    lake.corpus = lake.corpus.with_name("moved")


def link_directory(lake):
    lake.corpus.with_name("link").symlink_to(lake.corpus)
    lake.corpus = lake.corpus.with_name("link")


def restore(lake):
    """From a copy that has new times and inodes."""
    copy = shutil.copytree(lake.corpus, lake.corpus.with_name("copy"), copy_function=shutil.copy)
    shutil.rmtree(lake.corpus)
    Path(copy).rename(lake.corpus)


def swap(lake):
    """Two shards change names."""
    (lake.corpus / "a.csv").rename(lake.corpus / "tmp")
    (lake.corpus / "c.csv").rename(lake.corpus / "a.csv")
    (lake.corpus / "tmp").rename(lake.corpus / "c.csv")


@pytest.mark.parametrize(
    "move", [touch, rename_shard, rename_directory, link_directory, restore, swap]
)
@pytest.mark.parametrize("sync", [False, True])
def test_the_same_content_is_not_scored_again(lake, move, sync):
    move(lake)
    said = lake.night(sync=sync)
    assert lake.read == []
    assert lake.ids() == Counter(ALL)
    assert ("Moved, or written again with the same content" in said) == (move != link_directory)
    # What was found is remembered: nothing is counted again.
    assert "Counting" not in lake.night()
    lake.put("new.csv", "30")
    lake.night()
    assert lake.ids() == Counter(ALL | {"30"})


def in_corpus(lake):
    """How often each id is in the input."""
    paths = [path for path in lake.corpus.rglob("*") if path.is_file()]
    read = {".csv": pacsv.read_csv, ".parquet": pq.read_table}
    tables = [read[path.suffix](path) for path in paths]
    return Counter(f"{i:0>2}" for table in tables for i in table["id"].to_pylist())


def rotate(lake):
    """As a log is: the file gets another name, and a new one takes its place."""
    (lake.corpus / "a.csv").rename(lake.corpus / "a-1.csv")
    lake.put("a.csv", "40", "41")
    return {"40", "41"}


def rotate_in_a_chain(lake):
    rotate(lake)
    lake.night()
    (lake.corpus / "a-1.csv").rename(lake.corpus / "a-2.csv")
    (lake.corpus / "a.csv").rename(lake.corpus / "a-1.csv")
    lake.put("a.csv", "50")
    return {"40", "41", "50"}


def rotate_a_copy(lake):
    shutil.copy(lake.corpus / "a.csv", lake.corpus / "a-1.csv")
    lake.put("a.csv", "40", "41")
    return {"40", "41"}


def rotate_all(lake):
    """Also those that share a part."""
    for path in sorted(lake.corpus.iterdir()):
        (lake.corpus / "old").mkdir(exist_ok=True)
        path.rename(lake.corpus / "old" / path.name)
    lake.put("a.csv", "40")
    lake.put("b.parquet", "41", "42")
    lake.put("c.csv", "43")
    return {"40", "41", "42", "43"}


@pytest.mark.parametrize("change", [rotate, rotate_in_a_chain, rotate_a_copy, rotate_all])
@pytest.mark.parametrize("flags", [{}, {"sync": True}, {"keep_stale": True}])
def test_a_file_that_takes_the_name_of_one_that_moved_is_new(lake, change, flags):
    new = change(lake)
    before = {name: (lake.scored / name).read_bytes() for name in lake.parts()}
    said = lake.night(**flags)
    assert lake.ids() == Counter(ALL | new)
    assert "Moved, or written again with the same content" in said
    # Nothing that was scored is scored again.
    assert {name: (lake.scored / name).read_bytes() for name in before} == before
    assert "Counting" not in lake.night(**flags)
    # Each is followed on its own from then on.
    lake.put("a.csv", "60")
    lake.night(sync=True)
    assert lake.ids() == in_corpus(lake)


def append(lake):
    with (lake.corpus / "a.csv").open("a") as file:
        file.write("04,word\n")
    return ALL | {"04"}


def truncate(lake):
    content = (lake.corpus / "a.csv").read_bytes().splitlines(keepends=True)
    (lake.corpus / "a.csv").write_bytes(b"".join(content[:3]))
    return ALL - {"02", "03"}


def empty(lake):
    lake.put("a.csv")
    return ALL - {"00", "01", "02", "03"}


def rewrite(lake):
    """Parquet, of the same length."""
    lake.put("b.parquet", "30", "31", "32", "33")
    return (ALL - {f"1{i}" for i in range(4)}) | {f"3{i}" for i in range(4)}


def move_over(lake):
    """One shard takes another's place."""
    (lake.corpus / "a.csv").replace(lake.corpus / "c.csv")
    return ALL - {f"2{i}" for i in range(4)}


def compact(lake):
    for name in ("a.csv", "b.parquet"):
        (lake.corpus / name).unlink()
    lake.put("whole.parquet", *(f"{n}{i}" for n in range(2) for i in range(4)))
    return ALL


def write_partition_again(lake):
    """As Spark does: another name, and a row that came late."""
    lake.put("day=1/part-0-aaa.csv", "40", "41")
    lake.night()
    (lake.corpus / "day=1" / "part-0-aaa.csv").unlink()
    lake.put("day=1/part-0-bbb.csv", "40", "41", "42")
    return ALL | {"40", "41", "42"}


def split(lake):
    (lake.corpus / "a.csv").unlink()
    lake.put("a0.csv", "00", "01")
    lake.put("a1.csv", "02", "03")
    return ALL


def move_to_another_day(lake):
    """The partition column has another value now."""
    lake.put("day=1/d.csv", "40")
    lake.night()
    (lake.corpus / "day=2").mkdir()
    (lake.corpus / "day=1" / "d.csv").rename(lake.corpus / "day=2" / "d.csv")
    return ALL | {"40"}


def rename_to_another_format(lake):
    """Separated by tabs, there is no such column any more; commas and tabs are not alike."""
    content = "id\ttext\n40\tone, two\n"
    lake.put("d.csv").write_text(content)
    lake.night()
    (lake.corpus / "d.csv").rename(lake.corpus / "d.tsv")
    return ALL | {"40"}


CHANGES = [append, truncate, empty, rewrite, move_over, compact, write_partition_again, split]
CHANGES += [move_to_another_day, rename_to_another_format]


@pytest.mark.parametrize("change", CHANGES)
def test_other_content_is_said_and_followed_on_demand(lake, change):
    expected = change(lake)
    scored = set(lake.ids())
    lake.put("late.csv", "90")
    with pytest.raises(InputChanged, match=r"the same command with --sync makes the output"):
        lake.night()
    # All else is done; what was scored is there, once; and nobody takes it for the input's rows.
    assert lake.ids() == Counter(scored | {"90"})
    assert not (lake.scored / "_SUCCESS").exists()
    with pytest.raises(InputChanged):
        lake.night()
    lake.night(sync=True)
    assert lake.ids() == Counter(expected | {"90"})
    assert "Counting" not in lake.night()
    assert lake.ids() == Counter(expected | {"90"})


@pytest.mark.parametrize("change", [append, truncate, empty, rewrite])
def test_stale_rows_stay_where_that_is_accepted(lake, change):
    change(lake)
    lake.put("late.csv", "90")
    lake.night(keep_stale=True)
    assert lake.ids() == Counter(ALL | {"90"})


def test_only_parts_with_rows_of_what_changed_are_scored_again(lake):
    lake.put("b.parquet", "10")
    before = {name: (lake.scored / name).read_bytes() for name in lake.parts()}
    lake.night(sync=True)
    assert lake.read == ["part-000002.parquet"]
    same = {name for name in lake.parts() if before.get(name) == (lake.scored / name).read_bytes()}
    assert same == {"part-000001.parquet"}
    assert lake.ids() == Counter(ALL - {"11", "12", "13"})


def test_rows_of_a_deleted_shard_stay_and_that_is_said(lake):
    (lake.corpus / "a.csv").unlink()
    said = lake.night()
    assert f"Not in --input: 1 known shard (first: {lake.corpus}/a.csv)" in said
    assert lake.ids() == Counter(ALL)
    lake.night(sync=True)
    assert lake.ids() == Counter(ALL - {f"0{i}" for i in range(4)})
    assert "Not in --input" not in lake.night()


@pytest.mark.parametrize("become", [Path.unlink, lambda path: path.write_text("id,text\n70,a\n")])
@pytest.mark.parametrize("flags", [{}, {"keep_stale": True}])
def test_a_part_that_cannot_be_made_again_names_the_flag_that_helps(lake, become, flags):
    path = lake.put("large.csv", *(f"7{i:02}" for i in range(15)))
    lake.night()
    become(path)
    (lake.scored / lake.parts()[-1]).unlink()
    for _ in range(2):
        with pytest.raises(PartsFailed, match=r"the same command with --sync makes the output"):
            lake.night(**flags)
    lake.night(sync=True)
    assert lake.ids() == in_corpus(lake)


def test_a_shard_that_comes_back_is_scored_again(lake):
    content = (lake.corpus / "a.csv").read_bytes()
    (lake.corpus / "a.csv").unlink()
    lake.night(sync=True)
    (lake.corpus / "a.csv").write_bytes(content)
    lake.night()
    assert lake.ids() == Counter(ALL)


def test_a_copy_is_rows_of_its_own_and_that_is_said(lake):
    shutil.copy(lake.corpus / "a.csv", lake.corpus / "again.csv")
    said = lake.night()
    assert "Copies: 1 new shard with the content of another shard" in said
    assert lake.ids() == Counter(ALL) + Counter(f"0{i}" for i in range(4))


def test_sync_does_not_remove_rows_of_shards_that_were_only_not_named(lake):
    with pytest.raises(InputError, match=r"exist but are not in --input \(first: .*b.parquet\)"):
        lake.night(lake.corpus / "a.csv", lake.corpus / "c.csv", sync=True)
    assert lake.ids() == Counter(ALL)


def test_a_shard_in_a_smaller_input_is_not_gone(lake):
    """Each night may name its own directory; equal numbers of rows mean nothing then."""
    lake.put("day/d.csv", "40", "41", "42", "43")
    lake.night(lake.corpus / "day")
    assert lake.ids() == Counter(ALL | {"40", "41", "42", "43"})


def test_shards_that_were_planned_but_not_scored_are_followed_by_themselves(tmp_path, model):
    """They changed or went before any of their rows was scored, so nothing is lost."""
    lake = Lake(tmp_path, model)
    for number in range(3):
        lake.put(f"{number}.csv", *(f"{number}{i}" for i in range(4)))

    class Outage(LocalExecutor):
        def score(self, tasks, number, worker, say):
            raise Failure("an outage")
            yield

    config = ScoreConfig(checkpoints_dir="", input=(), output="", part_rows=10)
    shards = find_shards([str(lake.corpus)], "--input")
    with pytest.raises(Failure, match="an outage"):
        run(config, model, Output(str(lake.scored)), shards, Outage())
    lake.put("0.csv", "00")
    (lake.corpus / "1.csv").unlink()
    lake.night()
    assert lake.ids() == Counter({"00", "20", "21", "22", "23"})


def test_a_broken_shard_is_forgotten_when_it_is_gone_or_mended(lake):
    for name in ("bad0.parquet", "bad1.parquet"):
        (lake.corpus / name).write_bytes(b"PAR1" + name.encode())
    lake.night(max_rejected="100%")
    (lake.corpus / "bad0.parquet").unlink()
    lake.put("bad1.parquet", "50")
    lake.put("new.csv", "60")
    lake.night()
    assert lake.ids() == Counter(ALL | {"50", "60"})
    assert not (lake.scored / "_rejected" / "shards.parquet").exists()


def test_a_broken_shard_that_goes_by_itself_is_forgotten(lake):
    bad = lake.corpus / "bad.parquet"
    bad.write_bytes(b"PAR1")
    with pytest.raises(Failure, match=r"^1 shard could not be read: see _rejected/"):
        lake.night()
    # Where only the input is smaller, it may come again.
    with pytest.raises(Failure, match="1 shard could not be read"):
        lake.night(lake.corpus / "a.csv")
    bad.unlink()
    lake.night()
    assert lake.ids() == Counter(ALL)
    assert not (lake.scored / "_rejected" / "shards.parquet").exists()


def test_a_job_that_still_runs_ends_when_another_one_retires_parts(lake):
    other = Output(str(lake.scored))
    staging = other.staging
    append(lake)
    lake.night(sync=True)
    assert not Path(staging).exists()
    with pytest.raises(Failure, match="removed parts of it to follow the input"):
        other.look()


def test_a_job_that_still_runs_writes_no_retired_part_into_a_bucket(lake):
    """There it has no staging directory that could be taken away."""
    plans = len(Output(str(lake.scored)).plans)
    before = {name: (lake.scored / name).read_bytes() for name in lake.parts()}
    append(lake)
    lake.night(sync=True)
    write = PartWriter(str(lake.scored), plans=plans)
    (retired,) = before.keys() - set(lake.parts())
    (kept,) = before.keys() - {retired}
    with pytest.raises(Failure, match="another program has removed it to follow the input"):
        write.commit(retired.removesuffix(".parquet"), pa.py_buffer(before[retired]))
    assert not (lake.scored / retired).exists()
    write.commit(kept.removesuffix(".parquet"), pa.py_buffer(before[kept]))
