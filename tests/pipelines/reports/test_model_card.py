"""The model card has the metrics as hubs read them, and shows names literally."""

import json
import re
import shlex
from dataclasses import asdict, replace

import numpy as np
import pytest
import yaml
from markdown_it import MarkdownIt

from pipelines.console.flags import parse
from pipelines.reports.evaluation_results import MODEL
from pipelines.reports.model_card import model_card
from pipelines.training.config import TrainConfig
from sentiment.classes import Classes
from testing.evaluation_results import RUN, evaluated, run_of, with_classes
from testing.hostile import HOSTILE


def front(card: bytes) -> dict:
    """What a model hub reads of a card."""
    # As huggingface_hub's repocard.py finds it.
    block = re.search(r"^(\s*---[\r\n]+)([\S\s]*?)([\r\n]+---(\r\n|\r|\n|$))", card.decode())
    return yaml.safe_load(block[2])


def test_the_card_has_the_metrics_as_hubs_read_them(results):
    card = front(model_card(results))
    assert card["pipeline_tag"] == "text-classification"
    (entry,) = card["model-index"]
    assert entry["name"] == "tweets"
    (result,) = entry["results"]
    assert result["task"]["type"] == "text-classification"
    assert result["dataset"] == {"type": "tweets", "name": "tweets", "split": "test"}
    metrics = results.metrics[MODEL]
    right, labelled, answered = (
        np.diag(metrics.confusion),
        metrics.confusion.sum(axis=1),
        metrics.confusion.sum(axis=0),
    )
    values = {metric["type"]: metric["value"] for metric in result["metrics"]}
    assert values == {
        "accuracy": pytest.approx(metrics.accuracy, abs=1e-6),
        "f1": pytest.approx((2 * right / (labelled + answered)).mean(), abs=1e-6),
        "roc_auc": pytest.approx(metrics.auc, abs=1e-6),
        "log_loss": pytest.approx(metrics.log_loss, abs=1e-6),
        "expected_calibration_error": pytest.approx(metrics.calibration_error, abs=1e-6),
    }
    assert all(isinstance(value, float) for value in values.values())


def test_the_card_quotes_no_text(results):
    card = model_card(results).decode()
    assert not [text for text in results.texts if len(text) > 9 and text in card]


@pytest.mark.parametrize(
    "hostile",
    [*HOSTILE, "a|b", "[x](http://x)", "`|`", "a\n---\nb: 1", "- x", ">1", "<1>", "<2@x.y>"],
)
def test_no_name_means_more_than_itself_in_a_card(model, hostile):
    flags = RUN.flags | {"data_dir": hostile, "text_column": hostile}
    odd = replace(RUN, flags=flags | {hostile: hostile}, versions={hostile: hostile})
    run = replace(RUN, flags=RUN.flags | {"other": "x"})
    texts = (["a", "b"], [0, 1], [0.1, 0.9])
    card = model_card(evaluated(model, *texts, run=odd, name=hostile, data_dir=hostile))
    plain = model_card(evaluated(model, *texts, run=run))
    assert front(card).keys() == front(plain).keys()

    def shape(card: bytes) -> list[str]:
        markdown = MarkdownIt("commonmark").enable("table")
        blocks = markdown.parse(card.decode().partition("---\n\n")[2])
        kinds = [token.type for token in blocks]
        inline = {child.type for token in blocks for child in token.children or []}
        return [*kinds, *sorted(inline - {"text_special", "code_inline"})]

    assert shape(card) == shape(plain)
    assert len(card) < 20_000


@pytest.mark.parametrize("hostile", ["a|b", "a\\|b", "`|`", "a*b_c", "<b>&amp;", "[x](http://x)"])
def test_a_card_shows_names_as_they_are(model, hostile):
    run = replace(RUN, versions={"library": hostile})
    card = model_card(evaluated(model, ["a", "b"], [0, 1], [0.1, 0.9], run=run))
    blocks = MarkdownIt("commonmark").enable("table").parse(card.decode())
    inline = ["".join(c.content for c in block.children) for block in blocks if block.children]
    assert hostile in inline


def test_a_card_names_no_directory_of_this_machine(model):
    run = replace(
        RUN, flags=RUN.flags | {"data_dir": "/home/me/tweets/", "checkpoints_root": "/models"}
    )
    results = evaluated(model, ["a", "b"], [0, 1], [0.1, 0.9], run=run, data_dir="/home/me/tweets/")
    card = model_card(results).decode()
    assert "/home" not in card
    assert "/models" not in card
    assert "--data_dir tweets" in card


def test_the_flags_of_a_card_are_a_command(model):
    trained = TrainConfig(run_name="run", labels=("a=1", "b=2"), bidirectional=True)
    run = replace(RUN, flags=json.loads(json.dumps(asdict(trained))))
    card = model_card(evaluated(model, ["a", "b"], [0, 1], [0.1, 0.9], run=run)).decode()
    command = card.rpartition("```\npython -m ")[2].partition("\n```")[0]
    program, *flags = shlex.split(command.replace("\\\n", ""))
    assert program == "pipelines.train"
    assert parse(TrainConfig, "train", None, flags) == trained


@pytest.mark.filterwarnings("error")
def test_a_card_of_one_class_has_no_auc(model):
    (entry,) = front(model_card(evaluated(model, ["a"], [1], [0.9])))["model-index"]
    kinds = {metric["type"] for metric in entry["results"][0]["metrics"]}
    assert kinds == {"accuracy", "f1", "log_loss", "expected_calibration_error"}


@pytest.mark.parametrize("number", [3, 12])
def test_a_card_of_more_classes(model, number):
    names = ("a|b", "<b>", *(f"*class* {k}" for k in range(2, number)))
    labels, classes = np.arange(number), Classes(names)
    results = evaluated(
        with_classes(model, classes), ["a"] * number, labels, np.eye(number), run=run_of(classes)
    )
    blocks = MarkdownIt("commonmark").enable("table").parse(model_card(results).decode())
    cells = ["".join(c.content for c in block.children) for block in blocks if block.children]
    assert "html_inline" not in {c.type for block in blocks for c in block.children or []}
    for name in names:
        assert name in cells
        assert (f"labelled {name}" in cells) == (f"answered {name}" in cells) == (number == 3)


def test_a_share_that_is_nearly_all_stands_in_a_card_as_it_is(model):
    labels = np.arange(5000) % 2
    answers = labels.copy()
    answers[0] = 1
    card = model_card(evaluated(model, ["a"] * 5000, labels, answers)).decode()
    assert "| negative | 100.0% | >99.9% | >99.9% | 2,500 |" in card


def test_the_same_numbers_give_the_same_bytes(results):
    assert model_card(replace(results)) == model_card(results)
