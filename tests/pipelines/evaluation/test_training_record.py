"""A training.json is refused where it holds what no training run writes."""

import copy
import math

import pytest

from pipelines.evaluation.training_record import read_training_record
from pipelines.sources.split import Split
from sentiment.errors import InputError
from testing.evaluation_results import RUN, TRAINING

OPTIONAL = ("longest", "best", "losses", "validations", "versions")


def test_what_training_wrote_is_read():
    record = read_training_record(TRAINING)
    assert record.run == RUN
    assert record.data_dir == "corpora/tweets"
    assert record.split == Split(0, 0.2, None)
    assert (record.reader.text_column, record.reader.label_column) == ("SentimentText", "Sentiment")
    assert record.positive_share == 315 / 800


def test_older_checkpoints_hold_less():
    run = read_training_record({k: v for k, v in TRAINING.items() if k not in OPTIONAL}).run
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
        ("flags.random_state", "0"),
        ("flags.random_state", -1),
        ("flags.random_state", 10**400),
        ("flags.test_size", "0.2"),
        ("flags.test_size", math.nan),
        ("flags.text_column", None),
        ("sample_below", -1),
        ("sample_below", 2**64),
        ("sample_below", "0"),
        ("rows", 3),
        ("rows.train", "3"),
        ("rows.train", 10**400),
        ("rows", {"train": 3}),
        ("positive.validation", -1),
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
def test_impossible_values_are_refused_by_name(entry, value):
    training = copy.deepcopy(TRAINING)
    *parents, name = entry.split(".")
    holder = training
    for parent in parents:
        holder = holder[parent]
    holder[name] = value
    with pytest.raises(InputError, match=name):
        read_training_record(training)


@pytest.mark.parametrize("name", ["flags", "rows", "positive", "sample_below"])
def test_what_is_missing_is_named(name):
    with pytest.raises(InputError, match=rf"training\.json.*: {name}: .*required"):
        read_training_record({key: value for key, value in TRAINING.items() if key != name})


def test_an_empty_record_is_refused():
    with pytest.raises(InputError, match="flags"):
        read_training_record({})
