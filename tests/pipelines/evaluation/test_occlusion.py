"""The weight of a word is what the model says of the text without it."""

from dataclasses import replace

import numpy as np
import pytest

from pipelines.evaluation.occlusion import MIN_PAIR_FALL, weights
from sentiment.classes import Classes
from sentiment.predictor import Predictor
from testing.generated import save_checkpoint, texts_and_labels
from testing.hostile import HOSTILE


@pytest.fixture(scope="module")
def sure(tmp_path_factory):
    classes = Classes(("a", "b", "c"))
    model = save_checkpoint(tmp_path_factory.mktemp("sure"), classes=classes, sureness=20)
    # Large, so that what a word says depends on the one before it.
    large = {"embedding": 8 * model.weights["embedding"]}
    return replace(model, weights={**model.weights, **large})


def log_odds(model: Predictor, words: list[str], answer: int) -> float:
    probability = float(model.predict_proba([" ".join(words)])[0, answer])
    return float(np.log(probability / (1 - probability)))


def test_a_weight_is_the_fall_without_the_words(sure):
    model = Predictor(sure)
    texts, _ = texts_and_labels(30)
    answers = model.winners(model.predict_proba(texts))
    pairs = 0
    for text, answer, heavy in zip(texts, answers, weights(sure, texts, answers), strict=True):
        words = text.split()
        if len(set(words)) < len(words):
            continue
        falls = [each.fall for each in heavy]
        assert falls == sorted(falls, reverse=True)
        for each in heavy:
            left_out = each.words.split()
            start = words.index(left_out[0])
            rest = words[:start] + words[start + len(left_out) :]
            assert words[start : start + len(left_out)] == left_out
            expected = log_odds(model, words, answer) - log_odds(model, rest, answer)
            assert each.fall == pytest.approx(expected, abs=0.01)
            probability = model.predict_proba([" ".join(rest)])[0, answer]
            assert each.probability == pytest.approx(float(probability), abs=1e-6)
            if len(left_out) == 2:
                pairs += 1
                whole = log_odds(model, words, answer)
                alone = [
                    whole - log_odds(model, words[:i] + words[i + 1 :], answer)
                    for i in (start, start + 1)
                ]
                assert each.fall >= sum(alone) + MIN_PAIR_FALL - 0.01
    assert pairs


def test_texts_of_strangers_have_weights(sure):
    found = weights(sure, HOSTILE, np.zeros(len(HOSTILE), int))
    assert len(found) == len(HOSTILE)
    assert found[-1] == []
