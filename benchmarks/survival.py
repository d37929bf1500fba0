"""Do the programs survive? Kill a process at a random moment, run the same command again.

    python -m benchmarks.survival score --kills 10
    python -m benchmarks.survival train --kills 3 --victims driver raylet

What comes out must each time be that of an uninterrupted run, byte for byte: of scoring the parts
and the rejected rows, of training the weights, the optimizer's state and the metrics of every step.
"""

import json
import os
import random
import signal
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

import psutil
import tyro

from testing.generated import save_checkpoint, write_shards
from testing.programs import contents, scoring, words

if TYPE_CHECKING:
    from ray.cluster_utils import Cluster

PART_ROWS, STEPS = 10_000, 400
"""Rows a part of scoring, and steps of training."""


@dataclass(frozen=True)
class Victim:
    """A kind of process, by words of its command line, and what befalls it."""

    words: tuple[str, ...]
    which: int = 0
    """Of several, the first (0) or the last (-1)."""
    blow: signal.Signals = signal.SIGKILL
    elsewhere: bool = False
    """It is of the last node of a cluster, on this machine, that the job runs on."""

    def is_it(self, command: list[str]) -> bool:
        """Whether a process with that command line is of the kind."""
        return all(word in " ".join(command) for word in self.words)


@dataclass(frozen=True)
class SurvivalConfig:
    """Kill processes of a program at random moments and compare what comes out."""

    program: tyro.conf.Positional[Literal["score", "train"]]
    """Which program."""
    kills: int = 10
    """Kills of each kind of process."""
    rows: int = 200_000
    """Rows to score. Training takes a fiftieth."""
    seed: int = 0
    """Decides the moments."""
    victims: tuple[str, ...] = ()
    """Kinds of process; none: every kind that the program has."""
    nodes: int = 2
    """Nodes of one CPU that the victim `node` is the last of. Training has a worker on each."""


class Job(ABC):
    """A program's command, run in a directory of its own for each name."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @abstractmethod
    def flags(self, name: str) -> Sequence[object]:
        """The flags of the run of that name."""

    @abstractmethod
    def contents(self, name: str) -> dict[str, bytes]:
        """What the run has left, by name."""

    @abstractmethod
    def done(self, name: str) -> float:
        """The share of the run's work that the next run of the same command need not do."""

    def start(self, name: str, **environment: str) -> subprocess.Popen:
        """The command, running."""
        log = (self.root / f"{name}.log").open("a")
        return subprocess.Popen(
            words(type(self).__name__.lower(), *self.flags(name)),
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
            env=os.environ | environment,
        )

    def finish(self, name: str, again: int = 3) -> None:
        """Run the command until it ends well."""
        for _ in range(again):
            if self.start(name).wait(timeout=300) == 0:
                return
        raise RuntimeError(f"{again} runs of the same command did not finish {name}")


class Score(Job):
    """Scoring of a generated corpus, with some rows that must be rejected."""

    victims: ClassVar = {
        "driver": Victim(("pipelines.score",)),
        "actor": Victim(("ray::", "PartActor")),
        "worker": Victim(("ray::",), -1),
        "raylet": Victim(("/raylet",)),
        "node": Victim(("/raylet",), elsewhere=True),
    }

    def __init__(self, root: Path, rows: int) -> None:
        super().__init__(root)
        self._parts = rows // PART_ROWS
        save_checkpoint(root / "model", hidden=128)
        write_shards(root / "corpus", rows=rows, shards=4)
        bad = "".join(f"{i},0,hi\n{i}\n" for i in range(500))
        (root / "corpus" / "short.csv").write_text(f"id,Sentiment,SentimentText\n{bad}")

    def flags(self, name: str) -> Sequence[object]:
        """See `Job`."""
        return scoring(self.root, self.root / name, PART_ROWS)

    def done(self, name: str) -> float:
        """See `Job`."""
        return len(list((self.root / name).glob("part-*.parquet"))) / self._parts

    def contents(self, name: str) -> dict[str, bytes]:
        """Parts, rejected rows and `_SUCCESS`, as a reader sees them."""
        return contents(self.root / name)


