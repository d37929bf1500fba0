"""How fast is scoring, and beside what? End to end, memory and planning, in one table.

    python -m benchmarks.score --checkpoints_dir checkpoints/tweets --texts DIR
    python -m benchmarks.score ... --root /tmp/bench --measure docs --repeats 1

`--texts` is a directory of Parquet shards with a column `text`. What is compared runs in turns on
the same rows of the same machine; medians and ranges. With `--root` the inputs that are made and
what was measured stay there: each command adds to it, and the table is of all of it, so that a
long measurement can be had in pieces. The kernel by itself is measured by
`python -m benchmarks.kernel`.
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
from testing.buckets import S3Server

SMALL_SHARDS = 100_000

Measure = Literal["speed", "docs", "memory", "planning", "bucket"]


@dataclass(frozen=True)
class ScoreBenchmark:
    """Measure scoring end to end."""

    checkpoints_dir: str
    """A checkpoint."""
    texts: str
    """Directory of Parquet shards with a column `text`."""
    measure: tuple[Measure, ...] = ("speed", "docs", "memory", "planning")
    """speed: Parquet, CSV, one core and a hundred rows, in turns. docs: the pattern of Ray's
    documentation and ours, in turns. memory: ten times the rows beside the rows. planning: 100,000
    shards of 100 rows. bucket: the same in a bucket of S3, SeaweedFS on this machine, until the
    first part is there."""
    repeats: int = 3
    """Turns; 0: make the inputs only."""
    root: Path | None = None
    """Directory for inputs and measurements; None: one that is removed at the end."""


@dataclass(frozen=True)
class Run:
    """One run of a command."""

    seconds: float
    output: str
    listed: float
    """Seconds until it began to count the rows of shards."""
    planned: float
    """Seconds until it began to score."""
    first_part: float
    """Seconds until the first part was there."""
    driver: int
    """Peak resident memory of the first process, bytes."""
    everything: int
    """Peak proportional resident memory of it and all it started, bytes."""


def run(
    name: str, *arguments: object, output: str, sample: bool = False, whole: bool = True
) -> Run:
    """Run `python -m NAME`.

    Args:
        name: of the module.
        arguments: its own.
        output: the directory or URI that it writes to, removed if it is there.
        sample: look at its memory and output every half second.
        whole: to its end; else until the first part is there.
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
    printed, said = "", {}
    for line in process.stdout:
        printed += line
        said.setdefault(line.partition(" ")[0], time.perf_counter() - began)
    process.wait()
    seconds = time.perf_counter() - began
    if process.returncode and (whole or not peaks["first_part"]):
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}")
    moments = {"listed": said.get("Counting", 0.0), "planned": said.get("Scoring", 0.0)}
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
                    continue  # It has just ended.
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
    """What was measured, by name, kept in a file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._found: dict[str, list[float]] = json.loads(path.read_text()) if path.exists() else {}

    def add(self, name: str, value: float) -> None:
        """One more of that name."""
        self._found.setdefault(name, []).append(value)
        self._path.write_text(json.dumps(self._found, indent=1))
        print(f"{name}: {value:,.2f}", file=sys.stderr, flush=True)

    def __contains__(self, name: str) -> bool:
        return name in self._found

    def median(self, name: str) -> float:
        """The median of those of that name."""
        return statistics.median(self._found[name])

    def range(self, name: str) -> str:
        """The median, and the least and the largest."""
        found = self._found[name]
        return f"{self.median(name):,.1f} ({min(found):,.1f} to {max(found):,.1f})"


@contextmanager
def kept_or_temporary(root: Path | None) -> Iterator[Path]:
    """The directory, made if need be; or one that is removed at the end."""
    if root is None:
        with tempfile.TemporaryDirectory() as directory:
            yield Path(directory)
    else:
        root.mkdir(parents=True, exist_ok=True)
        yield root


def main(config: ScoreBenchmark) -> None:
    """Measure and print the table."""
    if "docs" in config.measure and checkpoint.load(config.checkpoints_dir).bigrams:
        raise InputError(
            f"--checkpoints_dir {config.checkpoints_dir} has bigrams, which the pattern of Ray's "
            "documentation knows nothing of: take another, or leave docs out of --measure"
        )
    shards = [Path(shard.path) for shard in find_shards([config.texts], "--texts")]
    rows = sum(pq.read_metadata(shard).num_rows for shard in shards)
    with kept_or_temporary(config.root) as root:
        found = Measurements(root / "measurements.json")
        output = str(root / "output")
        common = (config.checkpoints_dir, config.texts, output)

        def score(source: Path, *more: object, sample: bool = False) -> Run:
            flags = ("--checkpoints_dir", config.checkpoints_dir, "--input", source, *more)
            return run("pipelines.score", *flags, "--output", output, output=output, sample=sample)

        hundred = made(root / "hundred", shards)
        if config.repeats:
            score(hundred)  # Fills caches, compiles.
        if "speed" in config.measure:
            inputs = {
                "hundred, s": (hundred,),
                # Several parts take another way than one.
                "start-up, s": (hundred, "--part_rows", 25),
                "Parquet, s": (made(root / "parquet", shards),),
                "CSV, s": (made(root / "csv", shards),),
            }
            for _ in range(config.repeats):
                for name, source in inputs.items():
                    found.add(name, score(*source).seconds)
                one = float(run("benchmarks.one_core", *common, output=output).output)
                found.add("one core, s", rows / one)
        if "docs" in config.measure:
            source = made(root / "parquet", shards)
            for _ in range(config.repeats):
                found.add("beside docs, s", score(source).seconds)
                docs = run("benchmarks.docs_pattern", *common, output=output)
                found.add("docs, s", docs.seconds)
        if "memory" in config.measure:
            inputs = {"once": made(root / "parquet", shards)}
            inputs["tenfold"] = made(root / "tenfold", shards)
            for _ in range(config.repeats):
                for name, source in inputs.items():
                    found.add(f"{name}, MiB", score(source, sample=True).everything / 2**20)
        if "planning" in config.measure:
            source = made(root / "many", shards)
            for _ in range(config.repeats):
                many = score(source, sample=True)
                found.add("first part, s", many.first_part)
                found.add("driver, MiB", many.driver / 2**20)
                found.add("many, s", many.seconds)
        if "bucket" in config.measure:
            with bucket(root, made(root / "many", shards)) as (source, scored):
                flags = ("--checkpoints_dir", config.checkpoints_dir, "--input", source)
                flags += ("--output", scored)
                for _ in range(config.repeats):
                    many = run("pipelines.score", *flags, output=scored, sample=True, whole=False)
                    found.add("bucket: listed, s", many.listed)
                    found.add("bucket: planned, s", many.planned)
                    found.add("bucket: first part, s", many.first_part)
                    found.add("bucket: driver, MiB", many.driver / 2**20)
        shutil.rmtree(output, ignore_errors=True)
        if config.repeats:
            print(f"{rows:,} rows, {os.cpu_count()} cores; medians, and least to largest")
            print("\n".join(table(found, rows)))


def made(path: Path, shards: list[Path]) -> Path:
    """The texts in another shape, by the name of the directory; made unless it is there."""
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
    """A server whose bucket has the shards; the URI of those, and one to write to."""
    server = S3Server(root / "server")
    try:
        os.environ.update(server.environment)
        if len(storage.names(server.uri("many"))) < SMALL_SHARDS:
            filesystem, inner = storage.resolve(server.uri("many"))
            pafs.copy_files(str(shards), inner, None, filesystem)
        yield server.uri("many"), server.uri("scored")
    finally:
        server.stop()


def table(found: Measurements, rows: int) -> Iterator[str]:
    """The lines of a Markdown table of what was measured beside what it is to be."""
    yield "| what | measured | value | at least, at most |"
    yield "| --- | --- | --- | --- |"
    cores = os.cpu_count() or 1
    if "docs, s" in found:
        ratio = found.median("docs, s") / found.median("beside docs, s")
        measured = f"{found.range('beside docs, s')} s against {found.range('docs, s')} s"
        yield f"| whole command against the Ray docs' pattern | {measured} | {ratio:.1f}x | 15x |"
    if "Parquet, s" in found:
        whole = found.median("Parquet, s")
        busy = whole - found.median("start-up, s")
        ideal = found.median("one core, s") / cores
        yield f"| whole command | {found.range('Parquet, s')} s | {rows / whole:,.0f} rows/s | |"
        measured = (
            f"{busy:.1f} s, without {found.range('start-up, s')} s of 100 rows in 4 parts; "
            f"one core, no Ray: {found.range('one core, s')} s"
        )
        yield f"| without start-up, of {cores} x one core | {measured} | {ideal / busy:.2f} | 0.8 |"
        ratio = found.median("Parquet, s") / found.median("CSV, s")
        yield f"| CSV against Parquet | {found.range('CSV, s')} s | {ratio:.2f} | 0.8 |"
        yield f"| 100 rows, whole command | {found.range('hundred, s')} s | | 10 s |"
    if "tenfold, MiB" in found:
        ratio = found.median("tenfold, MiB") / found.median("once, MiB")
        measured = f"{found.range('tenfold, MiB')} against {found.range('once, MiB')} MiB"
        yield f"| memory of all, {10 * rows:,} rows: {rows:,} | {measured} | {ratio:.2f}x | 1.1x |"
    if "first part, s" in found:
        measured = (
            f"first part after {found.range('first part, s')} s, all {found.range('many, s')} s"
        )
        yield f"| {SMALL_SHARDS:,} shards of 100 rows | {measured} | | 60 s |"
        yield f"| the driver's memory with them | {found.range('driver, MiB')} MiB | | 1,024 MiB |"
    if "bucket: first part, s" in found:
        steps = [found.range(f"bucket: {step}, s") for step in ("listed", "planned", "first part")]
        measured = "listed after {} s, planned after {} s, first part after {} s".format(*steps)
        yield f"| the same in a bucket | {measured} | | 60 s |"
        measured = found.range("bucket: driver, MiB")
        yield f"| the driver's memory with them in a bucket | {measured} MiB | | 1,024 MiB |"


if __name__ == "__main__":
    command.run(main, ScoreBenchmark)
