"""Metrics against numbers worked out by hand, and against scikit-learn and SciPy."""

import math
import warnings

import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit, softmax
from scipy.stats import binom

from sentiment.classes import Classes
from sentiment.metrics import BINS, calibrate, compare_answers, measure, share_interval

TWO = Classes()


def two(probabilities: np.ndarray) -> np.ndarray:
    """The probabilities of two classes: `float[n]`, of the second class, to `float[n, 2]`."""
    return np.stack([1 - probabilities, probabilities], axis=1)


def named(number: int) -> Classes:
    return Classes(tuple(f"class {k}" for k in range(number)))


def generated(classes: int, rows: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Labels, and probabilities that fit them somewhat."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, classes, rows)
    logits = random.normal(size=(rows, classes)) + 1.5 * np.eye(classes)[labels]
    return labels, softmax(logits, axis=1).astype(np.float32)


@pytest.fixture(autouse=True)
def no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.mark.parametrize("integer", [np.int8, np.int32, np.int64])
@pytest.mark.parametrize("real", [np.float32, np.float64])
def test_four_texts_by_hand(integer, real):
    labels = np.array([0, 0, 1, 1], integer)
    metrics = measure(labels, two(np.array([0.125, 0.5, 0.375, 0.75], real)), TWO)
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
    metrics = measure(np.array([1, 1, 1]), two(np.array([0.5, below, 0.75], np.float32)), TWO)
    np.testing.assert_array_equal(metrics.confusion, [[0, 0], [1, 2]])


def test_rows_are_labels_and_columns_answers():
    labels, answers = np.repeat([0, 0, 1, 1], [5, 1, 2, 3]), np.repeat([0, 1, 0, 1], [5, 1, 2, 3])
    metrics = measure(labels, two(np.where(answers, 0.9, 0.1)), TWO)
    np.testing.assert_array_equal(metrics.confusion, [[5, 1], [2, 3]])
    assert metrics.accuracy == pytest.approx(8 / 11)


def test_equal_probabilities_have_no_order():
    metrics = measure(np.array([0, 1, 1, 0]), two(np.full(4, 0.25)), TWO)
    assert metrics.auc == 0.5
    assert metrics.log_loss == pytest.approx(-(math.log(0.25) + math.log(0.75)) / 2)


@pytest.mark.parametrize("label", [0, 1])
@pytest.mark.parametrize("probability", [0.0, 0.2, 0.8, 1.0])
@pytest.mark.parametrize("rows", [1, 3])
def test_one_class_has_no_auc(label, probability, rows):
    probabilities = two(np.full(rows, probability, np.float32))
    metrics = measure(np.full(rows, label, np.int8), probabilities, TWO)
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
    metrics = measure(np.array([0, 1]), two(np.array([1, 0], np.float32)), TWO)
    assert math.isfinite(metrics.log_loss)
    assert metrics.auc == 0


def test_calibration_by_hand():
    # Bins 1 (0.07 to 0.13), 7 (0.47 to 0.53) and 14 (0.93 on, 1 included).
    labels = np.array([0, 1, 1, 0, 1, 1, 1])
    probabilities = np.array([0.1, 0.12, 0.5, 0.94, 0.96, 1, 1], np.float32)
    calibration = calibrate(labels, two(probabilities), TWO)
    np.testing.assert_array_equal(np.flatnonzero(calibration.rows), [1, 7, 14])
    np.testing.assert_array_equal(calibration.rows[[1, 7, 14]], [2, 1, 4])
    np.testing.assert_allclose(calibration.probability[[1, 7, 14]], [0.11, 0.5, 0.975], rtol=1e-6)
    np.testing.assert_allclose(calibration.share[[1, 7, 14]], [0.5, 1, 0.75])
    assert np.isnan(calibration.share).sum() == BINS - 3
    expected = (2 * 0.39 + 1 * 0.5 + 4 * 0.225) / 7
    assert calibration.error == pytest.approx(expected, rel=1e-6)
    assert measure(labels, two(probabilities), TWO).calibration_error == calibration.error


@given(st.lists(st.tuples(st.integers(0, 1), st.floats(0, 1, width=32)), min_size=1))
def test_calibration_is_the_mean_distance_of_bins(rows):
    labels, probabilities = np.array(rows).T
    calibration = calibrate(labels.astype(np.int8), two(probabilities.astype(np.float32)), TWO)
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
    assert calibrate(labels, two(probabilities), TWO).error < 0.01
    assert calibrate(labels, two(probabilities**2), TWO).error > 0.1


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
        metrics = measure(labels, two(expit(scores)), TWO)
        low, high = metrics.auc_interval
        held += low < 0.8 < high
    assert 0 < low < metrics.auc < high < 1
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
    metrics = measure(np.array(labels), two(np.array(probabilities)), TWO)
    assert all(map(math.isnan, metrics.auc_interval))


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 9)), min_size=2))
def test_the_variance_of_an_auc_is_that_of_all_pairs(rows):
    labels, scores = np.array(rows).T
    positive, negative = scores[labels == 1], scores[labels == 0]
    metrics = measure(labels, two(scores / 10), TWO)
    interval = metrics.auc_interval
    if min(len(positive), len(negative)) < 2:
        assert all(map(math.isnan, interval))
        return
    # DeLong et al. 1988, equations 4 to 6, by every pair of a positive and a negative text.
    wins = (positive[:, None] > negative) + 0.5 * (positive[:, None] == negative)
    auc = wins.mean()
    variance = wins.mean(axis=1).var(ddof=1) / len(positive)
    variance += wins.mean(axis=0).var(ddof=1) / len(negative)
    assert metrics.auc == pytest.approx(auc)
    if auc in (0, 1):
        assert all(map(math.isnan, interval))
        return
    low, high = np.log(np.divide(interval, np.subtract(1, interval)))
    assert (low + high) / 2 == pytest.approx(math.log(auc / (1 - auc)), abs=1e-6)
    assert (high - low) / 2 * auc * (1 - auc) == pytest.approx(1.959964 * variance**0.5, abs=1e-6)


