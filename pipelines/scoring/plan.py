"""The plan: which rows of which shards make which part, and the plan's Parquet file.

`pipelines.scoring.planner` makes plans, before any row is scored. An output has a plan for each
time that the job found new shards (`pipelines.scoring.output`).

A plan may have millions of shards and parts. So they are columns, in memory and in the file;
`Part` objects are made on demand, as `Shard` objects are.
"""

import base64
import itertools
import json
import posixpath
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TypeAlias, cast, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipelines.errors import Failure
from pipelines.scoring.sealed_parquet import parquet_content, read_parquet
from pipelines.scoring.shards import Shards, digest_column, digests_of
from pipelines.sources.arrow_types import plain_schema
from pipelines.sources.names import partition_directory
from pipelines.sources.rows import Span
from pipelines.sources.shard_file import DIGEST_BYTES
from sentiment.errors import UNREADABLE, InputError

FORMAT = 2
"""Format 1 was JSON."""

PIECES = pa.schema(
    [
        ("part", pa.int64()),
        pa.field("shard", pa.int64(), nullable=False),
        pa.field("path", pa.string(), nullable=False),
        pa.field("bytes", pa.int64(), nullable=False),
        pa.field("modified", pa.int64(), nullable=False),
        ("digest", pa.binary(DIGEST_BYTES)),
        pa.field("rows_before", pa.int64(), nullable=False),
        pa.field("rows", pa.int64(), nullable=False),
        pa.field("mark_row", pa.int64(), nullable=False),
        pa.field("mark_byte", pa.int64(), nullable=False),
        ("error", pa.string()),
        ("change", pa.string()),
        ("earlier", pa.string()),
    ]
)
"""Schema of the file. Each row is a piece of a shard, in order: the number of its part, the index
of the shard, the shard, and a `Span`. A shard of which no part has any row has one row, without a
part; `error` says why the shard could not be opened.

Rows with a `change` come last, and are about earlier plans: the shard that is here now was
`earlier` at another path or time (MOVED), the shard's rows are no longer in the output (GONE), the
part is no longer in the output (RETIRED)."""

MOVED, GONE, RETIRED = "moved", "gone", "retired"

PieceNumbers: TypeAlias = tuple[int, int, int, int, int]
"""A piece as numbers: the index of its shard, then the numbers of its `Span`."""

_ITERATED_AT_A_TIME = 10_000


@dataclass(frozen=True)
class Piece:
    """Consecutive rows of a shard."""

    shard: int
    """Index of the shard in the plan."""
    span: Span


@dataclass(frozen=True)
class Part:
    """The rows that become one output file: a run of rows of one shard, or several small shards."""

    name: str
    """The path of its file below the output, without `.parquet`."""
    pieces: tuple[Piece, ...]

    @property
    def rows(self) -> int:
        """Number of input rows, including those that will be rejected."""
        return sum(piece.span.rows for piece in self.pieces)


