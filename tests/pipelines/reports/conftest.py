import numpy as np
import pytest

from pipelines.reports.evaluation_results import EvaluationResults
from sentiment.checkpoint import Checkpoint
from testing.evaluation_results import evaluated
from testing.generated import save_checkpoint, texts_and_labels
from testing.hostile import HOSTILE


@pytest.fixture(scope="session")
def model(tmp_path_factory) -> Checkpoint:
    return save_checkpoint(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="session")
def results(model) -> EvaluationResults:
    """200 texts whose predictions are fair; hostile ones among them are predicted wrongly."""
    texts, labels = texts_and_labels(200)
    random = np.random.default_rng(1)
    probabilities = np.clip(0.5 + 0.25 * (2 * labels - 1) + random.normal(0, 0.2, 200), 0.01, 0.99)
    for i, hostile in enumerate(HOSTILE):
        texts[3 * i], probabilities[3 * i] = hostile, 1 - labels[3 * i]
    return evaluated(model, texts, labels, probabilities)
