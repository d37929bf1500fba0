"""The manifest: a record of each finished part, as a Parquet file for each plan.

A record says what the part's files were when they were written (bytes, hash, time) and what is in
them (counts, histogram, answers of its pieces, reasons). So damage is found by one listing, and
totals need no part's footer. Records are kept as Arrow columns: an output may have a million parts.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, fields
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.scoring.class_rows import ClassRows
from pipelines.scoring.part_data import BINS, PartCounts, PartResult
from pipelines.scoring.sealed_parquet import parquet_content, read_parquet
from sentiment.errors import UNREADABLE

COUNTS = [field.name for field in fields(PartCounts)]

RECORDS = pa.schema(
    [
        pa.field("name", pa.string(), nullable=False),
        pa.field("bytes", pa.int64(), nullable=False),
        pa.field("modified", pa.int64(), nullable=False),
        pa.field("sha256", pa.binary(32), nullable=False),
        pa.field("rejected_bytes", pa.int64()),
        pa.field("rejected_modified", pa.int64()),
        pa.field("rejected_sha256", pa.binary(32)),
        *(pa.field(name, pa.int64(), nullable=False) for name in COUNTS),
        pa.field("histogram", pa.list_(pa.int64()), nullable=False),
        pa.field("answers", pa.list_(pa.int64()), nullable=False),
        pa.field("reasons", pa.map_(pa.string(), pa.int64()), nullable=False),
        pa.field("by", pa.string()),
        pa.field("wordless", pa.int64()),
        pa.field("probability_sums", pa.list_(pa.float64())),
    ]
)
"""Schema of the manifest. Of a part's file: bytes, time in ns since 1970 (0: not known), hash; the
same of its file in `_rejected/` (null: it has none); `PartCounts`; `histogram`: int64[BINS];
`answers`: rows scored of each piece and class, as in `PartResult`; `reasons`: rejected rows by kind
of reason; `by`: rows by the values of columns, JSON; `wordless`: texts without a known word (null:
not counted); `probability_sums`: float64[classes], as in `PartResult`."""

PLAN = b"sentiment.plan"
"""Key of the SHA-256 of the plan's file, in hex, in the metadata of a plan's manifest."""

MAX_PENDING = 1000
"""Results that are held as Python objects before they become columns."""


NOT_IN_FILE = ("by", "wordless")
"""Columns that do not follow from the file of a part: who reads it again cannot fill them."""


class Manifest:
    """Records of finished parts; the latest record of a part counts. What it does not know is that
    of an earlier record of the same file."""

    def __init__(self) -> None:
        self._table = RECORDS.empty_table()
        self._chunks: list[pa.Table] = []
        self._pending: list[PartResult] = []

    @property
    def table(self) -> pa.Table:
        """All records, one for each part, with the schema RECORDS."""
        if self._pending:
            self._chunks.append(_table_of(self._pending))
            self._pending = []
        if self._chunks:
            table = pa.concat_tables([self._table, *self._chunks])
            self._table, self._chunks = _completed(_latest(table), table), []
        return self._table

    def add(self, result: PartResult) -> None:
        """Record a part that was written, in place of an earlier record of it."""
        self._pending.append(result)
        if len(self._pending) == MAX_PENDING:
            self._chunks.append(_table_of(self._pending))
            self._pending = []

    def add_older(self, table: pa.Table) -> None:
        """Add records of parts that have none."""
        known = self.table
        new = pc.invert(pc.is_in(table["name"], known["name"].combine_chunks()))
        self._chunks.append(table.filter(new))

    def drop(self, names: Iterable[str]) -> None:
        """Forget the records of some parts."""
        dropped = pa.array(list(names), pa.string())
        if len(dropped):
            self._table = self.table.filter(pc.invert(pc.is_in(self.table["name"], dropped)))

    def set_times(self, column: str, rows: npt.NDArray[np.int64], times: pa.Array) -> None:
        """Set the times of some rows of `table`, in column "modified" or "rejected_modified"."""
        values = self.table[column].to_numpy(zero_copy_only=False)
        absent = self.table[column].is_null().to_numpy(zero_copy_only=False)
        whole = np.where(absent, 0, values).astype(np.int64)
        whole[rows] = times
        index = RECORDS.get_field_index(column)
        changed = pa.array(whole, pa.int64(), mask=absent)
        self._table = self.table.set_column(index, RECORDS.field(column), changed)

    def find(self, names: pa.Array) -> npt.NDArray[np.int64]:
        """int64[names]: the row in `table` of each part's record; -1: it has none."""
        return positions(names, self.table["name"])

    def content(self, names: pa.Array, plan: str) -> pa.Buffer:
        """The file of the manifest with the records of a plan's parts.

        Args:
            names: string[parts].
            plan: SHA-256 of the plan's file, in hex.
        """
        table = self.table.filter(pc.is_in(self.table["name"], names))
        return parquet_content(table, {PLAN: plan})


