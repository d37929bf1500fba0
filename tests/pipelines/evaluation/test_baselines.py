"""Logistic regression tells the classes of generated texts, and knows those it never saw."""

import numpy as np
import pytest

from pipelines.evaluation.baselines import logistic_regression

WORDS = ("awful sad", "plain usual", "lovely great")


def corpus(classes: int, rows: int = 300) -> tuple[list[str], np.ndarray]:
    labels = np.arange(rows) % classes
    return [f"{WORDS[label]} word{i % 7}" for i, label in enumerate(labels)], labels


@pytest.mark.parametrize("classes", [2, 3])
def test_it_learns_each_class(classes):
    texts, labels = corpus(classes)
    probabilities = logistic_regression(texts, labels, classes)(texts[:30])
    assert probabilities.shape == (30, classes)
    assert probabilities.dtype == np.float64
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    np.testing.assert_array_equal(probabilities.argmax(axis=1), labels[:30])


def test_a_class_without_training_texts_has_no_probability():
    texts, labels = corpus(3)
    predict = logistic_regression(texts, np.array([0, 2, 4])[labels], 5)
    probabilities = predict(texts[:30])
    np.testing.assert_array_equal(probabilities[:, [1, 3]], 0)
    np.testing.assert_array_equal(probabilities.argmax(axis=1), 2 * labels[:30])


def test_one_label_is_refused():
    with pytest.raises(ValueError, match="class"):
        logistic_regression(["some words"] * 9, np.ones(9, int), 2)
