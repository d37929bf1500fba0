"""What a comparison comes to is said in a sentence, and only what the numbers hold."""

from dataclasses import replace

import numpy as np
import pytest

from pipelines.reports.evaluation_results import MODEL, REGRESSION, EvaluationResults, class_rows
from pipelines.reports.verdict import majority_warning, paired_verdict, verdict
from sentiment.classes import Classes
from sentiment.metrics import compare_counts
from testing.evaluation_results import evaluated


def compared(model, ours: np.ndarray, theirs: np.ndarray) -> EvaluationResults:
    """Results of this model and of logistic regression, by what is right: bool[n] each."""
    labels = np.arange(len(ours)) % 2
    results = evaluated(model, ["a"] * len(ours), labels, np.where(ours, labels, 1 - labels))
    other = np.where(theirs, labels, 1 - labels)
    by_model = dict(results.probabilities_by_model)
    by_model[REGRESSION] = np.stack([1 - other, other], axis=1)
    return evaluated(model, results.texts, labels, results.probabilities, by_model=by_model)


def right(rows: int, *wrong: range) -> np.ndarray:
    answers = np.ones(rows, bool)
    for each in wrong:
        answers[list(each)] = False
    return answers


@pytest.mark.parametrize(
    ("ours", "theirs", "said"),
    [
        (right(1000, range(100)), right(1000, range(107)), "beats {} by 0.7 points of accuracy"),
        (right(1000, range(107)), right(1000, range(100)), "loses to {} by 0.7 points of accuracy"),
        (right(1000, range(100)), right(1000, range(1, 101)), "is as accurate as {}"),
    ],
)
def test_the_difference_is_said(model, ours, theirs, said):
    assert said.format(REGRESSION) in verdict(compared(model, ours, theirs))


def test_a_difference_that_rounds_to_nothing_is_one():
    """Where the test is sure of it, "as accurate as" would be false."""
    said = paired_verdict("B", "A", compare_counts(5, 22, 50_000))
    assert said == (
        "B beats A by less than 0.1 points of accuracy, which is unlikely to be chance (p = 0.002)."
    )
    said = paired_verdict("B", "A", compare_counts(5, 4, 50_000))
    assert said == (
        "B loses to A by less than 0.1 points of accuracy, which may be chance (p = 1.000)."
    )
    same = paired_verdict("B", "A", compare_counts(5, 5, 50_000))
    assert same == "B is as accurate as A (p = 1.000)."


def test_all_and_none_are_said_only_of_all_and_none(model):
    labels = np.arange(5000) % 2
    answers = labels.copy()
    answers[0] = 1
    results = evaluated(model, ["a"] * 5000, labels, answers)
    assert verdict(results).startswith("The model is right for >99.9% of the texts, ")
    ((_, accuracy, *_), _) = results.comparison
    assert accuracy == ">99.9%"
    shares = class_rows(results.metrics[MODEL], ("negative", "positive"))
    assert [row[1:3] for row in shares] == [("100.0%", ">99.9%"), (">99.9%", "100.0%")]


def test_intervals_and_the_test_are_said(model):
    # 100 and 107 wrong of 1,000, of other rows: that may be chance.
    unsure = verdict(compared(model, right(1000, range(100)), right(1000, range(500, 607))))
    assert "accuracies overlap; by McNemar's test on the same texts the difference may be" in unsure
    # Of the same rows it is not, though the intervals are as wide.
    sure = verdict(compared(model, right(1000, range(100)), right(1000, range(120))))
    assert "accuracies overlap; by McNemar's test on the same texts the difference is unl" in sure
    assert sure.endswith("(p < 0.001).")
    apart = verdict(compared(model, right(1000, range(100)), right(1000, range(400))))
    assert "accuracies do not overlap" in apart


def test_without_a_rival_it_is_measured_by_the_majority_class(model):
    labels = np.array([0] * 6 + [1] * 4)
    results = evaluated(model, ["a"] * 10, labels, labels)
    assert verdict(results) == (
        "The model is right for 100.0% of the texts, 40.0 points more than the majority class."
    )


def test_a_model_that_hardly_beats_the_majority_class_is_told(model):
    labels = np.array([0] * 900 + [1] * 100)
    always = evaluated(model, ["a"] * 1000, labels, np.full(1000, 0.1))
    warning = majority_warning(always)
    assert "its accuracy is 90.0% (88.0% to 91.7%)" in warning
    assert "to answer 'negative' every time gives 90.0%" in warning
    assert "its macro-F1 is 47.4%, and that gives 47.4%" in warning
    # Of many rows a small gain in accuracy is sure, and still finds hardly any of the rare class.
    rows = 100 * 1000
    rarely = np.where(np.arange(rows) >= rows - 400, 0.9, 0.1)
    warning = majority_warning(evaluated(model, ["a"] * rows, np.repeat(labels, 100), rarely))
    assert "accuracy" not in warning
    assert "macro-F1" in warning
    good = evaluated(model, ["a"] * 1000, labels, np.where(np.arange(1000) >= 920, 0.9, 0.1))
    assert majority_warning(good) == ""
    assert good.metrics[MODEL].accuracy == 0.98


def test_a_threshold_does_not_turn_the_majority(model):
    eager = replace(model, classes=Classes(threshold=0.2))
    results = evaluated(eager, ["a"] * 10, [0] * 6 + [1] * 4, np.full(10, 0.3))
    assert results.answers["majority class"].tolist() == [0] * 10
    assert results.answers[MODEL].tolist() == [1] * 10
