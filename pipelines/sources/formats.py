"""The formats of shards, by name: how their rows are read and counted."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import pyarrow as pa

from pipelines.sources.counted import Counted
from pipelines.sources.csv import count_csv, csv_schema, read_csv
from pipelines.sources.json_lines import count_json_lines, json_lines_schema, read_json_lines
from pipelines.sources.options import ReadOptions
from pipelines.sources.parquet import count_parquet, parquet_schema, read_parquet
from pipelines.sources.rows import Rows
from pipelines.sources.text import count_text, read_text, text_file_schema


@dataclass(frozen=True)
class Format:
    """How shards of a format are read from a stream of decompressed bytes."""

    rows: Callable[..., Iterator[Rows]]
    """As `Shard.rows`, of (stream, path, columns, options, span, optional)."""
    count: Callable[[pa.NativeFile, str, ReadOptions], Counted]
    """As `Shard.count`; without the digest, for which the stream is read from start to end. A count
    that seeks, as Parquet's, has to give a digest of its own."""
    schema: Callable[[pa.NativeFile, str, ReadOptions], pa.Schema]
    """As `Shard.schema`."""
    knows_columns: bool = True
    """Whether the beginning or the end of a file tells its columns; otherwise `rows` has to be
    told."""


_TAB: dict[str, Any] = {"delimiter": ord("\t")}

FORMATS = {
    "csv": Format(read_csv, count_csv, csv_schema),
    "tsv": Format(
        partial(read_csv, **_TAB), partial(count_csv, **_TAB), partial(csv_schema, **_TAB)
    ),
    "json": Format(read_json_lines, count_json_lines, json_lines_schema, knows_columns=False),
    "text": Format(read_text, count_text, text_file_schema),
    "parquet": Format(read_parquet, count_parquet, parquet_schema),
}
