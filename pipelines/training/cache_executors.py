"""Executors of the steps of preparing a corpus: LocalCacheExecutor here, RayCacheExecutor on Ray.

Both have the same methods, and give the same corpus.
"""

import math
import pickle
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from operator import itemgetter
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.compute as pc
import ray.data
from ray.exceptions import RayTaskError

from pipelines.cluster import arrow_ipc as ipc
from pipelines.cluster.datasets import rows_of, tables_of
from pipelines.cluster.ray_internals import watched
from pipelines.console.progress import SlowProgress, megabytes
from pipelines.console.terminal import quantity
from pipelines.errors import Failure, Unavailable
from pipelines.sources.pieces import ShardPiece
from pipelines.training.cache_steps import PieceCounts, WrittenFile
from sentiment.text import vocabulary

Result = TypeVar("Result")

PARTITION_TOKENS = 500_000
"""Distinct tokens, counted once per piece, whose counts one task adds up, approximately."""


class LocalCacheExecutor:
    """Runs the steps in this process: for small corpora."""

    def __init__(self, pieces: list[ShardPiece]) -> None:
        self._pieces = pieces
        self._frequencies: list[pa.Table] = []

    def each(self, step: Callable[[ShardPiece], Result]) -> list[Result]:
        """The step's result for every piece, in order."""
        return [step(piece) for piece in self._pieces]

    def count(self, step: Callable[[ShardPiece], PieceCounts]) -> list[PieceCounts]:
        """The step's result for every piece, without `frequencies`, which the executor keeps."""
        counts = [step(piece) for piece in self._pieces]
        self._frequencies = [each.frequencies for each in counts if each.frequencies is not None]
        return [replace(each, frequencies=None) for each in counts]

    def frequencies(self, distinct_tokens: int, texts: int, min_share: float) -> Iterable[pa.Table]:
        """The frequencies that `count` kept. A token may be in several tables.

        Args:
            distinct_tokens: sum of `distinct_tokens` over all pieces.
            texts: number of training texts.
            min_share: tokens in at most this share of the texts may be missing.
        """
        return self._frequencies

    def write(
        self,
        encode: Callable[[ShardPiece], Iterator[pa.Table]],
        write: Callable[[pa.Table], WrittenFile],
        files: int,
    ) -> list[WrittenFile]:
        """Encode every piece, bring rows with the same `file` together, and write each file.

        Args:
            encode: gives tables with a column `file`.
            write: writes the rows of a file.
            files: number of files of each split.
        """
        rows = pa.concat_tables([table for piece in self._pieces for table in encode(piece)])
        numbers = pc.unique(rows["file"])
        return [write(rows.filter(pc.equal(rows["file"], number))) for number in numbers]


class RayCacheExecutor:
    """Runs the steps as tasks of Ray Data: for any number of rows.

    A task takes a piece and returns a result as the row of a dataset. The methods are those of
    LocalCacheExecutor.
    """

    def __init__(self, pieces: list[ShardPiece]) -> None:
        self._pieces = ray.data.from_items(
            [{"place": place, "piece": pickle.dumps(piece)} for place, piece in enumerate(pieces)]
        )
        self._size = sum(piece.size for piece in pieces)
        self._counted: ray.data.Dataset | None = None

    @contextmanager
    def _progress(self, label: str, files: bool = False) -> Iterator[None]:
        """Context manager: show how much of the pieces is read, and `files` that are written."""
        blocks = self._pieces.num_blocks()

        def show(blocks_done: int, rows_made: int) -> None:
            details = f"{quantity(rows_made, 'file')} written" if files else ""
            progress.update(self._size * blocks_done // blocks, details)

        with SlowProgress(megabytes, label, self._size) as progress, watched(show):
            yield

    def each(self, step: Callable[[ShardPiece], Result]) -> list[Result]:
        """See LocalCacheExecutor."""
        results = self._pieces.map(
            lambda row: {
                "place": row["place"],
                "result": pickle.dumps(step(pickle.loads(row["piece"]))),
            }
        )
        with self._progress("Reading"):
            return _in_order(results)

    def count(self, step: Callable[[ShardPiece], PieceCounts]) -> list[PieceCounts]:
        """See LocalCacheExecutor. Ray keeps the frequencies, on disk if memory is short.

        The distinct tokens of a large corpus are too many for one process.
        """

        def count(row: dict[str, Any]) -> dict[str, Any]:
            counts = step(pickle.loads(row["piece"]))
            table = ipc.to_bytes(counts.frequencies)
            # As bytes: of dicts with other keys in each row Arrow would make one struct.
            result = pickle.dumps(replace(counts, frequencies=None))
            return {"place": row["place"], "result": result, "frequencies": table}

        with self._progress("Counting words"):
            self._counted = self._pieces.map(count).materialize()
        return _in_order(self._counted.drop_columns(["frequencies"]))

    def frequencies(self, distinct_tokens: int, texts: int, min_share: float) -> Iterable[pa.Table]:
        """See LocalCacheExecutor. Only tokens that are frequent enough come to this process."""
        assert self._counted is not None, "count comes first"
        tables = self._counted.map_batches(
            lambda batch: (ipc.from_bytes(content.as_py()) for content in batch["frequencies"]),
            batch_size=1,
            batch_format="pyarrow",
        )
        partitions = math.ceil((distinct_tokens + 1) / PARTITION_TOKENS)
        summed = tables.groupby("token", num_partitions=partitions).sum("texts")
        frequent = summed.map_batches(
            lambda table: vocabulary.frequent(
                table.rename_columns(["token", "texts"]), texts, min_share
            ),
            batch_size=None,
            batch_format="pyarrow",
        )
        return tables_of(frequent)

    def write(
        self,
        encode: Callable[[ShardPiece], Iterator[pa.Table]],
        write: Callable[[pa.Table], WrittenFile],
        files: int,
    ) -> list[WrittenFile]:
        """See LocalCacheExecutor."""
        rows = self._pieces.map_batches(
            lambda batch: (
                table
                for content in batch["piece"].to_pylist()
                for table in encode(pickle.loads(content))
            ),
            batch_size=1,
            batch_format="pyarrow",
        )
        written = rows.groupby("file", num_partitions=2 * files).map_groups(
            lambda table: pa.Table.from_pylist([asdict(write(table))]), batch_format="pyarrow"
        )
        try:
            with self._progress("Writing token ids", files=True):
                return [WrittenFile(**row) for row in rows_of(written)]
        except RayTaskError as error:
            # It has lost its cause, of which only the text is left.
            outage = f"{Unavailable.__module__}.{Unavailable.__name__}: "
            for line in str(error).splitlines():
                if line.startswith(outage):
                    message = line.removeprefix(outage)
                    raise Failure(f"{message}: run the same command again") from None
            raise


def _in_order(results: ray.data.Dataset) -> list[Any]:
    """The results of tasks, which end in any order, in that of their pieces."""
    rows = sorted(rows_of(results), key=itemgetter("place"))
    return [pickle.loads(row["result"]) for row in rows]
