"""The plan: which rows of which shards make which part, and the plan's JSON file.

`pipelines.scoring.planner` makes plans, before any row is scored. An output has a plan for each
time that the job found new shards (`pipelines.scoring.output`).
"""

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from pipelines.sources.arrow_types import plain_schema
from pipelines.sources.rows import Span
from pipelines.sources.shard import Shard
from sentiment.errors import UNREADABLE, InputError

FORMAT = 1
_PART_NAME = re.compile(r"part-\d{6,}", re.ASCII)


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
    pieces: tuple[Piece, ...]

    @property
    def rows(self) -> int:
        """Number of input rows, including those that will be rejected."""
        return sum(piece.span.rows for piece in self.pieces)


@dataclass(frozen=True)
class Plan:
    """The shards of one run of the planner, and their parts."""

    settings: Mapping[str, object]
    """What the output's bytes follow from, besides the shards: `OutputSettings` of the version that
    made the plan."""
    shards: tuple[Shard, ...]
    parts: tuple[Part, ...]
    schema: pa.Schema
    """Schema of the columns that are kept from the input."""
    unreadable: dict[int, str]
    """Indices of the shards that could not be opened, each with the reason."""

    @property
    def rows(self) -> list[int | None]:
        """Number of rows of each shard; None: it could not be opened."""
        counts = [0] * len(self.shards)
        for part in self.parts:
            for piece in part.pieces:
                counts[piece.shard] += piece.span.rows
        return [None if i in self.unreadable else rows for i, rows in enumerate(counts)]

    def to_json(self) -> bytes:
        """The content of the plan's file. Equal plans give equal bytes."""
        # Keys are in alphabetical order.
        return _seal(
            {
                "format": FORMAT,
                "parts": [
                    [part.name, [[piece.shard, *_numbers(piece.span)] for piece in part.pieces]]
                    for part in self.parts
                ],
                "schema": base64.b64encode(self.schema.serialize()).decode(),
                "settings": dict(sorted(self.settings.items())),
                "shards": [
                    [shard.path, shard.size, shard.modified, rows]
                    for shard, rows in zip(self.shards, self.rows, strict=True)
                ],
                "unreadable": list(self.unreadable.items()),
            }
        )

    @staticmethod
    def from_json(content: bytes, path: str) -> "Plan":
        """Parse the content of a plan's file; `path` is for messages.

        Raises InputError if it is damaged or has another format.
        """
        try:
            fields = json.loads(content)
            if fields["format"] != FORMAT:
                raise InputError(
                    f"{path} has format {fields['format']}, not {FORMAT}: finish the job with the "
                    "version that began it, or choose another --output"
                )
            del fields["sha256"]
            if _seal(fields) != content:
                raise ValueError("wrong checksum")
            schema = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(fields["schema"])))
            plan = Plan(
                settings=dict(fields["settings"]),
                shards=tuple(Shard(*shard[:3]) for shard in fields["shards"]),
                parts=tuple(
                    Part(name, tuple(Piece(shard, Span(*span)) for shard, *span in pieces))
                    for name, pieces in fields["parts"]
                ),
                schema=plain_schema(schema),
                unreadable=dict(fields["unreadable"]),
            )
            # The checksum finds damage; it does not stop an attacker, whose part names must not
            # lead out of the output.
            if not all(_is_valid(part, len(plan.shards)) for part in plan.parts):
                raise ValueError("invalid part")
            return plan
        except InputError:
            raise
        except (*UNREADABLE, OSError, pa.ArrowException):
            raise InputError(
                f"{path} is damaged; choose another --output, or --overwrite"
            ) from None


def _seal(fields: dict[str, Any]) -> bytes:
    """The fields as JSON, with the SHA-256 of their JSON as one more field, the last."""
    digest = hashlib.sha256(json.dumps(fields).encode()).hexdigest()
    return json.dumps({**fields, "sha256": digest}).encode()


def _numbers(span: Span) -> list[int]:
    return [span.first, span.rows, span.mark_row, span.mark_byte]


def _is_valid(part: Part, shards: int) -> bool:
    """Whether the part has a valid name and refers only to the plan's shards."""
    indices = [piece.shard for piece in part.pieces]
    numbers = [*indices, *(number for piece in part.pieces for number in _numbers(piece.span))]
    return (
        _PART_NAME.fullmatch(part.name) is not None
        and all(isinstance(number, int) and 0 <= number < 2**63 for number in numbers)
        and max(indices, default=0) < shards
    )
