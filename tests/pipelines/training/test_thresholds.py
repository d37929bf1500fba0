"""The threshold that keeps what is asked for, at the least cost."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import precision_score, recall_score

from pipelines.training.threshold_rule import ThresholdRule
from pipelines.training.thresholds import choose_threshold
from sentiment.classes import Classes
from sentiment.errors import InputError

SCORES = {"precision": precision_score, "recall": recall_score}


@pytest.mark.parametrize(
    "text", ["", "precision", "precision=", "precision=1.5", "recall=0", "f1=0.5", "recall=nan"]
)
def test_what_is_no_rule_is_refused(text):
    with pytest.raises(InputError, match="is not precision=X or recall=X"):
        ThresholdRule.parse(text)


@given(
    metric=st.sampled_from(["precision", "recall"]),
    least=st.sampled_from([0.3, 0.6, 0.9]),
    rows=st.lists(st.tuples(st.booleans(), st.sampled_from([0.1, 0.25, 0.5, 0.75, 0.9]))),
)
def test_no_other_threshold_keeps_the_rule_at_less_cost(metric, least, rows):
    labels = np.array([label for label, _ in rows], int)
    probabilities = np.array([probability for _, probability in rows], np.float32)

    def reached(threshold):
        pairs = np.stack([1 - probabilities, probabilities], axis=1)
        winners = Classes(threshold=threshold).winners(pairs)
        return {name: score(labels, winners, zero_division=0) for name, score in SCORES.items()}

    if not rows:
        return
    chosen = choose_threshold(ThresholdRule.parse(f"{metric}={least}"), labels, probabilities)
    (other,) = SCORES.keys() - {metric}
    kept = [
        scores[other]
        for scores in map(reached, np.unique(probabilities).tolist())
        if scores[metric] >= least
    ]
    if chosen is None:
        assert not kept
        return
    scores = reached(chosen.threshold)
    assert scores == {"precision": chosen.precision, "recall": chosen.recall}
    assert scores[metric] >= least
    assert scores[other] == max(kept)
