"""The executor on Ray: functions in tasks, and parts on Ray Data."""

import math
import os
import uuid
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from pipelines.cluster.datasets import quiet_ray_data, tables_of
from pipelines.cluster.pool_monitor import PoolMonitor
from pipelines.cluster.ray_internals import data_options, forget_counts
from pipelines.cluster.session import session
from pipelines.cluster.shared_directories import one_of_each_directory, require_shared
from pipelines.cluster.tasks import gave_up, map_in_tasks
from pipelines.errors import Failure
from pipelines.scoring.config import ScoreConfig
from pipelines.scoring.executor import Item, Result
from pipelines.scoring.part_data import PartResult, PartTask
from pipelines.scoring.part_worker import PartWorker
from pipelines.scoring.pool import Pool, pool_for
from pipelines.sources.shard import Shard

MAX_READ_TASKS = 10_000
"""Read tasks of a dataset. For each, the driver holds 5 KiB and Ray takes 5 ms. With more parts, a
task reads several of them, one after the other; each is still reported when it is done."""

SMALL_TASK_ROWS = 1000
"""Small parts are read by one task until they have so many rows: these take a core 50 ms."""

MAX_SMALL_PARTS = 50
"""Small parts of a task."""

MIN_TASKS_PER_ACTOR = 16
"""With fewer, no task has several parts, so that all actors have work to the end."""

MAX_RESULTS_WAITING = 1000
"""Results of a task that the driver has not yet taken. Ray's own limit is 2: a task of many small
parts would wait for the driver after each."""

MAX_DEATHS_AT_START = 10
"""Actors that may die one after another before one has started."""


