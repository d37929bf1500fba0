"""Which class wins a text, and which names classes may have."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentiment.classes import MAX_CLASSES, Classes
from sentiment.errors import InputError


@given(st.integers(3, 9), st.integers(0, 20), st.integers(0, 2**32 - 1))
def test_the_most_probable_class_wins_and_the_first_of_equals(classes, rows, seed):
    probabilities = np.random.default_rng(seed).integers(0, 4, (rows, classes)).astype(np.float32)
    winners = Classes(tuple(map(str, range(classes)))).winners(probabilities)
    assert winners.tolist() == [row.index(max(row)) for row in probabilities.tolist()]


@pytest.mark.parametrize(("threshold", "first"), [(None, 0.5), (0.5, 0.5), (0.2, 0.2), (0.9, 0.9)])
def test_of_two_classes_the_second_wins_from_the_threshold_on(threshold, first):
    second = np.array([0, np.nextafter(first, 0), first, np.nextafter(first, 1), 1])
    winners = Classes(("no", "yes"), threshold).winners(np.stack([1 - second, second], axis=1))
    assert winners.tolist() == [0, 0, 1, 1, 1]
    assert winners.dtype == np.int64


@pytest.mark.parametrize(
    ("names", "threshold", "said"),
    [
        ((), None, "0 classes"),
        (("a",), None, "1 classes"),
        (tuple(map(str, range(MAX_CLASSES + 1))), None, "1,001 classes"),
        (("a", "b", "a"), None, "'a' is named twice"),
        (("a", ""), None, "printable"),
        (("a", " b"), None, "printable"),
        (("a", "b\tc"), None, "printable"),
        (("a", "\ud800"), None, "printable"),
        (("a", None), None, "printable"),
        (("a", "b", "c"), 0.5, "two classes"),
        (("a", "b"), 0.0, "above 0"),
        (("a", "b"), 1.0, "below 1"),
        (("a", "b"), float("nan"), "nan"),
    ],
)
def test_what_cannot_be_classes_is_refused(names, threshold, said):
    with pytest.raises(InputError, match=said):
        Classes(names, threshold)
