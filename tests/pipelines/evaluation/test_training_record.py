"""A training.json is refused where it holds what no training run writes."""

import copy
import math
from dataclasses import replace

import numpy as np
import pytest

from pipelines.evaluation.training_record import TrainingRecord, read_training_record
from pipelines.sources.options import ReadOptions
from pipelines.sources.split import Split
from sentiment.checkpoint import Checkpoint
from sentiment.classes import Classes
from sentiment.errors import InputError
from testing.evaluation_results import RUN, TRAINING, with_classes
from testing.generated import save_checkpoint

OLD = {key: value for key, value in TRAINING.items() if key not in ("classes", "labels")} | {
    "positive": {"train": 300, "validation": 15, "test": 80}
}
"""The same run, as older versions recorded it."""

OPTIONAL = ("longest", "best", "losses", "validations", "versions")


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Checkpoint:
    return save_checkpoint(tmp_path_factory.mktemp("model"))


@pytest.fixture
def read(model):
    def read(training: dict) -> TrainingRecord:
        return read_training_record(replace(model, training=training))

    return read


def test_what_training_wrote_is_read(read):
    record = read(TRAINING)
    assert record.run == RUN
    assert record.data_dir == "corpora/tweets"
    assert record.split == Split(0, 0.2, None)
    assert (record.reader.text_column, record.reader.label_column) == ("SentimentText", "Sentiment")
    np.testing.assert_allclose(record.shares, [485 / 800, 315 / 800])


def test_it_says_how_shards_were_read(read):
    flags = {"where": ["year=2024"], "delimiter": ";", "quote": "none", "columns": ["a", "b"]}
    record = read(TRAINING | {"flags": TRAINING["flags"] | flags})
    options = ReadOptions(delimiter=";", quote="none", columns=("a", "b"))
    assert (record.where, record.reader.options) == (("year=2024",), options)
    # Older versions have no such flags.
    assert (read(TRAINING).where, read(TRAINING).reader.options) == ((), ReadOptions())


def test_a_record_of_three_classes_is_read(model):
    three = with_classes(replace(model, training=TRAINING), Classes(("no", "so", "yes")))
    record = read_training_record(three)
    assert record.run.classes == ["no", "so", "yes"]
    np.testing.assert_allclose(record.shares, [1 / 2, 1 / 3, 1 / 6], atol=0.01)


def test_a_record_that_counts_positive_rows_is_read(read):
    assert read(OLD).run.labels == read(TRAINING).run.labels == RUN.labels


def test_it_says_which_labels_training_read(read):
    record = read(TRAINING | {"label_values": [["0"], ["1", "yes"]]})
    assert str(record.learnt) == "negative=0 positive=1,yes"
    # Of soft labels there are none, and older versions did not say.
    assert read(TRAINING | {"label_values": []}).learnt is None
    assert read(TRAINING).learnt is None


def test_older_checkpoints_hold_less(read):
    run = read({k: v for k, v in TRAINING.items() if k not in OPTIONAL}).run
    assert (run.longest, run.best, run.losses, run.validations, run.versions) == (
        None,
        None,
        (),
        (),
        {},
    )


@pytest.mark.parametrize(
    ("entry", "value"),
    [
        ("flags", []),
        ("flags", None),
        ("flags.data_dir", ["/"]),
        ("flags.encoding", "zip"),
        ("flags.encoding", "utf-8\0"),
        ("flags.encoding", 8),
        ("flags.delimiter", "ab"),
        ("flags.columns", ["a", "a"]),
        ("flags.where", "year=2024"),
        ("flags.labels", ["a=0", "b=1"]),
        ("flags.labels", "a=0"),
        ("flags.labels", [0, 1]),
        ("label_values", [["0"], ["1"], ["2"]]),
        ("label_values", [[0], [1]]),
        ("flags.random_state", "0"),
        ("flags.random_state", -1),
        ("flags.random_state", 10**400),
        ("flags.test_size", "0.2"),
        ("flags.test_size", math.nan),
        ("flags.text_column", None),
        ("sample_below", -1),
        ("sample_below", 2**64),
        ("sample_below", "0"),
        ("classes", "ab"),
        ("classes", ["negative", 1]),
        ("classes", ["positive", "negative"]),
        ("labels", 3),
        ("labels", {"train": [3, 4]}),
        ("labels.train", [3]),
        ("labels.train", [3, 4, 5]),
        ("labels.train", [3, "4"]),
        ("labels.test", [3, 10**400]),
        ("labels.validation", [-1, 3]),
        ("labels", {"train": [0, 0], "validation": [0, 0], "test": [1, 1]}),
        ("longest", "20"),
        ("best", []),
        ("best", {"step": 3}),
        ("best.step", "1"),
        ("best.validation_loss", math.inf),
        ("best.validation_loss", 10**400),
        ("losses", [1]),
        ("losses", [{}]),
        ("losses", "text"),
        ("losses", [{"step": 1, "loss": None}]),
        ("losses", [{"step": 1, "loss": math.nan}]),
        ("validations", {"step": 1}),
        ("versions", ["keras"]),
        ("versions", {"keras": 3}),
    ],
)
def test_impossible_values_are_refused_by_name(read, entry, value):
    training = copy.deepcopy(TRAINING)
    _replace(training, entry, value)
    with pytest.raises(InputError, match=entry.rpartition(".")[2]):
        read(training)


@pytest.mark.parametrize(
    ("entry", "value", "named"),
    [
        ("rows", 3, "rows"),
        ("rows.train", "3", "rows.train"),
        ("rows.train", 10**400, "rows.train"),
        ("rows", {"train": 3}, "rows.validation"),
        ("positive", None, "positive"),
        ("positive.validation", -1, "positive.validation"),
        ("positive.train", 761, "labels.train"),
    ],
)
def test_impossible_counts_of_an_old_record_are_refused_by_name(read, entry, value, named):
    training = copy.deepcopy(OLD)
    _replace(training, entry, value)
    with pytest.raises(InputError, match=named):
        read(training)


def _replace(training: dict, entry: str, value: object) -> None:
    *parents, name = entry.split(".")
    holder = training
    for parent in parents:
        holder = holder[parent]
    holder[name] = value


@pytest.mark.parametrize("name", ["flags", "classes", "labels", "sample_below"])
def test_what_is_missing_is_named(read, name):
    with pytest.raises(InputError, match=rf"training\.json.*: {name}: .*required"):
        read({key: value for key, value in TRAINING.items() if key != name})


def test_an_empty_record_is_refused(read):
    with pytest.raises(InputError, match="flags"):
        read({})