class RayExecutor:
    """Works on Ray, which it starts when it is needed: one part on CPUs is scored in this process.

    It joins the cluster that this process belongs to, or starts a local Ray
    (`pipelines.cluster.session`).
    """

    def __init__(self, config: ScoreConfig, shards: Sequence[Shard], output: str) -> None:
        self._config = config
        self._shards = shards
        self._output = output
        self._session = ExitStack()
        self._is_started = self._is_cluster = False

    def map(
        self, function: Callable[[Item], Result], items: Sequence[Item]
    ) -> Iterator[tuple[int, Result]]:
        """See `Executor`. One item is done in this process, without Ray."""
        if len(items) == 1:
            yield 0, function(items[0])
            return
        self._start()
        yield from map_in_tasks(function, items)

    def score(
        self,
        tasks: Iterable[PartTask],
        number: int,
        worker: PartWorker,
        say: Callable[[str], None],
    ) -> Generator[PartResult, None, None]:
        """See `Executor`."""
        if self._needs_no_ray(number):
            yield from map(worker, tasks)
            return
        self._start()
        from ray.data.exceptions import ExecutionTimeoutError

        try:
            with (
                quiet_ray_data(self._config.verbose),
                PoolMonitor("PartActor", "part", say) as monitor,
            ):
                for result in self._stream(tasks, number, worker):
                    monitor.progress()
                    yield result
        except ExecutionTimeoutError as error:
            raise Failure(
                f"no part was finished for {self._config.wait_minutes:g} minutes "
                "(--wait_minutes): run the same command again"
            ) from error
        except RayTaskError:
            raise  # Steps return their errors: this is a bug in this program.
        except RayError as error:
            raise gave_up(error) from error

    def require_room(self, number: int) -> None:
        """See `Executor`."""
        if not self._needs_no_ray(number):
            self._start()
            self._pool()

    def close(self) -> None:
        """See `Executor`."""
        self._session.close()

    def _needs_no_ray(self, number: int) -> bool:
        return number == 0 or (number == 1 and not self._config.use_gpu)

    def _pool(self) -> Pool:
        has_bucket = "://" in self._output or any("://" in shard.path for shard in self._shards)
        return pool_for(self._config, self._is_cluster, has_bucket)

    def _start(self) -> None:
        """Start or join Ray, unless that is done, and check that all nodes see the job's files."""
        if self._is_started:
            return
        self._session.enter_context(session(self._config.verbose))
        self._is_started = True
        self._is_cluster = os.environ.get("RAY_ADDRESS", "local") not in ("", "local")
        self._is_cluster = self._is_cluster or not _is_one_machine()
        inputs = one_of_each_directory(shard.path for shard in self._shards)
        require_shared([*(("--input", path) for path in inputs), ("--output", self._output)])

    def _stream(
        self, tasks: Iterable[PartTask], number: int, worker: PartWorker
    ) -> Generator[PartResult, None, None]:
        """Score parts on Ray Data.

        In a CPU job an actor reads, scores and writes: no data crosses between processes. In a GPU
        job reading tasks run ahead on CPUs.
        """
        # Ray's metrics need Ray, which may not run when this module loads.
        from pipelines.scoring.ray_metrics import JobMetrics
        from pipelines.scoring.ray_steps import (
            PARTS_PER_GPU_ACTOR,
            Attempts,
            GPUPartActor,
            PartActor,
            PartsDatasource,
            ReadParts,
            named_parts,
            results_of,
        )

        metrics = JobMetrics(self._output, worker.score.scorer.classes, number)
        pool = self._pool()
        on_gpus = bool(pool.actor_gpus)
        max_actors = min(pool.max_actors or number, number)
        compute = ray.data.ActorPoolStrategy(
            min_size=min(pool.min_actors, max_actors),
            initial_size=min(pool.initial_actors, max_actors),
            max_size=max_actors,
            max_concurrent_calls_per_actor=PARTS_PER_GPU_ACTOR if on_gpus else None,
            enable_true_multi_threading=on_gpus,
        )
        groups = list(_in_groups(tasks, number, max_actors))
        attempts = Attempts(uuid.uuid4().hex, self._config.max_attempts)
        read = ray.put(worker.read)
        source = PartsDatasource(groups, ReadParts(read, attempts) if on_gpus else named_parts)
        # Ray's annotations lack callable classes.
        actor: Any = GPUPartActor if on_gpus else PartActor
        options = data_options(
            # A row is a block: each is passed on, and reported, on its own.
            target_max_block_size=1,
            _max_num_blocks_in_streaming_gen_buffer=MAX_RESULTS_WAITING,
            max_consecutive_actor_init_deaths=MAX_DEATHS_AT_START,
            execution_no_progress_timeout_s=60 * self._config.wait_minutes,
        )
        try:
            with options:
                dataset = ray.data.read_datasource(
                    source, override_num_blocks=len(groups), num_cpus=pool.task_cpus
                ).map_batches(
                    actor,
                    fn_constructor_args=(
                        (worker.score, attempts) if on_gpus else (read, worker.score, attempts)
                    ),
                    # A block. With GPUs Ray Data wants a number, and without them it then no longer
                    # fuses the read tasks with the actors, beside which they would find no CPU.
                    batch_size=1 if on_gpus else None,
                    batch_format="pyarrow",
                    zero_copy_batch=True,
                    compute=compute,
                    num_cpus=pool.actor_cpus,
                    num_gpus=pool.actor_gpus or None,
                )
                for block in tables_of(dataset):
                    for result in results_of(block):
                        metrics.add(result)
                        yield result
        finally:
            forget_counts(attempts.run)


def _in_groups(tasks: Iterable[PartTask], number: int, actors: int) -> Iterator[list[str]]:
    """The parts of each read task, as JSON.

    Args:
        tasks: the parts.
        number: of the parts.
        actors: the most that may work on them.
    """
    fewest = math.ceil(number / MAX_READ_TASKS)
    most = max(fewest, min(MAX_SMALL_PARTS, number // (MIN_TASKS_PER_ACTOR * actors)))
    group: list[str] = []
    rows = 0
    for task in tasks:
        group.append(task.to_json())
        rows += task.rows
        if len(group) >= most or (len(group) >= fewest and rows >= SMALL_TASK_ROWS):
            yield group
            group, rows = [], 0
    if group:
        yield group


def _is_one_machine() -> bool:
    """Whether Ray has one node, with CPUs. A head without any belongs to a cluster."""
    return len(ray.nodes()) == 1 and ray.cluster_resources().get("CPU", 0.0) > 0
