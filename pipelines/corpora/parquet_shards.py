"""Write the rows of a corpus into Parquet shards."""

import itertools
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.corpora.fetch_record import FetchedFile
from sentiment import storage


def write_shards(
    rows: Iterable[tuple[object, ...]], schema: pa.Schema, directory: Path, shard_rows: int
) -> dict[str, FetchedFile]:
    """Write rows into `tweets-NNNNN.parquet` files of `shard_rows` rows each; files by name."""
    remaining = iter(rows)
    files: dict[str, FetchedFile] = {}
    while chunk := list(itertools.islice(remaining, shard_rows)):
        columns = zip(*chunk, strict=True)
        arrays = [
            pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)
        ]
        name = f"tweets-{len(files):05}.parquet"
        with storage.writing(str(directory / name)) as file:
            pq.write_table(pa.table(arrays, schema=schema), file, compression="zstd")
        files[name] = FetchedFile.at(directory / name, len(chunk), schema.names)
    return files
