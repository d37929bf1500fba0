"""Row counts and schemas of shards as columns: of a million shards, in one process's memory."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

import numpy as np
import pyarrow as pa

from pipelines.scoring.shards import Shards, digest_column, digests_of
from pipelines.sources.shard import Counted, Shard
from pipelines.sources.shard_file import DIGEST_BYTES

COUNTS = pa.schema(
    [
        ("path", pa.large_string()),
        ("bytes", pa.int64()),
        ("modified", pa.int64()),
        ("rows", pa.int64()),
        ("schema", pa.dictionary(pa.int32(), pa.binary())),
        ("marks", pa.list_(pa.int64())),
        ("groups", pa.list_(pa.int64())),
        ("digest", pa.binary(DIGEST_BYTES)),
        ("error", pa.string()),
    ]
)
"""Schema of counts as a table: a row for each shard. `schema` is an Arrow schema, serialized, and
`marks` are (row, byte) after (row, byte)."""

_NOT_COUNTED, _UNREADABLE = -2, -1

Value = TypeVar("Value")


@dataclass(frozen=True)
class Counts:
    """For each of some shards, what `Counted` has, or why the shard cannot be scored."""

    rows: np.ndarray
    """int64[shards]: number of rows; -1: cannot be scored; -2: not counted yet."""
    schema_indices: np.ndarray
    """int32[shards]: for each shard with rows, the index of its schema."""
    schemas: list[pa.Schema]
    errors: dict[int, str]
    """Why a shard cannot be scored, by index."""
    marks: dict[int, np.ndarray]
    """int64[marks, 2]: the marks of those CSV shards that have any, by index."""
    groups: dict[int, np.ndarray]
    """int64[groups]: the rows of each row group of those Parquet shards that have several."""
    digests: np.ndarray
    """uint8[shards, DIGEST_BYTES]: `Counted.digest`; zeros: not known."""

    @staticmethod
    def none_of(shards: int) -> "Counts":
        """Counts of so many shards, to be filled by `put`."""
        rows = np.full(shards, _NOT_COUNTED, np.int64)
        digests = np.zeros((shards, DIGEST_BYTES), np.uint8)
        return Counts(rows, np.zeros(shards, np.int32), [], {}, {}, {}, digests)

    @staticmethod
    def of(counts: "CountsOrList") -> "Counts":
        """These counts as columns."""
        if isinstance(counts, Counts):
            return counts
        made = Counts.none_of(len(counts))
        indices: dict[bytes, int] = {}
        for i, count in enumerate(counts):
            if isinstance(count, str):
                made.rows[i] = _UNREADABLE
                made.errors[i] = count
                continue
            made.rows[i] = count.rows
            content = count.schema.serialize().to_pybytes()
            made.schema_indices[i] = indices.setdefault(content, len(indices))
            if len(indices) > len(made.schemas):
                made.schemas.append(count.schema)
            if count.digest:
                made.digests[i] = np.frombuffer(count.digest, np.uint8)
            if count.marks:
                made.marks[i] = np.array(count.marks, np.int64)
            if len(count.groups) > 1:
                made.groups[i] = np.array(count.groups, np.int64)
        return made

    @property
    def is_done(self) -> np.ndarray:
        """bool[shards]: whether the shard has been counted."""
        done: np.ndarray = self.rows != _NOT_COUNTED
        return done

    def put(self, indices: np.ndarray, counts: "Counts") -> None:
        """Fill in the counts of the shards with these indices, int64[shards of `counts`]."""
        known = {schema.serialize().to_pybytes(): i for i, schema in enumerate(self.schemas)}
        here = np.zeros(len(counts.schemas) or 1, np.int32)
        for i, schema in enumerate(counts.schemas):
            here[i] = known.setdefault(schema.serialize().to_pybytes(), len(known))
            if len(known) > len(self.schemas):
                self.schemas.append(schema)
        self.rows[indices] = counts.rows
        self.digests[indices] = counts.digests
        self.schema_indices[indices] = here[counts.schema_indices]
        self.errors.update((int(indices[i]), reason) for i, reason in counts.errors.items())
        self.marks.update((int(indices[i]), marks) for i, marks in counts.marks.items())
        self.groups.update((int(indices[i]), groups) for i, groups in counts.groups.items())

    def take(self, indices: np.ndarray) -> "Counts":
        """The counts of the shards with these indices, int64[n]."""

        def of_these(values: Mapping[int, Value]) -> dict[int, Value]:
            return {new: values[old] for new, old in enumerate(indices.tolist()) if old in values}

        return Counts(
            self.rows[indices],
            self.schema_indices[indices],
            self.schemas,
            of_these(self.errors),
            of_these(self.marks),
            of_these(self.groups),
            self.digests[indices],
        )

    def to_table(self, shards: Shards) -> pa.Table:
        """The counts with the schema COUNTS; `shards` are those that were counted."""
        # If no shard has a schema, indices still need one to point to.
        used = self.schemas or [pa.schema([])]
        schemas = [schema.serialize().to_pybytes() for schema in used]
        columns = [
            shards.paths,
            shards.sizes,
            shards.modified,
            pa.array(self.rows, mask=self.rows < 0),
            pa.DictionaryArray.from_arrays(self.schema_indices, pa.array(schemas, pa.binary())),
            _lists(len(shards), self.marks),
            _lists(len(shards), self.groups),
            digest_column(self.digests),
            pa.array(map(self.errors.get, range(len(shards))), pa.string()),
        ]
        return pa.table(columns, schema=COUNTS)

    @staticmethod
    def from_table(table: pa.Table) -> tuple[Shards, "Counts"]:
        """What `to_table` was called for. Raises what Arrow raises of a damaged table."""
        table = table.cast(COUNTS).unify_dictionaries().combine_chunks()
        path, size, modified, rows, schema, marks, groups, digest, error = (
            column.chunk(0) if column.num_chunks else pa.array([], column.type)
            for column in table.columns
        )
        schemas = [pa.ipc.read_schema(pa.py_buffer(s)) for s in schema.dictionary.to_pylist()]
        errors = {i: reason for i, reason in enumerate(error.to_pylist()) if reason is not None}
        counts = Counts(
            np.asarray(rows.fill_null(_UNREADABLE)),
            np.asarray(schema.indices),
            schemas,
            errors,
            {i: values.reshape(-1, 2) for i, values in _values(marks)},
            dict(_values(groups)),
            digests_of(digest),
        )
        return Shards(path, np.asarray(size), np.asarray(modified)), counts


CountsOrList: TypeAlias = Counts | Sequence[Counted | str]
"""Counts, or for each shard what was counted, or why it cannot be scored."""


def matches(shards: Sequence[Shard], others: Shards) -> tuple[np.ndarray, np.ndarray]:
    """Which shards are the same files, unchanged: indices in `shards` and in `others`, int64[n]."""
    index_of = {path: i for i, path in enumerate(others.paths.to_pylist())}
    found = [
        (i, index_of[shard.path])
        for i, shard in enumerate(shards)
        if shard.path in index_of and others[index_of[shard.path]] == shard
    ]
    pairs = np.array(found, np.int64).reshape(-1, 2)
    return pairs[:, 0], pairs[:, 1]


def _lists(shards: int, values: Mapping[int, np.ndarray]) -> pa.ListArray:
    """A column of lists: null, or the shard's numbers, row after row."""
    sizes = np.zeros(shards, np.int64)
    for i, numbers in values.items():
        sizes[i] = numbers.size
    flat = np.concatenate([np.zeros(0, np.int64), *(values[i].ravel() for i in sorted(values))])
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32)
    return pa.ListArray.from_arrays(offsets, flat)


def _values(column: pa.ListArray) -> Iterator[tuple[int, np.ndarray]]:
    """The lists that are not empty, by index."""
    offsets, flat = np.asarray(column.offsets), np.asarray(column.values)
    for i in np.flatnonzero(np.diff(offsets)):
        yield int(i), flat[offsets[i] : offsets[i + 1]]
