"""The output directory: whose it is, what is done, what is new, and what may be removed."""

import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.errors import Failure
from pipelines.scoring.changes import difference
from pipelines.scoring.commit import PartWriter
from pipelines.scoring.executor import LocalExecutor
from pipelines.scoring.manifest import Manifest, read
from pipelines.scoring.mending import mend, mend_here
from pipelines.scoring.output import REPORT, Output, overwrite, writing
from pipelines.scoring.part_data import (
    BINS,
    REJECTED,
    PartCounts,
    PartResult,
    PartTask,
    WrittenFile,
)
from pipelines.scoring.part_file import part_content
from pipelines.scoring.planner import make_plan
from pipelines.scoring.sealed_parquet import parquet_content
from pipelines.scoring.shards import Shards
from pipelines.sources.shard import Counted, Shard
from sentiment import storage
from sentiment.errors import InputError

SCHEMA = pa.schema([("text", pa.string()), ("id", pa.int64())])
SETTINGS = {
    "text_column": "text",
    "keep_columns": None,
    "encoding": "utf-8",
    "part_rows": 10,
    "model_hash": "m1",
}
COUNTS = {"rows": 9, "rejected": 1, "truncated": 0, "positive": 4, "tokens": 70}
OLD = [Shard(f"in/{i}.csv", 100 + i, 5) for i in range(3)]
RAW = {"raw": None, "raw_bytes": None, "plan": 0}
NEW = [Shard(f"in/{i}.csv", 100 + i, 5) for i in range(3, 5)]


def add(output, shards=OLD, counts=None, settings=SETTINGS):
    """Plan shards of 25 rows, or of what `counts` says."""
    counts = counts or [Counted(25, SCHEMA) for _ in shards]
    output.add(make_plan(shards, counts, settings, output.plans.next_part))


def write_part(output, part):
    """What the job writes for a part: one row that is rejected, and all others."""
    (number,) = (n for n, plan in enumerate(output.plans) if part in plan.parts)
    task = PartTask.of(part, output.plans[number].shards, number)
    rows = part.rows - 1
    write = PartWriter(output.directory, output.staging, output.writer)
    rejected = pa.Table.from_pylist([{"shard": task.pieces[0][0].path, "row": 1}], REJECTED)
    result = PartResult(
        part.name,
        PartCounts(**COUNTS | {"rows": rows}),
        histogram=[rows] + [0] * (BINS - 1),
        answers=[rows, 4] + [0, 0] * (len(part.pieces) - 1),
        reasons={"bad": 1},
        rejected_file=write.write_rejected(part.name, parquet_content(rejected)),
    )
    content = part_content(scored(rows), task, result, output.plans.digests[number], "m1")
    return replace(result, file=write.commit(part.name, content))


def scored(rows):
    return pa.table({"id": np.arange(rows), "positive_probability": np.zeros(rows, np.float32)})


def unknown(output, shards):
    """Those shards that the output does not know as they are."""
    listed = Shards.of(shards)
    return list(listed.take(difference(output.plans.known, listed).unknown))


def removed(output):
    """The names of the parts that are damaged, which are removed."""
    return sorted(mend(output, LocalExecutor()))


@pytest.fixture
def directory(tmp_path):
    return tmp_path / "out"


@pytest.fixture
def output(directory):
    """An output whose parts are all there, and which says so."""
    output = Output(str(directory))
    add(output)
    for part in output.plans.parts:
        output.add_result(write_part(output, part))
    output.save()
    output.record({"seconds": 1}, 1700)
    (directory / "_manifest" / REPORT).write_text("<html>")
    assert output.close()
    return Output(str(directory))


def test_records_are_written_soon_but_take_no_time_worth_it(directory, monkeypatch):
    output = Output(str(directory))
    add(output)
    first, second, *_ = (write_part(output, part) for part in output.plans.parts)
    monkeypatch.setattr("pipelines.scoring.output.SAVE_SECONDS", 0)
    output.add_result(first)
    assert Output(str(directory)).records.totals().parts == 1
    monkeypatch.setattr("pipelines.scoring.output.MAX_SAVE_SHARE", 1e-9)
    output.add_result(second)
    assert Output(str(directory)).records.totals().parts == 1
    output.save()
    assert Output(str(directory)).records.totals().parts == 2


