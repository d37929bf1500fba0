"""Shards -> the plan: which rows make which part, decided and written before any is scored.

A part is a run of consecutive rows of one shard, or of several small shards in order. The plan
follows from the shards and the settings alone, so two programs that start at once make the same.
Its file is JSON (`pipelines.output`); shards that are new when the job runs again make another.
"""

import base64
import itertools
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

from pipelines.rows import Span
from pipelines.shards import Counted, Shard
from sentiment.errors import InputError

FORMAT = 1


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

    def to_json(self) -> bytes:
        """The plan's file. Equal plans give equal bytes."""
        parts = [
            [part.name, [[piece.shard, *asdict(piece.span).values()] for piece in part.pieces]]
            for part in self.parts
        ]
        plan = {
            "format": FORMAT,
            "settings": self.settings,
            "schema": base64.b64encode(self.schema.serialize()).decode(),
            "shards": [list(asdict(shard).values()) for shard in self.shards],
            "unreadable": list(self.unreadable.items()),
            "parts": parts,
        }
        return json.dumps(plan, sort_keys=True).encode()

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
            return Plan(
                settings=plan["settings"],
                shards=tuple(Shard(*shard) for shard in plan["shards"]),
                parts=tuple(
                    Part(name, tuple(Piece(shard, Span(*span)) for shard, *span in pieces))
                    for name, pieces in plan["parts"]
                ),
                schema=pa.ipc.read_schema(pa.py_buffer(base64.b64decode(plan["schema"]))),
                unreadable=dict(plan["unreadable"]),
            )
        except (ValueError, KeyError, TypeError, pa.ArrowException) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(
                f"{path} is damaged; choose another --output, or --overwrite"
            ) from None


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
        first_part: the number of the first part's file.
    """
    counted = {i: count for i, count in enumerate(counts) if isinstance(count, Counted)}
    unreadable = {i: count for i, count in enumerate(counts) if isinstance(count, str)}
    schema = _kept_schema([count.schema for count in counted.values()], settings)
    parts = tuple(
        Part(f"part-{first_part + i:06d}", pieces)
        for i, pieces in enumerate(_divide(counted, settings["part_rows"]))
    )
    return Plan(settings, tuple(shards), parts, schema, unreadable)


def _divide(counted: dict[int, Counted], part_rows: int) -> Iterator[tuple[Piece, ...]]:
    """Even parts of about `part_rows`: large shards are cut, small ones in order put together."""
    group: list[Piece] = []
    held = 0
    for shard, count in counted.items():
        if held and held + count.rows > part_rows:
            yield tuple(group)
            group, held = [], 0
        if count.rows > part_rows:
            pieces = max(round(count.rows / part_rows), 1)
            edges = [count.rows * i // pieces for i in range(pieces + 1)]
            for first, last in itertools.pairwise(edges):
                mark = max((m for m in count.marks if m[0] <= first), default=(0, 0))
                yield (Piece(shard, Span(first, last - first, *mark)),)
        elif count.rows:
            group.append(Piece(shard, Span(0, count.rows)))
            held += count.rows
    if group:
        yield tuple(group)


def _kept_schema(schemas: list[pa.Schema], settings: dict[str, Any]) -> pa.Schema:
    """Types that hold every shard's kept columns; text where shards disagree."""
    names = dict.fromkeys(name for schema in schemas for name in schema.names)
    names.pop(settings["text_column"], None)
    if settings["keep_columns"] is not None:
        for name in settings["keep_columns"]:
            if name not in names and name != settings["text_column"]:
                raise InputError(
                    f"--keep_columns {name}: no shard has that column; "
                    f"the columns: {', '.join([settings['text_column'], *names])}"
                )
        names = dict.fromkeys(settings["keep_columns"])
    for name in ("positive_probability", "sentiment"):
        if name in names:
            raise InputError(
                f"the input has a column {name!r}, as the output will: "
                "choose the columns to keep without it, by --keep_columns"
            )
    fields = []
    for name in names:
        types = [schema.field(name).type for schema in schemas if name in schema.names]
        fields.append(pa.field(name, _common_type(list(dict.fromkeys(types)))))
    return pa.schema(fields)


def _common_type(types: list[pa.DataType]) -> pa.DataType:
    types = [t.value_type if pa.types.is_dictionary(t) else t for t in types]
    if len(types) == 1:
        return types[0]
    try:
        schemas = [pa.schema([("column", given)]) for given in types]
        return pa.unify_schemas(schemas, promote_options="permissive").field("column").type
    except pa.ArrowTypeError:
        return pa.string()
