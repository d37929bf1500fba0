"""The planner: count the shards' rows and divide them into parts.

A part is a run of consecutive rows of one shard, or several small shards in order. The plan
follows from the shards and the settings alone, so two programs that start at the same time make
the same plan.
"""

import bisect
import codecs
import itertools
import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from operator import itemgetter

import pyarrow as pa

from pipelines.scoring.column_types import common_type
from pipelines.scoring.config import OutputSettings
from pipelines.scoring.executor import Executor
from pipelines.scoring.plan import PieceNumbers, Plan, Shards, parts_of
from pipelines.sources.rows import choose_columns
from pipelines.sources.shard import Counted, Shard
from sentiment.errors import InputError

MAX_SHARDS_PER_PART = 256
"""Opening a shard in a bucket takes time, however small the shard is."""

MAX_PARTS_READ_FROM_START = 16
"""Parts of a CSV shard that is compressed or transcoded: each part reads it from its start."""

MAX_GROWTH_OF_PARTS = 10
"""Those parts grow to this many times `part_rows` before there are more of them: a part is held in
memory as a whole."""

CONCURRENT_SHARDS = 24
"""Shards in a bucket that a process opens at the same time: Arrow keeps 25 connections open."""

MAX_SHARDS_CHECKED_FIRST = 256
"""Shards whose columns are checked before the job starts."""

MAX_SHARDS_COUNTED_HERE, MAX_CSV_BYTES_COUNTED_HERE = 64, 8 * 2**20
"""Up to so many shards, and bytes of CSV, counting takes less time than a worker takes to start."""

MAX_COUNTING_TASKS = 256

SMALL_CSV_BYTES = 2**20
"""Larger CSV shards, which are read in full to be counted, are counted one after another."""


def inspect_shard(
    shard: Shard, settings: OutputSettings, columns_only: bool = False
) -> Counted | str:
    """Row count and schema of a shard, or the reason why it cannot be scored.

    With `columns_only`, the schema only: the row count is 0. Raises Unavailable if the shard could
    not be read.
    """
    try:
        if columns_only:
            counted = Counted(0, shard.schema(settings["encoding"]))
        else:
            counted = shard.count(settings["encoding"])
        counted.require_text(shard.path, settings["text_column"])
    except InputError as error:
        return str(error)
    return counted


def inspect_shards(shards: list[Shard], settings: OutputSettings) -> list[Counted | str]:
    """`inspect_shard` of each shard. Small shards in a bucket are inspected in threads."""

    def is_small_in_bucket(shard: Shard) -> bool:
        small_csv = shard.size <= SMALL_CSV_BYTES and shard.path.endswith(".csv")
        return "://" in shard.path and (shard.is_parquet or small_csv)

    pool = ThreadPoolExecutor(CONCURRENT_SHARDS)
    try:
        in_threads = {
            i: pool.submit(inspect_shard, shard, settings)
            for i, shard in enumerate(shards)
            if is_small_in_bucket(shard)
        }
        return [
            in_threads[i].result() if i in in_threads else inspect_shard(shard, settings)
            for i, shard in enumerate(shards)
        ]
    finally:
        # During an outage, each of the others would time out on its own.
        pool.shutdown(cancel_futures=True)


def inspect_all(
    shards: list[Shard], settings: OutputSettings, executor: Executor
) -> list[Counted | str]:
    """`inspect_shard` of each shard, in tasks of the executor if it takes a while."""
    csv_bytes = sum(shard.size for shard in shards if not shard.is_parquet)
    if len(shards) <= MAX_SHARDS_COUNTED_HERE and csv_bytes <= MAX_CSV_BYTES_COUNTED_HERE:
        return inspect_shards(shards, settings)
    size = math.ceil(len(shards) / MAX_COUNTING_TASKS)
    chunks = [shards[start : start + size] for start in range(0, len(shards), size)]
    counts = dict(executor.map(partial(inspect_shards, settings=settings), chunks))
    return [count for index in range(len(chunks)) for count in counts[index]]


def require_columns(shards: list[Shard], settings: OutputSettings) -> None:
    """Raise an InputError if no shard has the columns that the flags name.

    The job would find that too, but only after Ray has started. Usually the first shard has all
    columns. Of very many shards only the first are checked here.
    """
    columns: list[Counted | str] = []
    refusal = None
    for shard in shards[:MAX_SHARDS_CHECKED_FIRST]:
        columns.append(inspect_shard(shard, settings, columns_only=True))
        try:
            make_plan(shards[: len(columns)], columns, settings, first_part=0)
            return
        except InputError as error:
            refusal = error
    if refusal and len(columns) == len(shards):
        raise refusal


