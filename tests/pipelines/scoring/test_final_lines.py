"""What the scoring job prints: what this run did, what one should know, and no text unasked."""

import io
import json
import os
import re
import signal
import sys
import time
from contextlib import redirect_stderr
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines import score
from pipelines.console import command, progress
from pipelines.errors import Failure
from pipelines.scoring.config import ScoreConfig
from pipelines.scoring.executor import LocalExecutor
from pipelines.scoring.job import TooManyRejected, main
from pipelines.scoring.mending import mend_here
from pipelines.scoring.output import Output
from pipelines.scoring.part_data import PartCounts, PartResult
from pipelines.scoring.run_record import RunRecord
from sentiment.checkpoint import save
from sentiment.errors import InputError
from testing.generated import save_checkpoint
from testing.lake import Lake

LEARNT = {"rows": 100, "truncated": 0, "tokens": 1000, "unknown": 0}
SECRET = "Ms Jones"
SHARES = "N% negative, N% positive"


@pytest.fixture
def nights(tmp_path) -> Path:
    """A shard, whose kept column `name` is private, and a model that knows `lovely`."""
    checkpoint = replace(save_checkpoint(tmp_path / "model"), training={"learnt": LEARNT})
    save(checkpoint, str(tmp_path / "model"))
    (tmp_path / "corpus").mkdir()
    night(tmp_path, "a", ["lovely"] * 3)
    return tmp_path


def night(root: Path, shard: str, texts: list[str | None], **columns: object) -> None:
    """Add a shard."""
    table = pa.table({"name": [SECRET] * len(texts), "text": pa.array(texts, pa.string())})
    for name, values in columns.items():
        table = table.append_column(name, pa.array(values))
    pq.write_table(table, root / "corpus" / f"{shard}.parquet")


def config(root: Path, **flags: object) -> ScoreConfig:
    paths = {"checkpoints_dir": str(root / "model"), "output": str(root / "scored")}
    return ScoreConfig(input=(str(root / "corpus"),), **paths, **flags)


def plain(said: str) -> list[str]:
    """The lines, whose shares and seconds are not known."""
    said = re.sub(r"\d+\.\d% negative, \d+\.\d% positive", SHARES, said)
    return re.sub(r"in \d+\.\d s$", "in N s", said, flags=re.MULTILINE).splitlines()


def test_the_last_line_says_what_this_run_did(nights, capsys):
    main(config(nights))
    *_, totals, last = plain(capsys.readouterr().out)
    assert totals == f"3 rows scored, {SHARES}, in {nights}/scored"
    assert last == f"This run: 3 rows scored, {SHARES}, in N s"
    night(nights, "b", ["lovely", None], country=["at", "be"])
    main(config(nights, max_rejected="50%"))
    said = plain(capsys.readouterr().out)
    note = "Not kept, since the output has no such column: country (--overwrite)"
    assert said[-4:] == [
        f"4 rows scored, {SHARES}, in {nights}/scored",
        f"1 row and 0 shards could not be scored: see {nights}/scored/_rejected",
        note,
        f"This run: 1 row scored, {SHARES}, 1 rejected, in N s",
    ]
    assert said.index(note) < said.index("Scoring 2 rows in 1 part (1 are there) ...")
    records = sorted((nights / "scored" / "_manifest").glob("run-*.json"))
    record = json.loads(records[-1].read_text())
    assert record["notes"] == [note]
    assert (record["counts"]["rows"], record["totals"]["rows"]) == (1, 4)
    assert note in (nights / "scored" / "_manifest" / "report.html").read_text()


@pytest.mark.parametrize("flags", [{}, {"quiet": True}])
def test_no_value_of_the_corpus_is_printed_unasked(nights, capsys, flags):
    main(config(nights, **flags))
    assert SECRET not in capsys.readouterr().out


def test_rows_are_shown_if_one_asks_for_them(nights, capsys):
    main(config(nights, show_samples=True))
    said = capsys.readouterr().out
    assert said.count(SECRET) == 3
    assert "Schema: name string, positive_probability float, sentiment string" in said


def test_a_quiet_run_prints_warnings_and_its_last_line(nights, capsys):
    main(config(nights, quiet=True))
    assert plain(capsys.readouterr().out) == [f"This run: 3 rows scored, {SHARES}, in N s"]
    (nights / "scored" / "part-000000.parquet").write_bytes(b"")
    main(config(nights, quiet=True))
    assert plain(capsys.readouterr().out) == [
        f"Damaged: {nights}/scored/part-000000.parquet has another size",
        "Scoring 1 damaged part again",
        f"This run: 3 rows scored, {SHARES}, in N s",
    ]
    night(nights, "b", ["lovely"], country=["at"])
    main(config(nights, quiet=True))
    assert plain(capsys.readouterr().out) == [
        "Not kept, since the output has no such column: country (--overwrite)",
        f"This run: 1 row scored, {SHARES}, in N s",
    ]
    main(config(nights, quiet=True))
    assert capsys.readouterr().out.startswith("Nothing to do: ")
    night(nights, "c", [None])
    with pytest.raises(TooManyRejected):
        main(config(nights, quiet=True))
    assert plain(capsys.readouterr().out) == ["This run: 0 rows scored, 1 rejected, in N s"]


