import numpy as np
import pytest
from scipy.special import softmax
from sklearn.metrics import f1_score, log_loss

from pipelines.training.validation import is_over, macro_f1, measure


@pytest.mark.parametrize(
    ("losses", "patience", "over"),
    [
        ([], 1, False),
        ([0.5], 1, False),
        ([0.5, 0.6], 1, True),
        ([0.5, 0.6], 2, False),
        ([0.5, 0.6, 0.55], 2, True),
        ([0.5, 0.6, 0.4], 2, False),
        ([0.5, 0.6, 0.7, 0.8], None, False),
    ],
)
def test_training_ends_after_so_many_validations_without_a_better_one(losses, patience, over):
    assert is_over([{"validation_loss": loss} for loss in losses], patience) is over


def test_a_class_that_does_not_occur_is_not_in_the_macro_f1():
    assert macro_f1(np.eye(4)[[0, 0, 2]], np.eye(4)[[0, 2, 2]]) == pytest.approx(2 / 3)
    # Nor is one that is answered only: later steps would be measured by other classes.
    assert macro_f1(np.eye(4)[[0, 0, 2]], np.eye(4)[[0, 1, 2]]) == pytest.approx((2 / 3 + 1) / 2)


@pytest.mark.parametrize("classes", [2, 3, 9])
def test_loss_and_accuracy_are_those_of_the_logits(classes):
    random = np.random.default_rng(classes)
    labels, logits = random.integers(0, classes, 50), random.normal(0, 2, (50, classes))
    found = measure(1, np.eye(classes)[labels], logits.astype(np.float32), False)
    assert found["validation_loss"] == pytest.approx(log_loss(labels, softmax(logits, axis=1)))
    assert found["validation_accuracy"] == (logits.argmax(axis=1) == labels).mean()
    answers = logits.argmax(axis=1)
    assert macro_f1(np.eye(classes)[labels], logits) == pytest.approx(
        f1_score(labels, answers, average="macro")
    )
    far = measure(1, np.array([[1, 0]]), np.array([[0, 1e4]], np.float32), False)
    assert far["validation_loss"] == pytest.approx(1e4)


def test_rows_count_by_their_weight():
    targets, logits = np.array([[3, 0], [0, 1]]), np.log([[0.8, 0.2], [0.6, 0.4]])
    expected = -(3 * np.log(0.8) + np.log(0.4)) / 4
    assert measure(1, targets, logits, False)["validation_loss"] == pytest.approx(expected)


def test_a_soft_label_is_best_met_by_its_probabilities():
    targets = np.array([[0.7, 0.2, 0.1]])
    best = measure(1, targets, np.log(targets), False)["validation_loss"]
    assert best == pytest.approx(-(targets * np.log(targets)).sum())
    assert measure(1, targets, np.log([[0.6, 0.3, 0.1]]), False)["validation_loss"] > best


@pytest.mark.parametrize(("too_sure", "expected"), [(1.0, 1.0), (1.6, 1.6), (0.7, 0.7), (9.0, 4.0)])
def test_the_temperature_makes_probabilities_shares(too_sure, expected):
    random = np.random.default_rng(0)
    margins = random.normal(0, 2, 200_000)
    labels = (random.random(200_000) < 1 / (1 + np.exp(-margins))).astype(int)
    logits = np.stack([np.zeros(len(margins)), margins * too_sure], axis=1)
    found = measure(1, np.eye(2)[labels], logits.astype(np.float32), False)
    assert found["validation_temperature"] == pytest.approx(expected, rel=0.02)
    # Of a single text any would do.
    one = measure(1, np.array([[0, 1]]), np.array([[0, 3.0]]), False)
    assert 0.25 <= one["validation_temperature"] <= 4


def test_the_loss_of_a_model_that_will_be_calibrated_is_that_of_the_calibrated_one():
    random = np.random.default_rng(0)
    labels, logits = random.integers(0, 3, 500), random.normal(0, 1, (500, 3))
    targets = np.eye(3)[labels]
    logits = (logits + targets) * 3
    plain, calibrated = (measure(1, targets, logits, calibrate) for calibrate in (False, True))
    divided = measure(1, targets, logits / plain["validation_temperature"], False)
    assert calibrated["validation_loss"] == pytest.approx(divided["validation_loss"])
    assert calibrated["validation_loss"] < plain["validation_loss"] - 0.1
    assert calibrated["validation_accuracy"] == plain["validation_accuracy"]
