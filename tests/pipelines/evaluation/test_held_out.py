"""Labelled texts to evaluate on: their labels become the model's classes, or are left out."""

import re
from dataclasses import replace
from itertools import permutations
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.evaluation.config import EvaluateConfig
from pipelines.evaluation.held_out import LabelledTexts, find_rows
from pipelines.evaluation.job import evaluate
from pipelines.evaluation.piece_tasks import PieceTasks
from pipelines.sources.labelled import LabelledReader
from pipelines.sources.labels import LabelMap
from pipelines.sources.left_out import LeftOut
from pipelines.sources.options import ReadOptions
from pipelines.sources.split import TEST, TRAIN, VALIDATION, Split
from sentiment.checkpoint import save
from sentiment.errors import InputError
from testing.evaluation_results import blocks_of, save_trained
from testing.generated import save_checkpoint, texts_and_labels, write_shards

BINARY = LabelMap.of_names(("negative", "positive"))
THREE = LabelMap.of_names(("negative", "neutral", "positive"))
TEXTS, _ = texts_and_labels(300)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_checkpoint(tmp_path_factory.mktemp("models") / "model")


def write(directory, labels, texts=TEXTS):
    """Two shards, of which the second has the first labels last."""
    directory.mkdir(exist_ok=True)
    for number, part in enumerate((slice(0, 150), slice(150, 300))):
        table = pa.table({"y": labels[part], "text": texts[part]})
        pq.write_table(table, directory / f"{number}.parquet")
    return str(directory)


def read(*args, **kwargs):
    """The corpus that `find_rows` found, and all of its rows."""
    corpus = find_rows(*args[:4], PieceTasks(), *args[4:], **kwargs)
    blocks = blocks_of(corpus)
    texts = [text for block in blocks for text in block.texts.to_pylist()]
    columns = ([getattr(block, name) for block in blocks] for name in ("labels", "lengths", "keys"))
    found = LabelledTexts(texts, *map(np.concatenate, columns))
    assert corpus.rows == len(texts) == len(found.labels)
    return corpus, found


