"""One line that says why training workers failed, from what Ray Train knows of them."""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import ray.train
from ray.exceptions import OutOfMemoryError, RayActorError, RayError
from ray.train import ControllerError, Result, TrainingFailedError, WorkerGroupError
from ray.util.queue import Queue

from pipelines.cluster.ray_train_internals import (
    WorkerHealthCheckFailedError,
    WorkerHealthCheckTimeoutError,
    node_address,
    node_died,
    ran_out_of_memory,
    silent_seconds,
)
from pipelines.training.messages import Retrying
from sentiment.errors import InputError

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")

CAUSE, WORKER_ERROR, EFFECT = range(3)
"""How far a worker's failure is from the cause: lost processes come first, lost peers last."""


class TensorFlowError(Exception):
    """An error of TensorFlow, by the name of its class and its text.

    Its own class would make Ray Train's controller load TensorFlow to read it, which takes seconds
    just when training could go on, and half a GiB.
    """

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(kind, text)
        self.kind, self.text = kind, text

    def __str__(self) -> str:
        return self.text


@contextmanager
def tensorflow_errors_as_text() -> Iterator[None]:
    """Context manager: errors of TensorFlow leave the block as `TensorFlowError`."""
    try:
        yield
    except Exception as error:
        # TensorFlow may not be loaded yet.
        if not type(error).__module__.startswith("tensorflow."):
            raise
        raise TensorFlowError(type(error).__name__, str(error)) from error


class FailureWatch(ray.train.UserCallback):
    """Tells the driver, from Ray Train's controller, why workers failed and what happens next."""

    def __init__(self, messages: Queue, max_failures: int) -> None:
        self._messages, self._attempts = messages, max_failures + 1
        self._step: int | None = None
        self._failures = 0

    def after_report(
        self,
        run_context: Any,
        metrics: list[dict[str, Any]],
        checkpoint: ray.train.Checkpoint | None,
    ) -> None:
        """Remember the step of a checkpoint that Ray Train has listed: only that can be resumed."""
        self._step = metrics[0]["step"]

    def after_exception(self, run_context: Any, worker_exceptions: Mapping[int, Exception]) -> None:
        """Tell of a failure that another attempt follows. The last failure is raised by `fit`."""
        self._failures += 1
        if self._failures < self._attempts:
            attempt = self._failures + 1
            why = reason(worker_exceptions)
            self._messages.put(Retrying(why, self._step, attempt, self._attempts))


def fit_with_retries(fit: Callable[[], Result], messages: Queue, max_failures: int) -> Result:
    """Call `fit`; call it again if a worker was lost before its first step.

    Ray Train itself handles most losses. But it takes a worker that is lost just as all workers
    start (in its task `run_train_fn`) for a failure of its controller (Ray 2.60).
    """
    for failures in range(1, max_failures + 1):
        try:
            return fit()
        except ControllerError as error:
            if not isinstance(error.controller_failure, RayActorError):
                raise
        why = "a worker was lost before its first step"
        messages.put(Retrying(why, None, failures + 1, max_failures + 1))
    return fit()


def failure_of_training(error: TrainingFailedError, attempts: int) -> str:
    """One line that says why training failed for good, after `attempts` attempts."""
    if isinstance(error, WorkerGroupError):
        why = reason(error.worker_failures)
        return f"training failed in attempt {attempts} of {attempts}: {why}"
    failure = getattr(error, "controller_failure", error)
    return f"training failed: {str(failure).strip().splitlines()[0]}"


def reason_of_ray(error: RayError) -> str:
    """Why Ray itself failed: the line that names the cause, without colours."""
    lines = [line.strip() for line in _COLOUR.sub("", str(error)).splitlines() if line.strip()]
    # Of an actor that died as it was made, the last line is the error that it raised.
    return lines[-1] if "creation task" in lines[0] else lines[0]


def reason(failures: Mapping[int, Exception]) -> str:
    """One line that says why workers failed: `worker 1 died (node 10.0.0.3)`.

    When one worker dies the others fail because it is gone: the line names the cause.

    Args:
        failures: exception of each failed worker, by rank.
    """
    explained = {rank: _explain(failure) for rank, failure in failures.items()}
    first = min(explained, key=lambda rank: (explained[rank][0], rank))
    distance, text = explained[first]
    others = sum(other == distance for other, _ in explained.values()) - 1
    return f"worker {first} {text}" + (f", and {others} more" if others else "")


def _explain(failure: Exception) -> tuple[int, str]:
    """Why a worker failed, with the distance from the cause: CAUSE, WORKER_ERROR or EFFECT."""
    text = str(failure)
    address = node_address(text)
    node = f"node {address}" if address else "its node"
    if isinstance(failure, WorkerHealthCheckTimeoutError):
        seconds = silent_seconds(failure)
        silent = "in time" if seconds is None else f"for {seconds:.0f} s"
        return CAUSE, f"has not answered {silent} ({node})"
    if isinstance(failure, WorkerHealthCheckFailedError):
        failure = failure.health_check_failure
        text = str(failure)
        if isinstance(failure, OutOfMemoryError) or ran_out_of_memory(text):
            return CAUSE, f"was killed: {node} ran out of memory"
        if node_died(text):
            return CAUSE, f"was lost with {node}"
        if isinstance(failure, RayActorError):
            return CAUSE, f"died ({node})"
    if "Collective ops is aborted" in text:
        return EFFECT, "lost the connection to the others"
    message = _message(text)
    if not isinstance(failure, InputError):
        kind = failure.kind if isinstance(failure, TensorFlowError) else type(failure).__name__
        message = f"{kind}: {message}" if message else kind
    return WORKER_ERROR, f"failed: {message}"


def _message(text: str) -> str:
    """The first line of an error's text, or the first line after its traceback."""
    lines = [line.strip() for line in text.splitlines()]
    frames = [number for number, line in enumerate(lines) if line.startswith('File "')]
    after = lines[frames[-1] + 1 :] if frames else lines
    return next((line for line in after if line), "")
