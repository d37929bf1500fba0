"""A part, from its rows to its file: read and tokenize, score, write. The steps of the Ray job.

A part crosses from the tasks that read it to the actor that scores it as one row of binary
columns, so that Ray Data, which cuts and joins blocks as it sees fit, cannot take it apart.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipelines import ipc
from pipelines.output import METADATA, REJECTED
from pipelines.plan import Part
from pipelines.rows import Rows, Span
from pipelines.shards import Shard
from sentiment import storage
from sentiment.errors import InputError
from sentiment.inference import inference
from sentiment.tokenizer import Encoder


def to_item(part: Part, shards: tuple[Shard, ...]) -> dict[str, str]:
    """The part as a row of the dataset that the job begins with."""
    pieces = [[asdict(shards[piece.shard]), asdict(piece.span)] for piece in part.pieces]
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
        """The part, ready to be scored; rows that cannot be are set apart with the reason."""
        kept, ids, lengths, rejected = [], [], [], []
        truncated = 0
        for shard, span in json.loads(item["pieces"]):
            piece = _Piece(self, Shard(**shard), Span(**span))
            kept += piece.kept
            rejected += piece.rejected
            ids += piece.ids
            lengths += piece.lengths
            truncated += piece.truncated
        offsets = np.zeros(sum(map(len, lengths)) + 1, np.int64)
        np.cumsum(_concatenate(lengths, np.int64), out=offsets[1:])
        return {
            **item,
            "kept": ipc.to_bytes(pa.concat_tables([self.schema.empty_table(), *kept])),
            "rejected": ipc.to_bytes(pa.Table.from_pylist(rejected, REJECTED)),
            "ids": _concatenate(ids, np.int32).tobytes(),
            "offsets": offsets.tobytes(),
            "truncated": truncated,
        }


class _Piece:
    """The rows of a piece, sorted into those that can be scored and those that cannot."""

    def __init__(self, reader: PartReader, shard: Shard, span: Span) -> None:
        self._reader, self._path = reader, shard.path
        self._clear()
        self.rejected: list[dict[str, Any]] = []
        # A column may be missing from some shards: it is null in their rows.
        wanted, kept = [reader.text_column], reader.schema.names
        try:
            for rows in shard.rows(wanted, reader.encoding, span, optional=kept):
                self._add(rows)
        except InputError as error:
            self._clear()
            reason = f"{error} (rows {span.first + 1} to {span.first + span.rows})"
            self.rejected = [{"shard": shard.path, "row": None, "reason": reason, "raw": None}]

    def _clear(self) -> None:
        self.kept: list[pa.Table] = []
        self.ids: list[np.ndarray] = []
        self.lengths: list[np.ndarray] = []
        self.truncated = 0

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
            column, invalid = _cast(rows.table[field.name], field.type)
            columns.append(column)
            for index in invalid:
                reasons.setdefault(index, f"column {field.name!r} is not valid UTF-8")
        for index in reasons:
            raw = texts[index].as_py()
            raw = raw.encode() if isinstance(raw, str) else raw
            self._reject(int(rows.numbers[index]), reasons[index], raw)
        for bad in rows.bad:
            self._reject(bad.number, bad.reason, bad.raw)
        self.rejected.sort(key=lambda row: row["row"])

        scored = np.ones(len(texts), bool)
        scored[list(reasons)] = False
        kept = pa.table(columns, schema=self._reader.schema)
        self.kept.append(kept.filter(pa.array(scored)))
        lengths = np.diff(tokens.offsets)
        heads = np.minimum(lengths, self._reader.max_tokens)
        self.truncated += int(np.count_nonzero(lengths[scored] > heads[scored]))
        heads[~scored] = 0
        if heads.sum() == len(tokens.ids):
            self.ids.append(tokens.ids)
        else:
            place = np.arange(len(tokens.ids)) - np.repeat(tokens.offsets[:-1], lengths)
            self.ids.append(tokens.ids[place < np.repeat(heads, lengths)])
        self.lengths.append(heads[scored])

    def _reject(self, number: int, reason: str, raw: bytes | None) -> None:
        self.rejected.append({"shard": self._path, "row": number, "reason": reason, "raw": raw})


class PartScorer:
    """Scores and writes parts; an actor of the job. A part is visible only when whole."""

    def __init__(
        self,
        weights: Mapping[str, np.ndarray],
        output: str,
        model_hash: str,
        use_gpu: bool,
        batch_size: int,
    ) -> None:
        self._infer = inference(weights, use_gpu, batch_size)
        self._output, self._model_hash = output, model_hash

    def __call__(self, part: Mapping[str, Any]) -> dict[str, Any]:
        """Write the part's files; what was done."""
        kept, rejected = ipc.from_bytes(part["kept"]), ipc.from_bytes(part["rejected"])
        ids = np.frombuffer(part["ids"], np.int32)
        offsets = np.frombuffer(part["offsets"], np.int64)
        probabilities = self._infer(ids, offsets)
        positive = probabilities >= 0.5
        table = kept.append_column("positive_probability", pa.array(probabilities))
        answers = pc.if_else(pa.array(positive), "positive", "negative")
        table = table.append_column("sentiment", answers)
        done = {
            "rows": len(table),
            "rejected": len(rejected),
            "truncated": int(part["truncated"]),
            "positive": int(positive.sum()),
            "tokens": len(ids),
        }
        pieces = [
            [shard["path"], span["first"], span["rows"]]
            for shard, span in json.loads(part["pieces"])
        ]
        provenance = {"model_hash": self._model_hash, "pieces": pieces, "counts": done}
        table = table.replace_schema_metadata({METADATA: json.dumps(provenance, sort_keys=True)})
        # The output file commits the part, so it comes last.
        name = part["name"]
        try:
            if len(rejected):
                _write(rejected, storage.join(self._output, "_rejected", f"{name}.parquet"))
            _write(table, storage.join(self._output, f"{name}.parquet"))
        except OSError as error:
            # Returned, since what Ray Data raises for an actor's exception has lost its cause.
            return {"name": name, "error": str(error), **done}
        return {"name": name, "error": "", **done}


def _cast(column: pa.ChunkedArray, to: pa.DataType) -> tuple[pa.ChunkedArray, list[int]]:
    """The column in another type, and the rows, made null, whose bytes are no valid UTF-8."""
    if column.type == to:
        return column, []
    try:
        return column.cast(to), []
    except pa.ArrowInvalid:
        if not pa.types.is_binary(column.type):
            raise
    values: list[str | None] = []
    invalid = []
    for index, value in enumerate(column.to_pylist()):
        try:
            values.append(value.decode())
        except UnicodeDecodeError:
            values.append(None)
            invalid.append(index)
    return pa.chunked_array([pa.array(values, pa.string())]).cast(to), invalid


def _write(table: pa.Table, path: str) -> None:
    with storage.writing(path) as file:
        pq.write_table(table, file, compression="zstd")


def _concatenate(arrays: list[np.ndarray], dtype: type) -> np.ndarray:
    return np.concatenate([np.empty(0, dtype), *arrays])
