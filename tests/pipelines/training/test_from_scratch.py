"""The flags that a run ends with train its model again, if a run from scratch would have it."""

import pytest

from pipelines.training.config import TrainConfig
from pipelines.training.from_scratch import is_another_from_scratch


def is_another(losses, was_shorter=False, **flags):
    """Of a run with these validation losses by step; 3,200 rows to train on are epochs of 32."""
    validations = [{"step": step, "validation_loss": loss} for step, loss in losses.items()]
    best = min(validations, key=lambda each: each["validation_loss"])
    training = {"rows": {"train": 3200}, "best": best, "validations": validations}
    return is_another_from_scratch(TrainConfig(**flags), was_shorter, training)


@pytest.mark.parametrize(
    ("losses", "flags", "expected"),
    [
        ({100: 0.3, 200: 0.2, 250: 0.1}, {"train_steps": 250}, False),
        ({100: 0.3, 200: 0.2, 300: 0.1}, {"train_steps": 300}, False),
        # First 150 steps, and then 250.
        ({100: 0.3, 150: 0.1, 200: 0.2, 250: 0.4}, {"train_steps": 250}, True),
        ({100: 0.3, 150: 0.1, 200: 0.2, 256: 0.4}, {"epochs": 8}, True),
        ({100: 0.3, 150: 0.4, 200: 0.2, 250: 0.4}, {"train_steps": 250}, False),
        ({100: 0.3, 150: 0.4, 200: 0.2, 256: 0.1}, {"epochs": 8}, False),
        # And more often than at its end.
        ({20: 0.3, 40: 0.4}, {"train_steps": 40, "validate_every": 20}, False),
        ({20: 0.3, 40: 0.4}, {"train_steps": 40}, True),
    ],
)
def test_a_run_that_was_made_longer_validated_where_it_ended_before(losses, flags, expected):
    assert is_another(losses, True, **flags) is expected


@pytest.mark.parametrize(
    ("losses", "patience", "expected"),
    [
        ({100: 0.1, 200: 0.2}, 1, False),
        ({100: 0.1, 200: 0.2, 300: 0.3}, 2, False),
        # It would have ended before, with the same best model or without.
        ({100: 0.1, 200: 0.2, 300: 0.3}, 1, False),
        ({100: 0.2, 200: 0.3, 300: 0.1}, 1, True),
        # It would have gone on where this one was first to end.
        ({100: 0.1, 150: 0.2}, 1, True),
        ({100: 0.1, 150: 0.2, 200: 0.3}, 2, True),
        ({100: 0.1, 150: 0.2, 200: 0.3}, 1, False),
    ],
)
def test_early_stopping_may_end_a_run_elsewhere(losses, patience, expected):
    assert is_another(losses, train_steps=1000, early_stopping=patience) is expected


@pytest.mark.parametrize("was_shorter", [False, True])
def test_the_learning_rate_of_a_linear_schedule_was_that_of_fewer_steps(was_shorter):
    losses = {100: 0.3, 200: 0.2, 300: 0.1}
    assert is_another(losses, was_shorter, schedule="linear") is was_shorter
