"""The scoring job on Ray Data: a data source whose read tasks are parts, and the actors that score.

Ray retries a task for ever when its process dies, so attempts of a part are counted where they
outlive the process, in the cluster's own store (`pipelines.cluster.ray_internals`).
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import pyarrow as pa
import ray
from ray.data import Datasource, ReadTask
from ray.data.block import BlockMetadata
from ray.util.metrics import Gauge

from pipelines.cluster.ray_internals import count_in_cluster, counted_in_cluster
from pipelines.scoring.part_data import PartResult, PartTask, from_block, to_block
from pipelines.scoring.part_worker import PartWorker, ReadStep, ScoreStep, failed
from sentiment.numba_cache import load_numba

REPORT_ROWS = 1000
"""An actor reports the parts that it has done when they have so many rows.

When Ray repeats a task whose process has died, it passes over as many blocks as it has had from it.
So which parts are in which block must be the same each time.
"""

PARTS_PER_GPU_ACTOR = 3
"""Parts that an actor with a GPU works on at the same time, each in a thread: while the GPU
computes for one, the next is fetched and sorted, and the last is compressed and written."""


@dataclass(frozen=True)
class Attempts:
    """Counts how often each part was begun, in a store that outlives the processes that work."""

    run: str
    """Name of the run; counts of another run do not matter."""
    max_attempts: int

    def is_first(self, task: PartTask) -> bool:
        """Whether no process has begun the read task whose first part this is. Counts that."""
        return count_in_cluster(self.run, f"task/{task.name}") == 1

    def has_begun(self, step: str, task: PartTask) -> bool:
        """Whether a process has begun a step of a part, which it then did not finish."""
        return counted_in_cluster(self.run, f"{step}/{task.name}") > 0

    def begin(self, step: str, task: PartTask, before: int = 0) -> PartResult | None:
        """Count an attempt at a step. Returns the part's failure if there were too many.

        `before`: attempts that were made without being counted.
        """
        attempts = before + count_in_cluster(self.run, f"{step}/{task.name}") - 1
        if attempts < self.max_attempts:
            return None
        return failed(
            task,
            f"the process died each time that it worked on this part (attempts: {attempts}): out "
            "of memory, or a crash of native code; Ray's logs say more",
        )


class PartsDatasource(Datasource):
    """The parts of a job, a few in each read task.

    Args:
        tasks: The parts of each read task, as JSON: there may be a million.
        blocks_of: Makes the blocks of a read task, given its parts.
    """

    def __init__(
        self,
        tasks: Sequence[Sequence[str]],
        blocks_of: Callable[[Sequence[str]], Iterator[pa.Table]],
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._tasks, self._blocks_of = tasks, blocks_of

    def estimate_inmemory_data_size(self) -> int | None:
        """Unknown. Ray Data asks for it to choose a number of blocks, which is given here."""
        return None

    def get_read_tasks(
        self,
        parallelism: int,
        per_task_row_limit: int | None = None,
        data_context: Any = None,
    ) -> list[ReadTask]:
        """The read tasks, as many as `tasks` has items, whatever `parallelism` is."""
        return [
            ReadTask(
                partial(self._blocks_of, tasks),
                BlockMetadata(
                    num_rows=len(tasks), size_bytes=None, input_files=None, exec_stats=None
                ),
            )
            for tasks in self._tasks
        ]


def named_parts(tasks: Sequence[str]) -> Iterator[pa.Table]:
    """The parts of a read task as a block of one row, for a `PartActor`."""
    yield pa.table({"tasks": ["\n".join(tasks)]})


@dataclass(frozen=True)
class ReadParts:
    """Reads and tokenizes the parts of a read task, for a `GPUPartActor`."""

    step: "ray.ObjectRef[ReadStep]"
    """It holds the vocabulary."""
    attempts: Attempts

    def __call__(self, tasks: Sequence[str]) -> Iterator[pa.Table]:
        """A block for each part, when the one before has been taken."""
        step = _fetched(self.step)
        for task, failure in begun(tasks, self.attempts):
            # Only a part that is not there can be what kills the process.
            yield to_block(step.finished(task) or failure if failure else step(task))


def begun(tasks: Sequence[str], attempts: Attempts) -> Iterator[tuple[PartTask, PartResult | None]]:
    """Each part of a read task, when it is begun, and its failure if it was begun too often.

    To count each takes a small part a sixth of its time. So a process that begins several parts for
    the first time counts only that, and later ones count each part. A part that the first process
    did not reach before it died has one attempt less.
    """
    # Where one attempt is allowed, a part that was not reached would have none.
    counts_each = len(tasks) == 1 or attempts.max_attempts == 1
    before = int(not counts_each)
    parts = [PartTask.from_json(task) for task in tasks]
    is_first = not counts_each and attempts.is_first(parts[0])
    for task in parts:
        yield task, None if is_first else attempts.begin("read", task, before)


@lru_cache(maxsize=1)
def _fetched(step: "ray.ObjectRef[ReadStep]") -> ReadStep:
    """The step, fetched once by each process."""
    load_numba()
    return ray.get(step)


class PartActor:
    """Reads, scores and writes parts on a CPU.

    It returns the results of small parts together: Ray takes longer to pass on a block than such a
    part takes. Its node's Prometheus endpoint shows `ray_sentiment_model_load_seconds`: the time
    that the model took to load in this process.
    """

    def __init__(
        self, read: "ray.ObjectRef[ReadStep]", score: ScoreStep, attempts: Attempts
    ) -> None:
        load_numba()
        self._work = PartWorker(ray.get(read), score)
        self._attempts = attempts
        self._load_seconds = _LoadSeconds(score)

    def __call__(self, block: pa.Table) -> Iterator[pa.Table]:
        """The parts of a read task -> their results, now and then."""
        (tasks,) = block["tasks"].to_pylist()
        done: list[PartResult] = []
        rows = 0
        for task, failure in begun(tasks.split("\n"), self._attempts):
            if failure:
                # Only a part that is not there can be what kills the process.
                done.append(self._work.read.finished(task) or failure)
            else:
                done.append(self._work(task))
            rows += task.rows
            if rows >= REPORT_ROWS:
                yield _results_block(done)
                done, rows = [], 0
        self._load_seconds.show()
        if done:
            yield _results_block(done)


class GPUPartActor:
    """Scores and writes parts that a CPU has read. It shows the same metric as `PartActor`.

    PARTS_PER_GPU_ACTOR threads call it. A part whose process has died is alone in this one: it may
    be what ends the process, and would take attempts from the parts beside it.
    """

    def __init__(self, step: ScoreStep, attempts: Attempts) -> None:
        self._step, self._attempts = step, attempts
        self._places = Places(PARTS_PER_GPU_ACTOR)
        self._load_seconds = _LoadSeconds(step)

    def __call__(self, block: pa.Table) -> pa.Table:
        """A block of a `ReadPart` -> its result."""
        part = from_block(block)
        if isinstance(part, PartResult):
            return _results_block([part])
        with self._places.taken(alone=self._attempts.has_begun("score", part.task)):
            result = self._attempts.begin("score", part.task) or self._step(part)
        self._load_seconds.show()
        return _results_block([result])


class Places:
    """Room for the threads of an actor, which work beside each other, or one alone.

    Args:
        number: of threads that may work at the same time.
    """

    def __init__(self, number: int) -> None:
        self._number = number
        self._free = threading.Semaphore(number)
        self._next = threading.Lock()
        """Held while a thread takes places: two that take all of them would wait for each other,
        and one that does would wait for ever if others could pass it."""

    @contextmanager
    def taken(self, alone: bool) -> Iterator[None]:
        """Context manager: one place for the block, or all of them."""
        places = self._number if alone else 1
        with self._next:
            for _ in range(places):
                self._free.acquire()
        try:
            yield
        finally:
            self._free.release(places)


class _LoadSeconds:
    """The metric of the time that the model took to load."""

    def __init__(self, step: ScoreStep) -> None:
        self._infer = step.scorer.infer
        self._gauge = Gauge("sentiment_model_load_seconds", "Seconds to load the model.")

    def show(self) -> None:
        """Set the metric.

        Again and again: on a GPU the model loads with the first part, and Ray drops a gauge that is
        not set again.
        """
        self._gauge.set(self._infer.load_seconds)


def _results_block(results: Sequence[PartResult]) -> pa.Table:
    """A block of one row, which Ray Data passes on as it is."""
    return pa.table({"results": ["\n".join(result.to_json() for result in results)]})


def results_of(block: pa.Table) -> Iterator[PartResult]:
    """The results in blocks that Ray Data may have joined."""
    for results in block["results"].to_pylist():
        yield from map(PartResult.from_json, results.split("\n"))
