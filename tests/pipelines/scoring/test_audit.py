"""What `status` and `verify` say of outputs: whole, unfinished, damaged, or of other input."""

import io
import itertools
import json
import os
import re
import shutil
import time
from contextlib import redirect_stdout, suppress

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.errors import Failure
from pipelines.scoring import audit, run_log, status
from pipelines.scoring.config import ScoreConfig
from pipelines.scoring.executor import LocalExecutor
from pipelines.scoring.job import InputChanged
from pipelines.scoring.job import main as score
from pipelines.scoring.output import Output
from pipelines.scoring.run_log import RunLog, log_idle
from pipelines.scoring.run_record import RunSummary
from sentiment.checkpoint import load
from sentiment.errors import InputError
from testing.generated import save_checkpoint
from testing.lake import Lake


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Two nights: three parts, one with a rejected row."""
    root = tmp_path_factory.mktemp("whole")
    save_checkpoint(root / "model")
    lake = Lake(root, load(str(root / "model")))
    lake.put("a.csv", *(f"0{i}" for i in range(9)))
    lake.put("b.parquet", *(f"1{i}" for i in range(9)))
    lake.night()
    (lake.corpus / "c.csv").write_text("id,text\n20,word\n21\n")
    lake.night(max_rejected="100%")
    return lake


@pytest.fixture
def lake(whole, tmp_path):
    """A copy of the output, of the same input."""
    lake = Lake(tmp_path, whole.model, whole.corpus)
    shutil.copytree(whole.scored, lake.scored)
    return lake


def files(lake):
    """Sizes and times."""
    stats = {path: path.stat() for path in lake.scored.rglob("*")}
    return {path: (stat.st_size, stat.st_mtime_ns) for path, stat in stats.items()}


def verify(lake, *inputs):
    audit.main(audit.VerifyConfig(str(lake.scored), tuple(map(str, inputs))))


def test_a_whole_output_is_verified_with_its_input_and_nothing_is_written(lake, capsys):
    before = files(lake)
    verify(lake)
    verify(lake, lake.corpus)
    said = capsys.readouterr().out.splitlines()[-1]
    assert said == (
        "Verified: 3 parts, 20 rows, 3 shards of the input: "
        "every file, count and hash is as it was written"
    )
    status.main(status.StatusConfig(str(lake.scored)))
    header, first, second, accepted, now, last = capsys.readouterr().out.splitlines()
    assert header.split() == list(status.HEADER)
    classes = r"[\d.]+% \w+(, [\d.]+% \w+)?"

    def began(plan):
        return rf"\d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d +{plan} +[\d.]+ s"

    assert re.fullmatch(rf"{began(0)} +18 +0 +0  complete  {classes}", first)
    assert re.fullmatch(rf"{began(1)} +1 +1 +0  complete  {classes}", second)
    assert accepted == (
        "    accepted, by --max_rejected 100%: 1 of 2 new rows rejected, 0 shards not read"
    )
    assert re.fullmatch(rf"In all: 3 shards, 3 parts, 19 rows scored, 1 rejected, {classes}", now)
    assert last.startswith("Complete: ")
    assert files(lake) == before


def lines_of(lake, **flags):
    """The lines of the table, and whether the output is complete."""
    out = io.StringIO()
    with redirect_stdout(out), suppress(Failure):
        status.main(status.StatusConfig(str(lake.scored), **flags))
    _, *lines = out.getvalue().partition("In all: ")[0].splitlines()
    return [re.sub(r"^[\d:. -]+ s ", "", line).split() for line in lines]


def test_status_tells_every_night_as_it_was(tmp_path, whole, monkeypatch):
    lake = Lake(tmp_path, whole.model)
    lake.put("a.csv", *(f"0{i}" for i in range(9)))
    lake.night()
    lake.put("b.csv", "10", "11", "12")
    lake.night()
    two_nights = lines_of(lake)
    assert [line[:4] for line in two_nights] == [[n, "0", "0", "complete"] for n in ("9", "3")]

    # The first night's rows are removed and scored in another plan; its line stays.
    lake.put("a.csv", *(f"0{i}" for i in range(8)))
    with pytest.raises(InputChanged):
        lake.night()
    lake.night(sync=True)
    first, second, changed, why, synced = lines_of(lake)
    assert [first, second] == two_nights
    assert (changed[:4], why[:4]) == (["0", "0", "0", "failed"], ["1", "scored", "shard", "has"])
    assert synced[:4] == ["8", "0", "9", "complete"]

    # Two runs that do nothing share a line; one that dies has no end.
    output = Output(str(lake.scored))
    log_idle(output)
    log_idle(output)
    assert "nothing to do, 2 times: last" in " ".join(lines_of(lake)[-1])
    process = run_log.this_process()
    for here, how in (
        (process, "running"),
        (process | {"began": 1.0}, "killed"),
        (process | {"host": "elsewhere"}, "running or killed"),
    ):
        monkeypatch.setattr(run_log, "this_process", lambda here=here: here)
        time.sleep(0.002)
        RunLog(config(lake), "", output, RunSummary()).begin()
        killed = [" ".join(line) for line in lines_of(lake)[-2:]]
        assert how in [re.sub("^[0-9:. -]+", "", line) for line in killed]


def plans_of(lake):
    """The plans that each run has made, as the files and the table tell."""
    names = run_log.run_names(str(lake.scored))
    plans = [record.get("plans", []) for record in run_log.read_runs(str(lake.scored), names)]
    out = io.StringIO()
    with redirect_stdout(out), suppress(Failure):
        status.main(status.StatusConfig(str(lake.scored)))
    header, *lines = out.getvalue().partition("In all: ")[0].splitlines()
    end = header.index("plan") + len("plan")
    cells = [line[len("2026-11-27 02:30:00") : end].strip() for line in lines if line[0] != " "]
    assert cells == [", ".join(map(str, made)) for made in plans]
    return plans


def test_a_rejected_row_tells_its_run_by_the_number_of_a_plan(lake, whole, tmp_path):
    lake = Lake(tmp_path / "lake", whole.model, shutil.copytree(whole.corpus, tmp_path / "copy"))
    lake.night(max_rejected="100%")
    (lake.corpus / "d.csv").write_text("id,text\n30,word\n31\n")
    lake.night(max_rejected="100%")
    lake.night(max_rejected="100%")  # Makes none.
    assert plans_of(lake) == [[0], [1], []]
    (part,) = [
        path
        for path in (lake.scored / "_rejected").iterdir()
        if str(lake.corpus / "d.csv") in pq.read_table(path)["shard"].to_pylist()
    ]
    assert pq.read_table(part)["plan"].to_pylist() == [1]


def test_a_run_that_is_killed_has_said_which_plan_it_made(tmp_path, whole):
    lake = Lake(tmp_path, whole.model)
    lake.put("a.csv", "00", "01")
    lake.night()
    lake.put("b.csv", "10", "11")

    class Killed(LocalExecutor):
        def score(self, tasks, number, worker, say):
            assert plans_of(lake) == [[0], [1]]
            yield from super().score(tasks, number, worker, say)

    lake.night(executor=Killed())
    assert plans_of(lake) == [[0], [1]]


def config(lake):
    return ScoreConfig(checkpoints_dir="", input=(str(lake.corpus),), output=str(lake.scored))


def test_a_night_without_input_has_a_line(lake, whole, tmp_path):
    paths = {"checkpoints_dir": str(whole.corpus.parent / "model"), "output": str(lake.scored)}
    flags = {"input": (str(tmp_path / "none"),), "part_rows": 10}
    before = lines_of(lake)
    with pytest.raises(InputError):
        score(ScoreConfig(**paths, **flags, dry_run=True))
    assert lines_of(lake) == before
    with pytest.raises(InputError):
        score(ScoreConfig(**paths, **flags, max_tokens=7))
    assert lines_of(lake) == before
    with pytest.raises(InputError) as missing:
        score(ScoreConfig(**paths, **flags))
    *_, line, why = lines_of(lake)
    assert "failed" in line
    assert " ".join(why) == str(missing.value)
    assert (lake.scored / "_SUCCESS").exists()


def test_an_interrupted_run_and_one_that_fails_have_lines(tmp_path, whole):
    lake = Lake(tmp_path, whole.model)
    lake.put("a.csv", *(f"0{i}" for i in range(25)))

    class Interrupted(LocalExecutor):
        def score(self, tasks, number, worker, say):
            yield from itertools.islice(super().score(tasks, number, worker, say), 1)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        lake.night(executor=Interrupted())
    (interrupted,) = lines_of(lake)
    scored = int(interrupted[0])
    assert 0 < scored < 25
    assert interrupted[3] == "interrupted"
    lake.night()
    assert lines_of(lake)[-1][:4] == [f"{25 - scored}", "0", "0", "complete"]


def test_only_the_last_runs_are_shown_unasked(lake):
    record = {"began": 1.0, "ended": 2.0, "times": 1, "end": run_log.IDLE}
    output = Output(str(lake.scored))
    for night in range(1, 401):
        output.record(record, night)
    began = time.process_time()
    header, *lines = lines_of(lake)  # Above it stands how many there are.
    assert time.process_time() - began < 1
    assert header == list(status.HEADER)
    assert len(lines) == status.MAX_RUNS + 1  # One has a second line.
    assert len(lines_of(lake, all=True)) == 403


def test_a_shard_that_was_not_read_is_named_though_that_was_accepted(tmp_path, whole, capsys):
    lake = Lake(tmp_path, whole.model)
    lake.put("a.csv", "00", "01")
    (lake.corpus / "bad.parquet").write_bytes(b"PAR1")
    lake.night(max_rejected="100%")
    for look in (
        lambda: verify(lake, lake.corpus),
        lambda: status.main(status.StatusConfig(str(lake.scored))),
    ):
        look()
        lines = capsys.readouterr().out.splitlines()
        (line,) = [each for each in lines if "bad.parquet" in each]
        assert line.startswith("Not read: ")
    (now,) = [line for line in lines if line.startswith("In all: ")]
    assert now.startswith("In all: 1 shard, 1 part, 2 rows scored, ")


def test_parts_of_a_job_that_was_killed_are_said_to_be_uncounted(lake, capsys):
    (lake.scored / "_manifest" / "parts-00000.parquet").unlink()
    (lake.scored / "part-000001.parquet").unlink()
    with pytest.raises(Failure, match=r"^1 part of .* missing"):
        status.main(status.StatusConfig(str(lake.scored)))
    (now,) = [each for each in capsys.readouterr().out.splitlines() if each.startswith("In all: ")]
    assert re.search(r"3 parts, 1 row scored, 1 rejected, .*, without 1 part not counted yet$", now)


def test_a_copy_is_said_to_have_other_times(lake):
    for path in lake.scored.glob("part-*"):
        os.utime(path)
    with pytest.raises(Failure, match=r"has _SUCCESS, but not of these files: .*pipelines\.verify"):
        status.main(status.StatusConfig(str(lake.scored)))
    verify(lake)


def cut(path):
    path.write_bytes(path.read_bytes()[:-5])


def flip(path):
    """A byte in the middle; size and time stay."""
    before = path.stat()
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def add_foreign(path):
    pq.write_table(pa.table({"id": ["x"]}), path.with_name("mine.parquet"))


def make_directory(path):
    path.unlink()
    path.mkdir()


def exchange(path):
    """A part in another's place."""
    shutil.copy(path, path.with_name("part-000001.parquet"))


