"""What Ray Train knows of workers that failed -> one line that says what befell them."""

from collections.abc import Callable, Mapping
from typing import Any

import ray.train
from ray.exceptions import OutOfMemoryError, RayActorError
from ray.train import ControllerError, Result
from ray.util.queue import Queue

from pipelines.cluster.ray_train_internals import (
    WorkerHealthCheckFailedError,
    WorkerHealthCheckTimeoutError,
    node_address,
    node_died,
    ran_out_of_memory,
    silent_seconds,
)
from sentiment.errors import InputError


class Watch(ray.train.UserCallback):
    """Tells the driver, from Ray Train's controller, what befell workers and what happens next."""

    def __init__(self, messages: Queue, max_failures: int) -> None:
        self._messages, self._attempts = messages, max_failures + 1
        self._step, self._failures = None, 0

    def after_report(self, run_context, metrics: list[dict[str, Any]], checkpoint) -> None:
        """Remember the step of a checkpoint: only now is it there to go on from."""
        self._step = metrics[0]["step"]

    def after_exception(self, run_context, worker_exceptions: dict[int, Exception]) -> None:
        """Tell of a failure that another try follows; of the last one `fit` raises."""
        self._failures += 1
        if self._failures < self._attempts:
            self._messages.put(
                {
                    "kind": "trouble",
                    "reason": reason(worker_exceptions),
                    "step": self._step,
                    "attempt": self._failures + 1,
                    "attempts": self._attempts,
                }
            )


def fit_again(fit: Callable[[], Result], messages: Queue, max_failures: int) -> Result:
    """What `fit` returns, called again where a worker was lost before its first step.

    Of most losses Ray Train takes care itself; that of a worker just when all of them are to begin
    (its task `run_train_fn`) it takes for a failure of its own (ray 2.60).
    """
    for failures in range(1, max_failures + 1):
        try:
            return fit()
        except ControllerError as error:
            if not isinstance(error.controller_failure, RayActorError):
                raise
        trouble = {"reason": "a worker was lost before its first step", "step": None}
        tries = {"attempt": failures + 1, "attempts": max_failures + 1}
        messages.put({"kind": "trouble", **trouble, **tries})
    return fit()


def reason(failures: Mapping[int, Exception]) -> str:
    """What befell the workers, whose failures come by rank: `worker 1 died (node 10.0.0.3)`.

    When one dies the others fail because it is gone: of several the cause is told, not the effect.
    """
    told = {rank: _befell(failure) for rank, failure in failures.items()}
    first = min(told, key=lambda rank: (told[rank][0], rank))
    weight, what = told[first]
    more = sum(other == weight for other, _ in told.values()) - 1
    return f"worker {first} {what}" + (f", and {more} more" if more else "")


def _befell(failure: Exception) -> tuple[int, str]:
    """What befell a worker, and how far it is from being the cause: 0, 1 or 2."""
    text = str(failure)
    address = node_address(text)
    node = f"node {address}" if address else "its node"
    if isinstance(failure, WorkerHealthCheckTimeoutError):
        seconds = silent_seconds(failure)
        silent = "in time" if seconds is None else f"for {seconds:.0f} s"
        return 0, f"has not answered {silent} ({node})"
    if isinstance(failure, WorkerHealthCheckFailedError):
        failure = failure.health_check_failure
        text = str(failure)
        if isinstance(failure, OutOfMemoryError) or ran_out_of_memory(text):
            return 0, f"was killed: {node} ran out of memory"
        if node_died(text):
            return 0, f"was lost with {node}"
        if isinstance(failure, RayActorError):
            return 0, f"died ({node})"
    if "Collective ops is aborted" in text:
        return 2, "lost touch with the others"
    said = _message(text)
    return 1, f"failed: {said if isinstance(failure, InputError) else _named(failure, said)}"


def _named(failure: Exception, said: str) -> str:
    return f"{type(failure).__name__}: {said}" if said else type(failure).__name__


def _message(text: str) -> str:
    """The line of an error that says what is wrong: the first, or the first after its traceback."""
    lines = [line.strip() for line in text.splitlines()]
    frames = [i for i, line in enumerate(lines) if line.startswith('File "')]
    after = lines[frames[-1] + 1 :] if frames else lines
    return next((line for line in after if line), "")
