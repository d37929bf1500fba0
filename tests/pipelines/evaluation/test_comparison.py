"""Runs are compared on rows that none of them learnt, by what each answers for the same text."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from scipy.stats import binom
from sklearn.metrics import accuracy_score, f1_score

from pipelines.evaluation.config import EvaluateConfig
from pipelines.evaluation.job import evaluate
from pipelines.evaluation.piece_tasks import PieceTasks
from pipelines.evaluation.runs import load_run, regression, rows_to_score
from pipelines.reports.comparison_report import DISAGREEMENTS
from pipelines.reports.evaluation_results import REGRESSION
from sentiment import checkpoint
from sentiment.classes import Classes
from sentiment.errors import InputError
from testing.evaluation_results import blocks_of, save_trained, with_classes
from testing.generated import write_shards
from tests.pipelines.reports.test_page import Elements


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("corpora") / "tweets"
    write_shards(directory, rows=2000, shards=2)
    return directory


def runs(root: Path, corpus: Path, *flags: dict) -> tuple[str, ...]:
    """A run for each set of flags, all of other weights."""
    directories = [str(root / f"run-{number}") for number in range(len(flags))]
    for seed, (directory, given) in enumerate(zip(directories, flags, strict=True)):
        save_trained(directory, corpus, seed=seed, **given)
    return tuple(directories)


def cells(printed: str, title: str) -> dict[str, list[str]]:
    """Rows of the table below a title, by their first cell."""
    lines = printed.partition(f"{title}\n")[2].partition("\n\n")[0].splitlines()
    return {words[0]: words[1:] for line in lines if (words := re.split(" {2,}", line.strip()))}


def test_the_baseline_answers_with_its_most_probable_class(corpus, tmp_path, capsys):
    """A threshold that was chosen for the model's probabilities is none for others."""
    plain, strict = str(tmp_path / "plain"), str(tmp_path / "strict")
    save_trained(plain, corpus)
    save_trained(strict, corpus, classes=Classes(threshold=0.99))
    rows = []
    for checkpoints in ((plain,), (strict,), (strict, plain)):
        evaluate(EvaluateConfig(checkpoints=checkpoints, baseline=True))
        measured = cells(capsys.readouterr().out, "calibration error")
        rows.append(measured[REGRESSION])
    assert rows[0] == rows[1] == rows[2]
    assert measured["plain"] != measured["strict"]


def test_rows_that_training_did_not_hold_out_are_said(corpus, tmp_path, capsys):
    directories = runs(tmp_path, corpus, {}, {"epochs": 3})
    held_out = sum(load_run(directories[0]).record.run.labels.test)
    for checkpoints in (directories[:1], directories):
        evaluate(EvaluateConfig(checkpoints=checkpoints))
        printed = capsys.readouterr().out
        (rows,) = re.findall(r"^([\d,]+) held-out rows of", printed, re.MULTILINE)
        said = f"Training held out {held_out:,} rows, and these are {rows}: the corpus, or how"
        assert said in printed
    for name in ("report.html", "README.md"):
        assert said in Path(directories[0], name).read_text()


def test_runs_are_compared_with_the_first(corpus, tmp_path, capsys):
    directories = runs(tmp_path, corpus, {}, {"epochs": 3}, {"test_size": 0.5})
    evaluate(EvaluateConfig(checkpoints=directories, baseline=True))
    printed = capsys.readouterr().out
    config = EvaluateConfig(directories[:1])
    run = load_run(directories[0])
    blocks = blocks_of(rows_to_score(config, run, PieceTasks()))
    column = pa.chunked_array([chunk for block in blocks for chunk in block.texts.chunks])
    texts, labels = column.to_pylist(), np.concatenate([block.labels for block in blocks])
    answers = {
        Path(each).name: load_run(each).model.predict(column).argmax(axis=1) for each in directories
    }
    baseline = regression(run, PieceTasks()).predict(column)
    answers[REGRESSION] = baseline.argmax(axis=1)
    measured = cells(printed, "calibration error")
    for name, given in answers.items():
        f1 = f1_score(labels, given, average="macro")
        assert measured[name][:2] == [f"{accuracy_score(labels, given):.1%}", f"{f1:.1%}"]
    table = cells(printed, "Differences from run-0 in points, with 95% intervals")
    assert [*table] == ["model", "run-1", "run-2", REGRESSION]
    right = {name: given == labels for name, given in answers.items()}
    for name in ("run-1", "run-2", REGRESSION):
        counts = [(right[a] & ~right[b]).sum() for a, b in (("run-0", name), (name, "run-0"))]
        points = 100 * (counts[1] - counts[0]) / len(texts)
        p = min(1, 2 * binom.cdf(min(counts), sum(counts), 0.5))
        difference, _, _, *shown, test = table[name]
        assert difference == f"{points:+.1f}"
        assert shown == [f"{count:,}" for count in counts]
        assert test == ("p < 0.001" if p < 0.001 else f"p = {p:.3f}")
    assert f"{REGRESSION} beats run-0 by" in printed
    assert "which is unlikely to be chance (p < 0.001)" in printed

    (page,) = Path(directories[0]).glob("comparison-*.html")
    assert printed.splitlines()[-1] == f"Report: {page}"
    assert re.fullmatch(r"comparison-run-1-run-2-[0-9a-f]{6}\.html", page.name)
    text = Elements(page.read_bytes()).text
    assert all(value in text for row in [*measured.values(), *table.values()] for value in row)
    assert re.search(r"--epochs\s+–\s+3\s+–\n", text)
    assert re.search(r"--test_size\s+0\.2\s+0\.2\s+0\.5\n", text)
    assert run.checkpoint.model_hash[:12] in text
    assert f"{len(texts)} rows that run-0 held out" in text
    quoted = text.partition("Where they disagree\n\n")[2]
    only = np.flatnonzero(right[REGRESSION] & ~right["run-0"])
    theirs, ours = (
        predicted[only, labels[only]] for predicted in (baseline, run.model.predict(column))
    )
    most = [texts[i] for i in only[np.argsort(ours - theirs, kind="stable")]]
    places = [quoted.index(f"\n{shown}\n") for shown in most[:DISAGREEMENTS]]
    assert places == sorted(places)
    assert not [shown for shown in most[DISAGREEMENTS:] if f"\n{shown}\n" in quoted]


