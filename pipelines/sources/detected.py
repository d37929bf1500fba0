"""What a shard itself told of how to read it, where no flag or name did: "Read with ';' ...".

A reader keeps such lines as metadata of the shard's schema. So shards that were read alike have one
schema, and a plan of a million shards tells them in a few lines.
"""

import json
from collections.abc import Mapping, Sequence

import pyarrow as pa

from pipelines.console.terminal import quantity

MAX_LINES = 20
"""Lines about the shards of a plan. There are more only if flags do not fit the shards at all."""

_KEY = b"sentiment.detected"


def with_detected(schema: pa.Schema, lines: Sequence[str]) -> pa.Schema:
    """The schema of a shard with what was detected, each a line that several shards can share."""
    if not lines:
        return schema
    return schema.with_metadata({_KEY: json.dumps(list(lines)).encode()})


def detected_in(schema: pa.Schema) -> list[str]:
    """The lines that `with_detected` added."""
    lines: list[str] = json.loads((schema.metadata or {}).get(_KEY, b"[]"))
    return lines


def detected_notes(shards: Mapping[str, tuple[int, str]]) -> list[str]:
    """The lines with their shards. `shards`: for each line, how many shards have it, and the path
    of the first."""
    notes = [
        f"{line}: {quantity(number, 'shard')} ({first}{', ...' if number > 1 else ''})"
        for line, (number, first) in shards.items()
    ]
    if len(notes) > MAX_LINES:
        notes[MAX_LINES:] = [f"{len(notes) - MAX_LINES:,} more ways in which shards were read"]
    return notes
