"""Measure planning of very many shards and parts, and how often row groups are decoded: one table.

    python -m benchmarks.plan
    python -m benchmarks.plan --measure objects --objects 100000

Nothing is scored, so no checkpoint is needed.
"""

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.console import command
from pipelines.scoring.config import OutputSettings, ScoreConfig
from pipelines.scoring.counting import count_shards
from pipelines.scoring.counts import Counts
from pipelines.scoring.executor import LocalExecutor
from pipelines.scoring.plan import Plan
from pipelines.scoring.planner import make_plan
from pipelines.sources.listing import find_shards
from pipelines.sources.options import ReadOptions
from pipelines.sources.rows import Span
from pipelines.sources.shard import Shard
from sentiment import storage
from testing.bucket_servers import S3Server

PARTS = 1_000_000

SCHEMA = pa.schema([("id", pa.int64()), ("text", pa.string())])

Measure = Literal["small", "large", "groups", "objects"]
Result = TypeVar("Result")


@dataclass(frozen=True)
class PlanBenchmark:
    """Measure planning."""

    measure: tuple[Measure, ...] = ("small", "large", "groups", "objects")
    """small: a million shards of a row, each a part. large: a million parts of 1,000 shards.
    groups: how often rows are decoded, by the size of row groups. objects: listing and counting
    Parquet shards of 100 rows in an S3 bucket (SeaweedFS on this machine)."""
    objects: int = 5000
    """Number of objects in the bucket."""


def main(config: PlanBenchmark) -> None:
    """Print a table."""
    print("| what | measured |\n| --- | --- |")
    measures: dict[Measure, Callable[[], Iterator[tuple[str, str]]]] = {
        "small": lambda: many_parts(shards=PARTS),
        "large": lambda: many_parts(shards=1000),
        "groups": row_groups,
        "objects": lambda: objects(config.objects),
    }
    for name in config.measure:
        for what, measured in measures[name]():
            print(f"| {what} | {measured} |", flush=True)


def settings(part_rows: int) -> OutputSettings:
    """Settings of a job."""
    config = ScoreConfig(
        checkpoints_dir="", input=(), output="", text_column="text", part_rows=part_rows
    )
    return config.settings("0" * 64)


def timed(work: Callable[[], Result]) -> tuple[Result, float]:
    """What `work` returns, and how many seconds it took."""
    began = time.perf_counter()
    return work(), time.perf_counter() - began


def many_parts(shards: int) -> Iterator[tuple[str, str]]:
    """A million parts of so many shards: make, write and read the plan, then make all objects."""
    base = "s3://bucket/corpus/year=2024/month=01/tweets"
    listed = [
        Shard(f"{base}-{i:08d}.csv", 10_000_000 + i * 7919 % 1_000_003, 1_700 * 10**15 + i * 10**8)
        for i in range(shards)
    ]
    rows = np.full(shards, PARTS // shards, np.int64)
    counts = Counts(rows, np.zeros(shards, np.int32), [SCHEMA], {}, {}, {})
    plan, made = timed(lambda: make_plan(listed, counts, settings(part_rows=1), 0))
    assert len(plan.parts) == PARTS
    content, written = timed(plan.to_bytes)
    again, read = timed(lambda: Plan.from_bytes(content, "plan"))
    assert again == plan
    _, handed_out = timed(lambda: [again.shards[part.pieces[0].shard].path for part in again.parts])
    memory = psutil.Process().memory_info().rss / 2**30
    yield (
        f"{PARTS:,} parts of {shards:,} shards",
        f"made in {made:.1f} s, written {written:.1f} s, read {read:.1f} s, "
        f"{len(content) / 2**20:.1f} MiB; objects {handed_out:.1f} s; {memory:.2f} GiB resident",
    )


def row_groups() -> Iterator[tuple[str, str]]:
    """Seconds to read all parts of Parquet shards, as a multiple of reading each shard at once."""
    random = np.random.default_rng(0)
    words = np.array([f"w{i}" for i in range(5000)])
    texts = pa.array([" ".join(random.choice(words, 15)) for _ in range(20_000)])
    rows = 2**21
    with tempfile.TemporaryDirectory() as directory:
        table = pa.table(
            {
                "id": np.arange(rows),
                "text": texts.take(pa.array(random.integers(0, len(texts), rows))),
            }
        )
        for size in (10_000, 122_880, 2**18, 2**20):
            path = Path(directory) / f"{size}.parquet"
            pq.write_table(table, path, row_group_size=size, compression="zstd")
            (shard,) = find_shards([str(path)], "--input")
            for shards in (1, 50):
                yield (
                    f"row groups of {size:,}, {shards * rows:,} rows in all",
                    _reads(shard, shards),
                )


def _reads(shard: Shard, shards: int) -> str:
    """Read a shard part by part, as in a plan of so many such shards, and at once."""
    listed = [Shard(f"{i}.parquet", shard.size, 1) for i in range(shards)]
    plan = make_plan(listed, [shard.count(ReadOptions())] * shards, settings(100_000), 0)
    spans = [part.pieces[0].span for part in plan.parts if part.pieces[0].shard == 0]
    _, in_parts = timed(lambda: [_read(shard, span) for span in spans])
    _, at_once = timed(lambda: _read(shard, None))
    rows = [span.rows for span in spans]
    return f"{in_parts / at_once:.2f} x one read; parts of {min(rows):,} to {max(rows):,} rows"


def _read(shard: Shard, span: Span | None) -> int:
    return sum(len(batch.numbers) for batch in shard.rows(["text"], ReadOptions(), span, ["id"]))


def objects(number: int) -> Iterator[tuple[str, str]]:
    """List and count so many objects in a bucket, in this process."""
    with tempfile.TemporaryDirectory() as root:
        server = S3Server(Path(root))
        os.environ |= server.environment
        try:
            sink = pa.BufferOutputStream()
            pq.write_table(pa.table({"id": range(100), "text": ["a great day"] * 100}), sink)
            content = sink.getvalue().to_pybytes()
            paths = [server.uri("corpus", f"{i:06d}.parquet") for i in range(number)]
            with ThreadPoolExecutor(24) as pool:
                list(pool.map(lambda path: storage.write(path, content), paths))
            shards, listed = timed(lambda: find_shards([server.uri("corpus")], "--input"))
            output = str(Path(root) / "output")
            _, counted = timed(
                lambda: count_shards(shards, settings(100_000), LocalExecutor(), output)
            )
            assert len(shards) == number
        finally:
            server.stop()
    yield f"{number:,} objects", f"listed in {listed:.1f} s, counted in {counted:.1f} s"


if __name__ == "__main__":
    command.run(lambda: (main, PlanBenchmark))
