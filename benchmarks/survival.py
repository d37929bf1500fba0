"""Does scoring survive? Kill a process of the job at a random moment, run the same command again.

    python -m benchmarks.survival --kills 10

Each time the output, `_rejected/` included, must be that of an uninterrupted run, byte for byte.
"""

import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil
import tyro

from tests.generated import save_checkpoint, write_shards

VICTIMS: dict[str, Callable[[list[str]], bool]] = {
    "driver": lambda command: "pipelines.score" in command,
    "actor": lambda command: command[0].startswith("ray::") and "PartScorer" in command[0],
    "worker": lambda command: command[0].startswith("ray::") and "PartScorer" not in command[0],
    "raylet": lambda command: command[0].endswith("/raylet"),
}


@dataclass(frozen=True)
class SurvivalConfig:
    """Kill processes of scoring jobs at random moments and compare what comes out."""

    kills: int = 10
    """Kills of each kind of process."""
    rows: int = 200_000
    """Rows of the corpus."""
    seed: int = 0
    """Decides the moments."""


class Job:
    """A scoring job over a generated corpus, with some rows that must be rejected."""

    def __init__(self, root: Path, rows: int) -> None:
        self._root = root
        save_checkpoint(root / "model", hidden=128)
        write_shards(root / "corpus", rows=rows, shards=4)
        bad = "".join(f"{i},0,hi\n{i}\n" for i in range(500))
        (root / "corpus" / "short.csv").write_text(f"id,Sentiment,SentimentText\n{bad}")

    def start(self, output: str) -> subprocess.Popen:
        """The command, running."""
        flags = {
            "--checkpoints_dir": self._root / "model",
            "--input": self._root / "corpus",
            "--output": self._root / output,
            "--text_column": "SentimentText",
            "--keep_columns": "id",
            "--part_rows": 10_000,
        }
        command = [sys.executable, "-m", "pipelines.score"]
        command += [str(word) for flag in flags.items() for word in flag]
        log = (self._root / f"{output}.log").open("a")
        return subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    def contents(self, output: str) -> dict[str, bytes]:
        """What a reader sees, and the rejected rows; nothing if the job is not complete."""
        directory = self._root / output
        if not (directory / "_SUCCESS").exists():
            return {}
        files = [*directory.glob("*.parquet"), *directory.glob("_rejected/*.parquet")]
        return {str(path.relative_to(directory)): path.read_bytes() for path in files}

    def finish(self, output: str, again: int = 3) -> int:
        """Run the command until it ends well; how often that took."""
        for times in range(1, again + 1):
            if self.start(output).wait(timeout=180) == 0:
                return times
        raise RuntimeError(f"{again} runs of the same command did not finish {output}")


def kill_one(job: subprocess.Popen, kind: str, after: float) -> bool:
    """SIGKILL a process of that kind, as soon as there is one after so many seconds."""
    time.sleep(after)
    while job.poll() is None:
        try:
            driver = psutil.Process(job.pid)
            for process in [driver, *driver.children(recursive=True)]:
                command = process.cmdline()
                if command and VICTIMS[kind](command):
                    process.send_signal(signal.SIGKILL)
                    return True
        except psutil.NoSuchProcess:
            continue
        time.sleep(0.02)
    return False


def main(config: SurvivalConfig) -> None:
    """Kill, run again, compare, and print a line for each kind of process."""
    moments = random.Random(config.seed)
    with tempfile.TemporaryDirectory() as directory:
        job = Job(Path(directory), config.rows)
        job.finish("warm")
        began = time.monotonic()
        job.finish("whole")
        seconds = time.monotonic() - began
        expected = job.contents("whole")
        print(f"uninterrupted: {seconds:.1f} s, {len(expected)} files, {config.rows:,} rows")
        assert expected == job.contents("warm")
        for kind in VICTIMS:
            killed = ended = equal = 0
            for number in range(config.kills):
                output = f"{kind}-{number}"
                running = job.start(output)
                killed += kill_one(running, kind, moments.uniform(0.5, seconds))
                if running.wait(timeout=180) == 0:
                    ended += 1
                else:
                    job.finish(output)
                equal += job.contents(output) == expected
            print(
                f"{kind:8} {killed:3} kills, {ended:3} runs ended well by themselves, "
                f"{equal} of {config.kills} outputs equal",
                flush=True,
            )


if __name__ == "__main__":
    main(tyro.cli(SurvivalConfig, use_underscores=True))
