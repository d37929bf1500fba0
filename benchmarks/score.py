"""Measure scoring end to end: speed, memory, planning, and the Ray Data example, in one table.

    python -m benchmarks.score --checkpoints_dir checkpoints/tweets --texts DIR
    python -m benchmarks.score ... --root /tmp/bench --measure docs --repeats 1

`--texts` is a directory of Parquet shards with a column `text`. Compared commands run in turns on
the same rows; the table has medians and ranges. With `--root` generated inputs and measurements are
kept there. Each command adds to them and the table shows all, so a long measurement can be made in
pieces.
`python -m benchmarks.kernel` measures the kernel alone.
"""

import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psutil
import pyarrow.csv as pacsv
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from pipelines.console import command
from pipelines.sources.listing import find_shards
from sentiment import checkpoint, storage
from sentiment.errors import InputError
from testing.bucket_servers import S3Server
from testing.programs import undated

SMALL_SHARDS = 100_000
"""Number of shards of 100 rows, in the measurements `planning` and `bucket`."""

Measure = Literal["speed", "docs", "memory", "planning", "bucket"]


@dataclass(frozen=True)
class ScoreBenchmark:
    """Measure scoring end to end."""

    checkpoints_dir: str
    """Checkpoint without bigrams."""
    texts: str
    """Directory of Parquet shards with a column `text`."""
    measure: tuple[Measure, ...] = ("speed", "docs", "memory", "planning")
    """speed: Parquet, CSV, one core and 100 rows, in turns. docs: the Ray Data example and ours, in
    turns. memory: the rows and ten times the rows. planning: 100,000 shards of 100
    rows. bucket: the same in an S3 bucket (SeaweedFS on this machine), until the first part is
    written."""
    repeats: int = 3
    """Number of turns; 0: only generate the inputs."""
    root: Path | None = None
    """Directory for inputs and measurements; None: a temporary one."""


@dataclass(frozen=True)
class Run:
    """Times and memory of one run of a command."""

    seconds: float
    output: str
    listed: float
    """Seconds until it started to count the rows of shards."""
    planned: float
    """Seconds until it started to score."""
    first_part: float
    """Seconds until the first part was written."""
    driver: int
    """Peak resident memory of the driver, in bytes."""
    everything: int
    """Peak proportional memory of the driver and all its child processes, in bytes."""


def run(
    name: str, *arguments: object, output: str, sample: bool = False, whole: bool = True
) -> Run:
    """Run `python -m NAME` and measure it.

    Args:
        name: the module.
        arguments: its arguments.
        output: the directory or URI that it writes to; removed first.
        sample: sample its memory and output every half second.
        whole: run to the end; otherwise only until the first part is written.
    """
    if storage.exists(output):
        filesystem, inner = storage.resolve(output)
        filesystem.delete_dir(inner)
    command = [sys.executable, "-m", name, *map(str, arguments)]
    began = time.perf_counter()
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    peaks = {"driver": 0, "everything": 0, "first_part": 0.0}
    if sample:
        watched = (process, output, peaks, began, whole)
        threading.Thread(target=_watch, args=watched, daemon=True).start()
    printed, first_words = "", {}
    for line in process.stdout:
        printed += line
        first_words.setdefault(undated(line).partition(" ")[0], time.perf_counter() - began)
    process.wait()
    seconds = time.perf_counter() - began
    if process.returncode and (whole or not peaks["first_part"]):
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}")
    moments = {
        "listed": first_words.get("Counting", 0.0),
        "planned": first_words.get("Scoring", 0.0),
    }
    return Run(seconds, printed, **moments, **peaks)


def _watch(
    process: subprocess.Popen, output: str, peaks: dict[str, float], began: float, whole: bool
) -> None:
    driver = psutil.Process(process.pid)
    while process.poll() is None:
        try:
            peaks["driver"] = max(peaks["driver"], driver.memory_info().rss)
            everything = 0
            for each in [driver, *driver.children(recursive=True)]:
                try:
                    everything += each.memory_full_info().pss
                except psutil.Error:
                    continue  # The process has just ended.
            peaks["everything"] = max(peaks["everything"], everything)
        except psutil.NoSuchProcess:
            return
        if not peaks["first_part"] and any(
            name.startswith("part-") for name in storage.names(output)
        ):
            peaks["first_part"] = time.perf_counter() - began
            if not whole:
                process.send_signal(signal.SIGINT)
        time.sleep(0.5)