def cycled(*labels):
    return [labels[number * len(labels) // 300] for number in range(300)]


@pytest.mark.parametrize(
    ("known", "labels", "classes", "unnamed"),
    [
        (BINARY, (1, 0), (1, 0), {}),
        (BINARY, ("yes", "no"), (1, 0), {}),
        (BINARY, ("Positive", "neutral", "NEG"), (1, None, 0), {"neutral": 100}),
        (THREE, ("Positive", "neutral", "NEG"), (2, 1, 0), {}),
        (THREE, (4, 0), (2, 0), {}),
    ],
)
def test_labels_are_recognized_over_all_shards(model, tmp_path, known, labels, classes, unnamed):
    directory = write(tmp_path / "texts", cycled(*labels))
    reader = LabelledReader("text", "y")
    corpus, found = read(directory, reader, model, known)
    expected = cycled(*classes)
    assert found.labels.tolist() == [label for label in expected if label is not None]
    assert found.labels.dtype == np.int16
    assert found.texts == [t for t, c in zip(TEXTS, expected, strict=True) if c is not None]
    assert len(found.lengths) == len(found.texts)
    assert corpus.left_out == LeftOut(unnamed=unnamed)


def test_with_a_map_the_labels_are_those_of_training(model, tmp_path):
    directory = write(tmp_path / "texts", cycled(5, 3, 1))
    stars = LabelMap.parse(["good=4,5", "bad=1,2"])
    reader = LabelledReader("text", "y", ReadOptions(), stars)
    corpus, found = read(directory, reader, model, stars)
    assert found.labels.tolist() == [0] * 100 + [1] * 100
    assert corpus.left_out == LeftOut(unnamed={"3": 100})


def test_the_parts_of_a_split_are_all_rows(model, tmp_path):
    directory = write(tmp_path / "texts", cycled(1, 0), [*TEXTS[:-1], None])
    reader, split = LabelledReader("text", "y"), Split(0, 0.3)
    parts = [
        read(directory, reader, model, BINARY, split, (part,)) for part in (TRAIN, VALIDATION, TEST)
    ]
    assert sorted(text for _, part in parts for text in part.texts) == sorted(TEXTS[:-1])
    for corpus, part in parts:
        assert corpus.left_out.rejected == {"text is null": 1}
        expected = {text: int(number < 150) for number, text in enumerate(TEXTS)}
        assert part.labels.tolist() == [expected[text] for text in part.texts]


def test_evaluate_reads_other_labels_and_says_which_are_which(tmp_path, capsys):
    write_shards(tmp_path / "corpus", rows=300, shards=2)
    directory = str(tmp_path / "model")
    save_trained(directory, tmp_path / "corpus")
    others = {"text_column": "text", "label_column": "y", "samples": 0}

    words = write(tmp_path / "words", cycled("pos", "neutral", "neg"))
    evaluate(EvaluateConfig((directory,), words, **others))
    said = capsys.readouterr().out
    assert "200 rows of" in said
    assert "Rows left out: 100 with a label that no class has: neutral (100 rows)" in said

    signs = write(tmp_path / "signs", cycled(-1, 1))
    evaluate(EvaluateConfig((directory,), signs, **others))
    assert "Labels: negative=-1 positive=1" in capsys.readouterr().out

    stars = write(tmp_path / "stars", cycled(1, 2, 3, 4, 5))
    with pytest.raises(InputError, match=r"--label_column y: no label is one of the model's clas"):
        evaluate(EvaluateConfig((directory,), stars, **others))
    labels = ("negative=1,2", "positive=4,5")
    evaluate(EvaluateConfig((directory,), stars, **others, labels=labels))
    assert "240 rows of" in capsys.readouterr().out


def test_labels_mean_what_they_did_in_training_beside_rows_of_no_class(tmp_path, capsys):
    directory = str(tmp_path / "model")
    trained = save_trained(
        directory, tmp_path / "corpus", text_column="text", label_column="y", labels=()
    )
    training = trained.training | {"label_values": [["0"], ["1"]]}
    save(replace(trained, training=training), directory)
    corpus = write(tmp_path / "corpus", [*cycled(1, 0)[:-1], -1])
    for flags in ((), (corpus, "text", "y")):
        evaluate(EvaluateConfig((directory,), *flags, samples=0))
        said = capsys.readouterr().out
        assert "Labels: negative=0 positive=1" in said
        assert "Rows left out: 1 with a label that no class has: -1 (1 row)" in said


def test_flags_of_other_texts_need_other_texts():
    """Held-out rows have one report and one model card, by the labels that the model learnt."""
    other = {"text_column": "text", "label_column": "y", "labels": ("negative=1", "positive=2")}
    for name, value in other.items():
        with pytest.raises(InputError, match=f"--{name} needs --data_dir: held-out rows are read"):
            EvaluateConfig(("model",), **{name: value})
    with pytest.raises(InputError, match="classes with labels, not 1: write them like"):
        EvaluateConfig(("model",), labels=("a=1",))


def test_a_label_of_rejected_rows_only_does_not_keep_others_from_being_recognized(tmp_path, model):
    labels = pa.array(["unknown", *["0", "1"] * 149, "1"])
    write(tmp_path / "corpus", labels, [None, *TEXTS[1:]])
    reader = LabelledReader("text", "y")
    corpus, found = read(str(tmp_path / "corpus"), reader, model, BINARY)
    assert corpus.rows == 299
    assert found.labels.tolist() == [int(label) for label in labels.to_pylist()[1:]]


def test_reports_of_other_rows_of_a_directory_are_others(tmp_path, capsys):
    """And say which rows they are of."""
    for month in ("10", "11"):
        write_shards(tmp_path / "lake" / f"month={month}", rows=150, shards=1)
    directory = str(tmp_path / "model")
    write_shards(tmp_path / "corpus", rows=150, shards=1)
    save_trained(directory, tmp_path / "corpus")
    save_trained(directory + "-2", tmp_path / "corpus", seed=2)
    lake = str(tmp_path / "lake")
    for checkpoints in ((directory,), (directory, directory + "-2")):
        for where, rows in (((), 300), (("month=11",), 150)):
            evaluate(EvaluateConfig(checkpoints, lake, where=where, samples=0))
            said = capsys.readouterr().out
            source = f"{lake} where month=11" if where else lake
            assert said.startswith(f"{rows} rows of {source}\n")
            (page,) = re.findall(r"^Report: (\S+?)[;\s]", said, re.MULTILINE)
            assert f"of {source}." in Path(page).read_text()
    pages = [*tmp_path.glob("model/report-*"), *tmp_path.glob("model/comparison-*")]
    assert len(pages) == 4


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_numbers_of_a_list_are_of_the_classes_in_the_order_that_is_given(model, tmp_path, order):
    """Whatever the order of the model's classes: only the user knows that of the list."""
    classes = cycled(2, 0, 1)
    own = [[0.8 if THREE.names[k] == THREE.names[c] else 0.1 for k in order] for c in classes]
    directory = write(tmp_path / "texts", own)
    given = LabelMap.parse([THREE.names[k].upper() for k in order]).spelled_as(THREE.names)
    corpus, found = read(directory, LabelledReader("text", "y", labels=given), model, THREE)
    assert found.labels.tolist() == classes
    assert corpus.label_map.names == THREE.names
