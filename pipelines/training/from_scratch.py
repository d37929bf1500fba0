"""Whether the flags of a finished run train its model again: the run may have begun with others."""

from collections.abc import Mapping
from typing import Any

from pipelines.training.config import TrainConfig
from pipelines.training.validation import is_over


def is_another_from_scratch(
    config: TrainConfig, was_shorter: bool, training: Mapping[str, Any]
) -> bool:
    """Whether these flags would train another model from scratch, or may.

    With a linear schedule the learning rate of the first steps was that of fewer. With any, a run
    also validates where it ends, and longer ones do not; and early stopping ends a run elsewhere
    with these validations, or with another patience.

    Args:
        config: the flags that the run ended with.
        was_shorter: whether the run was first to take fewer steps.
        training: how its model was trained, as `training.json` has it.
    """
    if was_shorter and config.schedule == "linear":
        return True
    steps = config.steps(training["rows"]["train"])
    # What a run from scratch would have validated until now.
    validations = [
        each
        for each in training["validations"]
        if each["step"] % config.validate_every == 0 or each["step"] == steps
    ]
    for number in range(1, len(validations) + 1):
        if is_over(validations[:number], config.early_stopping):
            validations = validations[:number]
            break
    else:
        if not validations or validations[-1]["step"] < steps:
            return True  # It would go on, and may become better.
    return training["best"]["step"] not in [each["step"] for each in validations]
