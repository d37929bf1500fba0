"""What the steps of scoring a part hand to each other, also as blocks of a Ray dataset.

PartTask -> reader -> TokenizedPart -> scorer -> PartResult. Between a CPU that reads and a GPU that
scores, a part is one row, and so a block: Ray Data cuts and joins blocks between rows, so it never
cuts a part, and passes on a part without any row to score like any other. Tables and arrays are
binary values, shared, not copied.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
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
        pa.field("plan", pa.int64()),
    ]
)
"""Schema of the files in `_rejected/`. Rows are counted from 1; null: all rows of a shard, or all
of them that a part has. `raw` is the row (CSV) or text (Parquet), or its first 64 KiB, and null
beyond 64 MiB of a part; `raw_bytes` is its length, which is always there. `plan` is the number of
the plan that has the row: there is one for each night with new shards."""

STAGES = ("read", "score", "write")
"""What a part goes through. Reading includes tokenizing; writing, to encode its files."""

ValueRows: TypeAlias = Sequence[tuple[str | None, Sequence[int]]]
"""Values of a column, None for null, each with its rows of each class; with more than
`class_rows.MAX_CLASSES_OF_PIECES` classes, with its rows."""

BINS = 20
"""Bins of the histogram of probabilities, of equal width from 0 to 1."""


@dataclass(frozen=True)
class PartTask:
    """A part to score, with all that a process needs to read it."""

    name: str
    pieces: tuple[tuple[Shard, Span], ...]
    plan: int = 0
    """Number of its plan."""
    replaces: str = ""
    """SHA-256, in hex, of the file of the part that is to be replaced; "": there is none."""

    @staticmethod
    def of(part: Part, shards: Sequence[Shard], plan: int = 0, replaces: str = "") -> "PartTask":
        """The task of a part; `shards` are those of its plan, whose number is `plan`."""
        pieces = tuple((shards[p.shard], p.span) for p in part.pieces)
        return PartTask(part.name, pieces, plan, replaces)

    def to_json(self) -> str:
        """As JSON."""
        pieces = [[vars(shard), vars(span)] for shard, span in self.pieces]
        return json.dumps([self.name, pieces, self.plan, self.replaces])

    @staticmethod
    def from_json(content: str) -> "PartTask":
        """The task that the JSON was made of."""
        name, pieces, plan, replaces = json.loads(content)
        made = tuple((Shard(**s), Span(**span)) for s, span in pieces)
        return PartTask(name, made, plan, replaces)

    @property
    def rows(self) -> int:
        """Number of input rows."""
        return sum(span.rows for _, span in self.pieces)


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
    seconds: float = 0.0
    """How long it took to read and tokenize."""


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
    """Texts scored whose class is `positive`; 0 if no class has that name."""
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
    """int[BINS]: rows scored, by the probability of the second of two classes, or of the winner
    among more."""
    answers: Sequence[int] = ()
    """Rows scored of each piece and class, in the layout of `class_rows.ClassRows`."""
    reasons: Mapping[str, int] = field(default_factory=dict)
    """Rejected rows by kind of reason."""
    file: WrittenFile | None = None
    """The part's file; None: it was not written."""
    rejected_file: WrittenFile | None = None
    """The part's file in `_rejected/`; None: it has none."""
    seconds: Mapping[str, float] = field(default_factory=dict, compare=False)
    """How long each of STAGES took; empty: the part was there already."""
    by: Mapping[str, ValueRows | None] = field(default_factory=dict)
    """Rows scored by the values of the columns that `--by` names; None: there are too many."""
    wordless: int | None = None
    """Texts scored without any word that the vocabulary has; None: they were not counted. It is no
    part of `counts`: the file of a part is to have the same bytes as in earlier versions."""
    probability_sums: Sequence[float] | None = None
    """float[classes]: sums of each class's probabilities over the texts scored; None: they were not
    counted, or the output has no column of each. No part of the file, either."""

    def to_json(self) -> str:
        """As JSON."""
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(content: str) -> "PartResult":
        """The result that the JSON was made of."""
        values = json.loads(content)
        files = {
            name: WrittenFile(**values[name]) if values[name] else None
            for name in ("file", "rejected_file")
        }
        return PartResult(**{**values, **files, "counts": PartCounts(**values["counts"])})


ReadPart: TypeAlias = TokenizedPart | PartResult
"""A part that was read; or what became of it, if it could not be read or is there already."""

_ARRAYS = {"ids": np.int32, "offsets": np.int64, "piece_rows": np.int64}
_COUNTS = ("truncated", "rejected_rows", "reasons", "seconds")

BLOCK = pa.schema(
    [
        pa.field("result", pa.string()),
        pa.field("task", pa.string()),
        pa.field("counts", pa.string()),
        pa.field("kept", pa.large_binary()),
        pa.field("rejected", pa.large_binary()),
        *(pa.field(name, pa.large_binary()) for name in _ARRAYS),
    ]
)
"""Schema of a block that holds a `ReadPart`. `result`: JSON of a `PartResult`; then all else is
null."""


def to_block(part: ReadPart) -> pa.Table:
    """A block of one row. It shares the arrays' memory."""
    if isinstance(part, PartResult):
        return pa.Table.from_pylist([{"result": part.to_json()}], BLOCK)
    counts = {name: getattr(part, name) for name in _COUNTS}
    arrays = [getattr(part, name) for name in _ARRAYS]
    columns = [
        pa.array([None], pa.string()),
        pa.array([part.task.to_json()]),
        pa.array([json.dumps(counts)]),
        _value(ipc.to_buffer(part.kept)),
        _value(ipc.to_buffer(part.rejected)),
        *(_value(pa.py_buffer(np.ascontiguousarray(array))) for array in arrays),
    ]
    return pa.table(columns, schema=BLOCK)


def from_block(block: pa.Table) -> ReadPart:
    """The part that a block was made of. Its tables and arrays share the block's memory."""
    result, task, counts = (block[name][0].as_py() for name in ("result", "task", "counts"))
    if result is not None:
        return PartResult.from_json(result)
    counts = json.loads(counts)
    arrays = {name: _array(_buffer(block[name]), np.dtype(kind)) for name, kind in _ARRAYS.items()}
    return TokenizedPart(
        task=PartTask.from_json(task),
        kept=ipc.from_bytes(_buffer(block["kept"])),
        rejected=ipc.from_bytes(_buffer(block["rejected"])),
        ids=arrays["ids"],
        offsets=arrays["offsets"],
        piece_rows=arrays["piece_rows"],
        truncated=counts["truncated"],
        rejected_rows=counts["rejected_rows"],
        reasons=counts["reasons"],
        seconds=counts["seconds"],
    )


def _value(content: pa.Buffer) -> pa.Array:
    """A large_binary array of one value, without a copy."""
    offsets = pa.py_buffer(np.array([0, content.size], np.int64))
    return pa.Array.from_buffers(pa.large_binary(), 1, [None, offsets, content])


def _buffer(column: pa.ChunkedArray) -> pa.Buffer:
    """The first value of a large_binary column, without the copy that a scalar makes."""
    chunk = next(chunk for chunk in column.chunks if len(chunk))
    _, offsets, content = chunk.buffers()
    first, last = np.frombuffer(offsets, np.int64)[chunk.offset : chunk.offset + 2].tolist()
    return content.slice(first, last - first)


def _array(content: pa.Buffer, kind: np.dtype[Any]) -> npt.NDArray[Any]:
    return np.frombuffer(content, kind) if content.size else np.empty(0, kind)
