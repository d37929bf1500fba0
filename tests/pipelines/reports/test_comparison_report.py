"""A page that compares runs shows names and texts of strangers as they are."""

import re
from dataclasses import replace

import numpy as np
import pytest

from pipelines.reports.comparison_report import (
    ComparedModel,
    ComparisonResults,
    comparison_report,
)
from sentiment.classes import Classes
from testing.browser import look, needs_chromium
from testing.evaluation_results import run_of, with_classes
from testing.hostile import HOSTILE
from tests.pipelines.reports.test_page import POLICY, Elements


def compared(model, number: int) -> ComparisonResults:
    """Two models of many classes, of which one is wrong for a third of the texts."""
    classes = Classes(("<b>bold</b>", "&amp;", *(f"class {k}" for k in range(2, number))))
    random, texts = np.random.default_rng(0), list(HOSTILE) * 20
    labels = random.integers(0, 2, len(texts))
    fair = random.dirichlet(np.ones(number), len(texts)) + np.eye(number)[labels]
    fair /= fair.sum(axis=1, keepdims=True)
    wrong = fair.copy()
    wrong[::3] = wrong[::3, ::-1]
    run = run_of(classes)
    checkpoint = with_classes(model, classes)
    models = {
        "<i>one</i>": ComparedModel(fair, classes, run, checkpoint),
        "other": ComparedModel(wrong, classes, run, checkpoint),
    }
    return ComparisonResults(models, "corpora/<u>", True, texts, labels)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("number", [2, 72])
def test_no_name_or_text_becomes_an_element(model, number):
    page = comparison_report(compared(model, number))
    elements = Elements(page)
    assert not {"b", "i", "u", "script", "iframe"} & {tag for tag, _ in elements.tags}
    for name in ("<i>one</i>", "<b>bold</b>", "&amp;", "corpora/<u>", HOSTILE[0]):
        assert name in elements.text
    assert "nan" not in elements.text
    assert len(page) < 100_000


def test_words_and_bigrams_are_counted_apart(model):
    """A model with bigrams has no more words for them."""
    classes, right = Classes(("negative", "positive")), np.tile([0.9, 0.1], (10, 1))
    words = len(model.vocabulary)
    pair = " ".join(model.vocabulary[-2:])
    embedding = np.pad(model.weights["embedding"], ((0, 1), (0, 0)))
    with_bigram = replace(
        model,
        vocabulary=(*model.vocabulary, pair),
        weights={**model.weights, "embedding": embedding},
    )
    models = {
        name: ComparedModel(right, classes, run_of(classes), checkpoint)
        for name, checkpoint in (("one", model), ("other", with_bigram))
    }
    labels = np.zeros(len(right), np.int64)
    page = comparison_report(ComparisonResults(models, "corpora", True, ["a"] * 10, labels))
    text = Elements(page).text
    assert re.search(rf"tokens in the vocabulary\s+{words}\s+{words}\s", text)
    assert re.search(r"bigrams in the vocabulary\s+0\s+1\s", text)


def test_what_rounds_to_nothing_has_no_minus(model):
    """Two texts of 6,000 that only the first answers rightly: -0.03 points."""
    classes = Classes(("negative", "positive"))
    right = np.tile([0.9, 0.1], (6000, 1))
    wrong = right.copy()
    wrong[:2] = wrong[:2, ::-1]
    run, checkpoint = run_of(classes), with_classes(model, classes)
    models = {
        name: ComparedModel(probabilities, classes, run, checkpoint)
        for name, probabilities in (("one", right), ("other", wrong))
    }
    labels = np.zeros(len(right), np.int64)
    results = ComparisonResults(models, "corpora", True, ["a text"] * len(right), labels)
    ((_, difference, interval, *_),) = results.paired_rows
    assert (difference, interval) == ("+0.0", "-0.1 to +0.0")


@pytest.mark.process
@needs_chromium
def test_in_a_browser(model, tmp_path):
    page = POLICY.sub(b"", comparison_report(compared(model, 72)))
    looked = look(tmp_path, {"wide": (page, 1000), "narrow": (page, 360)})
    assert looked.console == []
    assert looked.requests == []
    for frame in looked.frames.values():
        assert frame["scroll_width"] == frame["width"]
        assert not frame["hacked"]
