"""Shares of classes in words, and their names in charts."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from pipelines.reports.class_shares import chart_names, shares


def test_a_class_of_few_rows_is_not_none():
    assert shares(("negative", "positive"), np.array([1, 3000])) == (
        "<0.1% negative, >99.9% positive"
    )
    assert shares(("negative", "positive"), np.array([0, 3])) == "0.0% negative, 100.0% positive"


@pytest.mark.parametrize("name", ["good", "_good", "güt", "g" * 21])
def test_every_class_stands_in_a_legend(name):
    names = chart_names((name, "bad"))
    assert names == ((name, "bad") if name == "good" else ("class 1", "class 2"))
    axes = Figure().add_subplot()
    for each in names:
        axes.plot([0, 1], label=each)
    assert axes.get_legend_handles_labels()[1] == list(names)