@dataclass(frozen=True, eq=False)
class Parts(Sequence[Part]):
    """Parts as columns. Pieces are in the order of their parts."""

    numbers: np.ndarray
    """int64[parts]: the numbers in the parts' names."""
    starts: np.ndarray
    """int64[parts + 1]: the index of each part's first piece; the last is the number of pieces."""
    pieces: np.ndarray
    """int64[pieces, 5]: the index of the shard, then the numbers of a `Span`."""
    directories: pa.StringArray | None = None
    """string[parts]: the directory of each part below the output, `key=value/...`; None: all are in
    the output itself."""

    @property
    def rows(self) -> np.ndarray:
        """int64[parts]: the number of input rows of each part."""
        sums = np.concatenate([[0], np.cumsum(self.pieces[:, 2])])
        return cast(np.ndarray, np.diff(sums[self.starts]))

    @property
    def names(self) -> pa.StringArray:
        """string[parts]: the names of the parts, without making parts."""
        names = pa.array(map(_name_of, self.numbers.tolist()), pa.string())
        if self.directories is None:
            return names
        return pc.binary_join_element_wise(self.directories, names, "")

    def partitioned(self, shards: Shards, keys: Sequence[str]) -> "Parts":
        """The same parts, in the directories of their shards' values of the keys, if there are any.

        Args:
            shards: of the plan. Those of a part have the same values.
            keys: of `key=value` directories.
        """
        if not keys:
            return self
        directories = partition_directories(shards.paths, keys)
        return replace(
            self, directories=directories.take(pa.array(self.pieces[self.starts[:-1], 0]))
        )

    def take(self, indices: np.ndarray) -> "Parts":
        """The parts with these indices, int64[n], ascending."""
        if len(indices) == len(self):
            return self
        sizes = np.diff(self.starts)
        is_taken = np.zeros(len(self), bool)
        is_taken[indices] = True
        return Parts(
            self.numbers[indices],
            np.concatenate([[0], np.cumsum(sizes[indices])]).astype(np.int64),
            self.pieces[np.repeat(is_taken, sizes)],
            self.directories and self.directories.take(pa.array(indices)),
        )

    def __len__(self) -> int:
        return len(self.numbers)

    @overload
    def __getitem__(self, index: int) -> Part: ...

    @overload
    def __getitem__(self, index: slice) -> "Parts": ...

    def __getitem__(self, index: int | slice) -> "Part | Parts":
        if isinstance(index, slice):
            indices = np.arange(len(self))[index]
            if (np.diff(indices) < 0).any():
                raise ValueError("parts are ascending: a slice cannot go backwards")
            return self.take(indices)
        index = range(len(self))[index]
        return next(self._made(index, index + 1))

    def __iter__(self) -> Iterator[Part]:
        for start in range(0, len(self), _ITERATED_AT_A_TIME):
            yield from self._made(start, min(start + _ITERATED_AT_A_TIME, len(self)))

    def _made(self, start: int, stop: int) -> Iterator[Part]:
        """The parts from index `start` up to `stop`."""
        starts = self.starts[start : stop + 1]
        pieces = self.pieces[starts[0] : starts[-1]].tolist()
        edges = (starts - starts[0]).tolist()
        numbers = self.numbers[start:stop].tolist()
        directories = [""] * len(numbers)
        if self.directories is not None:
            directories = self.directories[start:stop].to_pylist()
        for number, directory, (first, last) in zip(
            numbers, directories, itertools.pairwise(edges), strict=True
        ):
            made = (Piece(shard, Span(*span)) for shard, *span in pieces[first:last])
            yield Part(f"{directory}{_name_of(number)}", tuple(made))

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Parts)
            and np.array_equal(self.numbers, other.numbers)
            and np.array_equal(self.starts, other.starts)
            and np.array_equal(self.pieces, other.pieces)
            and self.names.equals(other.names)
        )

    __hash__ = None  # type: ignore[assignment]


@dataclass(frozen=True)
class Changes:
    """What has become of the shards and parts of earlier plans when a plan was made."""

    earlier: pa.LargeStringArray
    """large_string[moved]: the paths of shards that are elsewhere now, or were written again."""
    moved: Shards
    """The same shards as they are now."""
    gone: pa.LargeStringArray
    """large_string[gone]: the paths of shards whose rows are no longer in the output."""
    retired: np.ndarray
    """int64[retired]: numbers of parts that are no longer in the output, ascending."""

    @staticmethod
    def none() -> "Changes":
        """Nothing has changed."""
        none = Shards.of([])
        return Changes(none.paths, none, none.paths, np.zeros(0, np.int64))

    def __bool__(self) -> bool:
        return bool(len(self.moved) or len(self.gone) or len(self.retired))

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Changes)
            and self.earlier.equals(other.earlier)
            and self.moved == other.moved
            and self.gone.equals(other.gone)
            and np.array_equal(self.retired, other.retired)
        )

    __hash__ = None  # type: ignore[assignment]

    def to_table(self, first_shard: int) -> pa.Table:
        """The changes with the schema PIECES; their shards are counted from `first_shard`."""
        moved, gone, retired = len(self.moved), len(self.gone), len(self.retired)
        rows = moved + gone + retired
        no_path = pa.nulls(retired, pa.large_string()).fill_null("")
        zeros = np.zeros(gone + retired, np.int64)
        none = np.zeros(rows, np.int64)
        no_digest = pa.nulls(gone + retired, PIECES.field("digest").type)
        columns = [
            pa.array(
                np.concatenate([np.zeros(moved + gone, np.int64), self.retired]),
                mask=np.arange(rows) < moved + gone,
            ),
            first_shard + np.arange(rows),
            pa.concat_arrays([self.moved.paths, self.gone, no_path]).cast(pa.string()),
            np.concatenate([self.moved.sizes, zeros]),
            np.concatenate([self.moved.modified, zeros]),
            pa.concat_arrays([digest_column(self.moved.digests), no_digest]),
            *[none] * 4,
            pa.nulls(rows, pa.string()),
            pa.array([MOVED] * moved + [GONE] * gone + [RETIRED] * retired, pa.string()),
            pa.concat_arrays([self.earlier, pa.nulls(gone + retired, pa.large_string())]).cast(
                pa.string()
            ),
        ]
        return pa.table(columns, schema=PIECES)

    @staticmethod
    def from_table(table: pa.Table) -> "Changes":
        """The inverse of `to_table`. Raises ValueError if the rows are not those of changes."""
        moved, gone, retired = (
            table.filter(pc.equal(table["change"], kind)) for kind in (MOVED, GONE, RETIRED)
        )
        numbers = _numbers(retired["part"])
        if len(moved) + len(gone) + len(retired) < len(table) or (np.diff(numbers) <= 0).any():
            raise ValueError("invalid changes")
        return Changes(_paths(moved["earlier"]), _shards(moved), _paths(gone["path"]), numbers)


