"""Shards as columns: a plan, and a listing, may have a million."""

from collections.abc import Iterator, Sequence
from typing import overload

import numpy as np
import pyarrow as pa

from pipelines.sources.shard import Shard
from pipelines.sources.shard_file import DIGEST_BYTES

_ITERATED_AT_A_TIME = 10_000


class Shards(Sequence[Shard]):
    """Shards as columns; `Shard` objects are made on demand.

    Args:
        paths: large_string[shards].
        sizes: int64[shards], bytes.
        modified: int64[shards], nanoseconds since 1970.
        digests: uint8[shards, DIGEST_BYTES], `Counted.digest`; zeros: not known. None: none is.
    """

    def __init__(
        self,
        paths: pa.LargeStringArray,
        sizes: np.ndarray,
        modified: np.ndarray,
        digests: np.ndarray | None = None,
    ) -> None:
        self.paths, self.sizes, self.modified = paths, sizes, modified
        none = np.zeros((len(sizes), DIGEST_BYTES), np.uint8)
        self.digests = none if digests is None else digests

    @staticmethod
    def of(shards: Sequence[Shard]) -> "Shards":
        """These shards as columns."""
        if isinstance(shards, Shards):
            return shards
        return Shards(
            pa.array([shard.path for shard in shards], pa.large_string()),
            np.array([shard.size for shard in shards], np.int64),
            np.array([shard.modified for shard in shards], np.int64),
        )

    @staticmethod
    def concatenate(shards: Sequence["Shards"]) -> "Shards":
        """The shards of all of these, in order."""
        none = Shards.of([])
        return Shards(
            pa.concat_arrays([none.paths, *(each.paths for each in shards)]),
            np.concatenate([none.sizes, *(each.sizes for each in shards)]),
            np.concatenate([none.modified, *(each.modified for each in shards)]),
            np.concatenate([none.digests, *(each.digests for each in shards)]),
        )

    def take(self, indices: np.ndarray) -> "Shards":
        """The shards with these indices, int64[n]."""
        return Shards(
            self.paths.take(pa.array(indices, pa.int64())),
            self.sizes[indices],
            self.modified[indices],
            self.digests[indices],
        )

    def with_digests(self, digests: np.ndarray) -> "Shards":
        """The same shards with digests, uint8[shards, DIGEST_BYTES]."""
        return Shards(self.paths, self.sizes, self.modified, digests)

    def __len__(self) -> int:
        return len(self.sizes)

    @overload
    def __getitem__(self, index: int) -> Shard: ...

    @overload
    def __getitem__(self, index: slice) -> "Shards": ...

    def __getitem__(self, index: int | slice) -> "Shard | Shards":
        if isinstance(index, slice):
            columns = (self.paths, self.sizes, self.modified, self.digests)
            return Shards(*(column[index] for column in columns))
        path = self.paths[int(index)].as_py()
        return Shard(path, int(self.sizes[index]), int(self.modified[index]))

    def __iter__(self) -> Iterator[Shard]:
        for start in range(0, len(self), _ITERATED_AT_A_TIME):
            some = self[start : start + _ITERATED_AT_A_TIME]
            yield from map(
                Shard, some.paths.to_pylist(), some.sizes.tolist(), some.modified.tolist()
            )

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Shards)
            and self.paths.equals(other.paths)
            and np.array_equal(self.sizes, other.sizes)
            and np.array_equal(self.modified, other.modified)
            and np.array_equal(self.digests, other.digests)
        )

    __hash__ = None  # type: ignore[assignment]


def digest_column(digests: np.ndarray) -> pa.FixedSizeBinaryArray:
    """Digests, uint8[n, DIGEST_BYTES], as fixed_size_binary[n]; null: not known."""
    content = pa.py_buffer(np.ascontiguousarray(digests).tobytes())
    kind = pa.binary(DIGEST_BYTES)
    whole = pa.FixedSizeBinaryArray.from_buffers(kind, len(digests), [None, content])
    is_known = digests.any(axis=1)
    if is_known.all():
        return whole
    return whole.take(pa.array(np.arange(len(whole)), mask=~is_known))


def digests_of(column: pa.FixedSizeBinaryArray) -> np.ndarray:
    """The inverse of `digest_column`."""
    column = column.fill_null(pa.scalar(bytes(DIGEST_BYTES), column.type))
    content = np.frombuffer(column.buffers()[1], np.uint8).reshape(-1, DIGEST_BYTES)
    digests: np.ndarray = content[column.offset : column.offset + len(column)]
    return digests
