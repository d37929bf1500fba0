"""Trouble a program at a random moment, run the same command again, and compare.

    python -m benchmarks.survival score --kills 10
    python -m benchmarks.survival score --rows 10000 --part_rows 2 --kills 40 --kills_a_run 10
    python -m benchmarks.survival train --kills 3 --victims driver raylet

A process is killed, the input is away for a while, or finished parts are damaged. The result must
equal that of an uninterrupted run, byte for byte. For scoring: parts and rejected rows, and no part
that was there is written again, unless it was damaged. For training: weights, optimizer state and
the metrics of every step.
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
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import psutil
import tyro

from testing.generated import save_checkpoint, write_shards
from testing.programs import contents, scoring, words

if TYPE_CHECKING:
    from ray.cluster_utils import Cluster

AWAY_SECONDS = 4.0
"""How long the input is away: longer than the first pause before a part is tried again."""
STEPS = 400
"""Steps of training."""


@dataclass(frozen=True)
class Victim:
    """A kind of process, and the signal that it gets."""

    words: tuple[str, ...]
    """Words that its command line contains."""
    which: int = 0
    """Index among several such processes: first (0) or last (-1)."""
    signal_sent: signal.Signals = signal.SIGKILL
    elsewhere: bool = False
    """The job runs on a local cluster, and all processes of its last node get the signal."""

    def is_it(self, command: list[str]) -> bool:
        """Whether a process with that command line is of this kind."""
        return all(word in " ".join(command) for word in self.words)


class Outage:
    """The input's directory is away for a while."""


class Damage:
    """Of a finished output a part is removed, one loses its end, and a byte of one changes."""


@dataclass(frozen=True)
class SurvivalConfig:
    """Kill processes of a program at random moments and compare the results."""

    program: tyro.conf.Positional[Literal["score", "train"]]
    """The program."""
    kills: int = 10
    """Kills of each kind of process."""
    kills_a_run: int = 1
    """Kills of processes in a run: each after the first comes when the job has written a part since
    the one before. A job that a kill ends is started again at once."""
    rows: int = 200_000
    """Rows to score. Training uses a fiftieth of them."""
    part_rows: int = 10_000
    """Rows in a part of scoring."""
    seed: int = 0
    """Seed of the random moments."""
    victims: tuple[str, ...] = ()
    """Kinds of process; none: all kinds of the program."""
    nodes: int = 2
    """Nodes of the local cluster of victim `node`, one CPU each. Training has a worker on each."""


@dataclass(frozen=True)
class Trial:
    """What came of one trial."""

    struck: int
    """How often trouble came before the job had ended."""
    ended: bool
    """Whether the first run succeeded all the same."""
    again: int
    """Parts that were there, undamaged, and were written again."""


