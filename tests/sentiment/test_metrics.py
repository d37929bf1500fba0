"""Metrics against numbers worked out by hand."""

import math
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentiment.metrics import BINS, auc_interval, calibrate, measure, share_interval


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


def test_calibration_by_hand():
    # Bins 1 (0.07 to 0.13), 7 (0.47 to 0.53) and 14 (0.93 on, 1 included).
    labels = np.array([0, 1, 1, 0, 1, 1, 1])
    probabilities = np.array([0.1, 0.12, 0.5, 0.94, 0.96, 1, 1], np.float32)
    calibration = calibrate(labels, probabilities)
    np.testing.assert_array_equal(np.flatnonzero(calibration.rows), [1, 7, 14])
    np.testing.assert_array_equal(calibration.rows[[1, 7, 14]], [2, 1, 4])
    np.testing.assert_allclose(calibration.probability[[1, 7, 14]], [0.11, 0.5, 0.975], rtol=1e-6)
    np.testing.assert_allclose(calibration.positive[[1, 7, 14]], [0.5, 1, 0.75])
    assert np.isnan(calibration.positive).sum() == BINS - 3
    expected = (2 * 0.39 + 1 * 0.5 + 4 * 0.225) / 7
    assert calibration.error == pytest.approx(expected, rel=1e-6)
    assert measure(labels, probabilities).calibration_error == calibration.error


@given(st.lists(st.tuples(st.integers(0, 1), st.floats(0, 1, width=32)), min_size=1))
def test_calibration_is_the_mean_distance_of_bins(rows):
    labels, probabilities = np.array(rows).T
    calibration = calibrate(labels.astype(np.int8), probabilities.astype(np.float32))
    assert calibration.rows.sum() == len(rows)
    expected = 0
    for k in range(BINS):
        here = np.minimum(np.floor(probabilities * BINS), BINS - 1) == k
        expected += abs((probabilities - labels)[here].sum()) / len(rows)
    assert calibration.error == pytest.approx(expected, abs=1e-9)
    assert 0 <= calibration.error <= 1


def test_probabilities_that_tell_the_truth_are_calibrated():
    random = np.random.default_rng(0)
    probabilities = random.random(100_000)
    labels = (random.random(100_000) < probabilities).astype(np.int8)
    assert calibrate(labels, probabilities).error < 0.01
    assert calibrate(labels, probabilities**2).error > 0.1


def test_interval_of_a_share_by_hand():
    # Wilson 1927: the p that are 1.96 of their own standard errors from 8 of 10.
    low, high = share_interval(8, 10)
    for p in (low, high):
        assert abs(p - 0.8) == pytest.approx(1.959964 * math.sqrt(p * (1 - p) / 10), rel=1e-5)
    assert share_interval(10, 10) == (pytest.approx(0.7225, abs=1e-4), 1)
    assert share_interval(0, 1)[0] == 0


def test_interval_of_an_auc_holds_the_true_one_as_often_as_it_says():
    random, held = np.random.default_rng(0), 0
    labels = np.repeat([0, 1], [60, 40])
    # Normal and apart by d, whose AUC is Phi(d / sqrt(2)): 0.8.
    for _ in range(400):
        scores = random.normal(size=100) + 1.19023 * labels
        low, high = auc_interval(labels, scores)
        held += low < 0.8 < high
    assert 0 < low < measure(labels, 1 / (1 + np.exp(-scores))).auc < high < 1
    assert 0.92 < held / 400 < 0.98


@pytest.mark.parametrize(
    ("labels", "probabilities"),
    [
        ([1, 1, 1], [0.1, 0.5, 0.9]),
        ([0, 0, 1], [0.1, 0.5, 0.9]),  # One text of a class.
        ([0, 0, 1, 1], [0.1, 0.2, 0.8, 0.9]),  # All above all.
        ([0, 0, 1, 1], [0.8, 0.9, 0.1, 0.2]),
        ([0], [0.3]),
    ],
)
def test_an_auc_that_texts_do_not_tell_has_no_interval(labels, probabilities):
    assert all(map(math.isnan, auc_interval(np.array(labels), np.array(probabilities))))


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 9)), min_size=2))
def test_the_variance_of_an_auc_is_that_of_all_pairs(rows):
    labels, scores = np.array(rows).T
    positive, negative = scores[labels == 1], scores[labels == 0]
    interval = auc_interval(labels, scores.astype(np.float32))
    if min(len(positive), len(negative)) < 2:
        assert all(map(math.isnan, interval))
        return
    # DeLong et al. 1988, equations 4 to 6, by every pair of a positive and a negative text.
    wins = (positive[:, None] > negative) + 0.5 * (positive[:, None] == negative)
    auc = wins.mean()
    variance = wins.mean(axis=1).var(ddof=1) / len(positive)
    variance += wins.mean(axis=0).var(ddof=1) / len(negative)
    assert measure(labels, scores / 10).auc == pytest.approx(auc)
    if auc in (0, 1):
        assert all(map(math.isnan, interval))
        return
    low, high = np.log(np.divide(interval, np.subtract(1, interval)))
    assert (low + high) / 2 == pytest.approx(math.log(auc / (1 - auc)), abs=1e-6)
    assert (high - low) / 2 * auc * (1 - auc) == pytest.approx(1.959964 * variance**0.5, abs=1e-6)


def test_an_answer_that_is_always_the_same_tells_nothing():
    assert auc_interval(np.array([0, 1, 0, 1]), np.full(4, 0.25)) == (0.5, 0.5)
