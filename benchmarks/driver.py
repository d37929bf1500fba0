"""Does one driver keep up with 100,000 parts? What it costs a part, in time and memory.

    python -m benchmarks.driver

A corpus of 100,000 parts of 100,000 rows has 10^10 rows. What a driver does for a part does not
depend on the rows in it, so here each part has one: everything else is real, the plan, Ray Data and
its actors, the files, their footers. The parts come faster than of 100,000 rows they would on a
thousand cores, and as fast as the driver or, more likely, this machine's actors can take them.
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
from testing.programs import scoring, words

OTHERS = ("gcs_server", "raylet")
"""Ray's processes that serve the driver: one a cluster, and one a node."""


@dataclass(frozen=True)
class DriverBenchmark:
    """Score parts of one row, and watch the driver."""

    parts: int = 100_000
    """Parts."""
    shards: int = 1_000
    """Shards they are in."""
    root: Path | None = None
    """Directory for corpus and output; None: one that is removed at the end."""


def main(config: DriverBenchmark) -> None:
    """Score, and print a table."""
    with kept_or_temporary(config.root) as root, tempfile.TemporaryDirectory(dir=root) as output:
        save_checkpoint(root / "model")
        write_shards(root / "corpus", config.parts, config.shards)
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
        for line in process.stdout:
            lines.append(line)
            done = line.partition(" of ")[0].replace(",", "")
            if done.isdigit() and 4 * int(done) // config.parts > quarter:
                quarter = 4 * int(done) // config.parts
                print(_row(int(done), time.monotonic() - began, driver), flush=True)
        if process.wait():
            raise RuntimeError("".join(lines))
        seconds = time.monotonic() - began
        print(f"\n{config.parts:,} parts in {seconds:,.0f} s, plan and _SUCCESS included")


def _row(done: int, seconds: float, driver: psutil.Process) -> str:
    """A line of the table."""
    others = dict.fromkeys(OTHERS, 0.0)
    for process in driver.children(recursive=True):
        if process.name() in others:
            others[process.name()] += sum(process.cpu_times()[:2])
    busy = [sum(driver.cpu_times()[:2]), *others.values()]
    memory = driver.memory_info().rss / 2**20
    return (
        f"| {done:,} | {seconds:,.0f} | {memory:,.0f} | {' | '.join(f'{s:,.0f}' for s in busy)} |"
    )


if __name__ == "__main__":
    main(tyro.cli(DriverBenchmark, use_underscores=True))
