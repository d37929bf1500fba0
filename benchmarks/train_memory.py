"""Measure the memory of training as the corpus grows a hundredfold.

    python -m benchmarks.train_memory --data_dir DIR --copies 1 10 100

For each number of copies of the rows of DIR a corpus is generated, in which an added word tells
the copies apart. `pipelines.train` prepares it and trains on it. Printed is the peak anonymous
memory of one process of each kind, sampled twice a second. Pages of memory-mapped files, such as
the cache, do not count, because the system can take them back at any time.
"""

import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.peers import read_labelled
from pipelines.console import command
from pipelines.console.flag_values import require

KINDS = {
    "driver": "pipelines.train",
    "training worker": "ray::RayTrainWorker",
    "controller": "ray::TrainController",
    "any other of Ray": "ray::",
}
"""Kinds of processes, by words of their command line; the first match counts."""


@dataclass(frozen=True)
class TrainMemoryBenchmark:
    """Measure the memory of training."""

    data_dir: str
    """Directory of labelled shards."""
    copies: tuple[int, ...] = (1, 10, 100)
    """Sizes of the corpora, as copies of DIR."""
    text_column: str = "SentimentText"
    """Column of the texts."""
    label_column: str = "Sentiment"
    """Column of the labels."""
    num_workers: int = 2
    """Training workers."""

    def __post_init__(self) -> None:
        require(min(self.copies, default=0) >= 1, "copies", self.copies, "each at least 1")


def main(config: TrainMemoryBenchmark) -> None:
    """Generate corpora, train on each, and print a table."""
    texts, labels = read_labelled(config.data_dir, config.text_column, config.label_column)
    print("| rows | " + " | ".join(f"{kind}, MiB" for kind in KINDS) + " | command, s |")
    print("| --- |" + " --- |" * (len(KINDS) + 1))
    for copies in config.copies:
        with tempfile.TemporaryDirectory() as directory:
            root = Path(directory)
            (root / "corpus").mkdir()
            for copy in range(copies):
                varied = [f"{text} copy{copy}" for text in texts]
                table = pa.table({"SentimentText": varied, "Sentiment": labels})
                pq.write_table(table, root / "corpus" / f"{copy:04d}.parquet")
            began = time.perf_counter()
            peaks = _peaks(root, config.num_workers)
            seconds = time.perf_counter() - began
        cells = " | ".join(f"{peaks[kind]:,.0f}" for kind in KINDS)
        print(f"| {copies * len(texts):,} | {cells} | {seconds:,.0f} |", flush=True)


def _peaks(root: Path, workers: int) -> dict[str, float]:
    """Train; return the peak MiB of one process of each kind, sampled twice a second."""
    command = [sys.executable, "-m", "pipelines.train", "--data_dir", root / "corpus"]
    command += ["--num_workers", workers, "--batch_size", 256, "--cache_dir", root / "cache"]
    command += ["--checkpoints_root", root / "models", "--summaries_dir", root / "logs"]
    peaks = dict.fromkeys(KINDS, 0.0)
    with (root / "log").open("w") as log:
        process = subprocess.Popen(list(map(str, command)), stdout=log, stderr=log)
    driver = psutil.Process(process.pid)
    while process.poll() is None:
        for each in [driver, *driver.children(recursive=True)]:
            try:
                line = " ".join(each.cmdline())
                status = Path(f"/proc/{each.pid}/status").read_text()
            except (psutil.NoSuchProcess, ProcessLookupError, FileNotFoundError):
                continue  # The process has just ended.
            kind = next((kind for kind, words in KINDS.items() if words in line), None)
            if kind and "RssAnon:" in status:
                mebibytes = int(status.split("RssAnon:")[1].split()[0]) / 1024
                peaks[kind] = max(peaks[kind], mebibytes)
        time.sleep(0.5)
    if process.returncode:
        raise RuntimeError((root / "log").read_text())
    return peaks


if __name__ == "__main__":
    command.run(lambda: (main, TrainMemoryBenchmark))
