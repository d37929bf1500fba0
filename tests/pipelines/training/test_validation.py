import numpy as np
import pytest

from pipelines.training.validation import is_over, measure


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


def test_loss_and_accuracy_are_those_of_the_margins():
    labels, margins = np.array([1, 0, 1, 0]), np.array([2.0, -1.0, -3.0, 0.0], np.float32)
    positive = 1 / (1 + np.exp(-margins.astype(np.float64)))
    found = measure(1, labels, margins)
    expected = -np.log(np.where(labels == 1, positive, 1 - positive)).mean()
    assert found["validation_loss"] == pytest.approx(expected)
    assert found["validation_accuracy"] == 0.5
    far = measure(1, np.array([0]), np.array([1e4], np.float32))
    assert far["validation_loss"] == pytest.approx(1e4)


@pytest.mark.parametrize(("too_sure", "expected"), [(1.0, 1.0), (1.6, 1.6), (0.7, 0.7), (9.0, 2.0)])
def test_the_temperature_makes_probabilities_shares(too_sure, expected):
    random = np.random.default_rng(0)
    margins = random.normal(0, 2, 200_000)
    labels = (random.random(200_000) < 1 / (1 + np.exp(-margins))).astype(int)
    found = measure(1, labels, (margins * too_sure).astype(np.float32))
    assert found["validation_temperature"] == pytest.approx(expected, rel=0.02)
    # Of a single text any would do.
    assert 0.5 <= measure(1, np.array([1]), np.array([3.0]))["validation_temperature"] <= 2
