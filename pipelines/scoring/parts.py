"""A part, from its rows to its file: read and tokenize, score, write. The steps of the Ray job.

A part crosses from the tasks that read it to the actor that scores it as one row of binary
columns, so that Ray Data, which cuts and joins blocks as it sees fit, cannot take it apart.
"""

import errno
import json
import posixpath
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from socket import gethostname
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from pipelines.cluster import ipc
from pipelines.scoring.output import COUNTS, METADATA, REJECTED, remove_if_there
from pipelines.scoring.plan import Part
from pipelines.scoring.totals import BINS, MAX_REASONS_PER_PART, kind_of, most_frequent
from pipelines.sources.rows import Rows, Span
from pipelines.sources.shard import Shard
from sentiment import storage
from sentiment.errors import InputError, on_one_line
from sentiment.model.inference import Inference
from sentiment.text.tokenizer import UNKNOWN, Encoder

MOST_KEPT = 4 * 2**30
"""Bytes of a part's kept columns: they are held whole, and small shards may unpack to any size."""

TRIES = 5
"""To read a shard whose server says "slow down" in a way that Arrow takes for content."""


def to_item(part: Part, shards: tuple[Shard, ...]) -> dict[str, str]:
    """The part as a row of the dataset that the job begins with."""
    pieces = [[vars(shards[piece.shard]), vars(piece.span)] for piece in part.pieces]
    return {"name": part.name, "pieces": json.dumps(pieces)}


@dataclass(frozen=True)
class PartReader:
    """Reads and tokenizes a part."""

    encoder: Encoder
    text_column: str
    schema: pa.Schema
    """Of the kept columns."""
    encoding: str
    max_tokens: int

    def __call__(self, item: Mapping[str, str]) -> dict[str, Any]:
        """The part, ready to be scored; rows that cannot be are set apart with the reason.

        Where a shard is no longer the one that was planned, or its server is away, `error` says
        so.
        """
        kept, ids, lengths, rejected = [], [], [], []
        scored: list[int] = []
        reasons: Counter[str] = Counter()
        truncated = lost = held = 0
        error = ""
        for its, span in json.loads(item["pieces"]):
            shard = Shard(**its)
            for _ in range(TRIES):
                piece = _Piece(self, shard, Span(**span), MOST_KEPT - held)
                if not piece.misread:
                    break
            # Afterwards: then it was the same all the while it was read.
            error = piece.failed or _changed(shard)
            if error:
                break
            kept += piece.kept
            held += sum(table.nbytes for table in piece.kept)
            rejected += piece.rejected
            ids += piece.ids
            lengths += piece.lengths
            scored.append(sum(map(len, piece.lengths)))
            reasons.update(piece.reasons)
            truncated += piece.truncated
            lost += piece.lost
        offsets = np.zeros(sum(map(len, lengths)) + 1, np.int64)
        np.cumsum(_concatenate(lengths, np.int64), out=offsets[1:])
        return {
            **item,
            "kept": ipc.to_bytes(pa.concat_tables([self.schema.empty_table(), *kept])),
            "rejected": ipc.to_bytes(pa.Table.from_pylist(rejected, REJECTED)),
            "ids": _concatenate(ids, np.int32).tobytes(),
            "offsets": offsets.tobytes(),
            "scored": np.array(scored, np.int64).tobytes(),
            "truncated": truncated,
            "lost": lost,
            "reasons": json.dumps(most_frequent(reasons, MAX_REASONS_PER_PART)),
            "error": error,
        }


