"""What has become of the shards that an output knows: moved, changed, gone, or compacted.

A shard is known by its content (`Counted.digest`), not by its name. Only shards whose path, size
or time is not as it was are looked into.
"""

import posixpath
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.scoring.counts import Counts
from pipelines.scoring.known import KnownShards
from pipelines.scoring.shards import Shards, digest_column
from pipelines.sources.names import file_name, partitions
from pipelines.sources.shard_file import DIGEST_BYTES


@dataclass(frozen=True)
class Difference:
    """How a listing differs from the known shards, by paths, sizes and times."""

    unknown: np.ndarray
    """int64[n]: indices of listed shards that are not known as they are."""
    unseen: np.ndarray
    """int64[n]: indices of current known shards that are not listed as they were."""


def difference(
    known: KnownShards, listed: Shards, is_unreadable_unknown: bool = False
) -> Difference:
    """Compare a listing with the known shards.

    With `is_unreadable_unknown`, a shard that could not be opened counts as unknown.
    """
    same = known.find(listed.paths)
    at = np.maximum(same, 0)
    shards = known.shards
    if len(shards):
        is_same = (shards.sizes[at] == listed.sizes) & (shards.modified[at] == listed.modified)
        if is_unreadable_unknown:
            is_same &= ~known.is_unreadable[at]
        same[~is_same] = -1
    is_unseen = known.is_current.copy()
    is_unseen[same[same >= 0]] = False
    return Difference(np.flatnonzero(same < 0), np.flatnonzero(is_unseen))


@dataclass(frozen=True)
class Findings:
    """What the shards of a difference are. All arrays are indices, int64[n]."""

    new: np.ndarray
    """Listed shards of content that is not known, or known and still where it was."""
    copies: np.ndarray
    """Those of them whose content another shard has, too."""
    compacted: np.ndarray
    """Those of them that look like the rows of shards that are gone: a compaction, for example."""
    known_moved: np.ndarray
    """Known shards that are elsewhere now, or were written again with the same content."""
    moved: np.ndarray
    """The listed shards that they are."""
    known_changed: np.ndarray
    """Known shards that have another content now, or are elsewhere and read in another way."""
    changed: np.ndarray
    """The listed shards that they are."""
    absent: np.ndarray
    """Known shards that are not listed any more."""


Exists: TypeAlias = Callable[[np.ndarray], np.ndarray]
"""Tells which of some known shards, int64[n], are still files: bool[n]."""


def find_changes(
    known: KnownShards,
    known_rows: np.ndarray,
    listed: Shards,
    found: Difference,
    counts: Counts,
    exists: Exists,
) -> Findings:
    """Tell what the shards of a difference are.

    Args:
        known: the known shards.
        known_rows: int64[known shards]: how many rows the output has of each.
        listed: the listed shards.
        found: the difference between both.
        counts: of the unknown shards, in the order of `found.unknown`.
        exists: looks known shards up.
    """
    unknown = listed.take(found.unknown).with_digests(counts.digests)
    at_path = known.find(unknown.paths)
    same = _same_content(known, found.unseen, unknown, at_path, exists)
    known_of = np.full(len(unknown), -1)
    known_of[list(same)] = list(same.values())
    # Of another directory `key=value`, or under another extension, bytes are other rows.
    paths = unknown.paths.to_pylist()
    is_moved = np.array(
        [
            k >= 0 and _is_read_alike(paths[u], known.shards.paths[k].as_py())
            for u, k in enumerate(known_of.tolist())
        ],
        bool,
    )
    # The path of a shard that has moved is free: a shard that is there now is new.
    at_path = np.where(np.isin(at_path, known_of[is_moved]), -1, at_path)
    known_of = np.where(is_moved | (at_path < 0), known_of, at_path)
    is_changed = ~is_moved & (known_of >= 0)
    absent = np.setdiff1d(found.unseen, known_of)

    new = np.flatnonzero(known_of < 0)
    gone = _Gone(known, known_rows, absent, exists)
    is_compacted = gone.looks_like(unknown.take(new), counts.rows[new])
    is_copy = _is_copy(known, unknown.digests[new]) & (counts.rows[new] > 0)
    return Findings(
        new=found.unknown[new],
        copies=found.unknown[new[is_copy]],
        compacted=found.unknown[new[is_compacted]],
        known_moved=known_of[is_moved],
        moved=found.unknown[is_moved],
        known_changed=known_of[is_changed],
        changed=found.unknown[is_changed],
        absent=absent,
    )


def _is_read_alike(path: str, other: str) -> bool:
    """Whether the same bytes are the same rows at both paths."""
    return path == other or way_of_reading(path) == way_of_reading(other)


def way_of_reading(path: str) -> tuple[object, ...]:
    """What a path tells of the rows: its format, and the values of its directories."""
    return (file_name(path), *sorted(partitions(path).items()))