class Train(Job):
    """Training of a small model by some workers."""

    victims: ClassVar = {
        "a worker": Victim(("ray::RayTrainWorker",)),
        "the other": Victim(("ray::RayTrainWorker",), -1),
        "driver": Victim(("pipelines.train",)),
        "one stopped": Victim(("ray::RayTrainWorker",), -1, signal.SIGSTOP),
        "raylet": Victim(("/raylet",)),
        "node": Victim(("/raylet",), elsewhere=True),
    }

    def __init__(self, root: Path, rows: int, workers: int) -> None:
        super().__init__(root)
        self._workers = workers
        write_shards(root / "corpus", rows=rows, shards=4)

    def flags(self, name: str) -> Sequence[object]:
        """See `Job`."""
        return [
            *("--data_dir", self.root / "corpus", "--cache_dir", self.root / "cache"),
            *("--checkpoints_root", self.root / "checkpoints"),
            *("--summaries_dir", self.root / "logs", "--run_name", name),
            *("--num_workers", self._workers, "--train_steps", STEPS),
            *("--validate_every", 20, "--stopwords_file", None),
        ]

    def done(self, name: str) -> float:
        """See `Job`. A checkpoint comes after the metrics of its step."""
        path = self.root / "logs" / name / "metrics.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        return json.loads(lines[-1])["step"] / STEPS if lines else 0.0

    def contents(self, name: str) -> dict[str, bytes]:
        """The model, the last state of training, and the metrics."""
        model = self.root / "checkpoints" / name / "weights.safetensors"
        if not model.exists():
            return {}
        runs = self.root / "checkpoints" / "_runs" / name
        files = {
            "weights": model,
            "state": max(runs.glob("checkpoint_*/state.safetensors")),
            "metrics": self.root / "logs" / name / "metrics.jsonl",
        }
        return {name: path.read_bytes() for name, path in files.items()}


def strike(job: subprocess.Popen, root: int, victim: Victim, is_time: Callable[[], bool]) -> bool:
    """Signal a process of that kind below the process `root`, or `root` itself; of a node, all.

    As soon as it is time and there is one; False if the job ends before.
    """
    while job.poll() is None:
        if not is_time():
            time.sleep(0.02)
            continue
        try:
            first = psutil.Process(root)
            processes = [first, *first.children(recursive=True)]
            found = [process for process in processes if victim.is_it(process.cmdline())]
            if found:
                # What a lost raylet has started lives on for seconds; of a lost node nothing does.
                for process in processes if victim.elsewhere else [found[victim.which]]:
                    with suppress(psutil.NoSuchProcess):
                        process.send_signal(victim.blow)
                return True
        except psutil.NoSuchProcess:
            continue
        time.sleep(0.02)
    return False


@contextmanager
def cluster_of(nodes: int) -> Iterator[tuple["Cluster", int]]:
    """A cluster of nodes of one CPU, on this machine, and the raylet of the last."""
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 1, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        *_, last = [cluster.add_node(num_cpus=1) for _ in range(nodes - 1)]
        (raylet,) = last.all_processes["raylet"]
        yield cluster, raylet.process.pid
    finally:
        cluster.shutdown()


def run_and_strike(
    job: Job, name: str, victim: Victim, moment: float, seconds: float, nodes: int
) -> tuple[bool, bool]:
    """Run the job to its end, again if need be: was it struck, and did it end well by itself?

    `moment` is a share of the seconds that the job takes; of a node, for which it takes others, a
    share of the work. Another node joins in place of the one that was struck.
    """
    with ExitStack() as stack:
        environment, root, cluster = {}, None, None
        if victim.elsewhere:
            cluster, root = stack.enter_context(cluster_of(nodes))
            environment = {"RAY_ADDRESS": cluster.address}
        running = job.start(name, **environment)
        end = time.monotonic() + moment * seconds

        def is_time() -> bool:
            return job.done(name) > moment if cluster else time.monotonic() > end

        struck = strike(running, root or running.pid, victim, is_time)
        if struck and cluster:
            cluster.add_node(num_cpus=1)
        ended = running.wait(timeout=300) == 0
    if not ended:
        job.finish(name)
    return struck, ended


def main(config: SurvivalConfig) -> None:
    """Strike, run again, compare, and print a line for each kind of process."""
    moments = random.Random(config.seed)
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        job = (
            Score(root, config.rows)
            if config.program == "score"
            else Train(root, config.rows // 50, config.nodes)
        )
        job.finish("warm")
        began = time.monotonic()
        job.finish("whole")
        seconds = time.monotonic() - began
        expected = job.contents("whole")
        if not expected or expected != job.contents("warm"):
            raise RuntimeError("two uninterrupted runs differ")
        print(f"{config.program}, uninterrupted: {seconds:.1f} s, {len(expected)} files")
        for kind in config.victims or job.victims:
            victim = job.victims[kind]
            struck = ended = equal = 0
            for number in range(config.kills):
                name = f"{kind.replace(' ', '-')}-{number}"
                moment = moments.random()
                was_struck, ended_well = run_and_strike(
                    job, name, victim, moment, seconds, config.nodes
                )
                struck += was_struck
                ended += ended_well
                found = job.contents(name)
                equal += found == expected
                if found != expected:
                    names = expected.keys() | found.keys()
                    odd = {n for n in names if expected.get(n) != found.get(n)}
                    print(f"{name} differs in {', '.join(sorted(odd))}", flush=True)
            print(
                f"{kind:12} {struck:3} struck, {ended:3} runs ended well by themselves, "
                f"{equal} of {config.kills} equal",
                flush=True,
            )


if __name__ == "__main__":
    main(tyro.cli(SurvivalConfig, use_underscores=True))