@pytest.mark.parametrize(
    ("damage", "name", "said"),
    [
        (os.unlink, "part-000000.parquet", "part-000000.parquet was removed"),
        (cut, "part-000000.parquet", "part-000000.parquet has another size"),
        (flip, "part-000000.parquet", "part-000000.parquet has another content"),
        (exchange, "part-000000.parquet", "part-000001.parquet"),
        (add_foreign, "part-000000.parquet", "mine.parquet was not written by this job"),
        (make_directory, "part-000000.parquet", "part-000000.parquet is a directory in the place"),
        (os.unlink, "_rejected/part-000002.parquet", "has lost its file in _rejected/"),
        (flip, "_rejected/part-000002.parquet", "has another file in _rejected/"),
        (os.unlink, "_SUCCESS", "_SUCCESS is missing"),
        (cut, "_SUCCESS", "_SUCCESS cannot be read"),
    ],
)
def test_damage_is_named(lake, capsys, damage, name, said):
    damage(lake.scored / name)
    with pytest.raises(Failure, match=r"^\d+ problems? in .*: the command that scored it mends"):
        verify(lake)
    assert said in capsys.readouterr().out


def test_totals_that_somebody_changed_are_named(lake, capsys):
    success = json.loads((lake.scored / "_SUCCESS").read_text())
    (lake.scored / "_SUCCESS").write_text(json.dumps(success | {"rows": 20}))
    with pytest.raises(Failure, match=r"^1 problem in"):
        verify(lake)
    assert "_SUCCESS says rows 20, the records of the parts 19" in capsys.readouterr().out