class Measurements:
    """Measured values by name, kept in a JSON file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._values: dict[str, list[float]] = json.loads(path.read_text()) if path.exists() else {}

    def add(self, name: str, value: float) -> None:
        """Add a value to those of that name."""
        self._values.setdefault(name, []).append(value)
        self._path.write_text(json.dumps(self._values, indent=1))
        print(f"{name}: {value:,.2f}", file=sys.stderr, flush=True)

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def median(self, name: str) -> float:
        """Median of the values of that name."""
        return statistics.median(self._values[name])

    def range(self, name: str) -> str:
        """Median, smallest and largest value, as text."""
        values = self._values[name]
        return f"{self.median(name):,.1f} ({min(values):,.1f} to {max(values):,.1f})"


@contextmanager
def kept_or_temporary(root: Path | None) -> Iterator[Path]:
    """Context manager: the directory, created if it is missing; or a temporary one."""
    if root is None:
        with tempfile.TemporaryDirectory() as directory:
            yield Path(directory)
    else:
        root.mkdir(parents=True, exist_ok=True)
        yield root


def main(config: ScoreBenchmark) -> None:
    """Run the measurements and print the table."""
    if "docs" in config.measure and checkpoint.load(config.checkpoints_dir).network.bigrams:
        raise InputError(
            f"--checkpoints_dir {config.checkpoints_dir} has bigrams, which the example of Ray's "
            "documentation does not support: choose another, or leave docs out of --measure"
        )
    shards = [Path(shard.path) for shard in find_shards([config.texts], "--texts")]
    rows = sum(pq.read_metadata(shard).num_rows for shard in shards)
    with kept_or_temporary(config.root) as root:
        values = Measurements(root / "measurements.json")
        output = str(root / "output")
        common = (config.checkpoints_dir, config.texts, output)

        def score(source: Path, *flags: object, sample: bool = False) -> Run:
            flags = ("--checkpoints_dir", config.checkpoints_dir, "--input", source, *flags)
            return run("pipelines.score", *flags, "--output", output, output=output, sample=sample)

        hundred = made(root / "hundred", shards)
        if config.repeats:
            score(hundred)  # Compiles, and fills the page cache.
        if "speed" in config.measure:
            inputs = {
                "hundred, s": (hundred,),
                # A job of several parts starts Ray; a job of one part does not.
                "start-up, s": (hundred, "--part_rows", 25),
                "Parquet, s": (made(root / "parquet", shards),),
                "CSV, s": (made(root / "csv", shards),),
            }
            for _ in range(config.repeats):
                for name, source in inputs.items():
                    values.add(name, score(*source).seconds)
                one = float(run("benchmarks.one_core", *common, output=output).output)
                values.add("one core, s", rows / one)
        if "docs" in config.measure:
            source = made(root / "parquet", shards)
            for _ in range(config.repeats):
                values.add("beside docs, s", score(source).seconds)
                docs = run("benchmarks.docs_pattern", *common, output=output)
                values.add("docs, s", docs.seconds)
        if "memory" in config.measure:
            inputs = {"once": made(root / "parquet", shards)}
            inputs["tenfold"] = made(root / "tenfold", shards)
            for _ in range(config.repeats):
                for name, source in inputs.items():
                    values.add(f"{name}, MiB", score(source, sample=True).everything / 2**20)
        if "planning" in config.measure:
            source = made(root / "many", shards)
            for _ in range(config.repeats):
                many = score(source, sample=True)
                values.add("first part, s", many.first_part)
                values.add("driver, MiB", many.driver / 2**20)
                values.add("many, s", many.seconds)
        if "bucket" in config.measure:
            with bucket(root, made(root / "many", shards)) as (source, scored):
                flags = ("--checkpoints_dir", config.checkpoints_dir, "--input", source)
                flags += ("--output", scored)
                for _ in range(config.repeats):
                    many = run("pipelines.score", *flags, output=scored, sample=True, whole=False)
                    values.add("bucket: listed, s", many.listed)
                    values.add("bucket: planned, s", many.planned)
                    values.add("bucket: first part, s", many.first_part)
                    values.add("bucket: driver, MiB", many.driver / 2**20)
        shutil.rmtree(output, ignore_errors=True)
        if config.repeats:
            print(f"{rows:,} rows, {os.cpu_count()} cores; median (smallest to largest)")
            print("\n".join(table(values, rows)))


def made(path: Path, shards: list[Path]) -> Path:
    """Generate an input, named by the last part of the path, unless it exists."""
    if path.exists():
        return path
    partial = path.with_name(f"{path.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    first = pq.read_table(shards[0])
    match path.name:
        case "hundred":
            pq.write_table(first.slice(0, 100), partial / "hundred.parquet")
        case "parquet":
            for shard in shards:
                shutil.copy(shard, partial)
        case "csv":
            for shard in shards:
                pacsv.write_csv(pq.read_table(shard), partial / f"{shard.stem}.csv")
        case "tenfold":
            for shard in shards:
                for copy in range(10):
                    shutil.copy(shard, partial / f"{copy}-{shard.name}")
        case "many":
            for number in range(SMALL_SHARDS):
                start = number * 100 % max(len(first) - 100, 1)
                pq.write_table(first.slice(start, 100), partial / f"{number:06d}.parquet")
    partial.rename(path)
    return path


@contextmanager
def bucket(root: Path, shards: Path) -> Iterator[tuple[str, str]]:
    """Context manager: an S3 server with the shards; their URI, and the URI of an output."""
    server = S3Server(root / "server")
    try:
        os.environ.update(server.environment)
        if len(storage.names(server.uri("many"))) < SMALL_SHARDS:
            filesystem, inner = storage.resolve(server.uri("many"))
            pafs.copy_files(str(shards), inner, None, filesystem)
        yield server.uri("many"), server.uri("scored")
    finally:
        server.stop()


def table(values: Measurements, rows: int) -> Iterator[str]:
    """Lines of a Markdown table: measured values and their targets."""
    yield "| what | measured | value | target |"
    yield "| --- | --- | --- | --- |"
    cores = os.cpu_count() or 1
    if "docs, s" in values:
        ratio = values.median("docs, s") / values.median("beside docs, s")
        measured = f"{values.range('beside docs, s')} s vs. {values.range('docs, s')} s"
        yield f"| vs. the Ray Data example with Keras | {measured} | {ratio:.1f}x | 15x |"
    if "Parquet, s" in values:
        whole = values.median("Parquet, s")
        busy = whole - values.median("start-up, s")
        ideal = values.median("one core, s") / cores
        rate = f"{rows / whole:,.0f} rows/s"
        yield f"| whole command | {values.range('Parquet, s')} s | {rate} | |"
        measured = (
            f"{busy:.1f} s, without {values.range('start-up, s')} s for 100 rows in 4 parts; "
            f"one core without Ray: {values.range('one core, s')} s"
        )
        what = f"without start-up, as a share of {cores} x one core"
        yield f"| {what} | {measured} | {ideal / busy:.2f} | 0.8 |"
        ratio = values.median("Parquet, s") / values.median("CSV, s")
        yield f"| CSV vs. Parquet | {values.range('CSV, s')} s | {ratio:.2f} | 0.8 |"
        yield f"| 100 rows, whole command | {values.range('hundred, s')} s | | 10 s |"
    if "tenfold, MiB" in values:
        ratio = values.median("tenfold, MiB") / values.median("once, MiB")
        measured = f"{values.range('tenfold, MiB')} vs. {values.range('once, MiB')} MiB"
        what = f"memory of all processes, {10 * rows:,} vs. {rows:,} rows"
        yield f"| {what} | {measured} | {ratio:.2f}x | 1.1x |"
    if "first part, s" in values:
        measured = (
            f"first part after {values.range('first part, s')} s, all {values.range('many, s')} s"
        )
        yield f"| {SMALL_SHARDS:,} shards of 100 rows | {measured} | | 60 s |"
        yield f"| the driver's memory | {values.range('driver, MiB')} MiB | | 1,024 MiB |"
    if "bucket: first part, s" in values:
        steps = [values.range(f"bucket: {step}, s") for step in ("listed", "planned", "first part")]
        measured = "listed after {} s, planned after {} s, first part after {} s".format(*steps)
        yield f"| the same shards in a bucket | {measured} | | 60 s |"
        measured = values.range("bucket: driver, MiB")
        yield f"| the driver's memory, bucket | {measured} MiB | | 1,024 MiB |"


if __name__ == "__main__":
    command.run(lambda: (main, ScoreBenchmark))
