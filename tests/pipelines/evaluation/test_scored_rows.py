"""However many rows are scored, a sample is held, and all are counted."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.evaluation import job, piece_tasks
from pipelines.evaluation.config import EvaluateConfig
from pipelines.evaluation.piece_tasks import PieceTasks
from pipelines.evaluation.runs import load_run, rows_to_score
from pipelines.evaluation.sample import Sample
from pipelines.evaluation.scored_rows import score_rows
from pipelines.sources import pieces
from pipelines.sources.listing import find_labelled
from sentiment.classes import Classes
from sentiment.errors import InputError
from sentiment.metrics import compare_answers, measure
from testing.evaluation_results import blocks_of, save_trained
from testing.generated import write_shards


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    root = tmp_path_factory.mktemp("scored")
    write_shards(root / "corpus", rows=1500, shards=3)
    second = root / "corpus" / "shard-1.parquet"
    pq.write_table(pq.read_table(second), second, row_group_size=100)
    save_trained(str(root / "model"), root / "corpus")
    return str(root / "model")


def test_totals_are_of_all_rows_and_the_sample_is_some_of_them(model):
    run = load_run(model)
    corpus = rows_to_score(EvaluateConfig((model,)), run, PieceTasks())
    strict = replace(run.model, classes=replace(run.model.classes, threshold=0.9))
    models = {"one": run.model, "other": strict}
    whole, sampled = (score_rows(corpus, models, rows) for rows in (10_000, 100))
    assert len(whole.texts) == corpus.rows > 250
    expected = measure(whole.labels, whole.probabilities["one"], run.model.classes)
    for rows in (whole, sampled):
        counts = rows.totals.counts["one"]
        found = measure(rows.labels, rows.probabilities["one"], run.model.classes, counts)
        np.testing.assert_array_equal(found.confusion, expected.confusion)
        assert found.rows == corpus.rows
        assert found.log_loss == pytest.approx(expected.log_loss)
        assert found.calibration_error == pytest.approx(expected.calibration_error)
        answers = (each.classes.winners(whole.probabilities["one"]) for each in models.values())
        paired = compare_answers(whole.labels, *answers)
        assert rows.totals.only_right["other"] == (paired.only_first, paired.only_second)
    assert found.auc == pytest.approx(expected.auc, abs=0.1)
    assert found.auc != expected.auc
    places = [whole.texts.index(text) for text in sampled.texts]
    assert len(places) == 100
    assert places == sorted(places)
    np.testing.assert_array_equal(sampled.labels, whole.labels[places])
    np.testing.assert_array_equal(sampled.lengths, whole.lengths[places])
    for name in models:
        np.testing.assert_array_equal(
            sampled.probabilities[name], whole.probabilities[name][places]
        )


def test_what_is_of_a_sample_is_said(model, monkeypatch, capsys, tmp_path):
    metrics = job.evaluate(EvaluateConfig((model,), baseline=True))
    everything = capsys.readouterr().out
    monkeypatch.setattr(job, "score_rows", partial(score_rows, sample_rows=100))
    job.evaluate(EvaluateConfig((model,), baseline=True))
    printed = capsys.readouterr().out
    note = "are of a random sample of 100 of them, all else of all."
    assert note in printed
    assert note not in everything
    rows = metrics[job.MODEL].rows
    page = Path(f"{model}/report.html").read_text()
    assert note in page
    assert f"measured on {rows:,} held-out rows" in page
    # The verdict rests on all rows.
    assert printed.splitlines()[-1] == everything.splitlines()[-1]
    lines = [line for line in everything.splitlines() if " by " in line and " points" in line]
    assert lines
    assert set(lines) <= set(printed.splitlines())


def test_rows_of_every_block_of_every_shard_are_as_likely():
    hits = np.zeros(1000, int)
    whole = Sample(100, 1000)
    keys = np.random.default_rng(0).random(1000)
    for first in range(0, 1000, 250):
        sample = Sample(100, 1000)
        for start in range(first, first + 250, 70):
            block = range(start, min(start + 70, first + 250))
            sample.add(pa.table({"row": block}), keys[block.start : block.stop])
        whole.extend(sample)
    rows = whole.table()["row"].to_numpy()
    hits[rows] += 1
    assert len(rows) == hits.sum() == 100
    assert list(rows) == sorted(rows)
    # Thirds of the rows, and no more blocks in memory than twice the sample.
    assert all(20 <= part.sum() <= 48 for part in np.array_split(hits, 3))


def test_few_rows_are_all_in_the_sample():
    sample = Sample(100, 100)
    sample.add(pa.table({"row": range(100)}), np.linspace(0, 0.99, 100))
    assert len(sample.table()) == 100


@pytest.mark.ray
@pytest.mark.process
def test_tasks_of_ray_find_what_this_process_finds(model, monkeypatch, capsys, local_ray):
    config = EvaluateConfig((model,), baseline=True)
    run = load_run(model)
    alone = score_rows(rows_to_score(config, run, PieceTasks()), {"one": run.model}, 100)
    metrics = job.evaluate(config)
    printed = capsys.readouterr().out
    monkeypatch.setattr(piece_tasks, "LARGE_BYTES", 1)
    # The first of three shards is a task, and row groups of the second are pieces of others.
    monkeypatch.setattr(piece_tasks, "TASK_BYTES", 10_000)
    monkeypatch.setattr(pieces, "PIECE_BYTES", 1000)
    shards = find_labelled(run.record.data_dir, "--data_dir").shards
    assert len(PieceTasks().pieces(shards, run.record.reader.count)) == 7
    in_tasks = score_rows(rows_to_score(config, run, PieceTasks()), {"one": run.model}, 100)
    assert in_tasks.texts == alone.texts
    np.testing.assert_array_equal(in_tasks.labels, alone.labels)
    np.testing.assert_array_equal(in_tasks.probabilities["one"], alone.probabilities["one"])
    assert in_tasks.totals.counts["one"].losses == alone.totals.counts["one"].losses
    assert {name: repr(found) for name, found in job.evaluate(config).items()} == {
        name: repr(found) for name, found in metrics.items()
    }
    assert capsys.readouterr().out.endswith(printed)


@pytest.mark.ray
@pytest.mark.process
def test_what_is_wrong_with_a_shard_is_said_of_a_task_too(model, monkeypatch, tmp_path, local_ray):
    write_shards(tmp_path / "others", rows=300, shards=3)
    (tmp_path / "others" / "shard-2.csv").write_text("id,text\n1,hi\n")
    monkeypatch.setattr(piece_tasks, "LARGE_BYTES", 1)
    with pytest.raises(InputError, match=r"shard-2\.csv"):
        job.evaluate(EvaluateConfig((model,), data_dir=str(tmp_path / "others")))


def test_files_that_change_meanwhile_are_refused(model, tmp_path):
    write_shards(tmp_path / "corpus", rows=300, shards=1)
    save_trained(str(tmp_path / "model"), tmp_path / "corpus")
    run = load_run(str(tmp_path / "model"))
    corpus = rows_to_score(EvaluateConfig((str(tmp_path / "model"),)), run, PieceTasks())
    for path in (tmp_path / "corpus").iterdir():
        path.unlink()
    write_shards(tmp_path / "corpus", rows=100, shards=1)
    with pytest.raises(Exception, match="changed"):
        score_rows(corpus, {"one": run.model})


@pytest.mark.parametrize("names", [("Negative", "positive"), ("positive", "negative")])
def test_a_list_of_numbers_has_the_order_that_the_flag_gives(model, tmp_path, capsys, names):
    """And not that of the model's classes."""
    labels = [0, 1, 1, 0, 1]
    lists = [[0.8 if (name == "positive") == label else 0.2 for name in names] for label in labels]
    table = pa.table({"SentimentText": ["a text"] * len(labels), "Sentiment": lists})
    pq.write_table(table, tmp_path / "a.parquet")
    config = EvaluateConfig((model,), data_dir=str(tmp_path), labels=names)
    corpus = rows_to_score(config, load_run(model), PieceTasks())
    (block,) = blocks_of(corpus)
    assert block.labels.tolist() == labels
    # As it can be given again: the order is what counts.
    assert f"Labels: {names[0]} {names[1]}\n" in capsys.readouterr().out


def test_without_the_flag_a_list_has_the_order_of_the_models_classes(tmp_path):
    names = ("positive", "negative")
    write_shards(tmp_path / "corpus", rows=300, shards=1)
    model = str(tmp_path / "model")
    save_trained(model, tmp_path / "corpus", Classes(names), labels=names)
    labels = [0, 1, 1, 0, 1]
    lists = [[0.25, 0.75] if label else [0.75, 0.25] for label in labels]
    (tmp_path / "lists").mkdir()
    table = pa.table({"SentimentText": ["a text"] * len(labels), "Sentiment": lists})
    pq.write_table(table, tmp_path / "lists" / "a.parquet")
    config = EvaluateConfig((model,), data_dir=str(tmp_path / "lists"))
    (block,) = blocks_of(rows_to_score(config, load_run(model), PieceTasks()))
    assert block.labels.tolist() == labels