def test_an_answer_that_is_always_the_same_tells_nothing():
    metrics = measure(np.array([0, 1, 0, 1]), two(np.full(4, 0.25)), TWO)
    assert metrics.auc_interval == (0.5, 0.5)


def test_three_classes_by_hand():
    probabilities = [[0.6, 0.3, 0.1], [0.2, 0.5, 0.3], [0.1, 0.2, 0.7], [0.3, 0.3, 0.4]]
    metrics = measure(np.array([0, 0, 2, 1]), np.array(probabilities, np.float32), named(3))
    np.testing.assert_array_equal(metrics.confusion, [[1, 1, 0], [0, 0, 1], [0, 0, 1]])
    assert metrics.accuracy == 0.5
    np.testing.assert_allclose(metrics.precision, [1, 0, 1 / 2])
    np.testing.assert_allclose(metrics.recall, [1 / 2, 0, 1])
    np.testing.assert_allclose(metrics.f1, [2 / 3, 0, 2 / 3])
    assert metrics.macro_f1 == pytest.approx(4 / 9)
    # Class 0: of four pairs, one of (0.2, 0.3) is out of order. Class 1: 0.3 to 0.3, 0.5, 0.2.
    np.testing.assert_allclose(metrics.class_auc, [3 / 4, 1.5 / 3, 1])
    assert metrics.auc == pytest.approx((0.75 + 0.5 + 1) / 3)
    logs = np.log([0.6, 0.2, 0.7, 0.3])
    assert metrics.log_loss == pytest.approx(-logs.mean(), rel=1e-6)
    # Each winner's confidence is in a bin of its own: 0.6 right, 0.5 wrong, 0.7 right, 0.4 wrong.
    assert metrics.calibration_error == pytest.approx((0.4 + 0.5 + 0.3 + 0.4) / 4, rel=1e-6)


@pytest.mark.parametrize("classes", [2, 3, 12])
def test_metrics_are_those_of_scikit_learn(classes):
    labels, probabilities = generated(classes, 1000)
    metrics, answers = measure(labels, probabilities, named(classes)), probabilities.argmax(axis=1)
    exact = probabilities.astype(np.float64)
    exact /= exact.sum(axis=1, keepdims=True)
    f1 = sklearn.metrics.f1_score(labels, answers, average="macro")
    assert metrics.macro_f1 == pytest.approx(f1)
    scores = exact[:, 1] if classes == 2 else exact
    auc = sklearn.metrics.roc_auc_score(labels, scores, multi_class="ovr")
    assert metrics.auc == pytest.approx(auc, abs=1e-6)
    assert metrics.log_loss == pytest.approx(sklearn.metrics.log_loss(labels, exact))
    for low, high in (metrics.accuracy_interval, metrics.macro_f1_interval, metrics.auc_interval):
        assert 0 < low < high < 1


def test_a_perfect_model():
    metrics = measure(np.array([0, 1, 2, 1]), np.eye(3, dtype="f4")[[0, 1, 2, 1]], named(3))
    assert (metrics.accuracy, metrics.macro_f1, metrics.auc, metrics.calibration_error) == (
        1,
        1,
        1,
        0,
    )
    assert f"{metrics.log_loss:.3f}" == "0.000"
    assert all(map(math.isnan, (*metrics.macro_f1_interval, *metrics.auc_interval)))


