"""The report of a scored output: its numbers are those of the parts, whatever the corpus holds."""

import json
import os
import time
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.errors import Failure
from pipelines.reports.scoring_breakdowns import date
from pipelines.reports.scoring_report import _drift, scoring_report
from pipelines.scoring.class_rows import ClassRows
from pipelines.scoring.config import ScoreConfig
from pipelines.scoring.executor import LocalExecutor
from pipelines.scoring.job import main, run
from pipelines.scoring.output import Output
from pipelines.scoring.part_data import BINS, REJECTED, PartCounts, PartResult, WrittenFile
from pipelines.scoring.planner import make_plan
from pipelines.scoring.report_data import collect
from pipelines.scoring.run_record import MAX_COURSE_POINTS, RunRecord, RunSummary
from pipelines.scoring.totals import MAX_REASONS, OTHER, most_frequent
from pipelines.sources.listing import find
from pipelines.sources.shard import Counted, Shard
from sentiment.checkpoint import Checkpoint, load, save
from sentiment.classes import Classes
from sentiment.text.tokenizer import Tokenizer
from testing.browser import look, needs_chromium
from testing.generated import save_checkpoint, texts_and_labels
from testing.hostile import HOSTILE as HOSTILE_TEXTS

HOSTILE = "<script>hacked = true</script><img src=http://127.0.0.1/>&\"'\u202egpj {{ 7*7 }}"
TEXT = pa.schema([("text", pa.string())])
SETTINGS = ScoreConfig(checkpoints_dir="", input=(), output="").settings("model")
LEARNT = {"rows": 1000, "truncated": 10, "tokens": 10_000, "unknown": 500}


