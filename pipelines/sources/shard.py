"""One file of a corpus: open it, read its rows, count its rows, read its schema."""

import codecs
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa

from pipelines.errors import BadShard
from pipelines.sources.arrow_types import is_text
from pipelines.sources.csv import count_csv, csv_columns, read_csv
from pipelines.sources.parquet import count_parquet, count_small_parquet, read_parquet
from pipelines.sources.parquet_columns import unkept
from pipelines.sources.rows import Rows, Span, choose_columns
from pipelines.sources.shard_file import Digest, fetched, opened

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
    groups: tuple[int, ...] = ()
    """Parquet: the rows of each row group."""
    digest: bytes = b""
    """16 bytes that the content is known by: of the whole file, or of the size and footer of a
    Parquet file. b"": only the schema was read."""

    def require_text(self, path: str, column: str) -> None:
        """Raise BadShard unless the column exists and holds text."""
        choose_columns(path, self.schema.names, [column], ())
        kind = self.schema.field(column).type
        if not is_text(kind):
            raise BadShard(f"{path}: column {column!r} is {unkept(kind) or kind}, not text")


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
        content: pa.Buffer | None = None,
    ) -> Iterator[Rows]:
        """Read rows, a batch at a time.

        Args:
            columns: the columns to read, in this order; None: all, in the shard's order.
            encoding: a Python codec's name; used for CSV only.
            span: the rows to read; None: all.
            optional: columns to read as well if the shard has them.
            content: what `fetch` returned; None: the file is read here.

        Raises BadShard if a parser cannot use the content, or it lacks a column; Unavailable if the
        file cannot be opened or read, whatever the reason.
        """
        with opened(self.path, content) as source:
            if self.is_parquet:
                yield from read_parquet(source, self.path, columns, span, optional)
            else:
                yield from read_csv(source, self.path, columns, encoding, span, optional)

    def count(self, encoding: str) -> Counted:
        """Count the rows: a CSV file is read in full. Raises what `rows` raises."""
        if self.is_parquet and "://" in self.path:
            # Of very many small shards in a bucket, requests are what takes the time.
            counted = count_small_parquet(self.path, self.size)
            if counted is not None:
                groups, schema, footer_digest = counted
                return Counted(sum(groups), schema, (), tuple(groups), footer_digest)
        if self.is_parquet:
            with opened(self.path) as source:
                groups, schema, footer_digest = count_parquet(source, self.path)
            return Counted(sum(groups), schema, (), tuple(groups), footer_digest)
        digest = Digest()
        with opened(self.path, digest=digest) as source:
            columns, rows, marks = count_csv(source, self.path, encoding)
        if self.path.endswith(".gz") or codecs.lookup(encoding).name != "utf-8":
            marks = []  # They count bytes after decompression and decoding, not bytes of the file.
        return Counted(rows, _text_columns(columns), tuple(marks), digest=digest.value())

    def schema(self, encoding: str) -> pa.Schema:
        """Read the schema only. Raises what `rows` raises."""
        with opened(self.path) as source:
            if self.is_parquet:
                return count_parquet(source, self.path)[1]
            return _text_columns(csv_columns(source, self.path, encoding))

    @property
    def is_parquet(self) -> bool:
        """Whether the shard is Parquet; otherwise it is CSV, compressed or not."""
        return self.path.endswith(".parquet")

    def fetch(self, max_bytes: int) -> pa.Buffer | None:
        """The whole file, for `rows`; None if it has more than `max_bytes`. Raises Unavailable."""
        return fetched(self.path, max_bytes)


def _text_columns(names: Sequence[str]) -> pa.Schema:
    return pa.schema([(name, pa.string()) for name in names])