class Job(ABC):
    """A program's command. Each run has a name and its own directory."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @abstractmethod
    def flags(self, name: str) -> Sequence[object]:
        """Flags of the run of that name."""

    @abstractmethod
    def contents(self, name: str) -> dict[str, bytes]:
        """Contents of the files that are compared, by file name."""

    @abstractmethod
    def done(self, name: str) -> float:
        """Share of the work that a second run of the same command skips."""

    def written(self, name: str) -> dict[str, int]:
        """When each finished piece of work was written, by its name."""
        return {}

    def start(self, name: str, **environment: str) -> subprocess.Popen:
        """Start the command."""
        log = (self.root / f"{name}.log").open("a")
        return subprocess.Popen(
            words(type(self).__name__.lower(), *self.flags(name)),
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
            env=os.environ | environment,
        )

    def finish(self, name: str, again: int = 3) -> None:
        """Run the command until it succeeds; at most `again` times."""
        for _ in range(again):
            if self.start(name).wait(timeout=300) == 0:
                return
        raise RuntimeError(f"{name} did not succeed in {again} runs of the same command")


class Score(Job):
    """Score a generated corpus in which some rows are malformed."""

    victims: ClassVar = {
        "driver": Victim(("pipelines.score",)),
        "actor": Victim(("ray::", "PartActor")),
        "worker": Victim(("ray::",), -1),
        "raylet": Victim(("/raylet",)),
        "node": Victim(("/raylet",), elsewhere=True),
        "outage": Outage(),
        "damage": Damage(),
    }

    def __init__(self, root: Path, rows: int, part_rows: int) -> None:
        super().__init__(root)
        self._part_rows = part_rows
        self._parts = rows // part_rows
        save_checkpoint(root / "model", hidden=128)
        write_shards(root / "corpus", rows=rows, shards=4)
        bad = "".join(f"{i},0,hi\n{i}\n" for i in range(500))
        (root / "corpus" / "short.csv").write_text(f"id,Sentiment,SentimentText\n{bad}")

    def flags(self, name: str) -> Sequence[object]:
        """See `Job`."""
        flags = scoring(self.root, self.root / name, self._part_rows)
        return [*flags, "--max_rejected", "100%"]

    def done(self, name: str) -> float:
        """See `Job`."""
        return len(list((self.root / name).glob("part-*.parquet"))) / self._parts

    def contents(self, name: str) -> dict[str, bytes]:
        """Parts, rejected rows and `_SUCCESS`."""
        return contents(self.root / name)

    def written(self, name: str) -> dict[str, int]:
        """When each part was written."""
        times = {}
        for path in (self.root / name).glob("part-*.parquet"):
            with suppress(FileNotFoundError):
                times[path.name] = path.stat().st_mtime_ns
        return times

    def damage(self, name: str, chance: random.Random) -> None:
        """Damage three parts, each in another way."""
        gone, short, changed = (
            self.root / name / part for part in chance.sample(sorted(self.written(name)), 3)
        )
        gone.unlink()
        short.write_bytes(short.read_bytes()[:-1])
        content = bytearray(changed.read_bytes())
        content[chance.randrange(len(content))] ^= 0xFF
        changed.write_bytes(content)


class Train(Job):
    """Train a small model on several workers."""

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
        """See `Job`. A step's metrics are written before its checkpoint."""
        path = self.root / "logs" / name / "metrics.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        return json.loads(lines[-1])["step"] / STEPS if lines else 0.0

    def contents(self, name: str) -> dict[str, bytes]:
        """Weights, optimizer state and metrics."""
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
    """Send the signal to a process of that kind among `root` and its child processes.

    Waits until it is time and such a process exists. For a victim of another node, all of them get
    the signal. Returns False if the job ends before.
    """
    while job.poll() is None:
        if not is_time():
            time.sleep(0.02)
            continue
        try:
            first = psutil.Process(root)
            processes = [first, *first.children(recursive=True)]
            victims = [process for process in processes if victim.is_it(process.cmdline())]
            if victims:
                # Child processes of a killed raylet live on for seconds; of a lost node, none.
                for process in processes if victim.elsewhere else [victims[victim.which]]:
                    with suppress(psutil.NoSuchProcess):
                        process.send_signal(victim.signal_sent)
                return True
        except psutil.NoSuchProcess:
            continue
        time.sleep(0.02)
    return False


@contextmanager
def cluster_of(nodes: int) -> Iterator[tuple["Cluster", int]]:
    """Context manager: a local cluster of one-CPU nodes, and the process id of its last raylet."""
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 1, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        *_, last = [cluster.add_node(num_cpus=1) for _ in range(nodes - 1)]
        yield cluster, _pid_of(last)
    finally:
        cluster.shutdown()


def _pid_of(node: Any) -> int:
    """The process id of a node's raylet."""
    (raylet,) = node.all_processes["raylet"]
    return int(raylet.process.pid)


def run_in_an_outage(job: Job, name: str, moment: float, seconds: float) -> Trial:
    """Run the job, take its input away for a while, and run the job again if it failed."""
    corpus, away = job.root / "corpus", job.root / "away"
    running = job.start(name)
    time.sleep(moment * seconds)
    struck = int(running.poll() is None)
    corpus.rename(away)
    try:
        there = job.written(name)
        time.sleep(AWAY_SECONDS)
    finally:
        away.rename(corpus)
    ended = running.wait(timeout=300) == 0
    if not ended:
        job.finish(name)
    return Trial(struck, ended, _written_again(job, name, there))


