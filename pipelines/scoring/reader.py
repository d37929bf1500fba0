"""Reads and tokenizes the rows of a part; rows that cannot be scored are rejected with a reason."""

from collections import Counter, deque
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.errors import BadShard
from pipelines.scoring.cast import cast_column
from pipelines.scoring.config import ScoreConfig, read_options
from pipelines.scoring.kept_columns import SOURCE
from pipelines.scoring.part_data import REJECTED, PartTask, TokenizedPart
from pipelines.scoring.totals import MAX_REASONS_PER_PART, kind_of, most_frequent
from pipelines.sources.options import ReadOptions
from pipelines.sources.rows import MAX_RAW_BYTES, Rows, Span
from pipelines.sources.shard import Shard
from pipelines.sources.shard_file import unavailable
from pipelines.sources.unchanged import unless_changed
from sentiment.errors import InputError
from sentiment.text.tokenizer import Encoder

MAX_KEPT_BYTES = 2**30
"""Bytes of a part's kept columns. They are held in memory, and small shards can unpack to any
size."""

MAX_REJECTED_BYTES = 64 * 2**20
"""Bytes that are kept of the rows that a part rejects, in all. Beyond, only their length is."""

MAX_REASON_CHARACTERS = 1000
"""A reason may quote a value of any length."""

CONCURRENT_FETCHES = 16
"""Small shards of a part that are fetched at the same time."""

MAX_FETCHED_BYTES = 4 * 2**20
"""Shards of up to so many bytes are fetched whole, before they are needed."""


@dataclass(frozen=True)
class PartReader:
    """Reads and tokenizes parts."""

    encoder: Encoder
    text_column: str
    schema: pa.Schema
    """Schema of the kept columns."""
    options: ReadOptions
    max_tokens: int
    with_source: bool = False
    """Whether the columns SOURCE come after the kept ones."""

    @staticmethod
    def of(config: ScoreConfig, encoder: Encoder, schema: pa.Schema) -> "PartReader":
        """What reads as the flags say; `schema` is that of the kept columns."""
        # How shards are read does not depend on the model.
        options = read_options(config.settings(""))
        return PartReader(
            encoder, config.text_column, schema, options, config.max_tokens, config.with_source
        )

    @property
    def columns(self) -> pa.Schema:
        """Schema of `TokenizedPart.kept`."""
        return pa.unify_schemas([self.schema, SOURCE]) if self.with_source else self.schema

    def __call__(self, task: PartTask) -> TokenizedPart:
        """The part's rows, tokenized; rows that cannot be scored go to `rejected` with a reason.

        Only what a parser says of a shard's bytes rejects rows. Raises Unavailable if a shard could
        not be read, and ShardChanged if it is not the file that was listed.
        """
        pieces: list[_PieceReader] = []
        kept_bytes = raw_bytes = 0
        with closing(_contents(task)) as contents:
            for (shard, span), content in zip(task.pieces, contents, strict=True):
                piece = _PieceReader(
                    self,
                    task.plan,
                    shard,
                    MAX_KEPT_BYTES - kept_bytes,
                    MAX_REJECTED_BYTES - raw_bytes,
                )
                piece.read(span, content)
                pieces.append(piece)
                kept_bytes += sum(table.nbytes for table in piece.kept)
                raw_bytes += sum(table["raw"].nbytes for table in piece.rejected)
        lengths = _concatenate([array for piece in pieces for array in piece.lengths], np.int64)
        offsets = np.zeros(len(lengths) + 1, np.int64)
        np.cumsum(lengths, out=offsets[1:])
        kept = [table for piece in pieces for table in piece.kept]
        rejected = [table for piece in pieces for table in piece.rejected]
        reasons = sum((piece.reasons for piece in pieces), Counter[str]())
        return TokenizedPart(
            task=task,
            kept=pa.concat_tables([_no_rows(self.columns), *kept]),
            rejected=pa.concat_tables([REJECTED.empty_table(), *rejected]),
            ids=_concatenate([array for piece in pieces for array in piece.ids], np.int32),
            offsets=offsets,
            piece_rows=np.array([piece.rows for piece in pieces], np.int64),
            truncated=sum(piece.truncated for piece in pieces),
            rejected_rows=sum(piece.rejected_rows for piece in pieces),
            reasons=most_frequent(reasons, MAX_REASONS_PER_PART),
        )


