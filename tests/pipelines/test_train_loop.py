import pytest

from pipelines.train_loop import _is_over


@pytest.mark.parametrize(
    ("losses", "patience", "over"),
    [
        ([], 1, False),
        ([0.5], 1, False),
        ([0.5, 0.6], 1, True),
        ([0.5, 0.6], 2, False),
        ([0.5, 0.6, 0.55], 2, True),
        ([0.5, 0.6, 0.4], 2, False),
        ([0.5, 0.6, 0.7, 0.8], None, False),
    ],
)
def test_training_ends_after_so_many_validations_without_a_better_one(losses, patience, over):
    assert _is_over([{"validation_loss": loss} for loss in losses], patience) is over
