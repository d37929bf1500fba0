"""The state of a run in Ray Train's checkpoints: all that the next step depends on.

A checkpoint is a directory of two files:

    state.safetensors   weights and optimizer state, by name (`Trainer.state`)
    progress.json       the last step, and every validation until then
"""

import json
import math
import posixpath
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.fs as pafs
import ray.train
import safetensors.numpy

from pipelines.training.validation import Validation
from sentiment.errors import on_one_line

if TYPE_CHECKING:  # Loads TensorFlow, which only the workers need.
    from sentiment.model.trainer import Trainer

STATE, PROGRESS = "state.safetensors", "progress.json"

SCORE = "validation_loss"
"""What Ray Train is told of a checkpoint, and is smallest for the best one (nats)."""


@dataclass(frozen=True)
class RunProgress:
    """How far a run is."""

    step: int = 0
    """The last step that is done."""
    validations: tuple[Validation, ...] = ()
    """Every validation until then."""

    def after(self, validation: Validation) -> "RunProgress":
        """The progress after another validation."""
        return RunProgress(validation["step"], (*self.validations, validation))

    def reported(self) -> dict[str, Any]:
        """What Ray Train is told of the last validation."""
        metrics = dict(self.validations[-1])
        if not math.isfinite(self.validations[-1]["validation_loss"]):
            # Ray Train would write null, and then could compare no other checkpoint with this one.
            metrics[SCORE] = sys.float_info.max
        return metrics


def restore(trainer: "Trainer") -> RunProgress:
    """Load the run's last checkpoint, if there is one, into the trainer. For Ray Train workers."""
    checkpoint = ray.train.get_checkpoint()
    if checkpoint is None:
        return RunProgress()
    state, progress = read_state(checkpoint)
    trainer.restore(state)
    return progress


def save(trainer: "Trainer", progress: RunProgress, rank: int) -> None:
    """Report the last validation to Ray Train; worker 0 attaches a checkpoint.

    Every worker calls it: Ray Train waits for all of them.
    """
    metrics = progress.reported()
    if rank != 0:
        ray.train.report(metrics)
        return
    with tempfile.TemporaryDirectory() as directory:
        with _writing_to(f"the temporary directory {directory}"):
            (Path(directory) / STATE).write_bytes(safetensors.numpy.save(trainer.state()))
            (Path(directory) / PROGRESS).write_text(json.dumps(asdict(progress)))
        with _writing_to("--checkpoints_root"):
            ray.train.report(metrics, checkpoint=ray.train.Checkpoint.from_directory(directory))


@contextmanager
def _writing_to(place: str) -> Iterator[None]:
    """Context manager: an OSError names the place. That of a full disk names nothing."""
    try:
        yield
    except OSError as error:
        raise OSError(f"{place} cannot be written: {on_one_line(error)}") from error


def read_state(checkpoint: ray.train.Checkpoint) -> tuple[dict[str, np.ndarray], RunProgress]:
    """Read the state (arrays by name) and the progress of a checkpoint."""

    # Not with `as_directory`: if two workers on a node download from a bucket at the same time, the
    # first one to finish removes what the other one reads.
    def content(name: str) -> bytes:
        path = posixpath.join(checkpoint.path, name)
        filesystem: pafs.FileSystem = checkpoint.filesystem
        with filesystem.open_input_file(path) as file:
            whole: bytes = file.read()
            return whole

    progress = json.loads(content(PROGRESS))
    state = safetensors.numpy.load(content(STATE))
    return state, RunProgress(progress["step"], tuple(progress["validations"]))


def model_weights(state: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The model's weights of a state, by their names in a saved model."""
    prefix = "model/"
    return {n.removeprefix(prefix): value for n, value in state.items() if n.startswith(prefix)}
