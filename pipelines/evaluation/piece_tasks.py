"""A function for each piece: in this process, or in tasks of Ray where there is much to read."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from typing import TypeVar

from pipelines.console.progress import SlowProgress, megabytes
from pipelines.sources.counted import Counted
from pipelines.sources.pieces import ShardPiece, divided
from pipelines.sources.shard import Shard

Result = TypeVar("Result")

LARGE_BYTES = 2**28
"""Ray starts for shards of so many bytes in all. One core needs 20 s to a minute for them, by the
model, and Ray five seconds to start."""

TASK_BYTES = 2**25
"""Pieces of so many bytes in all make a task, which first loads what the function needs, such as a
model."""


class PieceTasks:
    """Calls functions for pieces. `close` ends the Ray that it may have started."""

    def __init__(self) -> None:
        self._session = ExitStack()
        self._is_started = False

    def pieces(
        self, shards: Sequence[Shard], count: Callable[[Shard], Counted]
    ) -> list[ShardPiece]:
        """The pieces of the shards, several of a large one.

        `count` counts a shard's rows, and pickles. Raises what it raises.
        """
        if _is_little(shards):
            # Their pieces tell how far it is.
            return divided(shards, partial(map, count))
        from pipelines.cluster.tasks import map_in_order

        self._start(shards)
        return divided(shards, partial(map_in_order, count))

    def map(
        self, label: str, function: Callable[[ShardPiece], Result], pieces: Sequence[ShardPiece]
    ) -> Iterator[Result]:
        """Call `function`, which pickles, for each piece; the results in order.

        Lines that begin with `label` say how far it is. Raises what the function raises, and
        Failure if processes or nodes die again and again.
        """
        done = 0
        with SlowProgress(megabytes, label, sum(piece.size for piece in pieces)) as progress:
            for piece, result in zip(pieces, self._results(function, pieces), strict=True):
                done += piece.size
                progress.update(done)
                yield result

    def _results(
        self, function: Callable[[ShardPiece], Result], pieces: Sequence[ShardPiece]
    ) -> Iterator[Result]:
        if _is_little(pieces):
            yield from map(function, pieces)
            return
        # Ray takes seconds to load.
        from pipelines.cluster.tasks import map_in_order

        self._start([piece.shard for piece in pieces])
        for results in map_in_order(partial(_each, function), _chunks(pieces)):
            yield from results

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


def _is_little(read: Sequence[Shard] | Sequence[ShardPiece]) -> bool:
    return sum(each.size for each in read) < LARGE_BYTES


def _chunks(pieces: Sequence[ShardPiece]) -> list[list[ShardPiece]]:
    """The pieces of each task, in order."""
    chunks: list[list[ShardPiece]] = [[]]
    held = 0
    for piece in pieces:
        chunks[-1].append(piece)
        held += piece.size
        if held >= TASK_BYTES:
            chunks.append([])
            held = 0
    return [chunk for chunk in chunks if chunk]


def _each(function: Callable[[ShardPiece], Result], chunk: Sequence[ShardPiece]) -> list[Result]:
    return [function(piece) for piece in chunk]
