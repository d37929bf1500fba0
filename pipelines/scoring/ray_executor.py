"""The executor on Ray: counts shards in tasks, and scores parts on Ray Data."""

import posixpath
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from pipelines.cluster.datasets import import_ray_data, rows_of
from pipelines.cluster.session import session
from pipelines.cluster.shared_directories import require_shared
from pipelines.console.terminal import quantity
from pipelines.errors import Failure
from pipelines.scoring.config import ScoreConfig
from pipelines.scoring.executor import Item, Result
from pipelines.scoring.part_data import PartResult, PartTask
from pipelines.scoring.scorer import PartWorker
from pipelines.sources.shard import Shard
from sentiment.errors import InputError

MAX_TASKS_IN_FLIGHT = 1000
"""Tasks of `map` that are handed to Ray at the same time."""

MAX_ACTORS = 1000
"""Largest actor pool on a cluster that grows, unless `--num_actors` is given."""

MAX_BLOCKS = 1000
"""Blocks of the dataset of parts."""

MAX_DIRECTORIES_CHECKED = 100
"""Directories of the input that are checked to be visible from every node."""


@dataclass(frozen=True)
class Resources:
    """Size of the actor pool, and what each actor and each reading task asks Ray for."""

    min_actors: int
    max_actors: int
    actor_cpus: float
    actor_gpus: float
    """Share of one GPU; 0: a CPU job, in which the actors also read."""
    task_cpus: float


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
        self._is_started = False

    def map(
        self, function: Callable[[Item], Result], items: Sequence[Item]
    ) -> Iterator[tuple[int, Result]]:
        """See `Executor`. One item is done in this process, without Ray.

        Ray retries a task whose process or node dies, three times.
        """
        if len(items) == 1:
            yield 0, function(items[0])
            return
        self._start()
        task = ray.remote(function)
        waiting = iter(enumerate(items))
        running: dict[Any, int] = {}
        try:
            while True:
                for index, item in islice(waiting, MAX_TASKS_IN_FLIGHT - len(running)):
                    running[task.remote(item)] = index
                if not running:
                    return
                done, _ = ray.wait(list(running))
                for ref in done:
                    yield running.pop(ref), ray.get(ref)
        except RayTaskError as error:
            raise error.cause or error from None
        except RayError as error:
            message = str(error).partition("\n")[0]
            raise Failure(f"Ray gave up ({message}): run the same command again") from error
        finally:
            for ref in running:
                ray.cancel(ref, force=True)

    def score(
        self, tasks: Sequence[PartTask], worker: PartWorker
    ) -> Generator[PartResult, None, None]:
        """See `Executor`."""
        if len(tasks) == 1 and not self._config.use_gpu:
            yield worker(tasks[0])
            return
        self._start()
        try:
            yield from self._stream(tasks, worker)
        except RayTaskError:
            raise  # A task's own exception is a bug in this program.
        except RayError as error:
            message = str(error).partition("\n")[0]
            raise Failure(f"Ray gave up ({message}): run the same command again") from error

    def close(self) -> None:
        """See `Executor`."""
        self._session.close()

    def _start(self) -> None:
        """Start or join Ray, unless that is done, and check that all nodes see the job's files."""
        if self._is_started:
            return
        self._session.enter_context(session(self._config.verbose))
        self._is_started = True
        by_directory = {posixpath.dirname(shard.path): shard.path for shard in self._shards}
        inputs = list(by_directory.values())[:MAX_DIRECTORIES_CHECKED]
        require_shared([*(("--input", path) for path in inputs), ("--output", self._output)])

    def _stream(
        self, tasks: Sequence[PartTask], worker: PartWorker
    ) -> Generator[PartResult, None, None]:
        """Score parts on Ray Data.

        In a GPU job tasks read and tokenize, and a pool of actors scores and writes. In a CPU job,
        where reading is an eighth of the work, the actors do everything: no data crosses between
        processes, and only half as many processes start.
        """
        import_ray_data(self._config.verbose)
        # Its metrics need Ray, which may not run when this module loads.
        from pipelines.scoring.ray_steps import PartActor, PartReaderTask

        resources = resources_for(self._config)
        sizes = (resources.min_actors, resources.max_actors)
        min_size, max_size = (min(size, len(tasks)) for size in sizes)
        pool: dict[str, Any] = {
            "compute": ray.data.ActorPoolStrategy(min_size=min_size, max_size=max_size),
            "num_cpus": resources.actor_cpus,
            "num_gpus": resources.actor_gpus or None,
        }
        rows = [task.to_row() for task in tasks]
        actor: Any = PartActor  # Ray's annotations lack callable classes.
        blocks = min(len(rows), MAX_BLOCKS)
        dataset: ray.data.Dataset = ray.data.from_items(rows, override_num_blocks=blocks)
        if resources.actor_gpus:
            dataset = dataset.map(PartReaderTask(worker.reader), num_cpus=resources.task_cpus)
            dataset = dataset.map(actor, fn_constructor_args=(worker.scorer,), **pool)
        else:
            dataset = dataset.map(actor, fn_constructor_args=(worker,), **pool)
        yield from (PartResult.from_row(row) for row in rows_of(dataset))


def resources_for(config: ScoreConfig) -> Resources:
    """Size of the actor pool and its resources, given the cluster as it is now.

    An actor asks for a CPU, or for a share if there are fewer CPUs than actors. Actors with a GPU
    ask for no CPU, so that the tasks that read for them always find one. Raises InputError if a
    single machine lacks the GPUs.
    """
    cluster = ray.cluster_resources()
    cpus, gpus = cluster.get("CPU", 0.0), cluster.get("GPU", 0.0)
    # An actor's share is of one GPU.
    room = int(gpus) * int(1 / config.gpus_per_actor) if config.use_gpu else int(cpus)
    # A cluster without any is still to grow.
    actors = config.num_actors or room or (1, MAX_ACTORS)
    min_actors, max_actors = actors if isinstance(actors, tuple) else (actors, actors)
    if not config.use_gpu:
        # Ray counts resources in ten-thousandths.
        share = int(min(1.0, cpus / min_actors or 1.0) * 10_000) / 10_000
        return Resources(min_actors, max_actors, share, actor_gpus=0, task_cpus=share)
    # A cluster can grow; a single machine cannot.
    nodes = ray.nodes()
    is_single_machine = len(nodes) == 1 and cpus > 0
    if is_single_machine and max_actors > room:
        raise InputError(
            f"--use_gpu: {gpus:.0f} GPUs here, with room for {quantity(room, 'actor')}: use "
            "fewer --num_actors, a smaller --gpus_per_actor, or a cluster"
        )
    task_cpus = min(1.0, cpus / 2 or 1.0)
    return Resources(min_actors, max_actors, 0, config.gpus_per_actor, task_cpus)
