"""Measure scoring from a bucket and to it, as far away as a region's, by the number of actors.

    python -m benchmarks.bucket --texts DIR

`--texts` is a directory of Parquet shards with a column `text`; eight are copied into a bucket
(SeaweedFS on this machine), once more as CSV. A proxy delays each request and limits each
connection. Numbers of actors run in turns on the same rows; the table has medians and ranges.
"""

import os
import statistics
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pyarrow.csv as pacsv
import pyarrow.fs as pafs
import pyarrow.parquet as pq
import tyro

from testing.bucket_servers import BUCKET, KEY, SECRET, S3Server
from testing.generated import save_checkpoint
from testing.programs import words
from testing.slow_proxy import slow_proxy

SHARDS = 8

FORMATS = ("csv", "parquet")


@dataclass(frozen=True)
class BucketBenchmark:
    """Score from a slow bucket with different numbers of actors."""

    texts: Path
    """Directory of Parquet shards with a column `text`."""
    request_seconds: float = 0.05
    """How much longer a request takes."""
    bytes_per_second: float = 40e6
    """Most that a connection brings."""
    actors: tuple[int, ...] = (2, 4, 8)
    """Numbers of actors."""
    part_rows: int = 20_000
    """Rows of a part."""
    turns: int = 3
    """How often each is measured."""


def main(config: BucketBenchmark) -> None:
    """Print a table."""
    with tempfile.TemporaryDirectory() as root:
        save_checkpoint(Path(root) / "model", hidden=75)
        server = S3Server(Path(root) / "server")
        try:
            bucket = pafs.S3FileSystem(
                scheme="http",
                endpoint_override=server.address,
                access_key=KEY,
                secret_key=SECRET,
                region="us-east-1",
            )
            _fill(bucket, config.texts)
            slow = slow_proxy(server.address, config.request_seconds, config.bytes_per_second)
            with slow as address:
                environment = server.environment | {"AWS_ENDPOINT_URL": f"http://{address}"}
                _measure(config, bucket, Path(root) / "model", environment)
        finally:
            server.stop()


def _fill(bucket: pafs.FileSystem, texts: Path) -> None:
    for number, path in enumerate(sorted(texts.glob("*.parquet"))[:SHARDS]):
        table = pq.read_table(path, columns=["text"])
        with bucket.open_output_stream(f"{BUCKET}/parquet/{number}.parquet") as file:
            pq.write_table(table, file)
        with bucket.open_output_stream(f"{BUCKET}/csv/{number}.csv") as file:
            pacsv.write_csv(table, file)


def _measure(
    config: BucketBenchmark, bucket: pafs.FileSystem, model: Path, environment: dict[str, str]
) -> None:
    seconds: dict[tuple[str, int], list[float]] = {}
    for turn in range(config.turns):
        for name in FORMATS:
            for actors in config.actors:
                output = f"{BUCKET}/scored/{name}-{actors}-{turn}"
                flags = ["--checkpoints_dir", model, "--input", f"s3://{BUCKET}/{name}"]
                flags += ["--output", f"s3://{output}", "--text_column", "text"]
                flags += ["--part_rows", config.part_rows, "--num_actors", actors]
                subprocess.run(
                    words("score", *flags),
                    env=os.environ | environment,
                    stdout=subprocess.DEVNULL,
                    check=True,
                )
                files = bucket.get_file_info(pafs.FileSelector(output))
                times = [file.mtime_ns for file in files if file.base_name.startswith("part-")]
                seconds.setdefault((name, actors), []).append((max(times) - min(times)) / 1e9)
    print("| format | actors | first to last part | ratio |\n| --- | --- | --- | --- |")
    for (name, actors), spans in seconds.items():
        middle = statistics.median(spans)
        ratio = statistics.median(seconds[name, config.actors[0]]) / middle
        spread = f"{middle:.0f} ({min(spans):.0f} to {max(spans):.0f}) s"
        print(f"| {name} | {actors} | {spread} | {ratio:.2f}x |")


if __name__ == "__main__":
    main(tyro.cli(BucketBenchmark, use_underscores=True))
