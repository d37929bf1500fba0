"""The scoring job on Ray Data: a data source whose read tasks are parts, and the actors that score.

Ray retries a task for ever when its process dies, so attempts of a part are counted where they
outlive the process, in the cluster's own store (`pipelines.cluster.ray_internals`).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import pyarrow as pa
import ray
from ray.data import Datasource, ReadTask
from ray.data.block import BlockMetadata
from ray.util.metrics import Gauge

from pipelines.cluster.ray_internals import count_in_cluster
from pipelines.scoring.part_data import PartResult, PartTask, from_block, to_block
from pipelines.scoring.part_worker import ReadStep, ScoreStep, failed


@dataclass(frozen=True)
class Attempts:
    """Counts how often each part was begun, in a store that outlives the processes that work."""

    run: str
    """Name of the run; counts of another run do not matter."""
    max_attempts: int

    def is_first(self, task: PartTask) -> bool:
        """Whether no process has begun the read task whose first part this is. Counts that."""
        return count_in_cluster(self.run, f"task/{task.name}") == 1

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
    """The parts of a job. Each read task reads and tokenizes a few, and yields a block for each.

    Args:
        tasks: The parts of each read task, as JSON: there may be a million.
        read: An `ObjectRef` of a `ReadStep`, which holds the vocabulary.
        attempts: Counts attempts at reading.
    """

    def __init__(
        self,
        tasks: Sequence[Sequence[str]],
        read: "ray.ObjectRef[ReadStep]",
        attempts: Attempts,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._tasks, self._read, self._attempts = tasks, read, attempts

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
                partial(_read_parts, tasks, self._read, self._attempts),
                BlockMetadata(
                    num_rows=len(tasks), size_bytes=None, input_files=None, exec_stats=None
                ),
            )
            for tasks in self._tasks
        ]


def _read_parts(
    tasks: Sequence[str], read: "ray.ObjectRef[ReadStep]", attempts: Attempts
) -> Iterator[pa.Table]:
    """A block for each part, when the one before has been taken."""
    step = _fetched(read)
    parts = [PartTask.from_json(task) for task in tasks]
    for task, failure in begun(parts, attempts):
        # Only a part that is not there can be what kills the process.
        yield to_block(step.finished(task) or failure if failure else step(task))


def begun(
    tasks: Sequence[PartTask], attempts: Attempts
) -> Iterator[tuple[PartTask, PartResult | None]]:
    """Each part of a read task, when it is begun, and its failure if it was begun too often.

    To count each takes a small part a sixth of its time. So a process that begins several parts for
    the first time counts only that, and later ones count each part. A part that the first process
    did not reach before it died has one attempt less.
    """
    # Where one attempt is allowed, a part that was not reached would have none.
    counts_each = len(tasks) == 1 or attempts.max_attempts == 1
    before = int(not counts_each)
    is_first = not counts_each and attempts.is_first(tasks[0])
    for task in tasks:
        yield task, None if is_first else attempts.begin("read", task, before)


@lru_cache(maxsize=1)
def _fetched(read: "ray.ObjectRef[ReadStep]") -> ReadStep:
    """The step, fetched once by each process."""
    return ray.get(read)


class PartActor:
    """Scores parts in an actor of the job.

    Its node's Prometheus endpoint shows `ray_sentiment_model_load_seconds`: the time that the model
    took to load in this process.
    """

    def __init__(self, step: ScoreStep, attempts: Attempts | None) -> None:
        self._step, self._attempts = step, attempts
        self._infer = step.scorer.infer
        self._loading = Gauge("sentiment_model_load_seconds", "Seconds to load the model.")

    def __call__(self, block: pa.Table) -> pa.Table:
        """A block of a `ReadPart` -> a block of its `PartResult`."""
        part = from_block(block)
        if isinstance(part, PartResult):
            return to_block(part)
        if self._attempts and (failure := self._attempts.begin("score", part.task)):
            return to_block(failure)
        result = self._step(part)
        # Set with every part: on a GPU the model loads with the first one, and Ray drops a gauge
        # that is not set again.
        self._loading.set(self._infer.load_seconds)
        return to_block(result)


def results_of(block: pa.Table) -> Iterator[PartResult]:
    """The results in blocks that Ray Data may have joined."""
    for content in block["result"].to_pylist():
        yield PartResult.from_json(content)
