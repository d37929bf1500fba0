"""Row count, schema and digest of a shard."""

from dataclasses import dataclass

import pyarrow as pa

from pipelines.errors import BadShard
from pipelines.sources.arrow_types import is_text
from pipelines.sources.parquet_columns import unkept
from pipelines.sources.rows import choose_columns


@dataclass(frozen=True)
class Counted:
    """Row count and schema of a shard."""

    rows: int
    """Number of rows, malformed rows included."""
    schema: pa.Schema
    marks: tuple[tuple[int, int], ...] = ()
    """Text files: rows that a reader can seek to, as (number of rows before it, byte offset)."""
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