def run_and_damage(job: Score, name: str, chance: random.Random) -> Trial:
    """Run the job, damage its output, and run it again."""
    job.finish(name)
    before = job.written(name)
    job.damage(name, chance)
    damaged = [part for part, when in before.items() if job.written(name).get(part) != when]
    there = {part: when for part, when in before.items() if part not in damaged}
    job.finish(name)
    return Trial(1, True, _written_again(job, name, there))


def _written_again(job: Job, name: str, there: dict[str, int]) -> int:
    after = job.written(name)
    return sum(after.get(part) != when for part, when in there.items())


def run_and_strike(
    job: Job, name: str, victim: Victim, moments: Sequence[float], seconds: float, nodes: int
) -> Trial:
    """Run the job, kill processes, and run the job again if it failed.

    Args:
        moments: when to kill, from 0 to 1, each a share of the `seconds` that the job takes,
            divided by their number; or, for a node, of the work. A new node replaces a killed one.
    """
    struck = 0
    there: dict[str, int] = {}
    with ExitStack() as stack:
        environment, root, cluster = {}, None, None
        if victim.elsewhere:
            cluster, root = stack.enter_context(cluster_of(nodes))
            environment = {"RAY_ADDRESS": cluster.address}
        running = job.start(name, **environment)

        def moment_of(number: int) -> Callable[[], bool]:
            if victim.elsewhere:
                return _moment_of_work(job, name, (number + moments[number]) / len(moments))
            pause = moments[number] * seconds / len(moments)
            return _moment(job, name, pause, waits=number > 0)

        for number in range(len(moments)):
            if not strike(running, root or running.pid, victim, moment_of(number)):
                # The kill before this one may have ended the job, at once or somewhat later.
                if not number or running.wait(timeout=300) == 0:
                    break
                running = job.start(name, **environment)
                if not strike(running, root or running.pid, victim, moment_of(number)):
                    break
            struck += 1
            # What was there at an earlier kill keeps the time that it had then.
            there = job.written(name) | there
            if cluster:
                root = _pid_of(cluster.add_node(num_cpus=1))
        ended = running.wait(timeout=300) == 0
    if not ended:
        job.finish(name)
    return Trial(struck, ended, _written_again(job, name, there))


def _moment_of_work(job: Job, name: str, share: float) -> Callable[[], bool]:
    """Whether more than this share of the work is done."""
    return lambda: job.done(name) > share


def _moment(job: Job, name: str, pause: float, waits: bool) -> Callable[[], bool]:
    """Whether a pause in seconds is over; with `waits`, one after the job has gone on from here."""
    before = job.done(name)
    end = None if waits else time.monotonic() + pause

    def is_time() -> bool:
        nonlocal end
        if end is None and job.done(name) > before:
            end = time.monotonic() + pause
        return end is not None and time.monotonic() > end

    return is_time


def main(config: SurvivalConfig) -> None:
    """Kill, run again, compare, and print a line for each kind of process."""
    moments = random.Random(config.seed)
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        job = (
            Score(root, config.rows, config.part_rows)
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
            a_run = config.kills_a_run if isinstance(victim, Victim) else 1
            struck = runs = ended = again = equal = 0
            for first in range(0, config.kills, a_run):
                name = f"{kind.replace(' ', '-')}-{runs}"
                kills = [moments.random() for _ in range(min(a_run, config.kills - first))]
                if isinstance(victim, Outage):
                    trial = run_in_an_outage(job, name, kills[0], seconds)
                elif isinstance(victim, Damage):
                    trial = run_and_damage(job, name, moments)
                else:
                    trial = run_and_strike(job, name, victim, kills, seconds, config.nodes)
                runs += 1
                struck += trial.struck
                ended += trial.ended
                again += trial.again
                contents = job.contents(name)
                equal += contents == expected
                if contents != expected:
                    names = expected.keys() | contents.keys()
                    different = {n for n in names if expected.get(n) != contents.get(n)}
                    print(f"{name} differs in {', '.join(sorted(different))}", flush=True)
            print(
                f"{kind:12} {struck:3} struck in {runs} runs, {ended:3} succeeded without another "
                f"run, {again} parts written again, {equal} of {runs} equal",
                flush=True,
            )


if __name__ == "__main__":
    main(tyro.cli(SurvivalConfig, use_underscores=True))
