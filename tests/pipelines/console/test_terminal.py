"""What is said of shares."""

import math

import pytest

from pipelines.console.terminal import percent


@pytest.mark.parametrize(
    ("share", "shown"),
    [
        (0, "0.0%"),
        (1e-12, "<0.1%"),
        (0.0004, "<0.1%"),
        (0.0006, "0.1%"),
        (0.123, "12.3%"),
        (0.9994, "99.9%"),
        (4999 / 5000, ">99.9%"),
        (1 - 1e-12, ">99.9%"),
        (1, "100.0%"),
        (math.nan, "–"),
    ],
)
def test_none_and_all_are_said_only_of_none_and_all(share, shown):
    assert percent(share) == shown


def test_more_digits_tell_more():
    shares = (0, 1 / 30_000, 1 / 3000, 1 - 1 / 30_000, 1)
    shown = [percent(share, digits=2) for share in shares]
    assert shown == ["0.00%", "<0.01%", "0.03%", ">99.99%", "100.00%"]