def test_a_threshold_moves_answers_and_nothing_else():
    labels, probabilities = generated(2, 500)
    strict = measure(labels, probabilities, Classes(("no", "yes"), threshold=0.9))
    plain = measure(labels, probabilities, Classes(("no", "yes")))
    assert strict.confusion[:, 1].sum() == (probabilities[:, 1] >= 0.9).sum()
    assert strict.precision[1] > plain.precision[1]
    assert strict.recall[1] < plain.recall[1]
    assert (strict.auc, strict.log_loss) == (plain.auc, plain.log_loss)
    assert strict.calibration_error == plain.calibration_error


def test_a_class_that_does_not_occur_counts_for_nothing():
    labels, probabilities = generated(3, 400)
    wider = np.insert(probabilities, 1, 0, axis=1)
    with_absent = measure(np.array([0, 2, 3])[labels], wider, named(4))
    metrics = measure(labels, probabilities, named(3))
    for name in ("accuracy", "macro_f1", "macro_f1_interval", "auc", "auc_interval", "log_loss"):
        assert getattr(with_absent, name) == pytest.approx(getattr(metrics, name)), name
    for values in (with_absent.precision, with_absent.recall, with_absent.f1):
        assert np.isnan(values).nonzero()[0].tolist() == [1]
    assert np.isnan(with_absent.class_auc).nonzero()[0].tolist() == [1]


def test_a_class_that_is_answered_but_never_labelled_has_no_recall():
    metrics = measure(np.array([0, 0]), np.eye(3)[[0, 2]], named(3))
    np.testing.assert_array_equal(metrics.recall, [0.5, np.nan, np.nan])
    np.testing.assert_array_equal(metrics.precision, [1, np.nan, 0])
    assert metrics.macro_f1 == pytest.approx(2 / 3)
    assert math.isnan(metrics.auc)


def test_macro_f1_is_of_the_same_classes_for_every_model_of_the_same_texts():
    """Of the labelled ones; a model that answers others, too, is judged by no more classes."""
    labels, random = np.repeat([0, 2], [60, 40]), np.random.default_rng(0)
    answers = np.where(random.random(100) < 0.3, random.integers(0, 5, 100), labels)
    metrics = measure(labels, np.eye(5)[answers], named(5))
    f1 = sklearn.metrics.f1_score(labels, answers, labels=[0, 2], average="macro")
    assert metrics.macro_f1 == pytest.approx(f1)
    # Which class a wrong answer names, where none is labelled so, changes nothing.
    other = measure(labels, np.eye(5)[np.where(answers % 2, 1, answers)], named(5))
    assert other.macro_f1 == metrics.macro_f1
    assert other.macro_f1_interval == pytest.approx(metrics.macro_f1_interval)
    low, high = metrics.macro_f1_interval
    assert low < f1 < high


def test_intervals_of_three_classes_hold_the_true_values_as_often_as_they_say():
    truth = measure(*generated(3, 200_000, seed=1), named(3))
    held = np.zeros(2)
    for seed in range(400):
        metrics = measure(*generated(3, 150, seed=seed + 2), named(3))
        for number, name in enumerate(("macro_f1", "auc")):
            low, high = getattr(metrics, f"{name}_interval")
            held[number] += low < getattr(truth, name) < high
    assert ((held / 400 > 0.92) & (held / 400 < 0.98)).all(), held


def test_paired_answers_by_hand():
    labels, first, second = np.zeros(12, int), np.zeros(12, int), np.zeros(12, int)
    first[:8] = 1
    second[7:9] = [1, 2]
    paired = compare_answers(labels, first, second)
    assert (paired.only_first, paired.only_second) == (1, 7)
    assert paired.difference == pytest.approx(6 / 12)
    # Of 8 tosses of a coin, 0, 1, 7 or 8 heads.
    assert paired.p_value == pytest.approx((1 + 8 + 8 + 1) / 2**8)
    low, high = paired.interval
    won, lost = 8 / 14, 2 / 14
    assert (low + high) / 2 == pytest.approx(won - lost)
    width = 2 * 1.959964 * math.sqrt((won + lost - (won - lost) ** 2) / 14)
    assert high - low == pytest.approx(width, rel=1e-6)


def test_equal_answers_do_not_differ():
    labels = np.array([0, 1, 2])
    paired = compare_answers(labels, labels, labels)
    assert (paired.difference, paired.p_value) == (0, 1)
    assert paired.interval[0] < 0 < paired.interval[1]


@given(st.integers(0, 3000), st.integers(0, 3000))
def test_the_test_of_mcnemar_is_exact(only_first, only_second):
    answers = np.repeat([[0, 1], [1, 0], [0, 0]], [only_first, only_second, 5], axis=0)
    paired = compare_answers(np.zeros(len(answers), int), *answers.T)
    few, tosses = min(only_first, only_second), only_first + only_second
    assert paired.p_value == pytest.approx(min(1, 2 * binom.cdf(few, tosses, 0.5)))
