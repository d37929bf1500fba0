"""What the steps of scoring a part hand to each other, also as rows of a Ray dataset.

PartTask -> reader -> TokenizedPart -> scorer -> PartResult. As a row of a dataset, a tokenized part
has its arrays and tables as bytes: Ray Data may cut and join blocks, but it never cuts a value.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import pyarrow as pa

from pipelines.cluster import arrow_ipc as ipc
from pipelines.scoring.plan import Part
from pipelines.sources.rows import Span
from pipelines.sources.shard import Shard


@dataclass(frozen=True)
class PartTask:
    """A part to score, with all that a process needs to read it."""

    name: str
    pieces: tuple[tuple[Shard, Span], ...]

    @staticmethod
    def of(part: Part, shards: Sequence[Shard]) -> "PartTask":
        """The task of a part; `shards` are those of its plan."""
        return PartTask(part.name, tuple((shards[p.shard], p.span) for p in part.pieces))

    def to_row(self) -> dict[str, Any]:
        """As a row of a Ray dataset: name: str, pieces: str (JSON)."""
        pieces = [[vars(shard), vars(span)] for shard, span in self.pieces]
        return {"name": self.name, "pieces": json.dumps(pieces)}

    @staticmethod
    def from_row(row: Mapping[str, Any]) -> "PartTask":
        """The task that a row was made of."""
        pieces = json.loads(row["pieces"])
        return PartTask(row["name"], tuple((Shard(**s), Span(**span)) for s, span in pieces))


@dataclass(frozen=True)
class TokenizedPart:
    """A part that was read and tokenized. `rows` are those that can be scored, in input order."""

    task: PartTask
    kept: pa.Table
    """The kept columns, `rows` rows."""
    rejected: pa.Table
    """Rows that cannot be scored, with the schema `pipelines.scoring.output.REJECTED`. A piece that
    cannot be read is one row of this table."""
    ids: np.ndarray
    """int32[tokens]: the token ids of all rows, row after row."""
    offsets: np.ndarray
    """int64[rows + 1]: where each row's ids begin."""
    piece_rows: np.ndarray
    """int64[pieces]: number of rows of each piece."""
    truncated: int
    """Rows whose text was longer than the maximum."""
    rejected_rows: int
    """Rows that cannot be scored. A piece that cannot be read counts with all its rows."""
    reasons: Mapping[str, int]
    """Rejected rows by kind of reason."""

    @staticmethod
    def empty(task: PartTask) -> "TokenizedPart":
        """A part of no rows, in place of one that could not be read."""
        no_rows, nothing = pa.table({}), np.empty(0, np.int32)
        offsets = np.zeros(1, np.int64)
        return TokenizedPart(task, no_rows, no_rows, nothing, offsets, offsets[1:], 0, 0, {})

    def to_row(self) -> dict[str, Any]:
        """As a row of a Ray dataset: tables as Arrow IPC streams, arrays as their bytes."""
        return {
            **self.task.to_row(),
            "kept": ipc.to_bytes(self.kept),
            "rejected": ipc.to_bytes(self.rejected),
            "ids": self.ids.tobytes(),
            "offsets": self.offsets.tobytes(),
            "piece_rows": self.piece_rows.tobytes(),
            "truncated": self.truncated,
            "rejected_rows": self.rejected_rows,
            "reasons": json.dumps(self.reasons),
        }

    @staticmethod
    def from_row(row: Mapping[str, Any]) -> "TokenizedPart":
        """The part that a row was made of. Its tables and arrays share the row's memory."""
        return TokenizedPart(
            task=PartTask.from_row(row),
            kept=ipc.from_bytes(row["kept"]),
            rejected=ipc.from_bytes(row["rejected"]),
            ids=np.frombuffer(row["ids"], np.int32),
            offsets=np.frombuffer(row["offsets"], np.int64),
            piece_rows=np.frombuffer(row["piece_rows"], np.int64),
            truncated=row["truncated"],
            rejected_rows=row["rejected_rows"],
            reasons=json.loads(row["reasons"]),
        )


@dataclass(frozen=True)
class PartCounts:
    """Counts of a part. Rows scored and rows rejected are all its rows."""

    rows: int = 0
    """Rows scored."""
    rejected: int = 0
    """Rows rejected."""
    truncated: int = 0
    """Texts scored that were truncated to `--max_tokens`."""
    positive: int = 0
    """Texts scored whose answer is positive."""
    tokens: int = 0
    """Tokens of the texts scored."""
    unknown: int = 0
    """Those tokens that the vocabulary lacks."""


@dataclass(frozen=True)
class PartResult:
    """What became of a part."""

    name: str
    counts: PartCounts
    error: str = ""
    """Why the part was not written; "": it was."""

    def to_row(self) -> dict[str, Any]:
        """As a row of a Ray dataset: name: str, error: str, and an int for each count."""
        return {"name": self.name, "error": self.error, **asdict(self.counts)}

    @staticmethod
    def from_row(row: Mapping[str, Any]) -> "PartResult":
        """The result that a row was made of."""
        counts = PartCounts(**{field.name: row[field.name] for field in fields(PartCounts)})
        return PartResult(row["name"], counts, row["error"])