class _Piece:
    """The rows of a piece, sorted into those that can be scored and those that cannot."""

    def __init__(self, reader: PartReader, shard: Shard, span: Span, most_kept: int) -> None:
        self._reader, self._path, self._most_kept = reader, shard.path, most_kept
        self._clear()
        self.rejected: list[dict[str, Any]] = []
        # A column may be missing from some shards: it is null in their rows.
        wanted, kept = [reader.text_column], reader.schema.names
        try:
            for rows in shard.rows(wanted, reader.encoding, span, optional=kept):
                self._add(rows)
            self._require_rows(span)
        except InputError as error:
            self._clear()
            self.misread = storage.is_misread(error.__cause__)
            self.failed = _not_its_fault(shard, error)
            self.lost = span.rows
            self.reasons[kind_of(str(error).replace(shard.path, "the shard"))] = span.rows
            reason = f"{error} (rows {span.first + 1} to {span.last})"
            self.rejected = [{"shard": shard.path, "row": None, "reason": reason, "raw": None}]

    def _clear(self) -> None:
        self.kept: list[pa.Table] = []
        self.ids: list[np.ndarray] = []
        self.lengths: list[np.ndarray] = []
        self.reasons: Counter[str] = Counter()
        self.truncated = self.lost = 0
        self.failed, self.misread = "", False

    def _require_rows(self, span: Span) -> None:
        """Raise an InputError unless each row of the span is scored or rejected."""
        found = sum(map(len, self.lengths)) + self.lost
        if found != span.rows:
            raise InputError(f"{self._path} gave {found:,} rows where {span.rows:,} were counted")

    def _add(self, rows: Rows) -> None:
        texts = rows.table[self._reader.text_column]
        tokens = self._reader.encoder(texts)
        reasons: dict[int, str] = {}
        for index in tokens.invalid.tolist():
            null = not texts[index].is_valid
            reasons[index] = "the text is null" if null else "the text is not valid UTF-8"
        columns = []
        for field in self._reader.schema:
            if field.name not in rows.table.column_names:
                columns.append(pa.nulls(len(texts), field.type))
                continue
            column, invalid = _cast(rows.table[field.name], field)
            columns.append(column)
            for index, reason in invalid.items():
                reasons.setdefault(index, reason)
        for index in reasons:
            raw = texts[index].as_py()
            raw = raw.encode() if isinstance(raw, str) else raw
            self._reject(int(rows.numbers[index]), reasons[index], raw)
        for bad in rows.bad:
            self._reject(bad.number, bad.reason, bad.raw)
        self.rejected.sort(key=lambda row: row["row"])

        scored = np.ones(len(texts), bool)
        scored[list(reasons)] = False
        # Column by column: a table of none has no rows to filter.
        kept = [column.filter(pa.array(scored)) for column in columns]
        self.kept.append(pa.table(kept, schema=self._reader.schema))
        if sum(table.nbytes for table in self.kept) > self._most_kept:
            raise InputError(
                f"{self._path}: the columns to keep fill more than "
                f"{MOST_KEPT >> 30} GiB in a part: use a smaller --part_rows"
            )
        lengths = np.diff(tokens.offsets)
        heads = np.minimum(lengths, self._reader.max_tokens)
        self.truncated += int(np.count_nonzero(lengths[scored] > heads[scored]))
        heads[~scored] = 0
        self.ids.append(tokens.heads(heads))
        self.lengths.append(heads[scored])

    def _reject(self, number: int, reason: str, raw: bytes | None) -> None:
        self.rejected.append({"shard": self._path, "row": number, "reason": reason, "raw": raw})
        self.reasons[kind_of(reason)] += 1
        self.lost += 1


@dataclass(frozen=True)
class PartScorer:
    """Scores and writes parts; an actor of the job. A part is visible only when whole."""

    infer: Inference
    output: str
    model_hash: str
    writer: str = ""
    """`Output.writer` of the job."""

    def __call__(self, part: Mapping[str, Any]) -> dict[str, Any]:
        """Write the part's files; what was done."""
        name = part["name"]
        if part["error"]:
            return {"name": name, "error": part["error"], **dict.fromkeys(COUNTS, 0)}
        kept, rejected = ipc.from_bytes(part["kept"]), ipc.from_bytes(part["rejected"])
        ids = np.frombuffer(part["ids"], np.int32)
        offsets = np.frombuffer(part["offsets"], np.int64)
        probabilities = self.infer(ids, offsets)
        positive = probabilities >= 0.5
        answers = pc.if_else(pa.array(positive), "positive", "negative")
        scored = {"positive_probability": pa.array(probabilities), "sentiment": answers}
        names = [*kept.column_names, *scored]
        table = pa.table([*kept.columns, *scored.values()], names=names)
        unknown = np.count_nonzero(ids == UNKNOWN)
        counts = (len(table), part["lost"], part["truncated"], positive.sum(), len(ids), unknown)
        done = dict(zip(COUNTS, map(int, counts), strict=True))
        pieces = [
            [shard["path"], span["first"], span["rows"]]
            for shard, span in json.loads(part["pieces"])
        ]
        provenance = {
            "model_hash": self.model_hash,
            "pieces": pieces,
            "counts": done,
            "histogram": np.histogram(probabilities, BINS, (0, 1))[0].tolist(),
            "answers": _answers(positive, np.frombuffer(part["scored"], np.int64)),
            "reasons": json.loads(part["reasons"]),
        }
        table = table.replace_schema_metadata({METADATA: json.dumps(provenance, sort_keys=True)})
        beside = storage.join(self.output, "_rejected", f"{name}.parquet")
        try:
            # A node that joined later may have a directory of that name to itself. A bucket is one
            # for all, and to ask it takes a request.
            local = isinstance(storage.resolve(self.output)[0], pafs.LocalFileSystem)
            if local and not storage.exists(storage.join(self.output, "_manifest")):
                raise OSError(f"node {gethostname()} does not see --output {self.output}")
            if len(rejected):
                _write(rejected, beside, self.writer)
            else:
                # An earlier attempt may have left one, when a shard could not be read.
                remove_if_there(beside)
            # This file commits the part, so it comes last.
            _write(table, storage.join(self.output, f"{name}.parquet"), self.writer)
        except (OSError, InputError) as error:
            # Returned, since what Ray Data raises for an actor's exception has lost its cause.
            return {"name": name, "error": f"{name} could not be written: {error}", **done}
        return {"name": name, "error": "", **done}


