"""How fast is scoring, and beside what? End to end, memory and planning, in one table.

    python -m benchmarks.score --checkpoints_dir checkpoints/demo --texts DIR

`--texts` is a directory of Parquet shards with a column `text`. All commands run alternately on the
same rows of the same machine, after one that warms caches up; medians, and the range, of
`--repeats`. The kernel by itself is measured by `python -m benchmarks.kernel`.
"""

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import tyro

from pipelines.shards import find_shards

SMALL_SHARDS = 100_000


@dataclass(frozen=True)
class ScoreBenchmark:
    """Measure scoring end to end."""

    checkpoints_dir: str
    """A checkpoint."""
    texts: str
    """Directory of Parquet shards with a column `text`."""
    repeats: int = 3
    """Times that each command runs."""
    docs_pattern: bool = True
    """Also measure the pattern of Ray's documentation, which takes minutes a run."""


@dataclass(frozen=True)
class Run:
    """One run of a command."""

    seconds: float
    output: str
    first_part: float
    """Seconds until the first part was there."""
    driver: int
    """Peak resident memory of the first process, bytes."""
    everything: int
    """Peak proportional resident memory of it and all it started, bytes."""


def run(name: str, *arguments: object, output: Path, sample: bool = False) -> Run:
    """Run `python -m NAME`; with `sample`, look at its memory and output every half second."""
    shutil.rmtree(output, ignore_errors=True)
    command = [sys.executable, "-m", name, *map(str, arguments)]
    began = time.perf_counter()
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    peaks = {"driver": 0, "everything": 0, "first_part": 0.0}
    if sample:
        watched = (process, output, peaks, began)
        threading.Thread(target=_watch, args=watched, daemon=True).start()
    printed, _ = process.communicate()
    seconds = time.perf_counter() - began
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}")
    return Run(seconds, printed, **peaks)


def _watch(process: subprocess.Popen, output: Path, peaks: dict[str, float], began: float) -> None:
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
        if not peaks["first_part"] and any(output.glob("part-*.parquet")):
            peaks["first_part"] = time.perf_counter() - began
        time.sleep(0.5)


def main(config: ScoreBenchmark) -> None:
    """Measure and print the table."""
    shards = find_shards([config.texts], "--texts")
    rows = sum(pq.read_metadata(shard.path).num_rows for shard in shards)
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        inputs = _inputs(root, [Path(shard.path) for shard in shards])
        output = root / "output"

        def score(source: Path | str, sample: bool = False) -> Run:
            flags = ("--checkpoints_dir", config.checkpoints_dir, "--input", source)
            return run("pipelines.score", *flags, "--output", output, output=output, sample=sample)

        score(inputs["hundred"])
        times: dict[str, list[float]] = {}
        for _ in range(config.repeats):
            for name in ("hundred", "parquet", "csv"):
                times.setdefault(name, []).append(score(inputs[name]).seconds)
            common = (config.checkpoints_dir, config.texts, output)
            one = float(run("benchmarks.one_core", *common, output=output).output)
            times.setdefault("one core", []).append(rows / one)
            if config.docs_pattern:
                docs = run("benchmarks.docs_pattern", *common, output=output)
                times.setdefault("docs", []).append(docs.seconds)
        _print_speed(times, rows)
        once, tenfold = (score(inputs[name], sample=True) for name in ("parquet", "tenfold"))
        many = score(inputs["many"], sample=True)
        print(
            f"memory of all processes, {10 * rows:,} rows against {rows:,}: "
            f"{tenfold.everything / 2**20:,.0f} MiB against {once.everything / 2**20:,.0f} MiB, "
            f"{tenfold.everything / once.everything:.2f}x\n"
            f"{SMALL_SHARDS:,} shards of 100 rows: first part after {many.first_part:.0f} s, "
            f"driver {many.driver / 2**20:,.0f} MiB, whole command {many.seconds:.0f} s"
        )


def _inputs(root: Path, shards: list[Path]) -> dict[str, Path]:
    """The same rows as Parquet and CSV, ten times over, cut small, and a hundred of them."""
    names = ("parquet", "csv", "tenfold", "many", "hundred")
    inputs = {name: root / name for name in names}
    for path in inputs.values():
        path.mkdir()
    for shard in shards:
        shutil.copy(shard, inputs["parquet"] / shard.name)
        pacsv.write_csv(pq.read_table(shard), inputs["csv"] / f"{shard.stem}.csv")
        for copy in range(10):
            os.link(inputs["parquet"] / shard.name, inputs["tenfold"] / f"{copy}-{shard.name}")
    table = pq.read_table(shards[0])
    for number in range(SMALL_SHARDS):
        start = number * 100 % max(len(table) - 100, 1)
        pq.write_table(table.slice(start, 100), inputs["many"] / f"{number:06d}.parquet")
    pq.write_table(table.slice(0, 100), inputs["hundred"] / "hundred.parquet")
    return inputs


def _print_speed(times: dict[str, list[float]], rows: int) -> None:
    labels = {
        "hundred": "100 rows, whole command",
        "parquet": "Parquet, whole command",
        "csv": "CSV, whole command",
        "one core": "one core, no Ray, no start-up",
        "docs": "pattern of the Ray docs, whole command",
    }
    median = {name: statistics.median(seconds) for name, seconds in times.items()}
    print(f"{rows:,} rows, {os.cpu_count()} cores, medians of {len(times['parquet'])}")
    for name, seconds in times.items():
        count = 100 if name == "hundred" else rows
        print(
            f"{labels[name]:40} {median[name]:7.1f} s ({min(seconds):.1f} to {max(seconds):.1f})"
            f"  {count / median[name]:9,.0f} rows/s"
        )
    busy = median["parquet"] - median["hundred"]
    ideal = median["one core"] / (os.cpu_count() or 1)
    print(f"without start-up, of {os.cpu_count()} x one core: {ideal / busy:.2f}")
    print(f"CSV against Parquet: {median['parquet'] / median['csv']:.2f}")
    if "docs" in median:
        print(f"against the pattern of the Ray docs: {median['docs'] / median['parquet']:.1f}x")


if __name__ == "__main__":
    main(tyro.cli(ScoreBenchmark, use_underscores=True))
