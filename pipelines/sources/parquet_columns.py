"""The columns of a Parquet file, from its footer: types, and which cannot be read or kept."""

import io
from collections.abc import Iterator
from itertools import islice

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.types as pat

from pipelines.errors import BadShard
from pipelines.sources.arrow_types import has_list_view, inner_fields, plain_type

INT96_UNIT = "us"
"""Unit of timestamps in Parquet's old format, INT96, which reach from year 1 to 9999. Spark, which
writes them, has microseconds; a file that has more digits is refused (`require_whole_units`)."""

ENCRYPTED = "encrypted"

UNKEPT_TYPES = {"Interval", "Geometry", "Geography"}
"""Types of Parquet that Arrow reads as bytes, and would write as bytes."""

VARIANT = "Variant"
"""One that it reads as a struct of bytes."""

LIST_VIEW = "list_view"
"""A type of Arrow, which the footer may name."""

_FIRST_BYTES = 1024


def column_types(metadata: pq.FileMetaData, size: int, may_be_encrypted: bool = True) -> pa.Schema:
    """The columns of a Parquet file of `size` bytes, with plain types (`plain_type`).

    A column that cannot be kept as what it is has the type `arrow.opaque`, which says why not: one
    of UNKEPT_TYPES, VARIANT, LIST_VIEW or ENCRYPTED. `may_be_encrypted`: whether to look for the
    latter, which takes time. Nothing is read but the footer. Raises what Arrow raises of a damaged
    one.
    """
    file = pq.ParquetFile(
        pa.PythonFile(_Unread(size), "r"),
        metadata=metadata,
        buffer_size=_FIRST_BYTES,
        pre_buffer=False,
        coerce_int96_timestamp_unit=INT96_UNIT,
    )
    leaves = (str(file.schema.column(i).logical_type) for i in range(len(file.schema)))
    has_encrypted = may_be_encrypted and _is_encrypted(file, None)
    fields = []
    for field in file.schema_arrow:
        stored = [leaf.partition("(")[0] for leaf in islice(leaves, _leaf_count(field.type))]
        problem = next((kind for kind in stored if kind in UNKEPT_TYPES), "")
        if _is_variant(file, field.type):
            problem = VARIANT
        if has_list_view(field.type):
            problem = LIST_VIEW
        if has_encrypted and _is_encrypted(file, field.name):
            problem = ENCRYPTED
        kind = pa.opaque(pa.null(), problem, "parquet") if problem else plain_type(field.type)
        fields.append(pa.field(field.name, kind))
    return pa.schema(fields)


def int96_columns(file: pq.ParquetFile) -> set[str]:
    """Names of the columns that have timestamps in the format INT96, also inside nested types."""
    stored = (file.schema.column(i).physical_type for i in range(len(file.schema)))
    return {
        field.name
        for field in file.schema_arrow
        if "INT96" in list(islice(stored, _leaf_count(field.type)))
    }


def require_whole_units(path: str, table: pa.Table, nanoseconds: pa.RecordBatch) -> None:
    """Raise BadShard if timestamps in the format INT96 have digits beyond INT96_UNIT.

    Args:
        path: the shard, for the message.
        table: rows, whose timestamps are in INT96_UNIT.
        nanoseconds: the columns of those rows that are INT96, in nanoseconds, modulo 2^64.
    """
    for name in nanoseconds.schema.names:
        as_read = _moments(table[name].combine_chunks())
        for (unit, whole), (exact_unit, exact) in zip(
            as_read, _moments(nanoseconds[name]), strict=True
        ):
            # Those beside it in a struct may be no INT96.
            if unit != exact_unit and (exact != whole * 1000).any():
                raise BadShard(
                    f"{path}: column {name!r} has nanoseconds as INT96, of which only microseconds "
                    "are read: write it as INT64, or choose the columns to keep without it, by "
                    "--keep_columns"
                )


def _moments(column: pa.Array) -> Iterator[tuple[str, np.ndarray]]:
    """The timestamps of a column or inside it: their unit, and int64[n], 0 for nulls."""
    kind = column.type
    if pat.is_timestamp(kind):
        yield kind.unit, np.asarray(column.cast(pa.int64()).fill_null(0))
    elif pat.is_struct(kind):
        for part in column.flatten():
            yield from _moments(part)
    elif pat.is_map(kind):
        yield from _moments(column.keys)
        yield from _moments(column.items)
    elif pat.is_nested(kind):
        yield from _moments(column.flatten())


def unkept(kind: pa.DataType) -> str:
    """Why a column of this type, of `column_types`, cannot be kept as what it is; "": it can."""
    return kind.type_name if isinstance(kind, pa.OpaqueType) else ""


def _is_encrypted(file: pq.ParquetFile, column: str | None) -> bool:
    """Whether a column, or any, is encrypted, in a file whose footer is not.

    Arrow's metadata does not say so, and ends the process if it is asked for such a column. A
    reader says so before it reads; of other files, whose pages are missing here, it has no rows.
    """
    if not file.num_row_groups:
        return False
    columns = None if column is None else [column]
    try:
        next(file.iter_batches(1, columns=columns, row_groups=[0], use_threads=False), None)
    except OSError as error:
        return "decrypt" in str(error)
    return False


def _is_variant(file: pq.ParquetFile, kind: pa.DataType) -> bool:
    """Whether a column may be a variant. Only the text of the schema tells."""
    is_like_one = pat.is_struct(kind) and [field.name for field in kind][:2] == [
        "metadata",
        "value",
    ]
    return is_like_one and f"({VARIANT}(" in str(file.schema)


def _leaf_count(kind: pa.DataType) -> int:
    """The number of columns in which Parquet stores a type."""
    if isinstance(kind, pa.BaseExtensionType):
        return _leaf_count(kind.storage_type)
    inner = inner_fields(kind)
    return sum(_leaf_count(field.type) for field in inner) if inner else 1


class _Unread(io.RawIOBase):
    """A file of a certain size that ends wherever it is read.

    An exception from here would be written out by Arrow, with its traceback, for each file.
    """

    def __init__(self, size: int) -> None:
        self._size, self._position = size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = start + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def read(self, size: int = -1) -> bytes:
        return b""
