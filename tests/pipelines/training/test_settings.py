from types import SimpleNamespace

import pytest

from pipelines.training.settings import Settings


def test_a_linear_schedule_falls_by_equal_steps_to_zero_after_the_last():
    settings = SimpleNamespace(learning_rate=0.01, schedule="linear", steps=4)
    rates = [Settings.learning_rate_at(settings, step) for step in (1, 2, 3, 4)]
    assert rates == pytest.approx([0.01, 0.0075, 0.005, 0.0025])
    settings.schedule = "constant"
    assert {Settings.learning_rate_at(settings, step) for step in (1, 4)} == {0.01}