def test_two_programs_keep_the_records_of_each_other(directory):
    one = Output(str(directory))
    add(one)
    other = Output(str(directory))
    first, second, third, *_ = (write_part(one, part) for part in one.plans.parts)
    one.add_result(replace(first, wordless=1))
    one.save()
    other.add_result(replace(second, wordless=2))
    other.save()
    one.add_result(replace(third, wordless=4))
    one.save()
    totals = Output(str(directory)).records.totals()
    assert (totals.parts, totals.wordless) == (3, 7)

    # But what one has removed does not come back from the records of the other.
    one.remove_parts([first.name])
    other.add_result(second)
    other.save()
    one.save()
    assert Output(str(directory)).records.totals().parts == 2


def test_records_that_cannot_be_written_now_stop_no_job(directory, monkeypatch):
    output = Output(str(directory))
    add(output)
    first, second, *_ = (write_part(output, part) for part in output.plans.parts)
    monkeypatch.setattr("pipelines.scoring.output.SAVE_SECONDS", 0)

    def away(*arguments: object) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(storage, "write", away)
        output.add_result(first)
    output.add_result(second)
    assert Output(str(directory)).records.totals().parts == 2


def tree(directory):
    """Every file below a directory, with its content."""
    files = [path for path in directory.rglob("*") if path.is_file() and path.name != ".lock"]
    return {str(path.relative_to(directory)): path.read_bytes() for path in files}


@pytest.mark.parametrize("name", ["notes.txt", "part-000000.parquet", "_SUCCESS", "_mine/a"])
def test_a_directory_of_something_else_is_refused_untouched(directory, name):
    path = directory / name
    path.parent.mkdir(parents=True)
    path.write_text("mine")
    before = tree(directory)
    with pytest.raises(InputError, match="out is not empty, and no job of this program began"):
        Output(str(directory))
    assert tree(directory) == before


def test_a_directory_that_is_not_there_or_empty_is_free(directory):
    assert Output(str(directory)).plans.parts == []
    assert not directory.exists()
    (directory / "_manifest").mkdir(parents=True)
    (directory / ".hidden").touch()
    output = Output(str(directory))
    assert (output.plans.parts, output.missing(), output.complete) == ([], [], False)


def test_a_file_is_no_directory(tmp_path):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(InputError, match=r"--output .*out cannot be read: .*[Nn]ot a directory"):
        Output(str(tmp_path / "out"))


def test_missing_parts_are_those_that_are_not_there(directory):
    output = Output(str(directory))
    add(output)
    assert [part.name for part in output.missing()] == [f"part-{i:06d}" for i in range(6)]
    for part in output.plans.parts[::2]:
        write_part(output, part)
    output = Output(str(directory))
    assert [part.name[-1] for part in output.missing()] == ["1", "3", "5"]
    assert output.missing() == list(output.missing_of(0))
    assert not output.complete


def test_success_alone_is_not_complete(output, directory):
    assert output.complete
    (directory / "part-000003.parquet").unlink()
    output = Output(str(directory))
    assert not output.complete
    assert [part.name for part in output.missing()] == ["part-000003"]


@pytest.mark.parametrize("name", ["model_hash", "keep_columns", "part_rows", "text_column"])
def test_other_settings_are_named(output, name):
    output.require_same(SETTINGS)
    shown = name.removesuffix("_hash")
    with pytest.raises(InputError, match=f"another {shown} .*, now other.*--overwrite"):
        output.require_same(SETTINGS | {name: "other"})


def test_a_setting_that_was_given_and_now_is_not_is_named(directory):
    output = Output(str(directory))
    add(output, settings=SETTINGS | {"delimiter": ";"})
    with pytest.raises(InputError, match=r"started with another delimiter \(;, now None\)"):
        output.require_same(SETTINGS)


def test_settings_survive_the_file(directory):
    settings = SETTINGS | {"keep_columns": ["id"]}
    output = Output(str(directory))
    output.require_same(settings)
    add(output, settings=settings)
    Output(str(directory)).require_same(settings)