def _same_content(
    known: KnownShards, unseen: np.ndarray, unknown: Shards, at_path: np.ndarray, exists: Exists
) -> dict[int, int]:
    """The known shard that each unknown one is, by index; of those that have the same content.

    A shard that is still where it was is not elsewhere: the other one is a copy.
    """
    digests = [bytes(digest) if digest.any() else b"" for digest in unknown.digests]
    wanted = pa.array(list(set(digests) - {b""}), pa.binary(DIGEST_BYTES))
    unseen = unseen[np.asarray(pc.is_in(digest_column(known.shards.digests[unseen]), wanted))]
    of_known = {k: bytes(known.shards.digests[k]) for k in unseen.tolist()}
    moves = {
        u: k for u, k in enumerate(at_path.tolist()) if digests[u] and of_known.get(k) == digests[u]
    }
    # Those whose path now has another content are not there, whatever the disk says.
    elsewhere = np.setdiff1d(unseen, np.concatenate([list(moves.values()), at_path]).astype(int))
    left = set(unseen.tolist()) - set(moves.values())
    left -= set(elsewhere[exists(elsewhere)].tolist())
    # Of several with the same content, one that is read in the same way is it.
    for way in (way_of_reading, lambda _: None):
        candidates: dict[tuple[bytes, object], list[int]] = defaultdict(list)
        for k in sorted(left, reverse=True):
            candidates[of_known[k], way(known.shards.paths[k].as_py())].append(k)
        contents = {digest for digest, _ in candidates}
        for u, digest in enumerate(digests):
            if u in moves or digest not in contents:
                continue
            if same := candidates.get((digest, way(unknown.paths[u].as_py()))):
                moves[u] = same.pop()
                left.remove(moves[u])
    # A path is that of one shard: it is free only if the shard that was there has moved, too.
    while True:
        free = {-1, *moves.values()}
        blocked = [u for u in moves if int(at_path[u]) not in free]
        if not blocked:
            return dict(sorted(moves.items()))
        for u in blocked:
            del moves[u]


def _is_copy(known: KnownShards, digests: np.ndarray) -> np.ndarray:
    """bool[n]: whether a known shard, or an earlier one of these, has the same digest."""
    column = digest_column(digests)
    current = digest_column(known.shards.digests[known.is_current])
    is_known = np.asarray(pc.is_in(column, current, skip_nulls=True))
    _, first = np.unique(
        np.asarray(column.dictionary_encode().indices.fill_null(-1)), return_index=True
    )
    is_first = np.zeros(len(digests), bool)
    is_first[first] = True
    copy: np.ndarray = (is_known | ~is_first) & digests.any(axis=1)
    return copy


class _Gone:
    """Shards that are neither listed nor files any more, and their rows by directory."""

    def __init__(
        self, known: KnownShards, known_rows: np.ndarray, absent: np.ndarray, exists: Exists
    ) -> None:
        self._exists = exists
        self._rows = known_rows
        self._of_directory: dict[str, list[int]] = defaultdict(list)
        for k, path in zip(
            absent.tolist(), known.shards.paths.take(pa.array(absent)).to_pylist(), strict=True
        ):
            if known_rows[k]:
                self._of_directory[posixpath.dirname(path)].append(k)

    def looks_like(self, shards: Shards, rows: np.ndarray) -> np.ndarray:
        """bool[n]: which new shards look like a compaction, or like one undone.

        In a directory, new shards that follow each other by name have as many rows as all that are
        gone there; or all new ones have as many as some that are gone and followed each other. In
        one that is named `key=value`, any number of rows will do: Spark writes such a directory
        again, with what came late, under new names; and what is to be forgotten goes as a whole.
        """
        of_directory: dict[str, list[int]] = defaultdict(list)
        if self._of_directory:
            for i, path in enumerate(shards.paths.to_pylist()):
                of_directory[posixpath.dirname(path)].append(i)
        found = np.zeros(len(shards), bool)
        for directory in of_directory.keys() & self._of_directory.keys():
            new, absent = np.array(of_directory[directory]), np.array(self._of_directory[directory])
            new_rows = rows[new].clip(0)
            gone_rows = self._rows[absent[~self._exists(absent)]]
            run = _run_with_sum(new_rows, int(gone_rows.sum()))
            if len(gone_rows) and "=" in posixpath.basename(directory):
                found[new] = True
            elif run is not None:
                found[new[run]] = True
            elif _run_with_sum(gone_rows, int(new_rows.sum())) is not None:
                found[new] = True
        return found


def _run_with_sum(rows: np.ndarray, total: int) -> slice | None:
    """Where consecutive elements have this sum; None: nowhere, or it is 0."""
    sums = np.concatenate([[0], np.cumsum(rows)])
    if not total:
        return None
    ends = np.minimum(np.searchsorted(sums, sums + total), len(rows))
    starts = np.flatnonzero(sums[ends] == sums + total)
    return slice(int(starts[0]), int(ends[starts[0]])) if len(starts) else None