@dataclass(frozen=True)
class Plan:
    """The shards of one run of the planner, and their parts."""

    settings: Mapping[str, object]
    """What the output's bytes follow from, besides the shards: `OutputSettings` of the version that
    made the plan."""
    shards: Shards
    parts: Parts
    schema: pa.Schema
    """Schema of the columns that are kept from the input. The first plan with rows decides it."""
    unreadable: dict[int, str]
    """Indices of the shards that could not be opened, each with the reason."""
    notes: tuple[str, ...] = ()
    """What a user should know of the shards' columns: what is cast, missing or left out."""
    changes: Changes = field(default_factory=Changes.none)
    """What has become of the shards and parts of earlier plans."""

    @property
    def rows(self) -> list[int | None]:
        """Number of rows of each shard; None: it could not be opened."""
        counts = np.zeros(len(self.shards), np.int64)
        np.add.at(counts, self.parts.pieces[:, 0], self.parts.pieces[:, 2])
        return [None if i in self.unreadable else rows for i, rows in enumerate(counts.tolist())]

    def to_bytes(self) -> bytes:
        """The content of the plan's file. Equal plans give equal bytes."""
        metadata = {
            b"format": str(FORMAT),
            b"settings": json.dumps(dict(sorted(self.settings.items()))),
            b"schema": base64.b64encode(self.schema.serialize()).decode(),
            b"notes": json.dumps(self.notes),
        }
        table = pa.concat_tables([self._table(), self.changes.to_table(len(self.shards))])
        content: bytes = parquet_content(table, metadata).to_pybytes()
        return content

    def _table(self) -> pa.Table:
        """The plan with the schema PIECES."""
        pieces = self.parts.pieces
        without = np.setdiff1d(np.arange(len(self.shards)), pieces[:, 0])
        none = np.zeros((len(without), 5), np.int64)
        none[:, 0] = without
        whole = np.concatenate([pieces, none])
        parts = np.repeat(self.parts.numbers, np.diff(self.parts.starts))
        parts = np.concatenate([parts, np.full(len(without), -1)])
        order = np.argsort(whole[:, 0], kind="stable")
        whole, parts = whole[order], parts[order]
        indices, *spans = (np.ascontiguousarray(column) for column in whole.T)
        errors = pa.array(
            map(self.unreadable.get, indices.tolist()) if self.unreadable else [None] * len(order),
            pa.string(),
        )
        columns = [
            pa.array(parts, mask=parts < 0),
            indices,
            self.shards.paths.take(pa.array(indices)).cast(pa.string()),
            self.shards.sizes[indices],
            self.shards.modified[indices],
            digest_column(self.shards.digests).take(pa.array(indices)),
            *spans,
            errors,
            *[pa.nulls(len(order), pa.string())] * 2,
        ]
        return pa.table(columns, schema=PIECES)

    @staticmethod
    def from_bytes(content: bytes, path: str) -> "Plan":
        """Parse the content of a plan's file; `path` is for messages.

        Raises Failure if it is damaged, and InputError if it has another format.
        """
        try:
            if content[:1] == b"{":
                raise _other_format(path, json.loads(content)["format"])
            metadata = pq.read_metadata(pa.BufferReader(content)).metadata
            if int(metadata[b"format"]) != FORMAT:
                raise _other_format(path, int(metadata[b"format"]))
            # The checksum is verified before any page is decoded.
            file = read_parquet(content)
            schema = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(metadata[b"schema"])))
            settings = dict(json.loads(metadata[b"settings"]))
            # The checksum finds damage; it does not stop an attacker, so columns are checked too.
            read = file.schema_arrow
            if (read.names, read.types) != (PIECES.names, PIECES.types):
                raise ValueError("other columns")
            table = file.read(use_threads=False).cast(PIECES)
            is_planned = pc.is_null(table["change"])
            shards, parts, unreadable = _columns(table.filter(is_planned))
            parts = parts.partitioned(shards, settings.get("partition_by", ()))
            changes = Changes.from_table(table.filter(pc.invert(is_planned)))
            # Earlier versions wrote none.
            notes = tuple(map(str, json.loads(metadata.get(b"notes", "[]"))))
            return Plan(settings, shards, parts, plain_schema(schema), unreadable, notes, changes)
        except InputError:
            raise
        except (*UNREADABLE, AttributeError, OSError, pa.ArrowException):
            raise Failure(
                f"{path} is damaged: choose another --output, or pass --overwrite"
            ) from None


