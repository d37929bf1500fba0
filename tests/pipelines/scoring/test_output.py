"""The output directory: whose it is, what is done, what is new, and what may be removed."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.scoring.output import METADATA, REJECTED, REPORT, Output
from pipelines.scoring.planner import make_plan
from pipelines.sources.shard import Counted, Shard
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
RAW = {"raw": None, "raw_bytes": None}
NEW = [Shard(f"in/{i}.csv", 100 + i, 5) for i in range(3, 5)]


def add(output, shards=OLD, counts=None, settings=SETTINGS):
    """Plan shards of 25 rows, or of what `counts` says."""
    counts = counts or [Counted(25, SCHEMA) for _ in shards]
    output.add(make_plan(shards, counts, settings, len(output.parts)))


def write_part(output, part):
    """What the job writes for a part."""
    (shards,) = [plan.shards for plan in output.plans if part in plan.parts]
    pieces = [[shards[p.shard].path, p.span.first, p.span.rows] for p in part.pieces]
    counts = COUNTS | {"rows": part.rows - COUNTS["rejected"]}
    said = {"model_hash": SETTINGS["model_hash"], "pieces": pieces, "counts": counts}
    table = pa.table({"id": [1]}).replace_schema_metadata({METADATA: json.dumps(said)})
    pq.write_table(table, f"{output.directory}/{part.name}.parquet")
    rejected = f"{output.directory}/_rejected"
    pq.write_table(REJECTED.empty_table(), f"{rejected}/{part.name}.parquet")


@pytest.fixture
def directory(tmp_path):
    return tmp_path / "out"


@pytest.fixture
def output(directory):
    """An output whose parts are all there, and which says so."""
    output = Output(str(directory))
    add(output)
    (directory / "_rejected").mkdir()
    for part in output.parts:
        write_part(output, part)
    output.record({"seconds": 1}, 1700)
    (directory / "_manifest" / REPORT).write_text("<html>")
    output.finish(COUNTS)
    return Output(str(directory))


def tree(directory):
    """Every file below a directory, with its content."""
    files = [path for path in directory.rglob("*") if path.is_file()]
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
    assert Output(str(directory)).parts == []
    assert not directory.exists()
    (directory / "_manifest").mkdir(parents=True)
    (directory / ".hidden").touch()
    output = Output(str(directory))
    assert (output.parts, output.missing(), output.complete) == ([], [], False)


def test_a_file_is_no_directory(tmp_path):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(InputError, match=r"--output .*out cannot be read: .*[Nn]ot a directory"):
        Output(str(tmp_path / "out"))


def test_missing_parts_are_those_that_are_not_there(directory):
    output = Output(str(directory))
    add(output)
    assert [part.name for part in output.missing()] == [f"part-{i:06d}" for i in range(6)]
    (directory / "_rejected").mkdir()
    for part in output.parts[::2]:
        write_part(output, part)
    output = Output(str(directory))
    assert [part.name[-1] for part in output.missing()] == ["1", "3", "5"]
    assert output.missing() == output.missing_of(output.plans[0])
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
    with pytest.raises(InputError, match=f"another {name} .*, now other.*--overwrite"):
        output.require_same(SETTINGS | {name: "other"})


def test_settings_survive_the_file(directory):
    settings = SETTINGS | {"keep_columns": ["id"]}
    output = Output(str(directory))
    output.require_same(settings)
    add(output, settings=settings)
    Output(str(directory)).require_same(settings)


@pytest.mark.parametrize("change", [{"size": 7}, {"modified": 6}])
def test_a_shard_that_changed_is_named(output, change):
    assert output.new_shards(OLD) == []
    with pytest.raises(InputError, match=r"^in/1\.csv has changed .*\(101 bytes then, [17]"):
        output.new_shards([OLD[0], replace(OLD[1], **change)])


def test_new_shards_are_found_and_planned_behind_the_others(output, directory):
    assert output.new_shards([NEW[1], *OLD, NEW[0]]) == [NEW[1], NEW[0]]
    add(output, NEW)
    output = Output(str(directory))
    assert len(output.plans) == 2
    assert output.new_shards([*OLD, *NEW]) == []
    assert [part.name for part in output.parts] == [f"part-{i:06d}" for i in range(10)]
    missing = output.missing()
    assert [part.name for part in missing] == [f"part-{i:06d}" for i in range(6, 10)]
    assert output.missing_of(output.plans[0]) == []
    assert output.missing_of(output.plans[1]) == missing
    assert not output.complete


def test_success_does_not_outlive_what_it_was_said_of(output, directory):
    assert (directory / "_SUCCESS").exists()
    add(output, NEW)
    assert not (directory / "_SUCCESS").exists()
    assert not output.complete


def test_an_input_without_shards_that_were_planned_is_no_change(output):
    assert output.new_shards(OLD[1:]) == []


def test_shards_that_could_not_be_read(directory):
    output = Output(str(directory))
    add(output, OLD, [Counted(5, SCHEMA), "in/1.csv is empty", "in/2.csv is UTF-16"])
    output = Output(str(directory))
    assert output.unreadable().to_pylist() == [
        {"shard": "in/1.csv", "row": None, "reason": "in/1.csv is empty"} | RAW,
        {"shard": "in/2.csv", "row": None, "reason": "in/2.csv is UTF-16"} | RAW,
    ]
    assert output.new_shards(OLD) == []
    output.finish(COUNTS)
    rejected = directory / "_rejected" / "shards.parquet"
    assert pq.read_table(rejected).equals(output.unreadable())

    mended = [replace(OLD[1], size=9), replace(OLD[2], size=9)]
    assert output.new_shards([OLD[0], *mended]) == mended
    add(output, mended, ["still", Counted(5, SCHEMA)])
    output = Output(str(directory))
    assert output.unreadable()["reason"].to_pylist() == ["still"]
    assert output.new_shards([OLD[0], *mended]) == []
    with pytest.raises(InputError, match=r"in/2\.csv has changed"):
        output.new_shards([OLD[2]])

    add(output, [OLD[1]], [Counted(5, SCHEMA)])
    output.finish(COUNTS)
    assert not rejected.exists()
    assert output.unreadable().equals(REJECTED.empty_table())


def test_counts_are_read_from_the_parts(output):
    expected = {name: 6 * count for name, count in COUNTS.items()} | {"rows": 3 * 25 - 6}
    assert output.totals(output.parts).counts == expected


DAMAGES = {
    "empty": lambda content: b"",
    "truncated": lambda content: content[:-1],
    "a beginning": lambda content: content[:20],
    "no footer": lambda content: bytes(len(content) - 8) + content[-8:],
    "text": lambda content: b"something else",
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_part_is_named(output, directory, damage):
    path = directory / "part-000002.parquet"
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    with pytest.raises(InputError, match=r"part-000002\.parquet is not the part .* run again$"):
        output.totals(output.parts)


@pytest.mark.parametrize("metadata", [None, {METADATA: "{}"}, {METADATA: "[]"}, {METADATA: "x"}])
def test_a_part_of_something_else_is_named(output, directory, metadata):
    table = pa.table({"id": [1]}).replace_schema_metadata(metadata)
    pq.write_table(table, directory / "part-000000.parquet")
    with pytest.raises(InputError, match=r"part-000000\.parquet is not the part"):
        output.totals(output.parts)


def test_a_damaged_plan_is_refused(output, directory):
    path = directory / "_manifest" / "plan-00000.parquet"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputError, match=r"plan-00000\.parquet is damaged"):
        Output(str(directory))


def test_an_output_of_an_earlier_version_is_named(directory):
    (directory / "_manifest").mkdir(parents=True)
    (directory / "_manifest" / "plan-00000.json").write_text('{"format": 1}')
    with pytest.raises(InputError, match=r"plan-00000\.json has format 1, not 2: finish the job"):
        Output(str(directory))


@pytest.mark.parametrize("rejected", [True, False])
def test_clear_removes_what_the_program_wrote_and_nothing_else(output, directory, rejected):
    add(output, NEW, [Counted(25, SCHEMA), "cannot be read"])
    output.finish(COUNTS)
    if not rejected:
        for path in (directory / "_rejected").iterdir():
            path.unlink()
    mine = ["notes.txt", "part-999999.parquet", "_rejected/mine", "_manifest/mine.json", "sub/a"]
    for name in mine:
        (directory / name).parent.mkdir(exist_ok=True)
        (directory / name).write_text("mine")
    output = Output(str(directory))
    output.clear()
    assert tree(directory) == dict.fromkeys(mine, b"mine")
    assert (output.parts, output.missing(), output.complete) == ([], [], False)
    assert output.new_shards(OLD) == OLD
    add(output)
    assert len(Output(str(directory)).missing()) == 6


def test_a_cleared_directory_is_free_again(output, directory):
    output.clear()
    assert tree(directory) == {}
    assert Output(str(directory)).plans == []


def test_nothing_is_removed_where_nothing_was_planned(directory):
    (directory / "_manifest").mkdir(parents=True)
    (directory / "_manifest" / "run-1.json").write_text("mine")
    Output(str(directory)).clear()
    assert tree(directory) == {"_manifest/run-1.json": b"mine"}


def test_a_clear_that_was_interrupted_can_be_run_again(output, directory):
    """Whatever is removed first, the first plan is there until all else is gone."""
    (directory / "part-000001.parquet").unlink()
    (directory / "part-000001.parquet").mkdir()
    with pytest.raises(OSError, match="part-000001"):
        output.clear()
    left = tree(directory)
    assert "_SUCCESS" not in left
    assert "_manifest/plan-00000.parquet" in left
    (directory / "part-000001.parquet").rmdir()
    Output(str(directory)).clear()
    assert tree(directory) == {}


def test_of_two_programs_that_plan_at_once_one_plan_holds(directory):
    outputs = [Output(str(directory)) for _ in range(8)]

    def plan_some(number):
        add(outputs[number], OLD[: 1 + number % 3])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(plan_some, range(8)))
    assert list(tree(directory)) == ["_manifest/plan-00000.parquet"]
    held = Output(str(directory)).plans
    assert all(output.plans == held for output in outputs)
    # Those whose shards are not in it find them new.
    assert outputs[0].new_shards(OLD) == OLD[len(held[0].shards) :]


def test_of_two_programs_with_other_settings_one_is_refused(directory):
    first, second = Output(str(directory)), Output(str(directory))
    add(first)
    with pytest.raises(InputError, match=r"another model_hash \(m1, now m2\)"):
        add(second, settings=SETTINGS | {"model_hash": "m2"})
    assert Output(str(directory)).plans == first.plans


def test_a_run_is_recorded(output, directory):
    output.record({"rows": 3}, 1701)
    records = sorted((directory / "_manifest").glob("run-*.json"))
    assert [path.name for path in records] == ["run-1700.json", "run-1701.json"]
    assert json.loads(records[1].read_text()) == {"rows": 3}
    assert json.loads((directory / "_SUCCESS").read_text()) == COUNTS


def test_very_many_shards_are_compared_at_once(directory):
    shards = [Shard(f"in/{i}.csv", i, i) for i in range(50_000)]
    output = Output(str(directory))
    add(output, shards, [Counted(5, SCHEMA)] * len(shards))
    new = [replace(shards[0], path="in/new.csv")]
    began = time.process_time()
    assert output.new_shards([*shards, *new]) == new
    assert len(output.missing()) == 25_000
    assert len(output.unreadable()) == 0
    # It is a tenth of a second; minutes, where the work grows as the square.
    assert time.process_time() - began < 3
