"""A function for each shard: in this process, or in tasks of Ray where there is much to read."""

import posixpath
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import TypeVar

from pipelines.sources.shard import Shard

Result = TypeVar("Result")

LARGE_BYTES = 2**28
"""Ray starts for shards of so many bytes in all. One core needs 20 s to a minute for them, by the
model, and Ray five seconds to start."""

MAX_DIRECTORIES_CHECKED = 100
"""Directories of shards that are checked to be visible from every node."""


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
        early: dict[int, Result] = {}
        following = 0
        for number, result in map_in_tasks(function, numbered):
            early[number] = result
            while following in early:
                yield early.pop(following)
                following += 1

    def close(self) -> None:
        """End the Ray that this has started."""
        self._session.close()

    def _start(self, shards: Sequence[Shard]) -> None:
        from pipelines.cluster.session import session
        from pipelines.cluster.shared_directories import require_shared

        if not self._is_started:
            self._session.enter_context(session())
            self._is_started = True
        by_directory = {posixpath.dirname(shard.path): shard.path for shard in shards}
        inputs = list(by_directory.values())[:MAX_DIRECTORIES_CHECKED]
        require_shared([("--data_dir", path) for path in inputs])
