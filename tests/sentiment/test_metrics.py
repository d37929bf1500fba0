"""Metrics against numbers worked out by hand."""

import math
import warnings

import numpy as np
import pytest

from sentiment.metrics import measure


@pytest.fixture(autouse=True)
def no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.mark.parametrize("integer", [np.int8, np.int32, np.int64])
@pytest.mark.parametrize("real", [np.float32, np.float64])
def test_four_texts_by_hand(integer, real):
    labels = np.array([0, 0, 1, 1], integer)
    metrics = measure(labels, np.array([0.125, 0.5, 0.375, 0.75], real))
    assert metrics.rows == 4
    assert metrics.accuracy == 0.5
    # Of the four pairs of a positive and a negative text, three are in order.
    assert metrics.auc == 0.75
    logs = math.log(0.875) + math.log(0.5) + math.log(0.375) + math.log(0.75)
    assert metrics.log_loss == pytest.approx(-logs / 4, rel=1e-6)
    np.testing.assert_array_equal(metrics.confusion, [[1, 1], [1, 1]])
    assert metrics.confusion.dtype.kind == "i"


def test_half_is_positive():
    below = np.nextafter(np.float32(0.5), np.float32(0))
    metrics = measure(np.array([1, 1, 1]), np.array([0.5, below, 0.75], np.float32))
    np.testing.assert_array_equal(metrics.confusion, [[0, 0], [1, 2]])


def test_rows_are_labels_and_columns_answers():
    labels, answers = np.repeat([0, 0, 1, 1], [5, 1, 2, 3]), np.repeat([0, 1, 0, 1], [5, 1, 2, 3])
    metrics = measure(labels, np.where(answers, 0.9, 0.1))
    np.testing.assert_array_equal(metrics.confusion, [[5, 1], [2, 3]])
    assert metrics.accuracy == pytest.approx(8 / 11)


def test_equal_probabilities_have_no_order():
    metrics = measure(np.array([0, 1, 1, 0]), np.full(4, 0.25))
    assert metrics.auc == 0.5
    assert metrics.log_loss == pytest.approx(-(math.log(0.25) + math.log(0.75)) / 2)


@pytest.mark.parametrize("label", [0, 1])
@pytest.mark.parametrize("probability", [0.0, 0.2, 0.8, 1.0])
@pytest.mark.parametrize("rows", [1, 3])
def test_one_class_has_no_auc(label, probability, rows):
    metrics = measure(np.full(rows, label, np.int8), np.full(rows, probability, np.float32))
    assert math.isnan(metrics.auc)
    right = (probability >= 0.5) == label
    assert metrics.accuracy == right
    expected = np.zeros((2, 2))
    expected[label, int(probability >= 0.5)] = rows
    np.testing.assert_array_equal(metrics.confusion, expected)
    certain = probability if label else 1 - probability
    assert math.isfinite(metrics.log_loss)
    if certain:
        assert metrics.log_loss == pytest.approx(-math.log(certain), abs=1e-6)
    else:
        assert metrics.log_loss > 15


def test_certain_and_wrong_is_finite():
    metrics = measure(np.array([0, 1]), np.array([1, 0], np.float32))
    assert math.isfinite(metrics.log_loss)
    assert metrics.auc == 0
