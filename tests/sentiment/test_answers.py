"""The answers for texts: columns, their order, and how many texts are scored at a time."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentiment import answers as answers_module
from sentiment.answers import TOP_CLASSES, answer_schema, answers
from sentiment.classes import Classes
from sentiment.errors import InputError


def test_classes_whose_columns_readers_take_for_one_are_refused():
    with pytest.raises(InputError, match=r"^classes 'News' and 'NEWS' of the model.*--labels"):
        answer_schema(["News", "sport", "NEWS"])
    assert answer_schema(["News", "NEWS"]).names == ["NEWS_probability", "label"]
    assert answer_schema([f"{'aA'[i % 2]}{i // 2}" for i in range(30)]).names[1] == "label"


class Given:
    """An inference that has these probabilities for the ids 0, 1, ...: a token a text."""

    load_seconds = 0.0

    def __init__(self, probabilities):
        self.probabilities = np.array(probabilities, "f4")
        self.most = 0

    def __call__(self, ids, offsets):
        self.most = max(self.most, len(offsets) - 1)
        assert offsets[0] == 0
        assert offsets[-1] == len(ids)
        return self.probabilities[ids]


@given(st.integers(0, 5), st.integers(0, 2**32))
def test_of_equally_probable_classes_the_first_comes_first(rows, seed):
    probabilities = np.random.default_rng(seed).integers(0, 4, (rows, 30)) / 4
    names = [f"c{i}" for i in range(30)]
    offsets = np.arange(rows + 1)
    found = answers(Given(probabilities), np.arange(rows), offsets, Classes(tuple(names)))
    order = np.argsort(-probabilities, axis=1, kind="stable")[:, :TOP_CLASSES]
    assert found.columns["top_labels"].to_pylist() == np.array(names)[order].tolist()
    assert found.winners.tolist() == order[:, 0].tolist()


@pytest.mark.parametrize("number", [2, 3, 30])
def test_texts_are_scored_in_blocks_of_bounded_size(monkeypatch, number):
    random = np.random.default_rng(0)
    infer = Given(random.dirichlet(np.ones(number), 100))
    classes = Classes(tuple(f"c{i}" for i in range(number)))
    given = infer, np.arange(100), np.arange(101), classes
    whole = answers(*given)
    assert infer.most == 100
    infer.most = 0
    monkeypatch.setattr(answers_module, "MAX_PROBABILITIES", 7 * number)
    blocks = answers(*given)
    assert infer.most == 7
    assert blocks.columns.equals(whole.columns)
    assert blocks.winners.tolist() == whole.winners.tolist()
    assert blocks.decisive.tolist() == whole.decisive.tolist()
    shown = infer.probabilities[:, 1] if number == 2 else infer.probabilities.max(axis=1)
    assert whole.decisive.tolist() == shown.tolist()