def test_new_shards_are_found_and_planned_behind_the_others(output, directory):
    assert unknown(output, [NEW[1], *OLD, NEW[0]]) == [NEW[1], NEW[0]]
    add(output, NEW)
    output = Output(str(directory))
    assert len(output.plans) == 2
    assert unknown(output, [*OLD, *NEW]) == []
    assert [part.name for part in output.plans.parts] == [f"part-{i:06d}" for i in range(10)]
    missing = output.missing()
    assert [part.name for part in missing] == [f"part-{i:06d}" for i in range(6, 10)]
    assert list(output.missing_of(0)) == []
    assert list(output.missing_of(1)) == missing
    assert not output.complete


def test_success_does_not_outlive_what_it_was_said_of(output, directory):
    assert (directory / "_SUCCESS").exists()
    add(output, NEW)
    assert not (directory / "_SUCCESS").exists()
    assert not output.complete


def test_shards_that_could_not_be_read(directory):
    output = Output(str(directory))
    add(output, OLD, [Counted(5, SCHEMA), "in/1.csv is empty", "in/2.csv is UTF-16"])
    output = Output(str(directory))
    assert output.plans.unreadable().to_pylist() == [
        {"shard": "in/1.csv", "row": None, "reason": "in/1.csv is empty"} | RAW,
        {"shard": "in/2.csv", "row": None, "reason": "in/2.csv is UTF-16"} | RAW,
    ]
    assert unknown(output, OLD) == []
    output.finish(COUNTS)
    rejected = directory / "_rejected" / "shards.parquet"
    assert pq.read_table(rejected).equals(output.plans.unreadable())

    mended = [replace(OLD[1], size=9), replace(OLD[2], size=9)]
    assert unknown(output, [OLD[0], *mended]) == mended
    add(output, mended, ["still", Counted(5, SCHEMA)])
    output = Output(str(directory))
    assert output.plans.unreadable()["reason"].to_pylist() == ["still"]
    assert unknown(output, [OLD[0], *mended]) == []
    assert unknown(output, [OLD[2]]) == [OLD[2]]

    add(output, [OLD[1]], [Counted(5, SCHEMA)])
    output.finish(COUNTS)
    assert not rejected.exists()
    assert output.plans.unreadable().equals(REJECTED.empty_table())


def test_totals_are_those_of_the_records(output):
    expected = {name: 6 * count for name, count in COUNTS.items()} | {"rows": 3 * 25 - 6}
    totals = output.records.totals()
    assert totals.counts == expected | {"unknown": 0}
    assert (totals.parts, totals.reasons) == (6, {"bad": 6})
    assert totals.histogram.tolist() == [3 * 25 - 6] + [0] * (BINS - 1)
    assert [shards.tolist() for shards in totals.shards] == [[[23, 8]] * 3]


def opened(monkeypatch):
    """The paths that are read whole from now on."""
    paths = []
    read = storage.read

    def noted(path):
        paths.append(path.rpartition("/")[2])
        return read(path)

    monkeypatch.setattr(storage, "read", noted)
    return paths


def test_no_part_is_read_that_is_recorded_and_unchanged(output, directory, monkeypatch):
    add(output, NEW)
    (part,) = output.missing()[:1]
    output.add_result(write_part(output, part))
    output.save()
    paths = opened(monkeypatch)
    output = Output(str(directory))
    assert removed(output) == []
    assert output.records.totals().parts == 7
    assert not [path for path in paths if path.startswith("part-")]


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 8
    path.write_bytes(content)


def other_part(path):
    """A part of this plan under another name, or a part that this program did not write."""
    path.write_bytes((path.parent / "part-000004.parquet").read_bytes())


def unmarked(path):
    pq.write_table(pa.table({"id": [1]}), path)


DAMAGES = {
    "removed": lambda path: path.unlink(),
    "empty": lambda path: path.write_bytes(b""),
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "flipped": flip,
    "no footer": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "other part": other_part,
    "unmarked": unmarked,
}