def _contents(task: PartTask) -> Generator[pa.Buffer | None, None, None]:
    """For each piece the whole file, if it is one of several small ones; else None.

    Small files are fetched side by side, a few at a time, because a server takes time for each.
    Raises what `require_unchanged` and `Shard.fetch` raise.
    """
    if len(task.pieces) == 1:
        yield None
        return
    pool = ThreadPoolExecutor(CONCURRENT_FETCHES)
    waiting: deque[Future[pa.Buffer | None] | None] = deque()
    try:
        for shard, _ in task.pieces:
            if len(waiting) == CONCURRENT_FETCHES:
                yield _result(waiting.popleft())
            is_small = shard.size <= MAX_FETCHED_BYTES
            waiting.append(_submit(pool, shard) if is_small else None)
        while waiting:
            yield _result(waiting.popleft())
    finally:
        pool.shutdown(cancel_futures=True)


def _submit(pool: ThreadPoolExecutor, shard: Shard) -> "Future[pa.Buffer | None]":
    try:
        return pool.submit(_fetch, shard)
    except RuntimeError as error:  # The system has no thread left.
        raise unavailable(shard.path, "cannot be read", error) from error


def _result(future: "Future[pa.Buffer | None] | None") -> pa.Buffer | None:
    return None if future is None else future.result()


def _fetch(shard: Shard) -> pa.Buffer | None:
    with unless_changed(shard):
        return shard.fetch(MAX_FETCHED_BYTES)


