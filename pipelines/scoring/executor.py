"""Where the scoring job does its work: the executor's interface, and one without Ray."""

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import Protocol, TypeVar

from pipelines.scoring.part_data import PartResult, PartTask
from pipelines.scoring.part_worker import PartWorker

Item = TypeVar("Item")
Result = TypeVar("Result")


class Executor(Protocol):
    """Does the work of one job, which closes it at its end."""

    def map(
        self, function: Callable[[Item], Result], items: Sequence[Item]
    ) -> Iterator[tuple[int, Result]]:
        """Call `function`, which pickles, for each item; yield (index, result) as they come.

        Raises what the function raises, and Failure if processes or nodes die again and again.
        """

    def score(
        self,
        tasks: Iterable[PartTask],
        number: int,
        worker: PartWorker,
        say: Callable[[str], None],
    ) -> Generator[PartResult, None, None]:
        """Do the `number` tasks and yield their results as they come, in any order.

        `say` prints a line about what happens meanwhile. Raises Failure if it has to give up. Once
        the generator is closed, no task is running.
        """

    def require_room(self, number: int) -> None:
        """Raise InputError if `number` parts cannot be scored here with the job's flags, and
        Failure if what scores them does not start."""

    def close(self) -> None:
        """End what the executor has started. Then no process of its own writes any more."""


class LocalExecutor:
    """Does all work in this process, one item after another."""

    def map(
        self, function: Callable[[Item], Result], items: Sequence[Item]
    ) -> Iterator[tuple[int, Result]]:
        """See `Executor`."""
        yield from enumerate(map(function, items))

    def score(
        self,
        tasks: Iterable[PartTask],
        number: int,
        worker: PartWorker,
        say: Callable[[str], None],
    ) -> Generator[PartResult, None, None]:
        """See `Executor`."""
        for task in tasks:
            yield worker(task)

    def require_room(self, number: int) -> None:
        """See `Executor`."""

    def close(self) -> None:
        """See `Executor`."""
