"""Count the rows of shards in tasks, show progress, and keep what is counted.

Of shards without a footer all bytes are read, so counting may take hours. What is counted is kept
in the output's `_manifest/` until the plan is there: a planner that was killed goes on where it
was.
"""

import json
import time
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.console.progress import SlowProgress, megabytes
from pipelines.console.terminal import quantity
from pipelines.errors import Failure
from pipelines.scoring.config import OutputSettings, read_options
from pipelines.scoring.counts import Counts, matches
from pipelines.scoring.executor import Executor
from pipelines.scoring.shards import Shards
from pipelines.sources.shard import Counted, Shard
from sentiment import storage
from sentiment.errors import UNREADABLE, InputError, on_one_line

CHUNK_CSV_BYTES = 64 * 2**20
CHUNK_PARQUET_SHARDS = 256
"""A task counts shards up to so much work: half a second on a disk. A CSV shard is not divided."""

CONCURRENT_SHARDS = 24
"""Shards in a bucket that a process opens at the same time: Arrow keeps 25 connections open."""

SMALL_TEXT_BYTES = 2**20
"""Larger shards that are read in full to be counted are counted one after another."""

SHOWN_BYTES = 10**6
"""Where fewer are read in full, the number of shards tells how far counting is."""

KEPT_EVERY_SECONDS = 5.0
KEPT_EVERY_SHARE = 0.05
"""What is counted is kept after so long, and after this share of the time since the start: then
the number of files grows only as the logarithm of the time."""

LAST_RESULTS_SECONDS = 10.0
"""How long results of other tasks are taken and kept after one could not read a shard."""

_KEPT = "counts-"
_KEPT_SETTINGS = b"settings"


def inspect_shard(
    shard: Shard, settings: OutputSettings, columns_only: bool = False
) -> Counted | str:
    """Row count and schema of a shard, or the reason why it cannot be scored.

    With `columns_only`, the schema only: the row count is 0. Raises Unavailable if the shard could
    not be read.
    """
    try:
        if columns_only:
            counted = Counted(0, shard.schema(read_options(settings)))
        else:
            counted = shard.count(read_options(settings))
        counted.require_text(shard.path, settings["text_column"])
    except InputError as error:
        return str(error)
    return counted


def count_shards(
    shards: Sequence[Shard], settings: OutputSettings, executor: Executor, output: str | None
) -> Counts:
    """Count the rows of shards, in tasks of the executor.

    What an earlier process has counted and kept in the directory `output` is not counted again;
    None: nothing is kept.
    Raises Failure if a shard cannot be read now, for a reason outside it, or if nothing can be kept
    in `output`.
    """
    kept = _Kept(output, settings)
    counts = kept.counts(shards)
    if counts.is_done.all():
        return counts  # An executor may start Ray, even for no item.
    chunks = list(_chunks(shards, np.flatnonzero(~counts.is_done)))
    with _CountingProgress(shards, counts) as progress:
        failure = ""
        failed_at = 0.0
        try:
            counted = executor.map(partial(count_chunk, settings=settings), chunks)
            for number, result in counted:
                indices = chunks[number].indices[result.done]
                counts.put(indices, result.counts)
                kept.add([chunks[number].shards[i] for i in result.done], result.counts)
                progress.show()
                if result.failure and not failure:
                    failure, failed_at = result.failure, time.monotonic()
                if failure and time.monotonic() - failed_at > LAST_RESULTS_SECONDS:
                    break
        except BaseException:
            with suppress(Failure):
                kept.write()
            raise
    if failure:
        kept.write()
        raise Failure(f"{failure}: run the same command again")
    return counts


def forget_counts(output: str) -> None:
    """Remove what is kept in the directory `output`: a plan is there, which has all of it."""
    # A file that stays is larger than nothing, and does no other harm.
    with suppress(OSError):
        for path in _kept_files(output):
            storage.remove(path)


@dataclass(frozen=True)
class Chunk:
    """Shards that one task counts."""

    indices: np.ndarray
    """int64[shards]: their indices among all shards."""
    shards: tuple[Shard, ...]


@dataclass(frozen=True)
class CountedChunk:
    """What one task has counted."""

    done: np.ndarray
    """int64[n]: the indices, in the chunk, of the shards that are counted."""
    counts: Counts
    """Counts of those shards."""
    failure: str
    """Why the others are not; "": all are."""


