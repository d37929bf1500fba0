"""A function for each shard: in this process, or in tasks of Ray where there is much to read."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from typing import TypeVar

from pipelines.sources.shard import Shard

Result = TypeVar("Result")

LARGE_BYTES = 2**28
"""Ray starts for shards of so many bytes in all. One core needs 20 s to a minute for them, by the
model, and Ray five seconds to start."""

TASK_BYTES = 2**25
"""Shards of so many bytes in all make a task, which first loads what the function needs, such as a
model."""


class ShardTasks:
    """Calls functions for shards. `close` ends the Ray that it may have started."""

    def __init__(self) -> None:
        self._session = ExitStack()
        self._is_started = False

    def map(
        self, function: Callable[[tuple[int, Shard]], Result], shards: Sequence[Shard]
    ) -> Iterator[Result]:
        """Call `function`, which pickles, for each shard with its number; the results in order.

        Raises what the function raises, and Failure if processes or nodes die again and again.
        """
        numbered = list(enumerate(shards))
        if len(shards) == 1 or sum(shard.size for shard in shards) < LARGE_BYTES:
            yield from map(function, numbered)
            return
        # Ray takes seconds to load.
        from pipelines.cluster.tasks import map_in_tasks

        self._start(shards)
        early: dict[int, list[Result]] = {}
        following = 0
        for number, results in map_in_tasks(partial(_each, function), _chunks(numbered)):
            early[number] = results
            while following in early:
                yield from early.pop(following)
                following += 1

    def close(self) -> None:
        """End the Ray that this has started."""
        self._session.close()

    def _start(self, shards: Sequence[Shard]) -> None:
        from pipelines.cluster.session import session
        from pipelines.cluster.shared_directories import one_of_each_directory, require_shared

        if not self._is_started:
            self._session.enter_context(session())
            self._is_started = True
        paths = one_of_each_directory(shard.path for shard in shards)
        require_shared([("--data_dir", path) for path in paths])


def _chunks(numbered: Sequence[tuple[int, Shard]]) -> list[list[tuple[int, Shard]]]:
    """The shards of each task, in order."""
    chunks: list[list[tuple[int, Shard]]] = [[]]
    held = 0
    for number, shard in numbered:
        chunks[-1].append((number, shard))
        held += shard.size
        if held >= TASK_BYTES:
            chunks.append([])
            held = 0
    return [chunk for chunk in chunks if chunk]


def _each(
    function: Callable[[tuple[int, Shard]], Result], chunk: Sequence[tuple[int, Shard]]
) -> list[Result]:
    return [function(numbered) for numbered in chunk]
