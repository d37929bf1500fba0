"""Shares of classes in words, and their names in charts."""

import numpy as np

from pipelines.reports.class_shares import shares


def test_a_class_of_few_rows_is_not_none():
    assert shares(("negative", "positive"), np.array([1, 3000])) == (
        "<0.1% negative, >99.9% positive"
    )
    assert shares(("negative", "positive"), np.array([0, 3])) == "0.0% negative, 100.0% positive"