@pytest.mark.parametrize("success", [True, False])
@pytest.mark.parametrize("manifest", ["there", "removed", "damaged"])
@pytest.mark.parametrize("below", ["", "_rejected"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_found_and_mended(output, directory, damage, below, manifest, success):
    path = directory / below / "part-000002.parquet"
    records = directory / "_manifest" / "parts-00000.parquet"
    DAMAGES[damage](path)
    if not success:
        (directory / "_SUCCESS").unlink()
    if manifest == "removed":
        records.unlink()
    elif manifest == "damaged":
        flip(records)
    output = Output(str(directory))
    assert not output.complete
    is_missing = damage == "removed" and not below and manifest != "there"
    expected = [] if is_missing else ["part-000002"]
    assert removed(output) == expected
    assert [part.name for part in output.missing()] == ["part-000002"]
    assert expected == [] or not (directory / "_SUCCESS").exists()
    assert output.close() is None

    output.add_result(write_part(output, output.missing()[0]))
    output.save()
    assert output.close().parts == 6
    assert Output(str(directory)).complete


@pytest.mark.parametrize("below", ["", "_rejected"])
def test_a_file_whose_time_changed_is_read_once(output, directory, monkeypatch, below):
    os.utime(directory / below / "part-000002.parquet", (9, 9))
    output = Output(str(directory))
    assert not output.complete
    paths = opened(monkeypatch)
    assert mend_here(output) == {}
    assert output.complete
    assert "part-000002.parquet" in paths
    assert Output(str(directory)).complete


def test_rejected_rows_of_a_part_that_rejected_none_are_damage(output, directory):
    table = pq.read_table(directory / "part-000001.parquet")
    part = output.plans.parts[1]
    task = PartTask.of(part, output.plans[0].shards)
    result = PartResult(
        part.name, PartCounts(rows=part.rows), histogram=[0] * BINS, answers=[part.rows, 0]
    )
    assert len(table) == part.rows - 1
    content = part_content(scored(part.rows), task, result, output.plans.digests[0], "m1")
    (directory / "part-000001.parquet").write_bytes(content)
    assert removed(Output(str(directory))) == ["part-000001"]
    assert not (directory / "_rejected" / "part-000001.parquet").exists()


def test_a_part_of_other_settings_is_damage(output, directory, tmp_path):
    other = Output(str(tmp_path / "other"))
    add(other, settings=SETTINGS | {"text_column": "id"})
    write_part(other, other.plans.parts[2])
    os.replace(tmp_path / "other" / "part-000002.parquet", directory / "part-000002.parquet")
    assert removed(Output(str(directory))) == ["part-000002"]


@pytest.mark.parametrize("name", ["part-999999.parquet", "mine.parquet", "_rejected/mine.parquet"])
def test_a_file_that_readers_would_take_for_rows_is_refused(output, directory, name):
    (directory / name).write_bytes(b"mine")
    output = Output(str(directory))
    for mended in (lambda: mend_here(output), lambda: mend(output, LocalExecutor())):
        with pytest.raises(Failure, match=f"{name} was not written by this job.*move it"):
            mended()
    assert (directory / name).read_bytes() == b"mine"


@pytest.mark.parametrize("is_recorded", [True, False])
@pytest.mark.parametrize("name", ["part-000001.parquet", "_rejected/part-000001.parquet"])
def test_a_directory_in_the_place_of_a_file_is_refused(output, directory, name, is_recorded):
    """Nothing could be written there, nor removed as a damaged part."""
    (directory / name).unlink()
    (directory / name).mkdir()
    if not is_recorded:
        (directory / "_manifest" / "parts-00000.parquet").unlink()
    output = Output(str(directory))
    said = f"^{directory}/{name} is a directory in the place of a file: move it elsewhere and run"
    for mended in (lambda: mend_here(output), lambda: mend(output, LocalExecutor())):
        with pytest.raises(Failure, match=said):
            mended()
    (directory / "other.parquet").mkdir()
    (directory / name).rmdir()
    mend(Output(str(directory)), LocalExecutor())


def test_a_part_that_is_read_again_keeps_what_its_file_does_not_say():
    """Such as the times of a copy. With another content it is another part."""
    manifest = Manifest()
    known = PartResult(
        "part-000000",
        PartCounts(rows=3),
        histogram=[3] + [0] * (BINS - 1),
        answers=[3, 1],
        file=WrittenFile(7, "ab" * 32, 5),
        by={"lang": [("en", [2, 1])]},
        wordless=2,
    )
    for number in range(3):
        manifest.add(replace(known, name=f"part-00000{number}"))
    said = manifest.table.select(["by", "wordless"])
    read_again = replace(known, file=WrittenFile(7, "ab" * 32, 6), by={}, wordless=None)
    manifest.add(read_again)
    manifest.add(replace(read_again, name="part-000001", file=WrittenFile(7, "cd" * 32, 6)))
    at = manifest.find(pa.array(["part-000000", "part-000002", "part-000001"]))
    table = manifest.table.take(pa.array(at))
    assert table["modified"].to_pylist() == [6, 5, 6]
    assert table.select(["by", "wordless"]).slice(0, 2).equals(said.slice(0, 2))
    assert table.select(["by", "wordless"]).to_pylist()[2] == {"by": None, "wordless": None}


@given(place=st.integers(0, 10**6), bit=st.integers(0, 7))
def test_a_damaged_manifest_has_its_records_or_none(place, bit):
    names = pa.array(["part-000000", "part-000001"])
    manifest = Manifest()
    for name in names.to_pylist():
        written = WrittenFile(7, "ab" * 32, 5)
        manifest.add(
            PartResult(
                name,
                PartCounts(rows=3, positive=1),
                histogram=[3] + [0] * (BINS - 1),
                answers=[3, 1],
                reasons={"bad": 1},
                file=written,
            )
        )
    content = bytearray(manifest.content(names, "plan"))
    pieces = np.array([1, 1])
    assert read(bytes(content), "plan", names, pieces, 2).equals(manifest.table)
    assert len(read(bytes(content), "other", names, pieces, 2)) == 0
    content[place % len(content)] ^= 1 << bit
    damaged = read(bytes(content), "plan", names, pieces, 2)
    assert len(damaged) == 0 or damaged.equals(manifest.table)


def test_a_damaged_plan_is_refused_and_can_be_overwritten(output, directory):
    path = directory / "_manifest" / "plan-00000.parquet"
    path.write_bytes(path.read_bytes()[:-1])
    (directory / "notes.txt").write_text("mine")
    with pytest.raises(Failure, match=r"plan-00000\.parquet is damaged.*--overwrite"):
        Output(str(directory))
    overwrite(str(directory))
    assert tree(directory) == {"notes.txt": b"mine"}


def test_a_job_that_is_overwritten_writes_no_more(output, directory):
    add(output, NEW)
    part = output.missing()[0]
    task = PartTask.of(part, output.plans[1].shards, 1)
    write = PartWriter(output.directory, output.staging, output.writer)
    overwrite(str(directory))
    add(Output(str(directory)))
    before = tree(directory)
    result = PartResult(part.name, PartCounts(rows=1))
    content = part_content(pa.table({"id": [1]}), task, result, output.plans.digests[1], "m1")
    for work in (write.write_rejected, write.commit):
        with pytest.raises(Failure, match="does not see"):
            work(part.name, content)
    for work in (
        output.look,
        output.close,
        lambda: mend(output, LocalExecutor()),
        lambda: add(output, [Shard("in/9.csv", 1, 1)]),
    ):
        with pytest.raises(Failure, match="another program has started --output"):
            work()
    with pytest.raises(Failure, match="another program has started"), writing(output):
        output.record({}, 5)
    assert tree(directory) == before


def test_an_output_that_was_renamed_is_not_created_again(output, directory):
    add(output, NEW)
    write = PartWriter(output.directory, output.staging, output.writer)
    directory.rename(directory.with_name("away"))
    with pytest.raises(Failure, match="does not see"):
        write.commit("part-000006", pa.py_buffer(b""))
    for work in (output.look, output.close, lambda: output.record({}, 5)):
        with pytest.raises(Failure, match="is gone: was it renamed"), writing(output):
            work()
    assert not directory.exists()


def test_readers_do_not_see_what_is_being_written(output, directory):
    Path(output.staging, "part-000000.parquet.01234567").write_bytes(b"PAR1")
    assert len(pd.read_parquet(directory)) == 3 * 25 - 6
    found = duckdb.sql(f"select count(*) from '{directory}/*.parquet'").fetchall()
    assert found == [(3 * 25 - 6,)]


@pytest.mark.parametrize("rejected", [True, False])
def test_clear_removes_what_the_program_wrote_and_nothing_else(output, directory, rejected):
    add(output, NEW, [Counted(25, SCHEMA), "cannot be read"])
    output.finish(COUNTS)
    output.save()
    if not rejected:
        for path in (directory / "_rejected").iterdir():
            path.unlink()
    mine = ["notes.txt", "part-999999.parquet", "_rejected/mine", "_manifest/mine.json", "sub/a"]
    for name in mine:
        (directory / name).parent.mkdir(exist_ok=True)
        (directory / name).write_text("mine")
    output = overwrite(str(directory))
    assert tree(directory) == dict.fromkeys(mine, b"mine")
    add(output)
    assert len(Output(str(directory)).missing()) == 6


def test_a_cleared_directory_is_free_again(output, directory):
    overwrite(str(directory))
    assert tree(directory) == {}
    assert not Output(str(directory)).plans


def test_nothing_is_removed_where_nothing_was_planned(directory):
    (directory / "_manifest").mkdir(parents=True)
    (directory / "_manifest" / "run-1.json").write_text("mine")
    overwrite(str(directory))
    assert tree(directory) == {"_manifest/run-1.json": b"mine"}


def test_a_clear_that_was_interrupted_can_be_run_again(output, directory):
    """Whatever is removed first, the first plan is there until all else is gone."""
    (directory / "part-000001.parquet").unlink()
    (directory / "part-000001.parquet").mkdir()
    with pytest.raises(Failure, match="part-000001"):
        overwrite(str(directory))
    left = tree(directory)
    assert "_SUCCESS" not in left
    assert "_manifest/plan-00000.parquet" in left
    (directory / "part-000001.parquet").rmdir()
    overwrite(str(directory))
    assert tree(directory) == {}


def test_of_two_programs_that_plan_at_once_one_plan_holds(directory):
    outputs = [Output(str(directory)) for _ in range(8)]

    def plan_some(number):
        add(outputs[number], OLD[: 1 + number % 3])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(plan_some, range(8)))
    assert list(tree(directory)) == ["_manifest/plan-00000.parquet"]
    held = list(Output(str(directory)).plans)
    assert all(list(output.plans) == held for output in outputs)
    # Those whose shards are not in it find them new.
    assert unknown(outputs[0], OLD) == OLD[len(held[0].shards) :]


def test_of_two_programs_with_other_settings_one_is_refused(directory):
    first, second = Output(str(directory)), Output(str(directory))
    add(first)
    with pytest.raises(InputError, match=r"another model \(m1, now m2\)"):
        add(second, settings=SETTINGS | {"model_hash": "m2"})
    assert list(Output(str(directory)).plans) == list(first.plans)


def test_a_run_is_recorded(output, directory):
    output.record({"rows": 3}, 1701)
    records = sorted((directory / "_manifest").glob("run-*.json"))
    assert [path.name for path in records] == ["run-1700.json", "run-1701.json"]
    assert json.loads(records[1].read_text()) == {"rows": 3}
    success = json.loads((directory / "_SUCCESS").read_text())
    assert success.items() >= output.records.totals().counts.items()


def test_very_many_shards_are_compared_at_once(directory):
    shards = [Shard(f"in/{i}.csv", i, i) for i in range(50_000)]
    output = Output(str(directory))
    add(output, shards, [Counted(5, SCHEMA)] * len(shards))
    new = [replace(shards[0], path="in/new.csv")]
    began = time.process_time()
    assert unknown(output, [*shards, *new]) == new
    assert len(output.missing()) == 25_000
    assert len(output.plans.unreadable()) == 0
    # It is a tenth of a second; minutes, where the work grows as the square.
    assert time.process_time() - began < 3