def test_texts_of_another_kind_are_a_line_and_stand_in_success(nights, capsys):
    main(config(nights))
    assert "Warning" not in capsys.readouterr().out
    assert json.loads((nights / "scored" / "_SUCCESS").read_text())["warnings"] == []
    night(nights, "b", ["unheard of"])
    main(config(nights, quiet=True))
    warning, _ = plain(capsys.readouterr().out)
    assert warning.startswith("Warning: 100.0% of the tokens of these texts are not in the vocab")
    first, latest = json.loads((nights / "scored" / "_SUCCESS").read_text())["warnings"]
    assert first.startswith("40.0% of the tokens")
    assert latest.startswith("The last shards: 100.0% of the tokens")


def test_flags_that_exclude_each_other_are_refused(nights):
    for flag in ("verbose", "show_samples"):
        with pytest.raises(InputError, match=f"--quiet and --{flag} exclude each other"):
            config(nights, quiet=True, **{flag: True})
    for flag in ("sync", "keep_stale"):
        with pytest.raises(InputError, match=f"--limit and --{flag} exclude each other"):
            config(nights, limit=3, **{flag: True})


def test_a_sample_is_not_said_to_be_all_of_the_input(nights, capsys):
    main(config(nights, limit=1))
    night(nights, "b", ["unheard of"])
    capsys.readouterr()
    main(config(nights, limit=1))
    said = "Nothing to do: the first rows of the input, as they were then, are scored in "
    assert said in capsys.readouterr().out


@pytest.fixture
def run_score(nights, monkeypatch):
    """A function that runs the program with this standard output, and returns its exit code."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    unraisable = sys.unraisablehook

    def run(stdout: io.TextIOBase | None) -> int:
        monkeypatch.setattr(sys, "stdout", stdout)
        flags = ["--checkpoints_dir", f"{nights}/model", "--input", f"{nights}/corpus"]
        flags += ["--output", f"{nights}/scored", "--show_samples"]
        with redirect_stderr(io.StringIO()):
            return command.exit_code(score.load, "score", score.__doc__, flags)

    yield run
    sys.unraisablehook = unraisable
    for number, handler in handlers.items():
        signal.signal(number, handler)


def test_a_terminal_that_lacks_a_character_gets_an_escape(nights, run_score):
    pq.write_table(
        pa.table({"name": ["José 🎉"], "text": ["lovely"]}), nights / "corpus" / "é.parquet"
    )
    said = io.BytesIO()
    stream = io.TextIOWrapper(said, encoding="ascii")
    assert run_score(stream) == 0
    assert b"Jos\\xe9 \\U0001f389" in said.getvalue()
    assert (nights / "scored" / "_SUCCESS").exists()


def test_a_closed_output_costs_no_row(nights, run_score):
    assert run_score(None) == 0
    assert (nights / "scored" / "_SUCCESS").exists()


def test_a_reader_that_goes_away_costs_no_row(nights, run_score):
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "w") as stream:
        assert run_score(stream) == 0
    assert (nights / "scored" / "_SUCCESS").exists()


@pytest.fixture
def unfinished(tmp_path) -> Lake:
    """An output that lacks its part, of two rows."""
    lake = Lake(tmp_path, save_checkpoint(tmp_path / "model"))
    lake.put("a.csv", "1", "2")
    lake.night()
    (part,) = lake.scored.glob("part-*")
    part.unlink()
    return lake


def last_run(lake: Lake) -> dict[str, object]:
    return json.loads(max((lake.scored / "_manifest").glob("run-*")).read_text())


def test_the_start_of_what_scores_is_no_time_of_scoring(unfinished):
    class Slow(LocalExecutor):
        def require_room(self, number):
            time.sleep(0.5)

    began = time.monotonic()
    unfinished.night(executor=Slow())
    assert last_run(unfinished)["seconds"] <= time.monotonic() - began - 0.5


def test_what_is_left_is_recorded_also_where_nothing_starts(unfinished):
    class Broken(LocalExecutor):
        def require_room(self, number):
            raise Failure("Ray did not start")

    with pytest.raises(Failure, match="Ray did not start"):
        unfinished.night(executor=Broken())
    assert last_run(unfinished)["left"] == {"parts": 1, "rows": 2}


@pytest.mark.parametrize(
    ("seconds", "rate"), [({"read": 1.0, "score": 3.0}, r"(49|50) rows/s, "), ({}, "")]
)
def test_the_rate_is_that_of_parts_since_the_first_was_begun(
    unfinished, monkeypatch, capsys, seconds, rate
):
    """Of 200 rows; one part may be there already, which tells nothing."""
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.0)
    output = Output(str(unfinished.scored))
    mend_here(output)
    record = RunRecord(config(unfinished.scored.parent), output)
    record.begin()
    counts = PartCounts(rows=200)
    record.add(PartResult("part-000000", counts, answers=[200, 0], seconds=seconds))
    line = capsys.readouterr().out.splitlines()[-1]
    assert re.fullmatch(rf"200 of 2 rows, {rate}0 rejected \(0\.00%\)", line)