def verified(lake, capsys, *inputs):
    """What is wrong with the input, and what else is said of it."""
    with suppress(Failure):
        verify(lake, *inputs)
    lines = capsys.readouterr().out.splitlines()
    return [line.removeprefix("Wrong: ") for line in lines if line.startswith("Wrong: ")], [
        line for line in lines if line.startswith("Moved")
    ]


@pytest.fixture
def copied(lake, tmp_path):
    """A copy of the input, with other times."""
    return shutil.copytree(lake.corpus, tmp_path / "corpus", copy_function=shutil.copyfile)


def test_a_copy_of_the_input_is_verified_by_its_content(lake, copied, capsys):
    (copied / "b.parquet").rename(copied / "renamed.parquet")
    wrong, (moved,) = verified(lake, capsys, copied)
    assert wrong == []
    assert moved == (
        "Moved, or written again with the same content: 3 scored shards "
        f"(first: {lake.corpus}/a.csv, now {copied}/a.csv)"
    )


def test_a_touched_input_is_verified_by_its_content(whole, tmp_path, capsys):
    lake = Lake(tmp_path, whole.model)
    path = lake.put("a.csv", "00", "01")
    lake.night()
    os.utime(path, ns=(0, 0))
    wrong, (moved,) = verified(lake, capsys, lake.corpus)
    assert wrong == []
    assert moved.endswith(f"1 scored shard (first: {path})")
    lake.put("a.csv", "00", "02")
    wrong, moved = verified(lake, capsys, lake.corpus)
    assert wrong == [f"{path} has changed since it was planned"]
    assert not moved


