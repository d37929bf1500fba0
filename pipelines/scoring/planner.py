"""The planner: divide the rows of shards into parts.

A part is a run of consecutive rows of one shard, or several small shards in order. The plan
follows from the shards and the settings alone, so two programs that start at the same time make
the same plan.
"""

import itertools
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa

from pipelines.scoring.config import OutputSettings
from pipelines.scoring.counting import inspect_shard
from pipelines.scoring.counts import Counts, CountsOrList
from pipelines.scoring.kept_columns import column_notes, kept_schema, require_kept
from pipelines.scoring.plan import PieceNumbers, Plan, partition_directories, parts_of
from pipelines.scoring.shards import Shards
from pipelines.scoring.totals import kind_of
from pipelines.sources.detected import detected_in, detected_notes
from pipelines.sources.shard import Counted, Shard
from sentiment.errors import InputError

MAX_SHARDS_PER_PART = 256
"""Opening a shard in a bucket takes time, however small the shard is."""

MAX_PARTS_READ_FROM_START = 16
"""Parts of a text file that is compressed or transcoded: each part reads it from its start."""

MAX_GROWTH_OF_PARTS = 10
"""Parts grow to this many times `part_rows` before a row group, or a CSV shard that has to be read
from its start, is cut into more of them: a part is held in memory as a whole."""

MAX_BYTES_OF_GROWN_PARTS = 128 * 2**20
"""Parts of row groups grow to about so many bytes of a file."""

PARTS_ENOUGH = 64
"""Parts of row groups grow only as far as a plan keeps so many parts: all CPUs shall have some."""

MAX_SHARDS_CHECKED_FIRST = 256
"""Shards whose columns are checked before the job starts."""

_NO_MARKS = np.zeros((0, 2), np.int64)


def require_columns(shards: Sequence[Shard], settings: OutputSettings) -> pa.Schema | None:
    """The schema of the columns that an output of these shards keeps, as far as the first shards
    tell; None: it cannot be told from the first ones.

    Raises InputError if no shard has the columns that the flags name, and Unavailable if a shard
    cannot be read now.

    The job would find that too, but only after Ray has started. Usually the first shard has all
    columns. Of very many shards only the first are checked here.
    """
    columns: list[Counted | str] = []
    refusal = None
    for shard in shards[:MAX_SHARDS_CHECKED_FIRST]:
        columns.append(inspect_shard(shard, settings, columns_only=True))
        try:
            return make_plan(shards[: len(columns)], columns, settings, first_part=0).schema
        except InputError as error:
            refusal = error
    if refusal and len(columns) == len(shards):
        raise refusal
    return None


def make_plan(
    shards: Sequence[Shard],
    counts: CountsOrList,
    settings: OutputSettings,
    first_part: int,
    kept: pa.Schema | None = None,
) -> Plan:
    """Divide shards into parts.

    Args:
        shards: the shards.
        counts: row count and schema of each shard, or the reason why it cannot be scored.
        settings: what the output's bytes follow from, besides the shards.
        first_part: number of the first part; 0 in the first plan of an output.
        kept: schema of the columns that the output keeps; None: it has no rows yet, and this plan
            decides that.

    Raises InputError if no type holds a kept column, if --keep_columns names a column that no
    shard has, or if no shard of a first plan can be read. A shard that has a kept column twice, or
    as a type that does not convert to the output's, counts as unreadable.
    """
    columns, counts = Shards.of(shards), Counts.of(counts)
    unreadable = dict(counts.errors)
    is_read = counts.rows >= 0
    for number, schema in enumerate(counts.schemas):
        here = is_read & (counts.schema_indices == number)
        for i in np.flatnonzero(here).tolist():
            try:
                require_kept(columns[i].path, schema, kept, settings)
            except InputError as error:
                unreadable[i] = str(error)
                is_read[i] = False
            else:
                break
    is_first = not first_part and kept is None
    if unreadable and not is_read.any() and is_first:
        raise _none_read(columns, unreadable)
    # In the order of the shards, whoever counted them.
    # An empty file says little of types: a header without rows is all texts.
    has_rows = is_read & (counts.rows > 0)
    in_order = Counter(counts.schema_indices[has_rows if has_rows.any() else is_read].tolist())
    schemas = [counts.schemas[number] for number in in_order]
    if kept is None:
        kept = kept_schema(schemas, settings)
    keys = settings.get("partition_by", [])
    parts = parts_of(first_part, _divide(columns, counts, is_read, settings))
    parts = parts.partitioned(columns, keys)
    columns = columns.with_digests(counts.digests)
    notes = column_notes(schemas, [*in_order.values()], kept, settings, is_first)
    notes = (*_detected(columns, counts, is_read), *notes)
    return Plan(settings, columns, parts, kept, dict(sorted(unreadable.items())), notes)


def _none_read(shards: Shards, unreadable: Mapping[int, str]) -> InputError:
    """Why no shard can be read: what is wrong with most of them, by the first of those. A file that
    is empty or of another kind comes first by chance, before all that lack the column of a flag."""
    kinds = {i: kind_of(why.replace(shards[i].path, "")) for i, why in sorted(unreadable.items())}
    ((most, number),) = Counter(kinds.values()).most_common(1)
    message = unreadable[next(i for i, kind in kinds.items() if kind == most)]
    if number < len(kinds):
        message += f" (no shard can be read, {number:,} of {len(kinds):,} for this reason)"
    return InputError(message)