@dataclass(frozen=True)
class PartWorker:
    """Does all of it in one process; an actor of a job without GPUs."""

    reader: PartReader
    scorer: PartScorer

    def __call__(self, item: Mapping[str, str]) -> dict[str, Any]:
        """Read, score and write the part; what was done."""
        return self.scorer(self.reader(item))


def _answers(positive: np.ndarray, scored: np.ndarray) -> list[list[int]]:
    """Of each piece, given how many of its rows are scored: that, and how many are positive."""
    before = np.concatenate([[0], np.cumsum(positive)])
    ends = np.cumsum(scored)
    return np.stack([scored, before[ends] - before[ends - scored]], axis=1).tolist()


def _not_its_fault(shard: Shard, error: BaseException) -> str:
    """What to say if it was not the shard that kept it from being read; else nothing."""
    if storage.is_away(error) or storage.is_away(error.__cause__):
        return f"{error}: run the same command again when the server answers"
    if _is_short(error.__cause__):
        return f"{error}: a node is short of memory, threads or files; run the same command again"
    directory = posixpath.dirname(shard.path)
    if "://" not in directory and not storage.exists(directory):
        return f"node {gethostname()} does not see {directory}: every node must"
    return ""


def _is_short(error: BaseException | None) -> bool:
    """Whether this process, or its node, has run out of something that files are read with."""
    short = (errno.ENOMEM, errno.EAGAIN, errno.EMFILE, errno.ENFILE)
    return (
        isinstance(error, MemoryError)
        or (isinstance(error, OSError) and error.errno in short)
        or "Failed to launch worker thread" in str(error)
    )


def _changed(shard: Shard) -> str:
    """What to say if a shard is there, and another than was planned; else nothing."""
    try:
        filesystem, inner = storage.resolve(shard.path)
        info = filesystem.get_file_info(inner)
    except (OSError, InputError) as error:
        # What could not be read is rejected already.
        return _not_its_fault(shard, error)
    # A bucket's listing may tell milliseconds, of which what it says of one object has none.
    unit = 1 if isinstance(filesystem, pafs.LocalFileSystem) else 10**9
    now = (info.size, (info.mtime_ns or 0) // unit)
    if not info.is_file or now == (shard.size, shard.modified // unit):
        return ""
    return (
        f"{shard.path} has changed since it was planned ({shard.size:,} bytes then, "
        f"{info.size:,} now, or written again): choose another --output, or pass --overwrite"
    )


def _cast(column: pa.ChunkedArray, to: pa.Field) -> tuple[pa.ChunkedArray, dict[int, str]]:
    """The column in another type, and the rows, made null, that do not convert, with the reason.

    Text is checked even where the type stays: Parquet does not keep its writers from bytes that
    are no UTF-8, and what is written with them does not open in pandas.
    """
    invalid: dict[int, str] = {}

    def converted(first: int, last: int) -> list[pa.Array]:
        some = column
        if last - first < len(column):
            # Taken, since a slice of lists is validated with the values of those around it.
            some = column.take(pa.array(range(first, last), pa.int64()))
        try:
            cast = some.cast(to.type)
            cast.validate(full=True)
        except pa.ArrowInvalid as error:
            if last - first > 1:
                middle = (first + last) // 2
                return converted(first, middle) + converted(middle, last)
            why = "is not valid UTF-8"
            if "UTF8" not in str(error):
                said = on_one_line(error)
                why = f"does not convert from {column.type} to {to.type}: {said}"
            invalid[first] = f"column {to.name!r} {why}"
            return [pa.nulls(1, to.type)]
        except pa.ArrowNotImplementedError as error:
            raise InputError(f"column {to.name!r} does not convert: {error}") from error
        return cast.chunks

    return pa.chunked_array(converted(0, len(column)), to.type), invalid


def _write(table: pa.Table, path: str, writer: str) -> None:
    with storage.writing(path, writer) as file:
        pq.write_table(table, file, compression="zstd")


def _concatenate(arrays: list[np.ndarray], dtype: type) -> np.ndarray:
    return np.concatenate([np.empty(0, dtype), *arrays])