def test_rows_are_whole_numbers_also_where_a_plan_has_no_shards(whole, tmp_path, capsys):
    lake = Lake(tmp_path, whole.model)
    path = lake.put("a.csv", *(f"0{i}" for i in range(10)))
    lake.put("b.csv", *(f"1{i}" for i in range(10)))
    lake.night()
    (lake.corpus / "b.csv").unlink()
    lake.night(sync=True)
    # Of the same size and time.
    time = path.stat().st_mtime_ns
    path.write_text(path.read_text().replace("\n01", " 01"))
    os.utime(path, ns=(time, time))
    wrong, _ = verified(lake, capsys, lake.corpus)
    assert wrong == [f"{path} has 9 rows, and 10 were planned"]


def test_what_is_missing_new_or_changed_in_a_copy_is_named(lake, copied, capsys):
    a, c, copy = copied / "a.csv", copied / "c.csv", copied / "z.csv"
    shutil.copy(c, copy)
    a.write_text(a.read_text().replace("word00", "word99"))
    wrong, _ = verified(lake, capsys, copied)
    assert wrong == [
        f"{a} is not in the output",
        # A shard of the output is one of the input.
        f"{copy} is not in the output, and has the content of another shard",
        f"{lake.corpus}/a.csv is in the output, and not in --input",
    ]
    copy.unlink()
    a.unlink()
    wrong, _ = verified(lake, capsys, copied)
    assert wrong == [f"{lake.corpus}/a.csv is in the output, and not in --input"]


