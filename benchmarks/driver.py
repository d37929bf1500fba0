"""Measure the driver with 100,000 parts: its memory, and its CPU time for each part.

    python -m benchmarks.driver

A corpus of 100,000 parts of 100,000 rows has 10^10 rows. The driver's work for a part does not
depend on the number of its rows, so each part has one row here. All else is real: the plan, Ray
Data, the actors, the files and their footers.
"""

import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
import tyro

from benchmarks.score import kept_or_temporary
from testing.generated import save_checkpoint, write_shards
from testing.programs import scoring, undated, words

RAY_PROCESSES = ("gcs_server", "raylet")
"""Names of the Ray processes that serve the driver: one for the cluster, one for the node."""


@dataclass(frozen=True)
class DriverBenchmark:
    """Score parts of one row and measure the driver."""

    parts: int = 100_000
    """Number of parts."""
    shards: int = 1_000
    """Number of shards."""
    root: Path | None = None
    """Directory for corpus and output; None: a temporary one."""


def main(config: DriverBenchmark) -> None:
    """Score the corpus and print a row of the table at each quarter."""
    with kept_or_temporary(config.root) as root, tempfile.TemporaryDirectory(dir=root) as output:
        save_checkpoint(root / "model")
        # A row group of Parquet is not cut: each row would not be a part.
        write_shards(root / "corpus", config.parts, config.shards, parquet=False)
        began = time.monotonic()
        process = subprocess.Popen(
            words("score", *scoring(root, output, part_rows=1)),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        print("| parts done | seconds | driver, MiB | driver, CPU s | GCS, CPU s | raylet, CPU s |")
        print("| --- | --- | --- | --- | --- | --- |")
        driver = psutil.Process(process.pid)
        quarter, lines = 0, []
        reported: list[float] = []
        for line in process.stdout:
            lines.append(line)
            done = undated(line).partition(" of ")[0].replace(",", "")
            if done.isdigit():
                reported.append(time.monotonic() - began)
            if done.isdigit() and 4 * int(done) // config.parts > quarter:
                quarter = 4 * int(done) // config.parts
                print(_row(int(done), time.monotonic() - began, driver), flush=True)
        if process.wait() or f" in {config.parts:,} parts" not in "".join(lines):
            raise RuntimeError("".join(lines))
        seconds = time.monotonic() - began
        print(
            f"\n{config.parts:,} parts in {seconds:,.0f} s: {reported[0]:,.0f} s to the first line "
            f"of progress, {seconds - reported[-1]:,.0f} s from the last one to the end"
        )


def _row(done: int, seconds: float, driver: psutil.Process) -> str:
    """One row of the table: progress, the driver's memory, and CPU times."""
    cpu_seconds = dict.fromkeys(RAY_PROCESSES, 0.0)
    for process in driver.children(recursive=True):
        if process.name() in cpu_seconds:
            cpu_seconds[process.name()] += sum(process.cpu_times()[:2])
    all_seconds = [sum(driver.cpu_times()[:2]), *cpu_seconds.values()]
    mebibytes = driver.memory_info().rss / 2**20
    cells = [seconds, mebibytes, *all_seconds]
    return f"| {done:,} | {' | '.join(f'{cell:,.0f}' for cell in cells)} |"


if __name__ == "__main__":
    main(tyro.cli(DriverBenchmark, use_underscores=True))
