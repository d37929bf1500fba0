"""Reads and tokenizes the rows of a part; rows that cannot be scored are rejected with a reason."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipelines.scoring.cast import cast_column
from pipelines.scoring.output import REJECTED
from pipelines.scoring.part_data import PartTask, TokenizedPart
from pipelines.scoring.read_errors import change_message, outage_message
from pipelines.scoring.totals import MAX_REASONS_PER_PART, kind_of, most_frequent
from pipelines.sources.rows import Rows, Span
from pipelines.sources.shard import Shard
from sentiment import arrow_errors
from sentiment.errors import InputError
from sentiment.text.tokenizer import Encoder

MAX_KEPT_BYTES = 4 * 2**30
"""Bytes of a part's kept columns. They are held in memory, and small shards can unpack to any
size."""

MAX_READS = 5
"""Times that a piece is read if a server says "slow down" in a way that looks like content."""


@dataclass(frozen=True)
class PartReader:
    """Reads and tokenizes parts."""

    encoder: Encoder
    text_column: str
    schema: pa.Schema
    """Schema of the kept columns."""
    encoding: str
    max_tokens: int

    def __call__(self, task: PartTask) -> TokenizedPart:
        """The part's rows, tokenized; rows that cannot be scored go to `rejected` with a reason.

        If a shard changed since it was planned, or during an outage, the result has an `error`.
        """
        pieces: list[_PieceReader] = []
        kept_bytes = 0
        error = ""
        for shard, span in task.pieces:
            piece = self._read(shard, span, MAX_KEPT_BYTES - kept_bytes)
            # Checked last: then the shard was the same as long as it was read.
            error = piece.outage or change_message(shard)
            if error:
                break
            pieces.append(piece)
            kept_bytes += sum(table.nbytes for table in piece.kept)
        lengths = _concatenate([array for piece in pieces for array in piece.lengths], np.int64)
        offsets = np.zeros(len(lengths) + 1, np.int64)
        np.cumsum(lengths, out=offsets[1:])
        kept = [table for piece in pieces for table in piece.kept]
        rejected = [row for piece in pieces for row in piece.rejected]
        reasons = sum((piece.reasons for piece in pieces), Counter[str]())
        return TokenizedPart(
            task=task,
            kept=pa.concat_tables([self.schema.empty_table(), *kept]),
            rejected=pa.Table.from_pylist(rejected, REJECTED),
            ids=_concatenate([array for piece in pieces for array in piece.ids], np.int32),
            offsets=offsets,
            piece_rows=np.array([piece.rows for piece in pieces], np.int64),
            truncated=sum(piece.truncated for piece in pieces),
            rejected_rows=sum(piece.rejected_rows for piece in pieces),
            reasons=most_frequent(reasons, MAX_REASONS_PER_PART),
            error=error,
        )

    def _read(self, shard: Shard, span: Span, max_kept_bytes: int) -> "_PieceReader":
        for _ in range(MAX_READS):
            piece = _PieceReader(self, shard, span, max_kept_bytes)
            if not piece.misread:
                break
        return piece


class _PieceReader:
    """Reads the rows of a piece, and sorts them into rows that can be scored and rejected rows."""

    def __init__(self, reader: PartReader, shard: Shard, span: Span, max_kept_bytes: int) -> None:
        self._reader, self._path, self._max_kept_bytes = reader, shard.path, max_kept_bytes
        self.outage = ""
        """Why the piece could not be read, if the reason is not in the shard."""
        self.misread = False
        """Whether the server may have sent an error that was taken for content."""
        self._clear()
        # Some shards may lack a kept column: it is null in their rows.
        wanted, optional = [reader.text_column], reader.schema.names
        try:
            for rows in shard.rows(wanted, reader.encoding, span, optional=optional):
                self._add(rows)
            self._require_all_rows(span)
        except InputError as error:
            self._clear()
            self.misread = arrow_errors.is_misread(error.__cause__)
            self.outage = outage_message(shard, error)
            self.rejected_rows = span.rows
            self.reasons[kind_of(str(error).replace(shard.path, "the shard"))] = span.rows
            reason = f"{error} (rows {span.first + 1} to {span.last})"
            self.rejected.append({"shard": shard.path, "row": None, "reason": reason, "raw": None})

    def _clear(self) -> None:
        self.kept: list[pa.Table] = []
        """Kept columns of the rows to score, a table for each batch that was read."""
        self.ids: list[npt.NDArray[np.int32]] = []
        """Their token ids, int32[tokens] for each batch."""
        self.lengths: list[npt.NDArray[np.int64]] = []
        """Number of tokens of each of them, int64[rows] for each batch."""
        self.rejected: list[dict[str, Any]] = []
        """Rows of a table with the schema REJECTED."""
        self.reasons: Counter[str] = Counter()
        self.truncated = 0
        self.rejected_rows = 0

    @property
    def rows(self) -> int:
        """Number of rows to score."""
        return sum(map(len, self.lengths))

    def _require_all_rows(self, span: Span) -> None:
        """Raise an InputError unless each row of the span will be scored or is rejected."""
        rows = self.rows + self.rejected_rows
        if rows != span.rows:
            raise InputError(f"{self._path} gave {rows:,} rows where {span.rows:,} were counted")

    def _add(self, rows: Rows) -> None:
        texts = rows.table[self._reader.text_column]
        tokens = self._reader.encoder(texts)
        reasons: dict[int, str] = {}
        for index in tokens.invalid.tolist():
            null = not texts[index].is_valid
            reasons[index] = "the text is null" if null else "the text is not valid UTF-8"
        columns = self._cast_kept(rows.table, reasons)
        for index, reason in reasons.items():
            raw = texts[index].as_py()
            raw = raw.encode() if isinstance(raw, str) else raw
            self._reject(int(rows.numbers[index]), reason, raw)
        for bad in rows.bad:
            self._reject(bad.number, bad.reason, bad.raw)
        self.rejected.sort(key=lambda row: row["row"])

        is_scored = np.ones(len(texts), bool)
        is_scored[list(reasons)] = False
        # Column by column, since a table without columns has no rows to filter.
        kept = [column.filter(pa.array(is_scored)) for column in columns]
        self.kept.append(pa.table(kept, schema=self._reader.schema))
        if sum(table.nbytes for table in self.kept) > self._max_kept_bytes:
            raise InputError(
                f"{self._path}: the columns to keep fill more than "
                f"{MAX_KEPT_BYTES >> 30} GiB in a part: use a smaller --part_rows"
            )
        lengths = np.diff(tokens.offsets)
        head_lengths = np.minimum(lengths, self._reader.max_tokens)
        self.truncated += int(np.count_nonzero(lengths[is_scored] > head_lengths[is_scored]))
        head_lengths[~is_scored] = 0
        self.ids.append(tokens.heads(head_lengths))
        self.lengths.append(head_lengths[is_scored])

    def _cast_kept(self, table: pa.Table, reasons: dict[int, str]) -> list[pa.ChunkedArray]:
        """The kept columns with their planned types. Adds reasons for rows that do not convert."""
        columns = []
        for field in self._reader.schema:
            if field.name not in table.column_names:
                columns.append(pa.nulls(len(table), field.type))
                continue
            column, invalid = cast_column(table[field.name], field)
            columns.append(column)
            for index, reason in invalid.items():
                reasons.setdefault(index, reason)
        return columns

    def _reject(self, number: int, reason: str, raw: bytes | None) -> None:
        self.rejected.append({"shard": self._path, "row": number, "reason": reason, "raw": raw})
        self.reasons[kind_of(reason)] += 1
        self.rejected_rows += 1


def _concatenate(arrays: list[npt.NDArray[Any]], dtype: type) -> npt.NDArray[Any]:
    return np.concatenate([np.empty(0, dtype), *arrays])