def test_a_copy_that_is_read_in_another_way_has_changed(lake, copied, capsys):
    (copied / "day=1").mkdir()
    a = (copied / "a.csv").rename(copied / "day=1" / "a.csv")
    c = (copied / "c.csv").rename(copied / "c.tsv")
    wrong, _ = verified(lake, capsys, copied)
    assert len(wrong) == 2
    for path, was in ((c, "c.csv"), (a, "a.csv")):
        expected = f"{path} has the content of {lake.corpus}/{was}, and is read in another way"
        assert any(line.startswith(expected) for line in wrong)


def test_copies_in_other_directories_are_told_apart(whole, tmp_path, capsys):
    lake = Lake(tmp_path, whole.model)
    lake.put("day=2/a.csv", "00", "01")
    lake.night()
    lake.put("day=1/a.csv", "00", "01")
    lake.night()
    copied = shutil.copytree(lake.corpus, tmp_path / "copy", copy_function=shutil.copyfile)
    assert verified(lake, capsys, copied)[0] == []


def test_a_shard_that_was_not_read_may_be_elsewhere(whole, tmp_path, capsys):
    lake = Lake(tmp_path, whole.model)
    lake.put("a.csv", "00", "01")
    bad = lake.corpus / "bad.parquet"
    bad.write_bytes(b"PAR1")
    lake.night(max_rejected="100%")
    os.utime(bad, ns=(0, 0))
    assert verified(lake, capsys, lake.corpus)[0] == []
    copied = shutil.copytree(lake.corpus, tmp_path / "copy", copy_function=shutil.copyfile)
    assert verified(lake, capsys, copied)[0] == []
    (copied / "worse.parquet").write_bytes(b"PAR1")
    (wrong,) = verified(lake, capsys, copied)[0]
    assert wrong.startswith(f"{copied / 'worse.parquet'}")
    assert wrong.endswith(": it is not in the output")
    # A copy without it has every row of the output.
    (copied / "worse.parquet").unlink()
    (copied / "bad.parquet").unlink()
    assert verified(lake, capsys, copied)[0] == []


def test_content_that_changed_behind_the_same_size_and_time_is_named(whole, tmp_path, capsys):
    lake = Lake(tmp_path, whole.model)
    path = lake.put("a.csv", "00", "01")
    lake.night()
    flip(path)
    verify(lake)
    with pytest.raises(Failure, match=r"^1 problem in"):
        verify(lake, lake.corpus)
    assert "a.csv has another content than when it was planned" in capsys.readouterr().out


def test_the_first_rows_of_an_input_are_not_compared_with_all_of_it(whole, tmp_path, capsys):
    lake = Lake(tmp_path, whole.model)
    lake.put("a.csv", *(f"0{i}" for i in range(9)))
    lake.night(limit=5)
    verify(lake)
    assert "Verified: 1 part, 5 rows" in capsys.readouterr().out
    with pytest.raises(InputError, match=r"only the first 5 rows of its input \(--limit\)"):
        verify(lake, lake.corpus)


