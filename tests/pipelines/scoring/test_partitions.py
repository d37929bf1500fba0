"""`--partition_by`: an output in directories `key=value/`, as the input is, one part one file."""

import html
import re
import shutil
from collections import Counter

import duckdb
import pandas as pd
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.errors import Failure
from pipelines.reports.scoring_report import scoring_report
from pipelines.scoring.audit import VerifyConfig
from pipelines.scoring.audit import main as verify
from pipelines.scoring.config import ScoreConfig
from pipelines.scoring.final_lines import say_how_to_read
from pipelines.scoring.job import InputChanged
from pipelines.scoring.output import Output, overwrite
from pipelines.scoring.plan import Plan
from pipelines.scoring.report_data import collect
from pipelines.sources.names import NULL_PARTITION, partition_directory, partitions, require_keys
from sentiment.errors import InputError
from testing.lake import Lake


@pytest.fixture
def lake(tmp_path, model):
    """Two days, of which the second has more rows than a part, and a row that is rejected."""
    lake = Lake(tmp_path, model, partition_by=("day",), max_rejected="100%")
    lake.put("day=1/hour=1/a.csv", "10", "11")
    lake.put("day=1/hour=2/b.csv", "12")
    lake.put("day=2/hour=1/c.csv", *(f"2{i:02}" for i in range(25)))
    with (lake.corpus / "day=2/hour=1/c.csv").open("a") as file:
        file.write("broken\n")
    lake.night()
    return lake


def test_parts_are_in_the_directories_of_their_rows(lake):
    days = Counter(name.partition("/")[0] for name in lake.parts())
    # The two small shards of the first day share a part, and no part has rows of both days.
    assert days == {"day=1": 1, "day=2": 3}
    (rejected,) = (lake.scored / "_rejected").rglob("part-*.parquet")
    assert rejected.parent.name == "day=2"


def test_engines_read_the_key_from_the_directories_and_each_row_once(lake):
    expected = {(day, i) for day in (1, 2) for i in lake.ids() if int(i[0]) == day}
    read = pd.read_parquet(lake.scored)
    files = f"{lake.scored}/day=*/*.parquet"
    rows = duckdb.sql(f"SELECT day, id, hour FROM '{files}'").fetchall()
    table = ds.dataset(lake.scored, partitioning="hive").to_table()
    assert len(read) == len(rows) == len(table) == len(expected)
    assert set(zip(read["day"].astype(int), read["id"], strict=True)) == expected
    assert {(int(day), i) for day, i, _ in rows} == expected
    assert set(zip(table["day"].to_pylist(), table["id"].to_pylist(), strict=True)) == expected
    # A key that is not named is a column, as ever; one that is named is none in the files.
    assert {hour for _, _, hour in rows} == {"1", "2"}
    (part,) = (lake.scored / "day=1").iterdir()
    assert "day" not in pq.read_schema(part).names


def test_a_later_night_adds_directories_and_says_nothing_of_the_key(lake):
    lake.put("day=3/hour=1/d.csv", "30")
    lake.put("e.csv", "90")
    assert "Not kept" not in lake.night()
    assert {name.rpartition("/")[0] for name in lake.read} == {"day=3", f"day={NULL_PARTITION}"}
    assert "Counting" not in lake.night()


def test_the_code_that_is_shown_reads_keys_and_nulls(lake, model, capsys):
    """By itself, pandas cannot read keys of which a directory has none."""
    lake.put("e.csv", "90")
    lake.night()
    output = Output(str(lake.scored))
    say_how_to_read(str(lake.scored), output, False, True)
    command = re.search(r'Read it: python -c "import .*; print\((.*)\)"', capsys.readouterr().out)
    config = ScoreConfig(
        checkpoints_dir="",
        input=(str(lake.corpus),),
        output=str(lake.scored),
        partition_by=("day",),
    )
    totals = output.records.totals()
    page = html.unescape(scoring_report(collect(config, model, output, totals, "")).decode())
    for read in (command[1], re.search(r"scored = (pd\.read_parquet\(.*\))", page)[1]):
        rows = eval(read, {"pandas": pd, "pd": pd, "ds": ds})
        assert rows["day"].isna().sum() == 1
        assert Counter(rows["id"]) == lake.ids()


