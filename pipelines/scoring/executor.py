"""Where the scoring job does its work: the executor's interface, and one without Ray."""

from collections.abc import Generator, Sequence
from typing import Protocol

from pipelines.scoring.config import OutputSettings
from pipelines.scoring.part_data import PartResult, PartTask
from pipelines.scoring.planner import inspect_shards
from pipelines.scoring.scorer import PartWorker
from pipelines.sources.shard import Counted, Shard


class Executor(Protocol):
    """Inspects shards and scores parts for one job, which closes it at its end."""

    def inspect(self, shards: list[Shard], settings: OutputSettings) -> list[Counted | str]:
        """For each shard its row count and schema, or the reason why it cannot be scored."""

    def score(
        self, tasks: Sequence[PartTask], worker: PartWorker
    ) -> Generator[PartResult, None, None]:
        """Do all tasks and yield their results as they come, in any order.

        Raises Failure if it has to give up. Once the generator is closed, no task is running.
        """

    def close(self) -> None:
        """End what the executor has started. Then no process of its own writes any more."""


class LocalExecutor:
    """Does all work in this process, one shard or part after another."""

    def inspect(self, shards: list[Shard], settings: OutputSettings) -> list[Counted | str]:
        """See `Executor`."""
        return inspect_shards(shards, settings)

    def score(
        self, tasks: Sequence[PartTask], worker: PartWorker
    ) -> Generator[PartResult, None, None]:
        """See `Executor`."""
        for task in tasks:
            yield worker(task)

    def close(self) -> None:
        """See `Executor`."""
