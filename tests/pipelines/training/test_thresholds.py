"""The threshold that keeps what is asked for, at the least cost."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import precision_score, recall_score

from pipelines.training.batches import CachedRows
from pipelines.training.threshold_rule import ThresholdRule
from pipelines.training.thresholds import choose_threshold, validation_answers
from sentiment.classes import Classes
from sentiment.errors import InputError
from sentiment.model.inference import inference
from sentiment.network import Network, weight_shapes

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
    assert chosen.accuracy == ((probabilities >= chosen.threshold) == labels).mean()
    assert scores[metric] >= least
    assert scores[other] == max(kept)


@pytest.mark.parametrize("is_soft", [False, True])
def test_labels_are_those_of_the_rows_also_where_they_are_soft(tmp_path, is_soft):
    soft = np.array([[0.9, 0.1], [0.2, 0.8], [0.4, 0.6]], np.float32)
    flat = pa.array(soft.ravel(), pa.float32())
    table = {"target": pa.FixedSizeListArray.from_arrays(flat, 2)}
    if not is_soft:
        table = {"label": pa.array([0, 1, 1], pa.int16())}
    table["ids"] = pa.array([[2], [3, 3, 3], []], pa.large_list(pa.int32()))
    batch = pa.record_batch(table)
    with pa.ipc.new_file(str(tmp_path / "rows.arrow"), batch.schema) as writer:
        writer.write_batch(batch)
    random = np.random.default_rng(0)
    shapes = weight_shapes(4, 3, 2)
    weights = {name: random.normal(size=shape).astype("f4") for name, shape in shapes.items()}
    rows = CachedRows(str(tmp_path), ["rows.arrow"], 2)
    network = Network(weights)
    labels, probabilities = validation_answers(rows, 2, network)
    assert labels.tolist() == [0, 1, 1]
    ids, offsets = np.array([2, 3, 3], np.int32), np.array([0, 1, 3, 3])
    np.testing.assert_array_equal(probabilities, inference(network)(ids, offsets))
