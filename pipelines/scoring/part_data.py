"""What the steps of scoring a part hand to each other, also as rows of a Ray dataset.

PartTask -> reader -> TokenizedPart -> scorer -> PartResult. As a row of a dataset, a tokenized part
has its arrays and tables as bytes: Ray Data may cut and join blocks, but it never cuts a value.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from pipelines.cluster import arrow_ipc as ipc
from pipelines.scoring.plan import Part
from pipelines.sources.rows import Span
from pipelines.sources.shard import Shard

REJECTED = pa.schema(
    [
        pa.field("shard", pa.string()),
        pa.field("row", pa.int64()),
        pa.field("reason", pa.string()),
        pa.field("raw", pa.large_binary()),
        pa.field("raw_bytes", pa.int64()),
    ]
)
"""Schema of the files in `_rejected/`. Rows are counted from 1; null: all rows of a shard, or all
of them that a part has. `raw` is the row (CSV) or text (Parquet), or its first 64 KiB, and null
beyond 64 MiB of a part; `raw_bytes` is its length, which is always there."""

BINS = 20
"""Bins of the histogram of probabilities, of equal width. The upper half is positive."""


@dataclass(frozen=True)
class PartTask:
    """A part to score, with all that a process needs to read it."""

    name: str
    pieces: tuple[tuple[Shard, Span], ...]
    plan: int = 0
    """Number of its plan."""

    @staticmethod
    def of(part: Part, shards: Sequence[Shard], plan: int = 0) -> "PartTask":
        """The task of a part; `shards` are those of its plan, whose number is `plan`."""
        return PartTask(part.name, tuple((shards[p.shard], p.span) for p in part.pieces), plan)

    def to_row(self) -> dict[str, Any]:
        """As a row of a Ray dataset: name: str, plan: int, pieces: str (JSON)."""
        pieces = [[vars(shard), vars(span)] for shard, span in self.pieces]
        return {"name": self.name, "plan": self.plan, "pieces": json.dumps(pieces)}

    @staticmethod
    def from_row(row: Mapping[str, Any]) -> "PartTask":
        """The task that a row was made of."""
        pieces = json.loads(row["pieces"])
        shards = tuple((Shard(**shard), Span(**span)) for shard, span in pieces)
        return PartTask(row["name"], shards, row["plan"])


@dataclass(frozen=True)
class TokenizedPart:
    """A part that was read and tokenized. `rows` are those that can be scored, in input order."""

    task: PartTask
    kept: pa.Table
    """The kept columns, `rows` rows."""
    rejected: pa.Table
    """Rows that cannot be scored, with the schema REJECTED. A piece that
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
class WrittenFile:
    """A file as it was written."""

    size: int
    """Bytes."""
    sha256: str
    """Of its content, in hex."""
    modified: int = 0
    """When it was written, in nanoseconds since 1970, as a listing shows it; 0: not known."""


@dataclass(frozen=True)
class PartResult:
    """What became of a part: all that the manifest and the totals need."""

    name: str
    counts: PartCounts
    error: str = ""
    """Why the part was not written, or is damaged; "": neither. If there is one, nothing else
    counts."""
    histogram: Sequence[int] = ()
    """int[BINS]: rows scored, by probability."""
    answers: Sequence[int] = ()
    """int[2 * pieces]: rows scored and positive rows of the first piece, the second one, ..."""
    reasons: Mapping[str, int] = field(default_factory=dict)
    """Rejected rows by kind of reason."""
    file: WrittenFile | None = None
    """The part's file; None: it was not written."""
    rejected_file: WrittenFile | None = None
    """The part's file in `_rejected/`; None: it has none."""

    def to_row(self) -> dict[str, Any]:
        """As a row of a Ray dataset: name: str, error: str, result: str (JSON)."""
        return {"name": self.name, "error": self.error, "result": json.dumps(asdict(self))}

    @staticmethod
    def from_row(row: Mapping[str, Any]) -> "PartResult":
        """The result that a row was made of."""
        values = json.loads(row["result"])
        files = {
            name: WrittenFile(**values[name]) if values[name] else None
            for name in ("file", "rejected_file")
        }
        return PartResult(**{**values, **files, "counts": PartCounts(**values["counts"])})