def read(
    content: bytes, plan: str, names: pa.Array, pieces: npt.NDArray[np.int64], classes: int
) -> pa.Table:
    """The records in a manifest's file, those of a plan's parts.

    A damaged file, or one of another plan, has no records: its parts are verified again.

    Args:
        content: of the file.
        plan: SHA-256 of the plan's file, in hex.
        names: string[parts].
        pieces: int64[parts]: number of pieces of each part.
        classes: of the model.
    """
    try:
        file = read_parquet(content)
        if file.metadata.metadata.get(PLAN) != plan.encode():
            return RECORDS.empty_table()
        table = file.read().replace_schema_metadata(None)
        # Earlier versions did not count.
        for field in (RECORDS.field(name) for name in ("by", "wordless", "probability_sums")):
            if field.name not in table.column_names:
                table = table.append_column(field, pa.nulls(len(table), field.type))
        table = pa.Table.from_arrays(
            [table[name].cast(RECORDS.field(name).type) for name in RECORDS.names], schema=RECORDS
        )
        table.validate(full=True)
    except (*UNREADABLE, OSError, pa.ArrowException):
        return RECORDS.empty_table()
    part = positions(table["name"], names)
    answers = pc.list_value_length(table["answers"]).to_numpy(zero_copy_only=False)
    bins = pc.list_value_length(table["histogram"]).to_numpy(zero_copy_only=False)
    sums = pc.list_value_length(table["probability_sums"]).fill_null(classes)
    has_all = (answers == ClassRows(classes).length(np.append(pieces, 0)[part])) & (bins == BINS)
    has_all &= sums.to_numpy(zero_copy_only=False) == classes
    return _latest(table.filter(pa.array((part >= 0) & has_all)))


def positions(names: pa.Array, among: pa.Array) -> npt.NDArray[np.int64]:
    """int64[names]: where each name is among others; -1: it is not there."""
    if isinstance(among, pa.ChunkedArray):
        among = among.combine_chunks()
    found = pc.index_in(names, among)
    return np.asarray(pc.fill_null(found, -1).to_numpy(zero_copy_only=False), np.int64)


def _latest(table: pa.Table) -> pa.Table:
    """The last row of each name."""
    _, from_end = np.unique(
        table["name"].to_numpy(zero_copy_only=False)[::-1].astype(np.str_), return_index=True
    )
    if len(from_end) == len(table):
        return table
    return table.take(np.sort(len(table) - 1 - from_end))


def _completed(records: pa.Table, earlier: pa.Table) -> pa.Table:
    """Records, with what they lack of NOT_IN_FILE from an earlier record of the same file."""
    for column in NOT_IN_FILE:
        with_value = earlier.filter(earlier[column].is_valid())
        if not records[column].null_count or not len(with_value):
            continue
        with_value = _latest(with_value)
        at = positions(records["name"].combine_chunks(), with_value["name"])
        row = pa.array(at, mask=at < 0)
        is_same_file = pc.equal(records["sha256"], with_value["sha256"].take(row))
        value = pc.if_else(is_same_file, with_value[column].take(row), None)
        index = RECORDS.get_field_index(column)
        completed = pc.coalesce(records[column], value)
        records = records.set_column(index, RECORDS.field(column), completed)
    return records


def _table_of(results: Sequence[PartResult]) -> pa.Table:
    rows = [_row(result) for result in results]
    return pa.Table.from_pylist(rows, RECORDS)


def _row(result: PartResult) -> dict[str, Any]:
    assert result.file is not None
    rejected = result.rejected_file
    return {
        "name": result.name,
        "bytes": result.file.size,
        "modified": result.file.modified,
        "sha256": bytes.fromhex(result.file.sha256),
        "rejected_bytes": rejected and rejected.size,
        "rejected_modified": rejected and rejected.modified,
        "rejected_sha256": rejected and bytes.fromhex(rejected.sha256),
        **asdict(result.counts),
        "histogram": result.histogram,
        "answers": result.answers,
        "reasons": list(result.reasons.items()),
        "by": json.dumps(result.by) if result.by else None,
        "wordless": result.wordless,
        "probability_sums": result.probability_sums,
    }