class _Read(HTMLParser):
    """A page's headings, paragraphs and cells, as a reader sees them, in order."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.seen: list[str] = []
        self.tags: Counter[str] = Counter()
        self.feed(page.decode())

    def handle_starttag(self, tag, attributes):
        self.tags[tag] += 1
        self.seen += [""] * (tag in ("h1", "h2", "p", "td", "th", "code", "dt", "dd", "caption"))

    def handle_data(self, data):
        if self.seen:
            self.seen[-1] += data

    @property
    def text(self) -> str:
        return "\n".join(text.strip() for text in self.seen)

    def after(self, words: str, number: int = 1) -> list[str]:
        """The cells that follow the one with these words."""
        seen = self.text.split("\n")
        place = seen.index(words)
        return seen[place + 1 : place + 1 + number]


def config(root: Path, **flags: object) -> ScoreConfig:
    paths = {"checkpoints_dir": str(root / "model"), "output": str(root / "scored")}
    paths |= {"max_rejected": "100%"}
    return ScoreConfig(**{"input": (str(root / "corpus"),)} | paths | flags)


def learnt(directory: Path, **training: object) -> Checkpoint:
    """A model whose checkpoint says that of its training, of weights that are sure of something."""
    checkpoint = save_checkpoint(directory)
    weights = dict(checkpoint.weights) | {"dense/bias": np.array([0.2, 0], "f4")}
    weights |= {"dense/kernel": 99 * weights["dense/kernel"]}
    checkpoint = replace(checkpoint, weights=weights, training=training)
    save(checkpoint, str(directory))
    return checkpoint


def of_classes(root: Path, *names: str) -> bytes:
    """The page of an output of a model with these classes, with a shard of 200 rows."""
    checkpoint = save_checkpoint(root / "model", seed=2, classes=Classes(names), sureness=40)
    training = {"labels": {"train": [*range(1, len(names) + 1)]}}
    save(replace(checkpoint, training=training), str(root / "model"))
    (root / "corpus").mkdir()
    texts = texts_and_labels(200)[0]
    table = pa.table({"text": texts, "source": ["here", "there"] * 100})
    pq.write_table(table, root / "corpus" / "a.parquet")
    main(config(root, keep_columns=("source",), by=("source",)))
    return (root / "scored" / "_manifest" / "report.html").read_bytes()


def report(root: Path) -> _Read:
    return _Read((root / "scored" / "_manifest" / "report.html").read_bytes())


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    """Four shards, one of which cannot be read, of one part, with rows that cannot be scored."""
    root = tmp_path_factory.mktemp("scored")
    learnt(root / "model", learnt=LEARNT, rows={"train": 1000}, positive={"train": 250})
    (root / "corpus").mkdir()
    texts, _ = texts_and_labels(900)
    for number, name in enumerate(("a.csv", f"b {HOSTILE.replace('/', '')}.csv", "c.parquet")):
        kept = [f"{text} {'other words' * (i % 3)}" for i, text in enumerate(texts[number::3])]
        table = pd.DataFrame({"shard": str(number), "text": kept})
        path = root / "corpus" / name
        table.to_parquet(path) if number == 2 else table.to_csv(path, index=False)
    with open(root / "corpus" / "a.csv", "ab") as file:
        file.write(b"0,ol\xe9 \x1b[31m<b>\n0\n0,a,b,c\n0\n" + "0,a,\u202egpj\n".encode())
    (root / "corpus" / "d.csv").write_bytes(b"")
    main(config(root))
    return root


def test_the_numbers_are_those_of_the_parts(scored):
    page = report(scored)
    parts = pd.read_parquet(scored / "scored", columns=["shard", "positive_probability"])
    positive = parts["positive_probability"] >= 0.5
    rejected = pd.read_parquet(scored / "scored" / "_rejected")
    tokenizer = Tokenizer().encoder(load(str(scored / "model")).vocabulary)
    written = [*pd.read_csv(scored / "corpus" / "a.csv", nrows=300)["text"]]
    written += [*pd.read_csv(next(scored.glob("corpus/b*")))["text"]]
    written += [*pd.read_parquet(scored / "corpus" / "c.parquet")["text"]]
    ids = tokenizer(pa.array(written)).ids

    said = (
        "The output is complete, with 5 rows rejected and 1 shard not readable. 900 rows scored: "
    )
    shares = f"{1 - positive.mean():.1%} negative, {positive.mean():.1%} positive. The texts differ"
    assert page.seen[1].startswith(f"{said}{shares}")
    assert f"3 shards were scored into {scored}/scored with " in page.seen[1]
    facts = {"rows scored": f"{len(parts):,}", "positive": f"{positive.mean():.1%}"}
    facts |= {"rows rejected": f"{rejected['row'].count()}", "texts truncated": "0"}
    facts |= {"shards that could not be read": "1", "tokens": f"{len(ids):,}"}
    for name, value in facts.items():
        assert page.after(name) == [value]
    unknown = page.after("Tokens not in the vocabulary", 2)
    assert unknown == [f"{np.mean(ids == 1):.1%}", "5.0%"]
    assert page.after("Tokens per text", 2) == [f"{len(ids) / 900:.1f}", "10.0"]
    assert page.after("Truncated texts", 2) == ["0.0%", "1.0%"]
    classes = page.text.split("All classes")[1].split("\n")
    for name, is_it, labelled in (
        ("negative", ~positive, "75.0%"),
        ("positive", positive, "25.0%"),
    ):
        place = classes.index(name) + 1
        shown = [f"{is_it.sum():,}", f"{is_it.mean():.1%}", labelled]
        assert classes[place : place + 3] == shown
    for number, path in enumerate(sorted((scored / "corpus").iterdir())[:3]):
        here = positive[parts["shard"] == str(number)]
        if number != 1:
            shown = [f"{len(here):,}", f"{1 - here.mean():.1%}", f"{here.mean():.1%}"]
            assert page.after(path.name, 3) == shown
    for reason, rows in rejected.dropna(subset="row")["reason"].value_counts().items():
        assert page.after(reason, 2) == [f"{rows}", f"{rows / 5:.1%}"]

    output = Output(str(scored / "scored"))
    totals = output.records.totals()
    expected, _ = np.histogram(parts["positive_probability"], BINS, (0, 1))
    assert totals.histogram.tolist() == expected.tolist()
    assert totals.histogram[BINS // 2 :].sum() == totals.counts["positive"]
    success = json.loads((scored / "scored" / "_SUCCESS").read_text())
    assert success.items() >= totals.counts.items()


@pytest.mark.parametrize("number", [3, 10, 25])
def test_it_has_the_share_of_each_class(tmp_path, number):
    names = [f"class {i}" for i in range(number)]
    page = _Read(of_classes(tmp_path, *names))
    table = pd.read_parquet(tmp_path / "scored")
    rows = table["label"].value_counts()
    frequent = sorted(names, key=lambda name: -rows.get(name, 0))
    shown = names if number <= 5 else frequent[:5]
    for name in shown:
        assert page.after(name) == [f"{rows.get(name, 0) / 200:.1%}"]
    caption = "All classes" if number <= 20 else "The most frequent of 25"
    cells = page.text.split(caption)[1].split("\n")
    for name in names if number <= 20 else frequent[:20]:
        place = cells.index(name) + 1
        share, trained = rows.get(name, 0) / 200, (names.index(name) + 1) / sum(range(number + 1))
        wanted = [f"{rows.get(name, 0)}", f"{share:.1%}", f"{trained:.1%}"]
        assert cells[place : place + 3] == wanted
    by_shard = page.after(str(tmp_path / "corpus" / "a.parquet"), 6)
    shares = [f"{rows.get(name, 0) / 200:.1%}" for name in shown] if number <= 20 else []
    assert by_shard[: 1 + len(shares)] == ["200", *shares]
    said = {
        3: "the share of each class",
        10: "the shares of the 5 most frequent classes",
        25: None,
    }[number]
    assert f"2 values of source{f', with {said}' if said else ''}.\n" in page.text
    assert f"Rows of each shard{f', and {said}' if said else ''}.\n" in page.text
    heights, _ = np.histogram(
        table["probability"]
        if number > 20
        else table[[f"{name}_probability" for name in names]].max(axis=1),
        BINS,
        (0, 1),
    )
    assert Output(str(tmp_path / "scored")).records.totals().histogram.tolist() == heights.tolist()


@pytest.mark.parametrize("number", [3, 25])
def test_the_shard_whose_classes_differ_most_comes_first(tmp_path, number):
    classes = Classes(tuple(f"class {i}" for i in range(number)))
    checkpoint = save_checkpoint(tmp_path / "model", classes=classes)
    flags = config(tmp_path, part_rows=100)
    settings = flags.settings(checkpoint.model_hash, classes.names)
    output = Output(str(tmp_path / "scored"))
    shards = [Shard(f"/corpus/{i}.csv", 1, 1) for i in range(30)]
    output.add(make_plan(shards, [Counted(100, TEXT)] * 30, settings, 0))
    for i, name in enumerate(output.plans[0].parts.names):
        winners = np.array(([2] if i == 17 else [0, 1]) * 50, np.int64)
        output.add_result(
            PartResult(
                name,
                PartCounts(rows=len(winners)),
                histogram=[0] * BINS,
                answers=ClassRows(number).count(winners, np.array([len(winners)])),
                file=WrittenFile(1, "0" * 64),
            )
        )
    page = _Read(scoring_report(collect(flags, checkpoint, output, output.records.totals(), "")))
    if number == 3:
        cells = page.text.split("Shards that differ most")[1].split("\n")[1:]
        assert cells[:5] == ["shard", "rows scored", *classes.names]
        assert cells[5:10] == ["17.csv", "50", "0.0%", "0.0%", "100.0%"]
        assert cells[11:15] == ["100", "50.0%", "50.0%", "0.0%"]
    else:
        cells = page.text.split("The largest")[1].split("\n")[1:]
        assert cells[:5] == ["shard", "rows scored", "0.csv", "100", "1.csv"]


def night(root: Path, day: str, texts: list[str | None]) -> None:
    """A shard of one more day."""
    directory = root / "corpus" / f"dt={day}"
    directory.mkdir(parents=True)
    pq.write_table(pa.table({"text": texts}), directory / "a.parquet")


def test_nights_stand_side_by_side_and_days_by_partition(tmp_path):
    checkpoint = learnt(tmp_path / "model", learnt=LEARNT)
    flags = config(tmp_path, keep_columns=("dt",))
    texts, _ = texts_and_labels(600)
    days = ["2026-11-01", "2026-11-02", "2026-11-04"]
    for number, day in enumerate(days):
        (tmp_path / "corpus").mkdir(exist_ok=True)
        (tmp_path / "corpus" / f"{number}.xlsx").write_bytes(b"PK")
        strange = ["never seen words"] * 100 if number == 2 else []
        night(tmp_path, day, [None] * number + texts[200 * number : 200 * (number + 1)] + strange)
        found = find([str(tmp_path / "corpus")], "--input")
        output = Output(str(tmp_path / "scored"), is_own=True)
        summary = RunSummary(found.aside_counts)
        run(flags, checkpoint, output, found.shards, LocalExecutor(), summary)
    output = Output(str(tmp_path / "scored"))
    results = collect(flags, checkpoint, output, output.records.totals(), "")
    page = _Read(scoring_report(results))
    table = pd.read_parquet(tmp_path / "scored")
    cells = page.text.split("The latest first")[1].split("\n")
    for number, day in enumerate(days):
        here = table[table["dt"] == day]
        share = (here["sentiment"] == "positive").mean()
        place = 10 + 8 * (2 - number)  # After the header and the nights after it.
        rejected = f"{number / (len(here) + number):.1%}"
        assert cells[place - 1] == date(output.planned_at(number))
        assert cells[place : place + 3] == [f"{len(here)}", f"{number}", rejected]
        assert cells[place + 5 : place + 7] == [f"{1 - share:.1%}", f"{share:.1%}"]
        assert page.after(day, 3) == [f"{len(here)}", f"{1 - share:.1%}", f"{share:.1%}"]
    assert "The last night: " in page.text
    assert page.after(".xlsx") == ["3"]
    assert page.tags["img"] == 3


@pytest.mark.parametrize("number", [2, 3, 25])
def test_rows_are_shown_only_if_they_may_be(tmp_path, number):
    names = ("negative", "positive") if number == 2 else [f"class {i}" for i in range(number)]
    classes = Classes(tuple(names))
    checkpoint = save_checkpoint(tmp_path / "model", seed=2, classes=classes, sureness=40)
    (tmp_path / "corpus").mkdir()
    texts = [f"{text} <b>{i}</b>" for i, text in enumerate(texts_and_labels(150)[0])]
    pq.write_table(pa.table({"text": texts}), tmp_path / "corpus" / "a.parquet")
    flags = config(tmp_path, keep_columns=("text",))
    shards = find([str(tmp_path / "corpus")], "--input").shards
    output = Output(str(tmp_path / "scored"))
    totals = run(flags, checkpoint, output, shards, LocalExecutor())
    hidden = scoring_report(collect(flags, checkpoint, output, totals, ""))
    assert b"/b&gt;" not in hidden
    shown = replace(flags, show_samples=True)
    page = _Read(scoring_report(collect(shown, checkpoint, output, totals, "")))
    table = pd.read_parquet(tmp_path / "scored")
    if number == 2:
        column, group, of_group = "positive_probability", "sure: positive", table
    else:
        name = table["label"].mode()[0]
        column = "probability" if number == 25 else f"{name}_probability"
        of_group = table[table["label"] == name]
        group = f"sure: {name}"
    best = of_group.sort_values(column, ascending=False, kind="stable").iloc[0]
    assert page.after(group, 3)[1:] == [f"{best[column]:.3f}", best["text"]]
    assert "undecided" in page.text
    assert not page.tags["b"]


def test_what_a_corpus_holds_is_shown_and_does_nothing(scored):
    page = report(scored)
    assert not page.tags["script"] + page.tags["b"]
    assert "\u202e" not in page.text
    assert "ol\\xe9 \\x1b[31m<b>" in page.text
    assert "0,a,\\u202egpj" in page.text
    assert "{{ 7*7 }}" in page.text


def test_its_lines_read_the_output(scored, monkeypatch):
    seen = report(scored).seen
    (pandas,) = [text for text in seen if text.startswith("import pandas")]
    names: dict[str, pd.DataFrame] = {}
    exec(pandas, names)
    assert (len(names["scored"]), len(names["rejected"])) == (900, 6)
    duckdb = pytest.importorskip("duckdb")
    (query,) = [text for text in seen if text.startswith("SELECT")]
    answers = names["scored"]["sentiment"].value_counts()
    assert dict(duckdb.sql(query).fetchall()) == answers.to_dict()


def test_the_same_command_twice_leaves_it_and_after_a_crash_makes_it(scored, capsys):
    path = scored / "scored" / "_manifest" / "report.html"
    before = path.read_bytes()
    main(config(scored))
    assert "Nothing to do" in capsys.readouterr().out
    assert path.read_bytes() == before
    # The program was killed before the last file, or there is one of an earlier version.
    path.unlink()
    (scored / "scored" / "_SUCCESS").unlink()
    main(config(scored))
    assert f"Report: {path}" in capsys.readouterr().out
    assert _Read(path.read_bytes()).after("rows scored") == ["900"]


@pytest.fixture
def small(tmp_path):
    learnt(tmp_path / "model")
    (tmp_path / "corpus").mkdir()
    texts = [*texts_and_labels(50)[0], "word1 " * 20]
    lines = "\n".join(["id,text", *(f"{i},{text}" for i, text in enumerate(texts)), *"xyz"])
    (tmp_path / "corpus" / "a.csv").write_text(lines)
    return tmp_path


def test_a_report_that_cannot_be_written_costs_one_line(small, capsys):
    path = small / "scored" / "_manifest" / "report.html"
    path.mkdir(parents=True)
    main(config(small))
    lines = capsys.readouterr().out.splitlines()
    assert len([line for line in lines if line.startswith("No report: ")]) == 1
    assert "51 rows scored" in lines[-3] + lines[-2]
    assert Output(str(small / "scored")).complete


def test_a_job_that_is_stopped_says_what_was_rejected(small):
    with pytest.raises(Failure, match="3 of 54 new rows were rejected"):
        main(config(small, max_rejected="2"))
    page = report(small)
    assert "The job was stopped with 1 of 1 parts done: 3 of 54 new rows were rejected" in page.text
    assert page.after("1 field where the header has 2", 2) == ["3", "100.0%"]
    assert not (small / "scored" / "_SUCCESS").exists()


def test_what_older_checkpoints_do_not_say_is_said(small):
    main(config(small))
    page = report(small)
    for name in ("Tokens not in the vocabulary", "Truncated texts"):
        assert page.after(name, 2)[1] == "not recorded"


RARE_WORDS = LEARNT | {"unknown": 0, "validation_tokens": 900, "validation_unknown": 27}
"""Rare words have ids, so that the training texts lack none."""

DRIFTS = [
    ({"unknown": 900}, LEARNT, []),
    ({"unknown": 1001}, LEARNT, ["10.0% of the tokens"]),
    ({"unknown": 300}, LEARNT | {"unknown": 100}, []),
    ({"unknown": 301}, LEARNT | {"unknown": 100}, ["3.0% of the tokens"]),
    ({"unknown": 5000}, LEARNT | {"unknown": 4000}, []),
    ({"unknown": 5001}, LEARNT | {"unknown": 4000}, ["50.0% of the tokens"]),
    ({"unknown": 600}, RARE_WORDS, []),
    ({"unknown": 601}, RARE_WORDS, ["; of the validation texts it was 3.0%"]),
    ({"truncated": 20}, LEARNT, []),
    ({"truncated": 21}, LEARNT, ["2.1% of these texts were truncated to their first 512 tokens"]),
    ({"unknown": 9999, "truncated": 999}, {}, []),
    ({"rows": 0, "tokens": 0}, LEARNT, []),
    ({}, LEARNT | {"rows": 0, "tokens": 0}, []),
]


@pytest.mark.parametrize(("here", "there", "warned"), DRIFTS)
def test_drift_is_warned_of(tmp_path, here, there, warned):
    checkpoint = learnt(tmp_path / "model", learnt=there)
    output = Output(str(tmp_path / "scored"))
    output.add(make_plan([Shard("a.csv", 1, 1)], [Counted(0, TEXT)], SETTINGS, 0))
    totals = output.records.totals()
    totals.counts.update({"rows": 1000, "tokens": 10_000, "unknown": 0, "truncated": 0} | here)
    results = collect(config(tmp_path), checkpoint, output, totals, "")
    section = _drift(results)
    assert len(section.warnings) == len(warned)
    for warning, words in zip(section.warnings, warned, strict=True):
        assert words in warning


def test_unknown_words_are_said_to_be_of_validation_texts_where_they_are(small):
    flags = replace(config(small), checkpoints_dir=str(small / "rare"))
    learnt(small / "rare", learnt=RARE_WORDS)
    main(flags)
    _, trained = report(small).after("Tokens not in the vocabulary", 2)
    assert trained == "3.0% (validation texts)"


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """100,000 shards, each a part of its own, and 10^8 rejected rows, with many reasons."""
    root = tmp_path_factory.mktemp("large")
    shards = [Shard(f"/corpus/{HOSTILE}/{i}.csv", 1, 1) for i in range(100_000)]
    counted = Counted(1100, TEXT)
    unreadable = ["is empty " + "x" * 10_000] * 100
    checkpoint = learnt(root / "model", learnt=LEARNT)
    flags = config(root, input=tuple(f"{HOSTILE}{i}" for i in range(10_000)), part_rows=1100)
    settings = flags.settings(checkpoint.model_hash)
    output = Output(str(root / "scored"))
    output.add(make_plan(shards, [counted] * (100_000 - 100) + unreadable, settings, 0))
    written = WrittenFile(1, "0" * 64)
    for i, name in enumerate(output.plans[0].parts.names):
        counts = {"rows": 100, "rejected": 1000, "truncated": 5, "positive": i % 101}
        counts |= {"tokens": 1000, "unknown": 600}
        histogram = [0] * (BINS - 2) + [100 - i % 101, i % 101]
        rare = {f"{HOSTILE} {i} {j}": 100 for j in range(5)}
        reasons = {"common": 500} | (rare if i % 10 == 0 else {"often": 500})
        output.add_result(
            PartResult(
                name,
                PartCounts(**counts),
                histogram=histogram,
                answers=[100, i % 101],
                reasons=reasons,
                file=written,
            )
        )
    totals = output.records.totals()
    rejected = root / "scored" / "_rejected"
    row = {
        "shard": shards[0].path,
        "row": 1,
        "reason": HOSTILE * 999,
        "raw": HOSTILE.encode() * 999,
    }
    rows = pa.Table.from_pylist([row] * 200, REJECTED)
    pq.write_table(rows, rejected / "part-000000.parquet", compression="zstd")
    for i in range(1, 10_000):
        os.link(rejected / "part-000000.parquet", rejected / f"part-{i:06d}.parquet")
    pq.write_table(
        pa.Table.from_pylist([row | {"reason": "too large", "raw": bytes(70 * 2**20)}], REJECTED),
        rejected / "part-010000.parquet",
    )
    for i in range(40):
        record = {"began": 1.0, "seconds": 9.0, "parts": 1, "rows": 5, "rows/s": 1.0}
        course = [(i / 50, i) for i in range(MAX_COURSE_POINTS)]
        output.record(record | {"left": {"rows": 1}, "course": course}, i)
    (root / "scored" / "_manifest" / "run-40.json").write_text("{")
    began = time.process_time()
    content = scoring_report(collect(flags, checkpoint, output, totals, ""))
    return totals, content, time.process_time() - began


def test_no_corpus_makes_it_large_or_slow(large):
    totals, content, seconds = large
    assert len(content) < 500_000
    assert seconds < 4
    page = _Read(content)
    assert page.after("rows rejected") == ["99,900,000"]
    assert page.after("common", 2) == ["49,950,000", "50.0%"]
    assert page.after(OTHER, 2)[0] == f"{9_990 * 500 - 18 * 100:,}"
    assert len(totals.reasons) <= MAX_REASONS + 1
    assert totals.reasons.total() == totals.counts["rejected"]
    assert "(not shown)" in page.text
    assert page.tags["tr"] < 120
    assert page.tags["img"] == 3


@pytest.mark.process
@needs_chromium
def test_a_browser_shows_it_and_runs_none_of_it(scored, large, tmp_path):
    small = (scored / "scored" / "_manifest" / "report.html").read_bytes()
    names = [text for text in HOSTILE_TEXTS if text.isprintable() and text.strip() == text != ""]
    hostile = of_classes(tmp_path, *(name[:200] for name in names), "W" * 199)
    widths = {"wide": (large[1], 1200), "narrow": (large[1], 360), "small": (small, 360)}
    widths["hostile"] = (hostile, 360)
    looked = look(tmp_path, widths)
    assert (looked.console, looked.requests) == ([], [])
    for name, figures in {"wide": 3, "narrow": 3, "small": 1, "hostile": 1}.items():
        frame = looked.frames[name]
        assert (frame["scripts"], frame["hacked"]) == (0, False)
        assert frame["scroll_width"] <= frame["width"]
        assert len(frame["figures"]) == figures
        assert all(figure["drawn"] > 0.03 for figure in frame["figures"])
        assert "Rejected rows" in frame["text"]


@given(
    st.lists(st.dictionaries(st.sampled_from([*"abcdefgh", OTHER]), st.integers(1, 9))),
    st.integers(1, 10),
)
def test_no_rejected_row_is_lost_among_reasons(parts, number):
    frequent = Counter()
    for part in parts:
        frequent = most_frequent(frequent + Counter(part), number)
    assert len(frequent) <= number + 1
    assert frequent.total() == sum(map(sum, (part.values() for part in parts)))
    # One part's are exact.
    for part in parts[:1]:
        kept = most_frequent(Counter(part), number)
        assert all(kept[name] == part[name] for name in kept if name != OTHER)


@pytest.mark.parametrize("parts", [1, 399, 400, 5000])
def test_the_course_of_a_run_is_recorded_in_few_points(tmp_path, parts):
    flags = config(tmp_path, part_rows=1)
    counted = [Counted(parts, TEXT)]
    output = Output(str(tmp_path / "scored"))
    output.add(make_plan([Shard("a.csv", 1, 1)], counted, flags.settings("m"), 0))
    record = RunRecord(flags, output)
    for _ in range(parts):
        record.add(PartResult("part", PartCounts(rows=1)))
    seconds, rows = zip(*record.course, strict=True)
    assert len(rows) < MAX_COURSE_POINTS
    assert len(rows) >= min(parts, MAX_COURSE_POINTS // 2 - 1)
    assert list(seconds) == sorted(seconds)
    assert len(set(np.diff([0, *rows]))) == 1
    assert parts - rows[-1] < rows[0]