def _name_of(number: int) -> str:
    return f"part-{number:06d}"


def number_of(name: str) -> int:
    """The number in a part's name."""
    return int(name.rpartition("-")[2])


def partition_directories(paths: pa.LargeStringArray, keys: Sequence[str]) -> pa.StringArray:
    """string[shards]: the directory below the output of the parts of each shard."""
    # Shards of one directory have the same values.
    of = lru_cache(maxsize=4096)(lambda directory: partition_directory(f"{directory}/", keys))
    return pa.array((of(posixpath.dirname(path)) for path in paths.to_pylist()), pa.string())


def plan_file(number: int) -> str:
    """The name of the file of an output's plan."""
    return f"plan-{number:05d}.parquet"


def _other_format(path: str, found: int) -> InputError:
    return InputError(
        f"{path} has format {found}, not {FORMAT}: finish the job with the version that began it, "
        "or choose another --output"
    )


def _columns(table: pa.Table) -> tuple[Shards, Parts, dict[int, str]]:
    """The shards, the parts, and the shards that could not be opened, of a plan's table.

    Raises ValueError if they are not those of a plan.
    """
    table = table.combine_chunks()
    is_piece = np.asarray(table["part"].is_valid())
    numbers = _numbers(table["part"])
    names = ["shard", "rows_before", "rows", "mark_row", "mark_byte"]
    spans = np.stack([_numbers(table[name]) for name in names], axis=1)
    is_new = np.diff(spans[:, 0], prepend=-1)
    if not np.isin(is_new, (0, 1)).all():
        raise ValueError("shards are not in order")
    # Of few shards with many pieces, a slice would keep the whole column.
    shards = _shards(table.take(pa.array(np.flatnonzero(is_new))))
    numbers = numbers[is_piece]
    steps = np.diff(numbers, prepend=-1)
    if (steps < 0).any():
        raise ValueError("parts are not in order")
    starts = np.flatnonzero(steps)
    parts = Parts(numbers[starts], np.append(starts, len(numbers)), spans[is_piece])
    failed = table.filter(pc.is_valid(table["error"]))
    unreadable = dict(zip(failed["shard"].to_pylist(), failed["error"].to_pylist(), strict=True))
    return shards, parts, unreadable


def _numbers(column: pa.ChunkedArray) -> np.ndarray:
    """int64[n]: the numbers in a column; 0 for null. Raises ValueError if one is negative."""
    numbers = np.asarray(column.fill_null(0))
    if (numbers < 0).any():
        raise ValueError("negative numbers")
    return numbers


def _shards(table: pa.Table) -> Shards:
    """The shards of rows with the schema PIECES. Raises ValueError if a size is negative."""
    digests = table["digest"].combine_chunks()
    if isinstance(digests, pa.ChunkedArray):  # Without any chunk.
        digests = pa.array([], digests.type)
    modified = np.asarray(table["modified"])
    return Shards(_paths(table["path"]), _numbers(table["bytes"]), modified, digests_of(digests))


def _paths(column: pa.ChunkedArray) -> pa.LargeStringArray:
    return pa.concat_arrays(
        [pa.array([], pa.large_string()), *column.cast(pa.large_string()).chunks]
    )


def parts_of(first_number: int, parts: Iterable[Sequence[PieceNumbers]]) -> Parts:
    """Parts with consecutive numbers, given the pieces of each."""
    flat, sizes = array("q"), array("q")
    for pieces in parts:
        sizes.append(len(pieces))
        for piece in pieces:
            flat.extend(piece)
    return Parts(
        np.arange(first_number, first_number + len(sizes)),
        np.concatenate([[0], np.cumsum(np.array(sizes, np.int64))]).astype(np.int64),
        np.array(flat, np.int64).reshape(-1, 5),
    )