@pytest.mark.parametrize(
    ("first", "other"), [({}, {"random_state": 1}), ({"test_size": 0.5}, {"test_size": 0.4})]
)
def test_a_run_that_learnt_the_rows_is_refused(corpus, tmp_path, capsys, first, other):
    directories = runs(tmp_path, corpus, first, other)
    with pytest.raises(InputError, match=r"run-1 was trained on rows that .*run-0 holds out"):
        evaluate(EvaluateConfig(directories))
    # Not on other texts.
    evaluate(EvaluateConfig(directories, data_dir=str(corpus)))
    assert "2,000 rows of" in capsys.readouterr().out


def test_runs_that_have_learnt_the_rows_are_named(corpus, tmp_path, capsys):
    """On the terminal and the page, also where the rows are a part of the corpus."""
    other, unknown = tmp_path / "other", tmp_path / "unknown"
    write_shards(other, rows=100, shards=1, seed=1)
    write_shards(unknown, rows=100, shards=1, seed=2)
    directories = runs(tmp_path, corpus, {}, {}, {"data_dir": str(other)})
    warning = "run-0, run-1: The model was trained on most of these rows, so the metrics are too"
    shard = next(corpus.glob("*.csv"))
    pages: set[Path] = set()
    for place, is_learnt in ((corpus, True), (shard, True), (unknown, False)):
        evaluate(EvaluateConfig(directories, data_dir=str(place)))
        assert (warning in capsys.readouterr().out) == is_learnt
        (page,) = {*Path(directories[0]).glob("comparison-*.html")} - pages
        pages.add(page)
        assert (warning in Elements(page.read_bytes()).text) == is_learnt
    evaluate(EvaluateConfig(directories, data_dir=str(other)))
    assert "run-2: The model was trained on most of these rows" in capsys.readouterr().out


def test_other_classes_are_refused(corpus, tmp_path):
    first, other = runs(tmp_path, corpus, {}, {})
    classes = Classes(("positive", "negative"))
    checkpoint.save(with_classes(checkpoint.load(other), classes), other)
    with pytest.raises(InputError, match=r"the classes positive, negative, and .* negative, posi"):
        evaluate(EvaluateConfig((first, other)))


def test_thresholds_of_each_run_count(corpus, tmp_path, capsys):
    first, other = runs(tmp_path, corpus, {}, {})
    strict = replace(checkpoint.load(first), classes=Classes(threshold=0.999))
    checkpoint.save(strict, other)
    evaluate(EvaluateConfig((first, other)))
    labels = np.concatenate(
        [
            block.labels
            for block in blocks_of(
                rows_to_score(EvaluateConfig((first,)), load_run(first), PieceTasks())
            )
        ]
    )
    share = f"{(labels == 0).mean():.1%}"
    assert cells(capsys.readouterr().out, "calibration error")["run-1"][0] == share


def test_a_run_that_began_from_a_model_is_said(corpus, tmp_path, capsys):
    first, other = runs(tmp_path, corpus, {}, {"initial_checkpoint": "models/\x1b[31mold"})
    warning = "The model began from models/{}[31mold, which may have learnt some of these rows"
    evaluate(EvaluateConfig((first, other)))
    assert ("run-1: " + warning.format("\\x1b")) in capsys.readouterr().out
    evaluate(EvaluateConfig((other,)))
    assert warning.format("\\x1b") in capsys.readouterr().out
    evaluate(EvaluateConfig((first,)))
    evaluate(EvaluateConfig((other,), str(corpus)))
    assert "began from" not in capsys.readouterr().out
    for page in (*Path(first).glob("comparison-*"), Path(other) / "report.html"):
        assert warning.format("\ufffd") in Elements(page.read_bytes()).text
    assert "began from `models/" in (Path(other) / "README.md").read_text()
    assert "began from" not in (Path(first) / "README.md").read_text()


def test_one_run_twice_is_refused_and_equal_names_are_told_apart(corpus, tmp_path, capsys):
    (first,) = runs(tmp_path, corpus, {})
    (other,) = runs(tmp_path / "elsewhere", corpus, {})
    with pytest.raises(InputError, match="is named twice"):
        evaluate(EvaluateConfig((first, f"{first}/")))
    evaluate(EvaluateConfig((first, other)))
    printed = capsys.readouterr().out
    assert f"{other} is as accurate as {first} (p = 1.000)." in printed
