"""Shards -> the plan: which rows make which part, decided and written before any is scored.

A part is a run of consecutive rows of one shard, or of several small shards in order. The plan
follows from the shards and the settings alone, so two programs that start at once make the same.
Its file is JSON (`pipelines.scoring.output`); shards that are new when the job runs again make
another.
"""

import base64
import bisect
import codecs
import hashlib
import itertools
import json
import math
import re
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from operator import itemgetter
from typing import Any

import numpy as np
import pyarrow as pa

from pipelines.errors import Failure
from pipelines.sources.arrow_types import plain_schema
from pipelines.sources.rows import Span, choose_columns
from pipelines.sources.shard import Counted, Shard
from sentiment import storage
from sentiment.errors import UNREADABLE, InputError

FORMAT = 1
_CHECKSUM = b', "sha256": "'
_NAME = re.compile(r"part-\d{6,}", re.ASCII)

SHARDS_A_PART = 256
"""At most: opening a shard in a bucket takes its time, however small the shard is."""

PARTS_FROM_THE_START = 16
"""Parts of a CSV shard that is compressed or transcoded, at most: each reads it from its start."""

LOOKED_AT_ONCE = 24
"""Shards in a bucket, by a process: Arrow keeps 25 connections open."""

SMALL = 2**20
"""Bytes of a CSV shard, which is read whole to be counted, up to which it may be one of them."""

LARGEST = 10
"""Times `part_rows` that those parts grow to before there are more of them: a part is held whole
in memory."""


@dataclass(frozen=True)
class Piece:
    """Some rows of a shard, by the shard's place in the plan."""

    shard: int
    span: Span


@dataclass(frozen=True)
class Part:
    """What becomes one output file."""

    name: str
    pieces: tuple[Piece, ...]

    @property
    def rows(self) -> int:
        """Input rows, those that will be rejected included."""
        return sum(piece.span.rows for piece in self.pieces)


@dataclass(frozen=True)
class Plan:
    """The shards of one run of the planner, and the parts they make."""

    settings: dict[str, Any]
    """Everything besides the shards that the output's bytes follow from."""
    shards: tuple[Shard, ...]
    parts: tuple[Part, ...]
    schema: pa.Schema
    """Of the columns that are kept from the input."""
    unreadable: dict[int, str]
    """Shards, by place, that could not be opened, and why."""

    @property
    def rows(self) -> list[int | None]:
        """The rows of each shard; None: it could not be opened."""
        rows: list[int | None] = [0] * len(self.shards)
        for part in self.parts:
            for piece in part.pieces:
                rows[piece.shard] += piece.span.rows
        for index in self.unreadable:
            rows[index] = None
        return rows

    def _is_sound(self, part: Part) -> bool:
        """Whether it is named as parts are, and of shards that the plan has."""
        places = [piece.shard for piece in part.pieces]
        spans = [number for piece in part.pieces for number in vars(piece.span).values()]
        return (
            _NAME.fullmatch(part.name) is not None
            and all(isinstance(number, int) and 0 <= number < 2**63 for number in places + spans)
            and max(places, default=0) < len(self.shards)
        )

    def to_json(self) -> bytes:
        """The plan's file. Equal plans give equal bytes."""
        parts = [
            [part.name, [[piece.shard, *vars(piece.span).values()] for piece in part.pieces]]
            for part in self.parts
        ]
        plan = {
            "format": FORMAT,
            "settings": self.settings,
            "schema": base64.b64encode(self.schema.serialize()).decode(),
            "shards": [
                [*vars(shard).values(), rows]
                for shard, rows in zip(self.shards, self.rows, strict=True)
            ],
            "unreadable": list(self.unreadable.items()),
            "parts": parts,
        }
        content = json.dumps(plan, sort_keys=True).encode()
        return content[:-1] + _CHECKSUM + hashlib.sha256(content).hexdigest().encode() + b'"}'

    @staticmethod
    def from_json(content: bytes, path: str) -> "Plan":
        """The plan that a file holds. Raises InputError if it does not read as one."""
        try:
            plan = json.loads(content)
            if plan["format"] != FORMAT:
                raise InputError(
                    f"{path} has format {plan['format']}, not {FORMAT}: finish the job with the "
                    "version that began it, or choose another --output"
                )
            intact = content.rpartition(_CHECKSUM)[0] + b"}"
            if plan["sha256"] != hashlib.sha256(intact).hexdigest():
                raise ValueError("the checksum is that of another plan")
            schema = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(plan["schema"])))
            read = Plan(
                settings=dict(plan["settings"]),
                shards=tuple(Shard(*shard[:3]) for shard in plan["shards"]),
                parts=tuple(
                    Part(name, tuple(Piece(shard, Span(*span)) for shard, *span in pieces))
                    for name, pieces in plan["parts"]
                ),
                schema=plain_schema(schema),
                unreadable=dict(plan["unreadable"]),
            )
            # The checksum tells damage, not a forger: no name may lead out of the output.
            if not all(map(read._is_sound, read.parts)):
                raise ValueError("a part is none")
            return read
        except InputError:
            raise
        except (*UNREADABLE, OSError, pa.ArrowException):
            raise InputError(
                f"{path} is damaged; choose another --output, or --overwrite"
            ) from None


def look(shard: Shard, settings: dict[str, Any], columns_only: bool = False) -> Counted | str:
    """What a shard holds, or why it cannot be read; `columns_only`: as if it had no rows."""
    try:
        if columns_only:
            counted = Counted(0, shard.schema(settings["encoding"]))
        else:
            counted = shard.count(settings["encoding"])
        counted.require_text(shard.path, settings["text_column"])
    except InputError as error:
        if storage.is_away(error.__cause__):
            raise Failure(f"{error}: run the same command again") from error
        return str(error)
    return counted


