"""Fit: run the training loop on Ray Train workers, and take the best weights."""

import posixpath
import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow.fs as pafs
import ray.train
from ray.exceptions import RayError
from ray.train import Result, TrainingFailedError
from ray.util.queue import Queue

from pipelines.cluster.ray_train_internals import DataParallelTrainer, timing
from pipelines.errors import Failure
from pipelines.training.config import TrainConfig
from pipelines.training.failures import (
    FailureWatch,
    failure_of_training,
    fit_with_retries,
    reason_of_ray,
)
from pipelines.training.loop import train_loop
from pipelines.training.progress import MessageListener
from pipelines.training.resume_state import SCORE, model_weights, read_state
from pipelines.training.run_checkpoints import remove_unregistered
from pipelines.training.settings import Settings
from pipelines.training.tensorflow_cluster import TensorflowCluster
from pipelines.training.validation import Validation
from sentiment import storage

HEALTH_CHECK_TIMEOUT_SECONDS = 60
"""A worker that does not answer for so long counts as dead: it holds up all the others."""

HEALTH_CHECK_INTERVAL_SECONDS = 0.2
"""Every validation waits for the next health check."""

START_SECONDS = 10
"""How long a number of workers that may change waits for its nodes, before it is chosen again.
Workers know that one is lost before Ray does, which finds after 15 s that a node is dead, and may
count on it for 20 s more."""


@dataclass(frozen=True)
class Fitted:
    """What a run ends with."""

    weights: dict[str, np.ndarray]
    """float32 arrays by name, of the checkpoint with the best validation."""
    best: Validation
    """The validation of these weights."""
    validations: tuple[Validation, ...]
    """All of the run."""


def fit(
    config: TrainConfig, settings: Settings, per_worker: dict[str, float], runs: str, name: str
) -> Fitted:
    """Train the run `name`, or resume it.

    Args:
        config: the flags.
        settings: of the workers.
        per_worker: the resources that each worker asks Ray for.
        runs: directory or URI of the runs' directories.
        name: of the run.

    Raises Failure where training fails, and KeyboardInterrupt with a message on Ctrl-C.
    """
    filesystem, storage_path = storage.resolve(runs)
    same_command = f"the same command with --run_name {name}"
    least, most = config.workers
    start_seconds = START_SECONDS if least < most else None
    times = timing(HEALTH_CHECK_TIMEOUT_SECONDS, HEALTH_CHECK_INTERVAL_SECONDS, start_seconds)
    with times, MessageListener() as listener:
        trainer = _trainer(
            config, settings, per_worker, listener.messages, filesystem, storage_path, name
        )
        try:
            result = _in_daemon_thread(
                partial(fit_with_retries, trainer.fit, listener.messages, config.max_failures)
            )
        except KeyboardInterrupt:
            raise KeyboardInterrupt(f"interrupted; {same_command} resumes it") from None
        except RayError as error:
            why = reason_of_ray(error)
            raise Failure(f"Ray failed ({why}); {same_command} resumes it") from error
        except TrainingFailedError as error:
            why = failure_of_training(error, config.max_failures + 1)
            raise Failure(f"{why}; {same_command} tries again") from error
    last, best = result.checkpoint, result.get_best_checkpoint(SCORE, "min")
    if last is None or best is None:
        raise Failure(f"training ended without a checkpoint; {same_command} tries again")
    registered = [last, *(checkpoint for checkpoint, _ in result.best_checkpoints or ())]
    remove_unregistered(filesystem, posixpath.join(storage_path, name), registered)
    _, progress = read_state(last)
    state, until_best = read_state(best)
    return Fitted(model_weights(state), until_best.validations[-1], progress.validations)


def _trainer(
    config: TrainConfig,
    settings: Settings,
    per_worker: dict[str, float],
    messages: Queue,
    filesystem: pafs.FileSystem,
    storage_path: str,
    name: str,
) -> DataParallelTrainer:
    return DataParallelTrainer(
        train_loop,
        backend_config=TensorflowCluster(),
        train_loop_config={"settings": settings, "messages": messages},
        scaling_config=ray.train.ScalingConfig(
            num_workers=config.num_workers,  # type: ignore[arg-type]  # Of Ray Train V1.
            use_gpu=config.use_gpu,
            resources_per_worker=per_worker,
            # On CPUs a worker gains by having a node for itself; GPUs gain by being neighbours.
            placement_strategy="PACK" if config.use_gpu else "SPREAD",
        ),
        run_config=ray.train.RunConfig(
            name=name,
            storage_path=storage_path,
            storage_filesystem=filesystem,
            failure_config=ray.train.FailureConfig(max_failures=config.max_failures),
            checkpoint_config=ray.train.CheckpointConfig(
                num_to_keep=config.keep_checkpoints,
                checkpoint_score_attribute=SCORE,
                checkpoint_score_order="min",
            ),
            callbacks=[FailureWatch(messages, config.max_failures)],  # type: ignore[list-item]
        ),
    )


def _in_daemon_thread(function: Callable[[], Result]) -> Result:
    """Call the function in a daemon thread; return its result or raise its error.

    In the main thread Ray Train would install its own handler of Ctrl-C.
    """
    future: Future[Result] = Future()

    def work() -> None:
        try:
            future.set_result(function())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    # Poll: the signal of Ctrl-C may wake another thread, and Python runs its handler only when
    # this one wakes.
    while not future.done():
        wait([future], timeout=0.2)
    return future.result()
