"""Score on one core without Ray: read, tokenize, score and write in one process.

    python -m benchmarks.one_core CHECKPOINT INPUT OUTPUT

Prints rows per second from the first row read to the last row written.
"""

import os
import time
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from tyro.conf import Positional

from pipelines.console import command
from pipelines.sources.listing import find_shards
from pipelines.sources.options import ReadOptions
from sentiment import checkpoint
from sentiment.model.inference import inference


@dataclass(frozen=True)
class OneCoreBenchmark:
    """Rows per second of one core, without Ray."""

    checkpoint: Positional[str]
    """Directory of a checkpoint."""
    source: Positional[str]
    """Directory of shards with a column `text`."""
    target: Positional[str]
    """Directory to write; it must not exist."""


def main(config: OneCoreBenchmark) -> None:
    """Score the column `text` of each shard into one file."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    loaded = checkpoint.load(config.checkpoint)
    encode = loaded.encoder()
    infer = inference(loaded.network)
    Path(config.target).mkdir(parents=True)
    warm = encode(pa.array(["warm"]))
    infer(warm.ids, warm.offsets)
    began, scored = time.perf_counter(), 0
    for number, shard in enumerate(find_shards([config.source], "INPUT")):
        tables = []
        for rows in shard.rows(None, ReadOptions()):
            tokens = encode(rows.table["text"])
            probabilities = infer(tokens.ids, tokens.offsets)[:, 1].copy()
            answers = pc.if_else(pa.array(probabilities >= 0.5), "positive", "negative")
            table = rows.table.drop_columns("text")
            table = table.append_column("positive_probability", pa.array(probabilities))
            tables.append(table.append_column("sentiment", answers))
            scored += len(table)
        path = Path(config.target, f"part-{number:05d}.parquet")
        pq.write_table(pa.concat_tables(tables), path, compression="zstd")
    print(scored / (time.perf_counter() - began))


if __name__ == "__main__":
    command.run(lambda: (main, OneCoreBenchmark))