def look_at(shards: list[Shard], settings: dict[str, Any]) -> list[Counted | str]:
    """What each shard holds, or why it cannot be read.

    A bucket takes its time for each, so that small ones in buckets are looked at together.
    """

    def waits(shard: Shard) -> bool:
        small = shard.is_parquet or (shard.size <= SMALL and shard.path.endswith(".csv"))
        return "://" in shard.path and small

    pool = ThreadPoolExecutor(LOOKED_AT_ONCE)
    try:
        looks = [pool.submit(look, shard, settings) if waits(shard) else None for shard in shards]
        return [
            waiting.result() if waiting else look(shard, settings)
            for shard, waiting in zip(shards, looks, strict=True)
        ]
    finally:
        # Where the server is away, each would find that out anew.
        pool.shutdown(cancel_futures=True)


def make(
    shards: list[Shard],
    counts: list[Counted | str],
    settings: dict[str, Any],
    first_part: int,
) -> Plan:
    """Divide shards into parts.

    Args:
        shards: the shards.
        counts: of each shard, what it holds, or why it cannot be read.
        settings: what the output's bytes follow from; see `pipelines.score`.
        first_part: the number of the first part's file; 0: the job begins.

    Raises InputError where the kept columns cannot be, or a job would begin with no shard that
    can be read. A shard that has a kept column twice cannot.
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
    parts = tuple(
        Part(f"part-{first_part + i:06d}", pieces)
        for i, pieces in enumerate(_divide(counted, shards, settings))
    )
    return Plan(settings, tuple(shards), parts, schema, unreadable)


def _divide(
    counted: dict[int, Counted], shards: list[Shard], settings: dict[str, Any]
) -> Iterator[tuple[Piece, ...]]:
    """Even parts of about `part_rows`: large shards are cut, small ones in order put together."""
    part_rows = settings["part_rows"]
    transcoded = codecs.lookup(settings["encoding"]).name != "utf-8"
    group: list[Piece] = []
    held = 0
    for shard, count in counted.items():
        if held and (held + count.rows > part_rows or len(group) == SHARDS_A_PART):
            yield tuple(group)
            group, held = [], 0
        if count.rows > part_rows:
            pieces = max(round(count.rows / part_rows), 1)
            if shards[shard].path.endswith(".gz") or (transcoded and not shards[shard].is_parquet):
                most = max(PARTS_FROM_THE_START, math.ceil(count.rows / part_rows / LARGEST))
                pieces = min(pieces, most)
            edges = [count.rows * i // pieces for i in range(pieces + 1)]
            for first, last in itertools.pairwise(edges):
                marks = bisect.bisect_right(count.marks, first, key=itemgetter(0))
                mark = count.marks[marks - 1] if marks else (0, 0)
                yield (Piece(shard, Span(first, last - first, *mark)),)
        elif count.rows:
            group.append(Piece(shard, Span(0, count.rows)))
            held += count.rows
    if group:
        yield tuple(group)


def _require_once(shard: Shard, names: list[str], settings: dict[str, Any]) -> None:
    """Raise an InputError if a shard has more than one of a column that is kept."""
    kept = settings["keep_columns"]
    if kept is not None:
        kept = [name for name in kept if name in names]
    choose_columns(shard.path, names, kept, ())


def _kept_schema(schemas: list[pa.Schema], settings: dict[str, Any]) -> pa.Schema:
    """Types that hold every shard's kept columns; text where shards disagree."""
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
        # Some readers of Parquet take names that differ in case alone for the same.
        if name.lower() in ("positive_probability", "sentiment"):
            raise InputError(
                f"the input has a column {name!r}, as the output will: "
                "choose the columns to keep without it, by --keep_columns"
            )
    fields = []
    for name in names:
        types = [schema.field(name).type for schema in schemas if name in schema.names]
        fields.append(pa.field(name, _common_type(name, types)))
    return pa.schema(fields)


def _common_type(name: str, types: Iterable[pa.DataType]) -> pa.DataType:
    types = list(dict.fromkeys(types)) or [pa.null()]
    if len(types) == 1:
        return types[0]
    try:
        schemas = [pa.schema([(name, given)]) for given in types]
        common = pa.unify_schemas(schemas, promote_options="permissive").field(0).type
    except (pa.ArrowTypeError, pa.ArrowInvalid):
        common = pa.string()
    for candidate in (common, pa.string()):
        if all(_holds(candidate, given) for given in types):
            return candidate
    raise InputError(
        f"column {name!r} is {' and '.join(map(str, types))} in different shards, which no type "
        "holds: choose the columns to keep without it, by --keep_columns"
    )


def _holds(common: pa.DataType, given: pa.DataType) -> bool:
    """Whether a type holds the values of another: whole numbers exactly, years 1 to 9999."""
    extremes: list[Any] = []
    if pa.types.is_decimal(given) and pa.types.is_floating(common):
        return False
    if pa.types.is_nested(given) and given != common:
        if common.num_fields != given.num_fields:
            return False
        fields = range(given.num_fields)
        if not all(_holds(common.field(i).type, given.field(i).type) for i in fields):
            return False
    if pa.types.is_integer(given):
        limits = np.iinfo(given.to_pandas_dtype())
        extremes = [limits.min, limits.max]
    elif pa.types.is_timestamp(given) and given != common and given.unit != "ns":
        extremes = [datetime.min, datetime.max.replace(microsecond=0)]
    try:
        pa.array(extremes, given).cast(common)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return False
    return True