@pytest.mark.parametrize(
    ("column", "keys", "problem"),
    [
        (
            "id",
            ("sentiment",),
            "by sentiment: some .*, which the output adds: leave it",
        ),
        (
            "id",
            ("Sentiment",),
            "by Sentiment: some .*, which the output adds: leave it",
        ),
        (
            "id",
            ("day", "Day"),
            "by Day: some .* take for the key day of --partition_by",
        ),
        (
            "Day",
            ("day",),
            "a column 'Day', which some readers take for the key day of",
        ),
    ],
)
def test_a_name_that_readers_would_find_twice_is_refused(tmp_path, model, column, keys, problem):
    """In the files, and in the directories: DuckDB shows the value of the directory for both."""
    lake = Lake(tmp_path, model, partition_by=keys)
    path = lake.corpus.joinpath(*(f"{key}=1" for key in keys), "a.csv")
    path.parent.mkdir(parents=True)
    path.write_text(f"{column},text\n1,lovely\n")
    with pytest.raises(InputError, match=problem):
        lake.night()


def test_rows_that_move_to_another_directory_are_followed(lake):
    (lake.corpus / "day=1").rename(lake.corpus / "day=7")
    with pytest.raises(InputChanged):
        lake.night()
    lake.night(sync=True)
    assert Counter(name.partition("/")[0] for name in lake.parts()) == {"day=7": 1, "day=2": 3}
    assert set(lake.ids()) == {"10", "11", "12", *(f"2{i:02}" for i in range(25))}


@pytest.mark.parametrize("damage", ["remove", "directory", "cut", "rejected"])
def test_damage_is_found_and_mended(lake, damage):
    ids = lake.ids()
    directory = lake.scored / "day=2"
    part = min(directory.iterdir())
    if damage == "remove":
        part.unlink()
    elif damage == "directory":
        shutil.rmtree(directory)
    elif damage == "cut":
        part.write_bytes(part.read_bytes()[:-1])
    else:
        shutil.rmtree(lake.scored / "_rejected" / "day=2")
    assert not Output(str(lake.scored)).complete
    with pytest.raises(Failure, match=r"[13] problems? in"):
        verify(VerifyConfig(str(lake.scored)))
    lake.night()
    assert lake.ids() == ids
    verify(VerifyConfig(str(lake.scored), (str(lake.corpus),)))


@pytest.mark.parametrize(
    "name", ["day=1/part-000099.parquet", "day=9/x.parquet", "other/x.parquet"]
)
def test_a_file_that_readers_would_take_for_rows_is_refused(lake, name):
    (lake.scored / name).parent.mkdir(exist_ok=True)
    (lake.scored / name).write_bytes(b"")
    with pytest.raises(Failure, match="was not written by this job"):
        lake.night()


def test_overwriting_removes_the_directories_too_but_nothing_of_others(lake):
    (lake.scored / "day=1" / "notes.txt").write_text("mine")
    overwrite(str(lake.scored))
    assert sorted(path.name for path in lake.scored.iterdir()) == [
        "_manifest",
        "_rejected",
        "day=1",
    ]
    assert not list((lake.scored / "_rejected").iterdir())
    shutil.rmtree(lake.scored / "day=1")
    lake.flags = {"max_rejected": "100%"}
    lake.night()
    assert lake.parts() == [f"part-{number:06d}.parquet" for number in range(len(lake.parts()))]


def test_an_output_is_partitioned_as_it_was_begun(lake):
    lake.flags = {}
    with pytest.raises(InputError, match="was started with another partition_by"):
        lake.night()


def test_a_plan_is_read_as_it_was_written(lake):
    (plan,) = Output(str(lake.scored)).plans
    again = Plan.from_bytes(plan.to_bytes(), "plan")
    assert again == plan
    assert again.parts[1].name == plan.parts.names[1].as_py() == "day=2/part-000001"
    assert again.parts[1:].names.to_pylist() == plan.parts.names.to_pylist()[1:]


def test_a_key_that_no_directory_has_is_refused():
    require_keys(["/in/day=1/a.csv"], ["day"], "--partition_by")
    with pytest.raises(
        InputError, match=r"--partition_by: no directory is named label=\.\.\.; .*day"
    ):
        require_keys(["/in/day=1/a.csv"], ["label"], "--partition_by")


VALUES = st.text(
    st.characters(exclude_characters="\0", exclude_categories=("Cs",)), min_size=1, max_size=20
)


@given(key=VALUES, value=st.none() | VALUES)
def test_a_directory_gives_back_its_value(key, value):
    escaped = "".join(f"%{byte:02X}" for byte in (value or NULL_PARTITION).encode())
    given = f"/in/{''.join(f'%{byte:02X}' for byte in key.encode())}={escaped}/a.csv"
    assert partitions(given) == {key: None if value == NULL_PARTITION else value}
    directory = partition_directory(given, [key])
    assert directory.count("/") == directory.count("=") == 1
    assert partitions(f"/out/{directory}part-000000.parquet") == partitions(given)


def test_a_flag_is_part_of_the_settings():
    config = ScoreConfig(checkpoints_dir="", input=("in",), output="out", partition_by=("day",))
    assert config.settings("")["partition_by"] == ["day"]
