"""One file of a corpus: open it, read its rows, count its rows, read its schema."""

import codecs
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa

from pipelines.sources.arrow_types import is_text
from pipelines.sources.csv import count_csv, csv_columns, read_csv
from pipelines.sources.parquet import count_parquet, read_parquet
from pipelines.sources.rows import Rows, Span, choose_columns
from sentiment import storage
from sentiment.errors import InputError, on_one_line

EXTENSIONS = (".csv", ".csv.gz", ".parquet")
"""How the names of shards end."""


@dataclass(frozen=True)
class Counted:
    """Row count and schema of a shard."""

    rows: int
    """Number of rows, malformed rows included."""
    schema: pa.Schema
    marks: tuple[tuple[int, int], ...] = ()
    """CSV: rows that a reader can seek to, as (number of rows before it, byte offset)."""

    def require_text(self, path: str, column: str) -> None:
        """Raise an InputError unless the column exists and holds text."""
        choose_columns(path, self.schema.names, [column], ())
        kind = self.schema.field(column).type
        if not is_text(kind):
            raise InputError(f"{path}: column {column!r} is {kind}, not text")


@dataclass(frozen=True)
class Shard:
    """A CSV or Parquet file, with the size and time that it had when it was listed."""

    path: str
    """A local path or URI."""
    size: int
    """Bytes."""
    modified: int
    """Time of the last change, in nanoseconds since 1970."""

    def rows(
        self,
        columns: Sequence[str] | None,
        encoding: str,
        span: Span | None = None,
        optional: Sequence[str] = (),
    ) -> Iterator[Rows]:
        """Read rows, a batch at a time.

        Args:
            columns: the columns to read, in this order; None: all, in the shard's order.
            encoding: a Python codec's name; used for CSV only.
            span: the rows to read; None: all.
            optional: columns to read as well if the shard has them.

        Raises InputError if the shard cannot be read or lacks a column.
        """
        with self.open() as source:
            if self.is_parquet:
                yield from read_parquet(source, self.path, columns, span, optional)
            else:
                yield from read_csv(source, self.path, columns, encoding, span, optional)

    def count(self, encoding: str) -> Counted:
        """Count the rows: a CSV file is read in full. Raises InputError if it cannot be read."""
        with self.open() as source:
            if self.is_parquet:
                rows, schema = count_parquet(source, self.path)
                return Counted(rows, schema)
            columns, rows, marks = count_csv(source, self.path, encoding)
        if self.path.endswith(".gz") or codecs.lookup(encoding).name != "utf-8":
            marks = []  # They count bytes after decompression and decoding, not bytes of the file.
        return Counted(rows, _text_columns(columns), tuple(marks))

    def schema(self, encoding: str) -> pa.Schema:
        """Read the schema only. Raises InputError if the shard cannot be read."""
        with self.open() as source:
            if self.is_parquet:
                return count_parquet(source, self.path)[1]
            return _text_columns(csv_columns(source, self.path, encoding))

    @property
    def is_parquet(self) -> bool:
        """Whether the shard is Parquet; otherwise it is CSV, compressed or not."""
        return self.path.endswith(".parquet")

    def open(self) -> pa.NativeFile:
        """A stream of the shard's decompressed bytes. Raises InputError if it cannot be opened."""
        filesystem, inner = storage.resolve(self.path)
        try:
            if self.path.endswith(".gz"):
                return filesystem.open_input_stream(inner, compression="gzip")
            return filesystem.open_input_file(inner)
        except OSError as error:
            raise InputError(f"{self.path} cannot be opened: {on_one_line(error)}") from error


def _text_columns(names: Sequence[str]) -> pa.Schema:
    return pa.schema([(name, pa.string()) for name in names])
