"""Messages that tell the driver how training goes, from the workers and from Ray Train."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Started:
    """Worker 0 starts training, or resumes it."""

    step: int
    """The last step that is done; 0 at the start."""
    steps: int
    """Steps of the whole run."""
    best_loss: float
    """Best validation loss so far (nats); inf before the first validation."""
    workers: int
    """Number of workers."""


@dataclass(frozen=True)
class StepDone:
    """Worker 0 has taken a step. Only every tenth step is told."""

    step: int
    loss: float
    """Mean cross-entropy of the step's batch (nats)."""
    examples_per_second: float
    """Over all workers."""


@dataclass(frozen=True)
class Validated:
    """A validation is done, and its checkpoint is saved."""

    step: int
    loss: float
    """Mean cross-entropy (nats)."""
    accuracy: float


@dataclass(frozen=True)
class ReplicaHash:
    """A worker's hash of weights and optimizer state after a step: equal on all workers."""

    step: int
    rank: int
    hash: str


@dataclass(frozen=True)
class Retrying:
    """Workers failed, and training goes on."""

    reason: str
    """Why, in one line."""
    step: int | None
    """Step of the checkpoint that training resumes from; None: none was saved since it started."""
    attempt: int
    """Number of the coming attempt; the first attempt of a run is 1."""
    attempts: int
    """Attempts in all."""


Message = Started | StepDone | Validated | ReplicaHash | Retrying