@pytest.mark.parametrize(
    "name", ["part-000099.parquet", "x.parquet", "year=2024/part-000001.parquet"]
)
def test_status_names_a_file_that_readers_would_take_for_rows(lake, name):
    path = lake.scored / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes((lake.scored / lake.parts()[0]).read_bytes())
    # To run again would end with the same line, so it is told before what is missing.
    (lake.scored / lake.parts()[0]).unlink()
    said = f"{path} was not written by this job, and readers would take it for scored rows"
    with pytest.raises(Failure, match=re.escape(said)):
        status.main(status.StatusConfig(str(lake.scored)))


def test_status_of_what_is_not_complete_is_a_failure(lake, tmp_path):
    (lake.scored / "_SUCCESS").unlink()
    with pytest.raises(Failure, match="has no _SUCCESS"):
        status.main(status.StatusConfig(str(lake.scored)))
    (lake.scored / "part-000001.parquet").unlink()
    with pytest.raises(Failure, match=r"^1 part of .* missing: run the same command again"):
        status.main(status.StatusConfig(str(lake.scored)))
    nothing = str(tmp_path / "nothing")
    with pytest.raises(InputError, match=r"is no output of pipelines\.score"):
        status.main(status.StatusConfig(nothing))
    with pytest.raises(InputError, match=r"is no output of pipelines\.score"):
        audit.main(audit.VerifyConfig(nothing))


def begin_run(lake, monkeypatch, **process):
    """Write the file of a run that has not said how it ended."""
    here = run_log.this_process() | process
    with monkeypatch.context() as patch:
        patch.setattr(run_log, "this_process", lambda: here)
        time.sleep(0.002)
        RunLog(config(lake), "", Output(str(lake.scored)), RunSummary()).begin()


@pytest.mark.parametrize(
    ("process", "said"),
    [
        ({}, "a job is running; if it is not, "),
        ({"host": "elsewhere"}, "a job may be running; if it is not, "),
        ({"began": 1.0}, ""),
    ],
)
def test_what_a_job_that_runs_has_not_written_yet_is_not_called_missing(
    lake, monkeypatch, process, said
):
    """The same command would do its work twice."""
    begin_run(lake, monkeypatch, **process)
    (lake.scored / "_SUCCESS").unlink()
    where = re.escape(str(lake.scored))
    no_success = f"^{where} has no _SUCCESS yet: {said}run the same command again$"
    with pytest.raises(Failure, match=no_success if said else f"^{where} has no _SUCCESS: its "):
        status.main(status.StatusConfig(str(lake.scored)))
    for path in lake.scored.glob("part-00000[01].parquet"):
        path.unlink()
    missing = f"2 parts of {where} {'not there yet' if said else 'missing'}"
    with pytest.raises(Failure, match=f"^{missing}: {said}run the same command again$"):
        status.main(status.StatusConfig(str(lake.scored)))
    mends = "the command that scored it mends what it can"
    with pytest.raises(Failure, match=f"^3 problems in {where}: {said}{mends}$"):
        verify(lake)


def test_a_job_of_another_host_is_forgotten_once_there_is_a_later_one(lake, monkeypatch):
    begin_run(lake, monkeypatch, host="elsewhere")
    begin_run(lake, monkeypatch, began=1.0)
    (lake.scored / "part-000001.parquet").unlink()
    with pytest.raises(Failure, match=r"^1 part of .* missing: run the same command again$"):
        status.main(status.StatusConfig(str(lake.scored)))


def test_a_directory_that_is_no_output_is_named_without_a_flag(tmp_path):
    (tmp_path / "notes.txt").write_text("some")
    for call in (
        lambda: status.main(status.StatusConfig(str(tmp_path))),
        lambda: audit.main(audit.VerifyConfig(str(tmp_path))),
    ):
        with pytest.raises(InputError) as refused:
            call()
        assert str(refused.value).startswith(f"{tmp_path} is not empty, and no job of this program")


def test_conditions_of_no_input_are_refused(lake):
    with pytest.raises(InputError, match="--where chooses shards of the input: name it by --input"):
        audit.main(audit.VerifyConfig(str(lake.scored), where=("day=1",)))
