"""Evaluation prints the metrics and writes a report and a model card beside the model."""

import html
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.evaluate import run
from pipelines.evaluation.config import EvaluateConfig
from pipelines.evaluation.job import evaluate
from pipelines.reports.evaluation_results import MODEL
from pipelines.reports.model_card import CARD, MARK
from sentiment import checkpoint, storage
from sentiment.classes import Classes
from sentiment.errors import InputError
from testing.evaluation_results import save_trained
from testing.generated import texts_and_labels, write_shards
from tests.pipelines.reports.test_model_card import front
from tests.pipelines.reports.test_page import Elements

PROGRAM = """
import sys
from pipelines.console.command import exit_code
from pipelines.evaluate import load
code = exit_code(load)
print("loaded:", sorted({"ray", "tensorflow", "keras"} & set(sys.modules)), file=sys.stderr)
sys.exit(code)
"""
"""Runs the program, and says which heavy packages it has loaded."""


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("corpora") / "tweets"
    write_shards(directory, rows=1000, shards=2)
    write_shards(directory.with_name("others"), rows=60, shards=2, seed=1)
    return directory


@pytest.mark.process
def test_report_and_card_are_written_beside_the_model_without_ray_and_tensorflow(corpus, tmp_path):
    directory = tmp_path / "model"
    model = save_trained(str(directory), corpus)
    (directory / CARD).write_text(f"---\n---\n{MARK}\nof another time\n")
    flags = ["--checkpoints_dir", directory, "--baseline", "--samples", "1"]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *flags],
        capture_output=True,
        text=True,
        timeout=180,
        check=True,
    )
    assert done.stderr == "loaded: []\n"
    page, card = directory / "report.html", directory / CARD
    assert done.stdout.splitlines()[-1] == f"Report: {page}; model card: {card}"
    table = {line[:30].strip(): line[30:].split() for line in done.stdout.splitlines()}
    assert set(table) >= {MODEL, "TF-IDF + logistic regression", "majority class"}
    for name in (MODEL, "TF-IDF + logistic regression", "majority class"):
        assert all(value in Elements(page.read_bytes()).text for value in table[name])
    assert f"value: {float(table[MODEL][0].rstrip('%')) / 100:.2f}" in card.read_text()
    loaded = checkpoint.load(str(directory))
    assert loaded.model_hash == model.model_hash
    assert loaded.training == model.training
    assert {path.name for path in directory.iterdir()} == {*model.files(), "report.html", CARD}

    # Other texts have a report of their own, each by its path, and no card.
    before = {path.name: path.read_bytes() for path in directory.iterdir()}
    evaluate(EvaluateConfig((str(directory),), data_dir=str(corpus.with_name("others"))))
    (new,) = {path.name for path in directory.iterdir()} - before.keys()
    assert re.fullmatch(r"report-others-[0-9a-f]{6}\.html", new)
    assert before == {name: (directory / name).read_bytes() for name in before}
    assert "60 rows of" in Elements((directory / new).read_bytes()).text


def test_rows_that_the_model_has_learnt_are_said_to_be_so(corpus, tmp_path, capsys):
    directory = tmp_path / "model"
    save_trained(str(directory), corpus)
    shard = next(corpus.glob("*.csv"))
    for place, is_learnt in ((corpus, True), (shard, True), (corpus.with_name("others"), False)):
        evaluate(EvaluateConfig((str(directory),), data_dir=str(place)))
        said = capsys.readouterr().out
        assert ("was trained on most of these rows" in said) == is_learnt
        (page,) = directory.glob(f"report-{place.name}-*.html")
        assert (
            "was trained on most of these rows" in Elements(page.read_bytes()).text
        ) == is_learnt


