"""A model for the tests of scoring, saved once."""

import pytest

from sentiment.checkpoint import Checkpoint
from testing.generated import save_checkpoint


@pytest.fixture(scope="session")
def model(tmp_path_factory) -> Checkpoint:
    return save_checkpoint(tmp_path_factory.mktemp("model"))
