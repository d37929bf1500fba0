"""The formats of shards, by name: how their rows are read and counted."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import pyarrow as pa

from pipelines.sources.counted import Counted
from pipelines.sources.csv import count_csv, csv_schema, read_csv
from pipelines.sources.format_files import FORMAT_FILES, FormatFiles
from pipelines.sources.json_lines import count_json_lines, json_lines_schema, read_json_lines
from pipelines.sources.options import ReadOptions
from pipelines.sources.parquet import (
    count_parquet,
    count_small_parquet,
    parquet_schema,
    read_parquet,
)
from pipelines.sources.rows import Rows
from pipelines.sources.text import count_text, read_text, text_file_schema


@dataclass(frozen=True)
class Format:
    """How shards of a format look, and how they are read from a stream of decompressed bytes."""

    files: FormatFiles
    """Their names and first bytes."""
    rows: Callable[..., Iterator[Rows]]
    """As `Shard.rows`, of (stream, path, columns, options, span, optional)."""
    count: Callable[[pa.NativeFile, str, ReadOptions], Counted]
    """As `Shard.count`; without the digest, for which the stream is read from start to end. With a
    footer, the count seeks, and has to give a digest of its own."""
    schema: Callable[[pa.NativeFile, str, ReadOptions], pa.Schema]
    """As `Shard.schema`."""
    knows_columns: bool = True
    """Whether the beginning or the end of a file tells its columns; otherwise `rows` has to be
    told."""
    is_text: bool = True
    """Whether `--encoding` and byte order marks say how a file is encoded; otherwise its texts are
    UTF-8."""
    has_footer: bool = False
    """Whether a footer has the row count and the groups that rows are stored in. Then no row is
    read to be counted, and parts begin and end where groups do."""
    count_small: Callable[[str, int], Counted | None] | None = None
    """Count a file of a path and size in one request of a bucket; None: it is too large for it."""


_TAB: dict[str, Any] = {"delimiter": ord("\t")}

FORMATS = {
    "csv": Format(FORMAT_FILES["csv"], read_csv, count_csv, csv_schema),
    "tsv": Format(
        FORMAT_FILES["tsv"],
        partial(read_csv, **_TAB),
        partial(count_csv, **_TAB),
        partial(csv_schema, **_TAB),
    ),
    "json": Format(
        FORMAT_FILES["json"],
        read_json_lines,
        count_json_lines,
        json_lines_schema,
        knows_columns=False,
    ),
    "text": Format(FORMAT_FILES["text"], read_text, count_text, text_file_schema),
    "parquet": Format(
        FORMAT_FILES["parquet"],
        read_parquet,
        count_parquet,
        parquet_schema,
        is_text=False,
        has_footer=True,
        count_small=count_small_parquet,
    ),
}