def count_chunk(chunk: Chunk, settings: OutputSettings) -> CountedChunk:
    """Count the shards of a chunk until one cannot be read, for a reason outside it.

    Small shards in a bucket are counted in threads.
    """

    def is_small_in_bucket(shard: Shard) -> bool:
        return "://" in shard.path and (shard.has_footer or shard.size <= SMALL_TEXT_BYTES)

    def count(shard: Shard) -> Counted | str:
        counted = inspect_shard(shard, settings)
        if isinstance(counted, str) or counted.rows > settings["part_rows"]:
            return counted
        # It will not be cut.
        return replace(counted, marks=(), groups=())

    done: dict[int, Counted | str] = {}
    failure = ""
    pool = ThreadPoolExecutor(CONCURRENT_SHARDS)
    in_threads = {
        i: pool.submit(count, shard)
        for i, shard in enumerate(chunk.shards)
        if is_small_in_bucket(shard)
    }
    try:
        for i, shard in enumerate(chunk.shards):
            done[i] = in_threads[i].result() if i in in_threads else count(shard)
    except Failure as error:
        failure = str(error)
    finally:
        # During an outage, each of the others would time out on its own.
        pool.shutdown(cancel_futures=True)
    for i, future in in_threads.items():
        if future.done() and not future.cancelled() and not future.exception():
            done[i] = future.result()
    indices = sorted(done)
    counts = Counts.of([done[i] for i in indices])
    return CountedChunk(np.array(indices, np.int64), counts, failure)


def _chunks(shards: Sequence[Shard], indices: np.ndarray) -> Iterator[Chunk]:
    """The shards with these indices, in order, in chunks of bounded work."""
    start, work = 0, 0.0
    for position, index in enumerate(indices):
        work += _work(shards[index])
        if work >= 1 or position + 1 == len(indices):
            chosen = indices[start : position + 1]
            yield Chunk(chosen, tuple(shards[i] for i in chosen))
            start, work = position + 1, 0.0


def _work(shard: Shard) -> float:
    """The work of counting a shard, as a share of a chunk's."""
    footer = 1 / CHUNK_PARQUET_SHARDS
    return footer if shard.has_footer else footer + shard.size / CHUNK_CSV_BYTES


class _CountingProgress(SlowProgress):
    """Shows how many shards and bytes are counted."""

    def __init__(self, shards: Sequence[Shard], counts: Counts) -> None:
        self._counts = counts
        self._work = np.fromiter(map(_work, shards), float, len(shards))
        self._read_bytes = np.fromiter(
            (0 if shard.has_footer else shard.size for shard in shards), np.int64, len(shards)
        )
        # The speed is that of the work, which a thousandth of a chunk is fine enough for.
        super().__init__(self._amounts, "Counting", max(int(1000 * self._work.sum()), 1))

    def show(self) -> None:
        """Show what is counted by now."""
        self.update(int(1000 * self._work[self._counts.is_done].sum()))

    def _amounts(self, done: int, total: int | None) -> str:
        is_done = self._counts.is_done
        amounts = f"{is_done.sum():,} of {quantity(len(is_done), 'shard')}"
        total_bytes = int(self._read_bytes.sum())
        if total_bytes >= SHOWN_BYTES:
            amounts += f", {megabytes(int(self._read_bytes[is_done].sum()), total_bytes)} read"
        return amounts


class _Kept:
    """What is counted, in files of an output's `_manifest/`.

    They are no more than a memory: whatever is wrong with them, shards are counted again.
    """

    def __init__(self, output: str | None, settings: OutputSettings) -> None:
        self._output = output
        self._settings = json.dumps(dict(sorted(settings.items()))).encode()
        self._began = self._written_at = time.monotonic()
        self._new: list[pa.Table] = []

    def counts(self, shards: Sequence[Shard]) -> Counts:
        """Counts of the shards that an earlier process has kept."""
        counts = Counts.none_of(len(shards))
        paths: list[str] = []
        with suppress(OSError):
            paths = _kept_files(self._output) if self._output else []
        for path in paths:
            try:
                source = pa.BufferReader(storage.read(path))
                table = pq.read_table(source, read_dictionary=["schema"])
                if (table.schema.metadata or {}).get(_KEPT_SETTINGS) != self._settings:
                    continue
                others, known = Counts.from_table(table)
                indices, theirs = matches(shards, others)
                chosen = known.take(theirs)
            except (*UNREADABLE, OSError, pa.ArrowException):
                continue
            counts.put(indices, chosen)
        return counts

    def add(self, shards: Sequence[Shard], counts: Counts) -> None:
        """Keep the counts of these shards: in memory, and after a while in a file."""
        self._new.append(counts.to_table(Shards.of(shards)))
        now = time.monotonic()
        wait = max(KEPT_EVERY_SECONDS, KEPT_EVERY_SHARE * (now - self._began))
        if now - self._written_at >= wait:
            self.write()

    def write(self) -> None:
        """Write what is new to a file of its own. Raises Failure."""
        if not self._new or not self._output:
            return
        table = pa.concat_tables(self._new).unify_dictionaries()
        table = table.replace_schema_metadata({_KEPT_SETTINGS: self._settings})
        name = f"{_KEPT}{uuid.uuid4().hex[:8]}.parquet"
        try:
            with storage.writing(storage.join(self._output, "_manifest", name)) as file:
                pq.write_table(table, file, compression="zstd")
        except OSError as error:
            message = on_one_line(error)
            raise Failure(f"--output {self._output} cannot be written: {message}") from error
        self._new = []
        self._written_at = time.monotonic()


def _kept_files(output: str) -> list[str]:
    directory = storage.join(output, "_manifest")
    names = sorted(name for name in storage.names(directory) if name.startswith(_KEPT))
    return [storage.join(directory, name) for name in names]