class _PieceReader:
    """Reads the rows of a piece, and sorts them into rows that can be scored and rejected rows."""

    def __init__(
        self,
        reader: PartReader,
        plan: int,
        shard: Shard,
        max_kept_bytes: int,
        max_raw_bytes: int,
    ) -> None:
        self._reader, self._plan, self._shard = reader, plan, shard
        self._max_kept_bytes, self._max_raw_bytes = max_kept_bytes, max_raw_bytes
        self._clear()

    def _clear(self) -> None:
        self.kept: list[pa.Table] = []
        """Kept columns of the rows to score, a table for each batch that was read."""
        self.ids: list[npt.NDArray[np.int32]] = []
        """Their token ids, int32[tokens] for each batch."""
        self.lengths: list[npt.NDArray[np.int64]] = []
        """Number of tokens of each of them, int64[rows] for each batch."""
        self.rejected: list[pa.Table] = []
        """Tables with the schema REJECTED, one for each batch that has such rows."""
        self.reasons: Counter[str] = Counter()
        self.truncated = 0
        self.rejected_rows = 0
        self._raw_bytes = 0

    @property
    def rows(self) -> int:
        """Number of rows to score."""
        return sum(map(len, self.lengths))

    def read(self, span: Span, content: pa.Buffer | None) -> None:
        """Read the piece; `content` is the shard's file, if that has been fetched.

        A shard that no parser can use is one row of `rejected`. Raises Unavailable and
        ShardChanged.
        """
        try:
            # What has been fetched was looked up then.
            with nullcontext() if content is not None else unless_changed(self._shard):
                self._read(span, content)
        except InputError as error:
            self._clear()
            path = self._shard.path
            self.rejected_rows = span.rows
            self.reasons[kind_of(str(error).replace(path, "the shard"))] = span.rows
            reason = f"{error} (rows {span.first + 1} to {span.last})"
            self.rejected.append(
                pa.Table.from_pylist(
                    [{"shard": path, "reason": reason, "plan": self._plan}], REJECTED
                )
            )

    def _read(self, span: Span, content: pa.Buffer | None) -> None:
        # Some shards may lack a kept column: it is null in their rows.
        wanted, optional = [self._reader.text_column], self._reader.schema.names
        options = self._reader.options
        for rows in self._shard.rows(wanted, options, span, optional, content):
            self._add(rows)
        found = self.rows + self.rejected_rows
        if found != span.rows:
            raise BadShard(
                f"{self._shard.path} gave {found:,} rows where {span.rows:,} were counted"
            )

    def _add(self, rows: Rows) -> None:
        texts = rows.table[self._reader.text_column]
        tokens = self._reader.encoder(texts)
        reasons: dict[int, str] = {}
        # Arrow does not check that a string is UTF-8, and Python would.
        invalid = texts.take(pa.array(tokens.invalid, pa.int64())).cast(pa.large_binary())
        for index, text in zip(tokens.invalid.tolist(), invalid.to_pylist(), strict=True):
            if text is None:
                reasons[index] = "the text is null"
                continue
            problem, remedy = self._shard.not_valid(self._reader.options, text)
            reasons[index] = f"the text {'; '.join(filter(None, (problem, remedy)))}"
        columns = self._cast_kept(rows.table, reasons)
        self._reject(rows, texts, reasons)

        is_scored = np.ones(len(texts), bool)
        is_scored[list(reasons)] = False
        # Column by column, since a table without columns has no rows to filter.
        kept = [column.filter(pa.array(is_scored)) for column in columns]
        if self._reader.with_source:
            numbers = rows.numbers[is_scored]
            kept += [pa.repeat(self._shard.path, len(numbers)), pa.array(numbers, pa.int64())]
        self.kept.append(pa.table(kept, schema=self._reader.columns))
        if sum(table.nbytes for table in self.kept) > self._max_kept_bytes:
            raise BadShard(
                f"{self._shard.path}: the columns to keep fill more than "
                f"{MAX_KEPT_BYTES >> 30} GiB in a part: use a smaller --part_rows"
            )
        lengths = np.diff(tokens.offsets)
        head_lengths = np.minimum(lengths, self._reader.max_tokens)
        self.truncated += int(np.count_nonzero(lengths[is_scored] > head_lengths[is_scored]))
        head_lengths[~is_scored] = 0
        ids = tokens.heads(head_lengths)
        # A view would hold the whole array behind it, which has room for a token in each byte.
        self.ids.append(ids if ids.base is None else ids.copy())
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

    def _reject(self, rows: Rows, texts: pa.ChunkedArray, reasons: dict[int, str]) -> None:
        """Add the malformed rows, and those that have a reason, to `rejected`, in order.

        Args:
            rows: the batch.
            texts: its texts, which may not be UTF-8.
            reasons: by index in the batch.
        """
        if not reasons and not rows.bad:
            return
        # As bytes, since they may not be UTF-8.
        raw = texts.take(pa.array(list(reasons), pa.int64())).cast(pa.large_binary())
        raw_bytes = pc.binary_length(raw)
        raw = pc.binary_slice(raw, 0, MAX_RAW_BYTES)
        bad = rows.bad
        numbers = [*rows.numbers[list(reasons)].tolist(), *(row.number for row in bad)]
        said = [*reasons.values(), *(row.reason for row in bad)]
        lengths = [pa.array([row.raw_bytes for row in bad], pa.int64())]
        content = [pa.array([row.raw for row in bad], pa.large_binary())]
        table = pa.table(
            [
                pa.repeat(pa.scalar(self._shard.path), len(numbers)),
                pa.array(numbers, pa.int64()),
                pa.array([reason[:MAX_REASON_CHARACTERS] for reason in said], pa.string()),
                pa.chunked_array([*raw.chunks, *content], pa.large_binary()),
                pa.chunked_array([*raw_bytes.cast(pa.int64()).chunks, *lengths], pa.int64()),
                pa.repeat(pa.scalar(self._plan, pa.int64()), len(numbers)),
            ],
            schema=REJECTED,
        ).sort_by("row")
        held = np.cumsum(pc.binary_length(table["raw"]).fill_null(0))
        within = pa.array(self._raw_bytes + held <= self._max_raw_bytes)
        raw = pc.if_else(within, table["raw"], pa.scalar(None, pa.large_binary()))
        self._raw_bytes += int(pc.sum(pc.binary_length(raw)).as_py() or 0)
        self.rejected.append(table.set_column(3, REJECTED.field("raw"), raw))
        self.reasons.update(kind_of(reason) for reason in said)
        self.rejected_rows += len(numbers)


def _no_rows(schema: pa.Schema) -> pa.Table:
    """A table without rows. Arrow's own cannot have lists of UUIDs."""
    return pa.table([pa.chunked_array([], field.type) for field in schema], schema=schema)


def _concatenate(arrays: list[npt.NDArray[Any]], dtype: type) -> npt.NDArray[Any]:
    return np.concatenate([np.empty(0, dtype), *arrays])