def make_plan(
    shards: Sequence[Shard],
    counts: Sequence[Counted | str],
    settings: OutputSettings,
    first_part: int,
) -> Plan:
    """Divide shards into parts.

    Args:
        shards: the shards.
        counts: for each shard, row count and schema, or the reason why it cannot be read.
        settings: what the output's bytes follow from, besides the shards.
        first_part: number of the first part; 0 in the first plan of an output.

    Raises InputError if no type holds a kept column, if --keep_columns names a column that no
    shard has, or if no shard of a first plan can be read. A shard that has a kept column twice
    counts as unreadable.
    """
    counted: dict[int, Counted] = {}
    unreadable: dict[int, str] = {}
    schemas: dict[bytes, pa.Schema] = {}
    for i, (shard, count) in enumerate(zip(shards, counts, strict=True)):
        if isinstance(count, str):
            unreadable[i] = count
            continue
        content = count.schema.serialize().to_pybytes()
        if content not in schemas:
            try:
                _require_once(shard, count.schema.names, settings)
            except InputError as error:
                unreadable[i] = str(error)
                continue
            schemas[content] = count.schema
        counted[i] = count
    if unreadable and not counted and not first_part:
        raise InputError(unreadable[0])
    schema = _kept_schema(list(schemas.values()), settings)
    parts = parts_of(first_part, _divide(counted, shards, settings))
    return Plan(settings, Shards.of(shards), parts, schema, unreadable)


def _divide(
    counted: dict[int, Counted], shards: Sequence[Shard], settings: OutputSettings
) -> Iterator[list[PieceNumbers]]:
    """The pieces of each part. Large shards are cut evenly, small ones are joined in order."""
    part_rows = settings["part_rows"]
    group: list[PieceNumbers] = []
    group_rows = 0
    for i, count in counted.items():
        if group_rows and (
            group_rows + count.rows > part_rows or len(group) == MAX_SHARDS_PER_PART
        ):
            yield group
            group, group_rows = [], 0
        if count.rows > part_rows:
            for span in _cut(shards[i], count, settings):
                yield [(i, *span)]
        elif count.rows:
            group.append((i, 0, count.rows, 0, 0))
            group_rows += count.rows
    if group:
        yield group


def _cut(
    shard: Shard, count: Counted, settings: OutputSettings
) -> Iterator[tuple[int, int, int, int]]:
    """The numbers of `Span`s of about `part_rows` rows each, alike in size, that make up a large
    shard."""
    part_rows = settings["part_rows"]
    spans = max(round(count.rows / part_rows), 1)
    transcoded = codecs.lookup(settings["encoding"]).name != "utf-8"
    if shard.path.endswith(".gz") or (transcoded and not shard.is_parquet):
        most = math.ceil(count.rows / part_rows / MAX_GROWTH_OF_PARTS)
        spans = min(spans, max(MAX_PARTS_READ_FROM_START, most))
    edges = [count.rows * i // spans for i in range(spans + 1)]
    for first, last in itertools.pairwise(edges):
        marks_before = bisect.bisect_right(count.marks, first, key=itemgetter(0))
        mark_row, mark_byte = count.marks[marks_before - 1] if marks_before else (0, 0)
        yield first, last - first, mark_row, mark_byte


def _require_once(shard: Shard, names: list[str], settings: OutputSettings) -> None:
    """Raise an InputError if a shard has more than one of a column that is kept."""
    kept = settings["keep_columns"]
    if kept is not None:
        kept = [name for name in kept if name in names]
    choose_columns(shard.path, names, kept, ())


def _kept_schema(schemas: list[pa.Schema], settings: OutputSettings) -> pa.Schema:
    """Schema of the kept columns: each column has a type that holds every shard's values."""
    names = dict.fromkeys(name for schema in schemas for name in schema.names)
    names.pop(settings["text_column"], None)
    if settings["keep_columns"] is not None:
        for name in settings["keep_columns"]:
            if schemas and name not in names and name != settings["text_column"]:
                raise InputError(
                    f"--keep_columns {name}: no shard has that column; "
                    f"the columns: {', '.join([settings['text_column'], *names])}"
                )
        names = dict.fromkeys(settings["keep_columns"])
    for name in names:
        # Some readers of Parquet ignore case in names.
        if name.lower() in ("positive_probability", "sentiment"):
            raise InputError(
                f"the input has a column {name!r}, which the output adds: "
                "choose the columns to keep without it, by --keep_columns"
            )
    fields = []
    for name in names:
        types = [schema.field(name).type for schema in schemas if name in schema.names]
        fields.append(pa.field(name, common_type(name, types)))
    return pa.schema(fields)