def _detected(shards: Shards, counts: Counts, is_read: np.ndarray) -> list[str]:
    """What the shards themselves told of how to read them, in lines; `is_read: bool[shards]`."""
    read_so: dict[str, list[np.ndarray]] = {}
    for number, schema in enumerate(counts.schemas):
        for line in detected_in(schema):
            indices = np.flatnonzero(is_read & (counts.schema_indices == number))
            if len(indices):
                read_so.setdefault(line, []).append(indices)
    lines = {line: np.concatenate(indices) for line, indices in sorted(read_so.items())}
    return detected_notes(
        {line: (len(these), shards[int(these.min())].path) for line, these in lines.items()}
    )


def _divide(
    shards: Shards, counts: Counts, is_read: np.ndarray, settings: OutputSettings
) -> Iterator[list[PieceNumbers]]:
    """The pieces of each part. Large shards are cut, small ones are joined in order.

    With `--partition_by`, those of another directory are not joined.
    """
    part_rows = settings["part_rows"]
    keys = settings.get("partition_by")
    of_shard = partition_directories(shards.paths, keys) if keys else None
    directories = of_shard.to_pylist() if of_shard else [""] * len(shards)
    parts = counts.rows[is_read].sum() / part_rows
    growth = min(float(parts) / PARTS_ENOUGH, MAX_GROWTH_OF_PARTS)
    joined: list[PieceNumbers] = []
    joined_rows = 0
    for i, rows in enumerate(np.where(is_read, counts.rows, 0).tolist()):
        if (
            joined
            and is_read[i]
            and (
                joined_rows + rows > part_rows
                or len(joined) == MAX_SHARDS_PER_PART
                or directories[i] != directories[joined[0][0]]
            )
        ):
            yield joined
            joined, joined_rows = [], 0
        if rows > part_rows:
            yield from ([(i, *span)] for span in _cut(i, shards[i], rows, counts, growth, settings))
        elif rows:
            joined.append((i, 0, rows, 0, 0))
            joined_rows += rows
    if joined:
        yield joined


def _cut(
    index: int, shard: Shard, rows: int, counts: Counts, growth: float, settings: OutputSettings
) -> Iterator[tuple[int, int, int, int]]:
    """The numbers of the `Span`s that make up a shard, each of which is a part."""
    part_rows = settings["part_rows"]
    if shard.has_footer or index in counts.groups:
        # So that a part is no larger in memory than others, if rows are long.
        by_bytes = MAX_BYTES_OF_GROWN_PARTS * rows / max(shard.size, 1) / part_rows
        groups = counts.groups[index].tolist() if index in counts.groups else [rows]
        edges = group_edges(groups, part_rows, max(min(growth, by_bytes), 1))
    else:
        edges = _even_edges(rows, settings["part_rows"], index in counts.marks)
    marks = np.concatenate([[[0, 0]], counts.marks.get(index, _NO_MARKS)])
    before = np.searchsorted(marks[1:, 0], edges[:-1], side="right")
    for first, last, (row, byte) in zip(edges, edges[1:], marks[before].tolist(), strict=False):
        yield first, last - first, row, byte


def _even_edges(rows: int, part_rows: int, has_marks: bool) -> list[int]:
    """The first row of each part of a shard, and its last: parts alike in size.

    `has_marks`: whether a reader can seek to rows of the shard.
    """
    parts = max(round(rows / part_rows), 1)
    if not has_marks:
        most = math.ceil(rows / part_rows / MAX_GROWTH_OF_PARTS)
        parts = min(parts, max(MAX_PARTS_READ_FROM_START, most))
    return [rows * i // parts for i in range(parts + 1)]


def group_edges(groups: Sequence[int], part_rows: int, growth: float) -> list[int]:
    """The first row of each part of a Parquet shard, and its last.

    A row group can only be decoded from its start, so parts end where row groups do. They have half
    of `part_rows` to twice `part_rows`, save for what is left before a larger row group. Such a
    group makes parts of its own, of about `growth * part_rows` rows.
    """
    edges = [0]
    before = 0
    for rows in groups:
        start, before = before, before + rows
        if rows > 2 * part_rows:
            if start > edges[-1]:
                edges.append(start)
            parts = max(round(rows / (growth * part_rows)), 1)
            edges += [start + rows * i // parts for i in range(1, parts + 1)]
            continue
        # The part is closed before this group or after it: whichever makes it more like the others.
        without, with_it = start - edges[-1], before - edges[-1]
        is_closed = with_it > 2 * part_rows or part_rows - without < with_it - part_rows
        if without and is_closed:
            edges.append(start)
    if before > edges[-1]:
        edges.append(before)
    # What is left joins the part before it, unless that one is a piece of a large row group.
    *_, start, middle, end = [0, 0, *edges]
    is_little = end - middle < part_rows / 2 and end - start <= 2 * part_rows
    if is_little and start < middle and start in {0, *itertools.accumulate(groups)}:
        del edges[-2]
    return edges
