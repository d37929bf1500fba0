"""Everything of Ray Train that is private or unstable, for Ray 2.60.

A test for each name tells what moved when an upgrade of Ray breaks it. Only training imports this
module: `ray.train` takes a second to load.
"""

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from ray.train.backend import Backend, BackendConfig
from ray.train.v2._internal.exceptions import (
    WorkerHealthCheckFailedError,
    WorkerHealthCheckTimeoutError,
)
from ray.train.v2._internal.execution.checkpoint.checkpoint_manager import (
    _CheckpointManagerState,
    _TrainingResultState,
)
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

__all__ = [
    "Backend",
    "BackendConfig",
    "DataParallelTrainer",
    "WorkerHealthCheckFailedError",
    "WorkerHealthCheckTimeoutError",
]

SNAPSHOT = "checkpoint_manager_snapshot.json"
"""File name in a run's directory: Ray Train's list of the run's checkpoints."""

CHECKPOINT_NAME = re.compile(r"checkpoint_\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d\.\d{6}")
"""Name of a checkpoint's directory in a run's directory."""

_HEALTH_CHECK_TIMEOUT = "RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S"
_HEALTH_CHECK_INTERVAL = "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S"
_START_TIMEOUT = "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S"


@contextmanager
def timing(
    silent_seconds: float, check_seconds: float, start_seconds: float | None
) -> Iterator[None]:
    """Context manager: how long Ray Train waits for its workers.

    A variable that the user has set stays. Trainers are made and run in the block.

    Args:
        silent_seconds: after so long a worker that does not answer is given up.
        check_seconds: how often workers are asked how they are.
        start_seconds: how long workers wait for resources, before their number is chosen again;
            None: Ray Train's default, a minute.
    """
    wanted = {
        _HEALTH_CHECK_TIMEOUT: f"{silent_seconds:g}",
        _HEALTH_CHECK_INTERVAL: f"{check_seconds:g}",
    }
    if start_seconds is not None:
        wanted[_START_TIMEOUT] = f"{start_seconds:g}"
    added = wanted.keys() - os.environ.keys()
    os.environ.update({name: wanted[name] for name in added})
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


def listed_checkpoints(content: str) -> list[str]:
    """The names of the checkpoints in Ray Train's list, SNAPSHOT.

    Raises ValueError or TypeError if this version of Ray cannot read it.
    """
    state = _CheckpointManagerState.parse_obj(json.loads(content))
    last = [state.latest_checkpoint_result] if state.latest_checkpoint_result else []
    names = (result.checkpoint_dir_name for result in [*state.checkpoint_results, *last])
    return list(dict.fromkeys(names))


def list_of_checkpoints(reported: Sequence[tuple[str, Mapping[str, Any]]], score: str) -> str:
    """The content of SNAPSHOT for checkpoints in the order in which they were reported.

    Args:
        reported: the name of each, and the metrics that were reported with it; at least one.
        score: name of the metric that is smallest for the best one.
    """
    results = [
        _TrainingResultState(checkpoint_dir_name=name, metrics=dict(metrics))
        for name, metrics in reported
    ]
    # Ray Train keeps them so, equals in their order, and does not sort what it reads.
    worst_first = sorted(range(len(results)), key=lambda index: -results[index].metrics[score])
    state = _CheckpointManagerState(
        checkpoint_results=[results[index] for index in worst_first],
        checkpoint_report_indices=worst_first,
        latest_checkpoint_result=results[-1],
        pending_training_results=[],
        pending_validation_specs=[],
        current_report_index=len(results),
        validated_checkpoint_dir_names=[],
        timed_out_validation_checkpoint_dir_names=[],
        failed_validation_checkpoint_dir_names=[],
    )
    content: str = state.json()
    return content


def node_address(text: str) -> str | None:
    """IP address of the node that an error text of Ray Train names, or None."""
    match = re.search(r"node_ip='([^']+)'", text)
    return match[1] if match else None


def silent_seconds(error: WorkerHealthCheckTimeoutError) -> float | None:
    """How long the worker had not answered when it was given up, or None."""
    match = re.search(r"hanging for ([\d.]+)", str(error))
    return float(match[1]) if match else None


def ran_out_of_memory(text: str) -> bool:
    """Whether the text of an actor's error says that its node ran out of memory."""
    return "low on memory" in text


def node_died(text: str) -> bool:
    """Whether the text of an actor's error says that it died with its node."""
    return "node has died" in text