def test_three_classes(tmp_path, capsys):
    texts, labels = texts_and_labels(900)
    names = np.array(["negative", "neutral", "positive"])
    is_neutral = np.arange(900) % 3 == 0
    texts = [
        f"usual {n}" if usual else text
        for n, (text, usual) in enumerate(zip(texts, is_neutral, strict=True))
    ]
    labels = names[np.where(is_neutral, 1, 2 * labels)]
    corpus = tmp_path / "tweets"
    corpus.mkdir()
    pq.write_table(pa.table({"SentimentText": texts, "Sentiment": labels}), corpus / "a.parquet")
    directory = tmp_path / "model"
    model = save_trained(str(directory), corpus, Classes(tuple(names.tolist())))
    metrics = run(EvaluateConfig((str(directory),), baseline=True))
    printed = capsys.readouterr().out
    table = {line[:30].strip(): line[30:].split() for line in printed.splitlines()}
    assert [table[name][0] for name in metrics] == [f"{m.accuracy:.1%}" for m in metrics.values()]
    assert float(table["TF-IDF + logistic regression"][0].rstrip("%")) > 60
    # The first class is the most frequent one in what the record says of training.
    assert re.search(r"^majority class +3\d\.\d%  +1\d\.\d%  +0\.500", printed, re.MULTILINE)
    assert "The model loses to TF-IDF + logistic regression by" in printed
    assert "The model hardly beats the majority class" in printed
    assert re.search(r"^neutral( +\d+\.\d%){3} +\d+$", printed, re.MULTILINE)
    assert re.search(r"^ +negative +neutral +positive$", printed, re.MULTILINE)
    text = Elements((directory / "report.html").read_bytes()).text
    assert "The model loses to TF-IDF + logistic regression by" in text
    values = front((directory / CARD).read_bytes())["model-index"][0]["results"][0]["metrics"]
    assert {"type": "f1", "name": "Macro F1", "args": {"average": "macro"}}.items() <= values[
        1
    ].items()
    assert f"{values[1]['value']:.1%}" == table[MODEL][1]
    assert checkpoint.load(str(directory)).model_hash == model.model_hash


def test_other_texts_are_read_as_flags_say(corpus, tmp_path, capsys):
    directory, lake = tmp_path / "model", tmp_path / "lake"
    save_trained(str(directory), corpus)
    for year in (2023, 2024):
        (lake / f"year={year}").mkdir(parents=True)
        (lake / f"year={year}" / "a.csv").write_text("1;good\n0;bad, bad\n" * (year - 2022))
    columns = ("Sentiment", "SentimentText")
    reading = {"delimiter": ";", "columns": columns, "where": ("year=2024",)}
    evaluate(EvaluateConfig((str(directory),), data_dir=str(lake), **reading))
    read_with = "--delimiter ';' --columns Sentiment SentimentText"
    source = f"{lake} where year=2024, read with {read_with}"
    assert capsys.readouterr().out.startswith(f"4 rows of {source}\n")
    (page,) = directory.glob("report-lake-*.html")
    assert f"4 rows of {source}." in html.unescape(page.read_text())
    run(EvaluateConfig((str(directory),), data_dir=str(lake), **reading), quiet=True)
    assert capsys.readouterr().out == ""
    for name, value in reading.items():
        with pytest.raises(InputError, match=f"--{name} needs --data_dir"):
            EvaluateConfig((str(directory),), **{name: value})


def test_a_readme_of_other_origin_stays(corpus, tmp_path, capsys):
    directory = tmp_path / "model"
    save_trained(str(directory), corpus)
    (directory / CARD).write_text("# Mine\n")
    evaluate(EvaluateConfig((str(directory),)))
    assert (directory / CARD).read_text() == "# Mine\n"
    assert "was not written by pipelines.evaluate and is kept" in capsys.readouterr().out
    assert (directory / "report.html").exists()


def test_results_are_printed_where_no_report_can_be_written(corpus, tmp_path, capsys):
    directory = tmp_path / "model"
    save_trained(str(directory), corpus)
    (directory / "report.html" / "in the way").mkdir(parents=True)
    evaluate(EvaluateConfig((str(directory),)))
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith(MODEL) for line in lines)
    assert lines[-1].startswith(f"No report: {directory}/report.html cannot be written: ")
    assert not (directory / CARD).exists()
    assert not [path for path in directory.iterdir() if path.name.startswith(".")]


def test_reports_are_written_into_buckets(corpus, s3, capsys):
    directory = s3.uri("models", "run")
    model = save_trained(directory, corpus)
    evaluate(EvaluateConfig((directory,)))
    said = f"Report: {directory}/report.html; model card: {directory}/{CARD}"
    assert capsys.readouterr().out.splitlines()[-1] == said
    assert storage.read(f"{directory}/report.html").startswith(b"<!doctype html>")
    assert front(storage.read(f"{directory}/{CARD}"))["model-index"][0]["name"] == "run"
    assert checkpoint.load(directory).model_hash == model.model_hash
