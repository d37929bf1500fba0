"""Each row is scored exactly once: a state machine runs real jobs, which crash, on one output."""

import json
import os
import random
import tempfile
import threading
import time
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pipelines.errors import Failure
from pipelines.scoring.config import ScoreConfig
from pipelines.scoring.executor import LocalExecutor
from pipelines.scoring.fence import STALE_SECONDS
from pipelines.scoring.follow import is_up_to_date
from pipelines.scoring.job import PartsFailed, run
from pipelines.scoring.mending import mend
from pipelines.scoring.output import Output, overwrite
from pipelines.scoring.part_data import PartCounts, PartResult
from pipelines.scoring.planner import make_plan
from pipelines.scoring.shards import Shards
from pipelines.sources.listing import find_shards
from pipelines.sources.shard import Counted, Shard
from sentiment import storage
from sentiment.model.inference import inference
from testing.generated import save_checkpoint
from testing.properties import examples

TEXTS = ("lovely great day", "awful sad", "word1 word2 word3", "", "unknown", ":) :(")
FOREIGN = ("notes.txt", "_rejected/mine", "sub/.part-000000.parquet.01234567", ".hidden")
FOREIGN += (".part-000000.parquet.backup", "_manifest/.mine.json.01234567")
MAX_PAUSES = 1000


class Crash(BaseException):
    """Ends a job where it pauses."""


class PausingExecutor(LocalExecutor):
    """Pauses before and after everything it does; takes parts in any order, and some twice."""

    def __init__(self, job: "Job", chance: random.Random) -> None:
        self._job, self._chance = job, chance
        self.outages = 0.0
        """The share of parts that cannot be read."""
        self.next_part = ""
        """The part that is scored next, if it pauses before one."""

    def map(self, function, items):
        self._job.pause()
        for result in super().map(function, items):
            yield result
            self._job.pause()

    def score(self, tasks, number, worker, say):
        tasks = list(tasks)
        assert len(tasks) == number
        for task in self._chance.sample(tasks, len(tasks)):
            self.next_part = task.name
            self._job.pause()
            self.next_part = ""
            if self._chance.random() < self.outages:
                self._job.pause()
                yield PartResult(task.name, PartCounts(), f"{task.name}: an outage")
                continue
            if self._chance.random() < 0.2:
                worker(task)
            (result,) = super().score([task], 1, worker, say)
            self._job.pause()
            yield result


class Job:
    """The real job, in a thread that runs only from one pause to the next.

    A job that is not resumed is like a process that was killed: it cleans nothing up.
    """

    def __init__(
        self, machine: "Jobs", seed: int, output: Output | None = None, sync: bool = False
    ) -> None:
        self.output = output or Output(str(machine.scored))
        self.shards = find_shards([str(machine.corpus)], "--input")
        self.executor = PausingExecutor(self, random.Random(seed))
        self.is_over = False
        self.error: BaseException | None = None
        self.partial: list[Path] = []
        """Files that its actors were writing when they were killed."""
        config = replace(machine.config, sync=sync)
        self._arguments = (config, machine.model, self.output, self.shards, self.executor)
        self._crash: Crash | None = None
        self._resumed, self._paused = threading.Semaphore(0), threading.Semaphore(0)
        threading.Thread(target=self._run, daemon=True).start()
        self._wait_for_pause()

    def _run(self) -> None:
        try:
            run(*self._arguments)
        except BaseException as error:
            self.error = error
        self.is_over = True
        self._paused.release()

    def pause(self) -> None:
        """In the job's thread: let the machine go on until it resumes the job."""
        self._paused.release()
        self._resumed.acquire()
        if self._crash:
            raise self._crash

    def resume(self) -> None:
        """Let the job run until it pauses or is over."""
        assert not self.is_over
        self._resumed.release()
        self._wait_for_pause()

    def step(self) -> None:
        """Let the job run until it pauses or is over, without an error."""
        self.resume()
        if self.error:
            raise self.error
        self.require_clean()

    def _wait_for_pause(self) -> None:
        assert self._paused.acquire(timeout=100)

    def crash(self) -> None:
        """Raise an exception where the job pauses, as an error or Ctrl-C does."""
        self._crash = Crash()
        self.resume()
        assert self.error is self._crash
        self.require_clean()

    def require_clean(self) -> None:
        """A job that ends, if it is not killed, removes its own partial files, however young."""
        assert not (self.is_over and any(path.exists() for path in self.partial))


class Jobs(RuleBasedStateMachine):
    """Jobs on one output that plan, score, crash and resume in any order, while shards come in."""

    @initialize(
        part_rows=st.integers(1, 12),
        rows=st.lists(st.booleans(), min_size=1, max_size=20),
        later=st.lists(st.booleans(), max_size=5),
    )
    def begin(self, part_rows, rows, later):
        """Two jobs begin at once; the second one finds a shard more."""
        self.directory = tempfile.TemporaryDirectory()
        root = Path(self.directory.name)
        self.corpus, self.scored = root / "corpus", root / "scored"
        self.corpus.mkdir()
        self.model = save_checkpoint(root / "model")
        self.config = ScoreConfig(
            checkpoints_dir="",
            input=(),
            output="",
            keep_columns=("id",),
            part_rows=part_rows,
            max_rejected="100%",
            max_attempts=1,
        )
        tokens = self.model.encoder()(pa.chunked_array([TEXTS]))
        scores = inference(self.model.network)(tokens.ids, tokens.offsets)[:, 1]
        self.scores = dict(zip(TEXTS, scores.tolist(), strict=True))
        self.shards = self.written = 0
        self.number_of: dict[Path, int] = {}
        """Which of the shards that were written each one is: its ids begin with that."""
        self.good: dict[str, str] = {}
        self.bad: set[tuple[str, int]] = set()
        self.unreadable: set[str] = set()
        self.bytes: dict[str, bytes] = {}
        self.partial: dict[Path, bool] = {}
        """Partial files of killed jobs, and whether they are stale."""
        self.killed: list[Job] = []
        self.add_shard("csv", rows)
        self.jobs = [Job(self, 0)]
        self.add_shard("csv", later)
        self.jobs.append(Job(self, 1))
        while not Output(str(self.scored)).plans:
            self.jobs[0].step()
        for name in FOREIGN:
            (self.scored / name).parent.mkdir(exist_ok=True)
            (self.scored / name).write_text("mine")
            os.utime(self.scored / name, (0, 0))

    def teardown(self):
        if hasattr(self, "directory"):
            try:
                self.start_again(0, 0)
                self.check_finished(0)
            finally:
                for job in [*self.killed, *self.jobs]:
                    if not job.is_over:
                        job.crash()
                self.directory.cleanup()

    @rule(kind=st.sampled_from(["csv", "parquet"]), rows=st.lists(st.booleans(), max_size=40))
    def add_shard(self, kind, rows):
        self.shards += 1
        self.write_shard(self.corpus / f"{self.shards}.{kind}", rows)

    def write_shard(self, path, rows):
        """Write a shard with these rows, good ones and bad ones. Its ids are of nothing else."""
        self.written += 1
        number, kind = self.written, path.suffix
        self.number_of[path] = number
        ids = [f"{number}-{i}" for i in range(1, len(rows) + 1)]
        texts = [TEXTS[i % len(TEXTS)] for i in range(len(rows))]
        self.good |= {i: t for i, t, good in zip(ids, texts, rows, strict=True) if good}
        self.bad |= {(str(path), i) for i, good in enumerate(rows, 1) if not good}
        if kind == ".parquet":
            kept = [t if good else None for t, good in zip(texts, rows, strict=True)]
            pq.write_table(pa.table({"id": ids, "text": pa.array(kept, pa.string())}), path)
            return
        lines = [f"{i},{t}" if g else f"{i}" for i, t, g in zip(ids, texts, rows, strict=True)]
        path.write_text("\n".join(["id,text", *lines]))

    @rule()
    def add_a_shard_that_cannot_be_opened(self):
        self.shards += 1
        path = self.corpus / f"{self.shards}.parquet"
        path.write_bytes(b"PAR1")
        self.unreadable.add(str(path))

    @rule(number=st.integers(0, 1), seed=st.integers(0, 9))
    def start_again(self, number, seed):
        """A job begins; the one before it is killed, unless it is over."""
        before = self.jobs[number]
        if not before.is_over:
            self.killed.append(before)
            self.partial |= dict.fromkeys(before.partial, False)
        self.jobs[number] = Job(self, seed)

    @rule(number=st.integers(0, 1))
    def crash(self, number):
        if not self.jobs[number].is_over:
            self.jobs[number].crash()

    @rule(number=st.integers(0, 1), pauses=st.integers(1, 8))
    def go_on(self, number, pauses):
        """A job whose view of the output is as old as it may be."""
        for _ in range(pauses):
            if not self.jobs[number].is_over:
                self.jobs[number].step()

    @rule(number=st.integers(0, 1), below=st.sampled_from(["", "_rejected"]))
    def fail_before_or_after_the_rejected_rows_are_written(self, number, below):
        """A directory has the name of one of the part's files. The other parts are written."""
        job = self.jobs[number]
        while not job.is_over and not job.executor.next_part:
            job.step()
        part = job.executor.next_part
        target = self.scored / below / f"{part}.parquet"
        if job.is_over or target.exists() or (self.scored / f"{part}.parquet").exists():
            return
        target.mkdir()
        while not job.is_over:
            job.resume()
        assert isinstance(job.error, PartsFailed)
        assert f"{part} of " in str(job.error)
        job.require_clean()
        target.rmdir()

    @rule(number=st.integers(0, 1))
    def lose_the_input_for_a_while(self, number):
        """An outage of all shards: parts fail, and none of their rows is rejected."""
        job = self.jobs[number]
        while not job.is_over and not job.executor.next_part:
            job.step()
        if job.is_over:
            return
        self.corpus.rename(self.corpus.with_name("away"))
        while not job.is_over:
            job.resume()
        assert job.error is None or isinstance(job.error, PartsFailed)
        job.require_clean()
        self.corpus.with_name("away").rename(self.corpus)

    @rule(
        name=st.sampled_from(["part-000001.parquet", "part-000000.parquet", "_SUCCESS"]),
        named=st.booleans(),
        old=st.booleans(),
    )
    def die_in_the_middle_of_a_file(self, name, named, old):
        job = f".{uuid.uuid4().hex[:8]}" if named else ""
        path = self.staging / f"{name}{job}.{uuid.uuid4().hex[:8]}"
        path.write_bytes(b"PAR1")
        if old:
            os.utime(path, (time.time() - STALE_SECONDS - 60,) * 2)
        self.partial[path] = old

    @rule(number=st.integers(0, 1))
    def go_on_during_an_outage(self, number):
        """The job ends with an error, unless it needed none of the parts."""
        job = self.jobs[number]
        if job.is_over:
            return
        job.executor.outages = 1.0
        for _ in range(MAX_PAUSES):
            if not job.is_over:
                job.resume()
        assert job.error is None or (
            isinstance(job.error, Failure) and "an outage" in str(job.error)
        )
        assert job.error or not Output(str(self.scored)).missing()

    @precondition(lambda self: self.recorded())
    @rule(
        kind=st.sampled_from(["removed", "truncated", "flipped"]),
        below=st.sampled_from(["", "_rejected"]),
        success=st.booleans(),
        records=st.booleans(),
        seed=st.integers(0, 9),
    )
    def damage(self, kind, below, success, records, seed):
        """A part is damaged while no job runs; the next job mends it, and says so."""
        chance = random.Random(seed)
        for number in range(2):
            self.start_again(number, seed)
            self.check_finished(number)
        name = chance.choice(self.recorded())
        path = self.scored / below / name
        if not path.exists():
            return
        content = path.read_bytes()
        if kind == "removed":
            path.unlink()
        elif kind == "truncated":
            path.write_bytes(content[: chance.randrange(len(content))])
        else:
            place = chance.randrange(len(content))
            path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        if not success:
            (self.scored / "_SUCCESS").unlink()
        if not records:
            for manifest in (self.scored / "_manifest").glob("parts-*"):
                manifest.unlink()
        assert not Output(str(self.scored)).complete
        self.jobs[0] = Job(self, seed)
        self.check_finished(0)
        assert path.read_bytes() == content

    @rule(
        kind=st.sampled_from(["touched", "renamed", "rotated", "rewritten", "removed"]),
        rows=st.lists(st.booleans(), max_size=20),
        seed=st.integers(0, 9),
        pauses=st.integers(0, 15),
    )
    def change_a_shard(self, kind, rows, seed, pauses):
        """The output follows, whenever a job with `--sync` is killed."""
        chance = random.Random(seed)
        for number in range(2):
            self.start_again(number, seed)
            self.check_finished(number)
        paths = sorted(str(path) for path in self.corpus.iterdir())
        paths = [path for path in paths if path not in self.unreadable]
        path = Path(chance.choice(paths))
        held = {part for part, shards in self.shards_of_parts().items() if str(path) in shards}
        if kind == "touched":
            os.utime(path, ns=(0, chance.randrange(10**9)))
        elif kind in ("renamed", "rotated"):
            # Rejected rows keep the path that their shard had then.
            if any(str(path) == bad for bad, _ in self.bad):
                return
            self.shards += 1
            name = path.rename(path.with_name(f"{self.shards}.again{path.suffix}"))
            self.number_of[name] = self.number_of.pop(path)
            if kind == "rotated":
                self.write_shard(path, rows)
        elif kind == "rewritten":
            self.forget(path)
            self.write_shard(path, rows)
        elif len(paths) > 1:
            self.forget(path)
            path.unlink()
        same = {name: content for name, content in self.bytes.items() if name not in held}
        # The staging directory goes, with what is in it.
        self.bytes, self.partial = {}, {}
        self.jobs[0] = Job(self, seed, sync=True)
        for _ in range(pauses):
            if not self.jobs[0].is_over:
                self.jobs[0].step()
        if not self.jobs[0].is_over:
            self.killed.append(self.jobs[0])
        self.jobs[0] = Job(self, seed + 1, sync=True)
        self.check_finished(0)
        assert {name: (self.scored / name).read_bytes() for name in same} == same
        self.bytes = {}

    def forget(self, path):
        """The rows of a shard are no longer in the input."""
        number = self.number_of[path]
        self.good = {i: t for i, t in self.good.items() if i.partition("-")[0] != str(number)}
        self.bad = {(bad, row) for bad, row in self.bad if bad != str(path)}

    def shards_of_parts(self) -> dict[str, set[str]]:
        """The paths of the shards that have rows in each part."""
        return {
            f"{part.name}.parquet": {plan.shards[piece.shard].path for piece in part.pieces}
            for plan in Output(str(self.scored)).plans
            for part in plan.parts
        }

    @rule(number=st.integers(0, 1), seed=st.integers(0, 9))
    def overwrite(self, number, seed):
        """One job begins from scratch. The other, if it runs, writes nothing more, and ends."""
        other = self.jobs[1 - number]
        if not self.jobs[number].is_over:
            self.killed.append(self.jobs[number])
        output = overwrite(str(self.scored))
        assert not self.recorded()
        self.bytes, self.partial = {}, {}
        other.partial.clear()
        self.jobs[number] = Job(self, seed, output)
        while not output.plans:
            self.jobs[number].step()
        had_begun = bool(other.output.plans)
        before = sorted(self.scored.rglob("*"))
        for _ in range(MAX_PAUSES):
            if not other.is_over and had_begun:
                other.resume()
                assert sorted(self.scored.rglob("*")) == before
        if had_begun and other.error:
            assert isinstance(other.error, Crash | Failure)

    @rule(number=st.integers(0, 1))
    def have_an_actor_killed_in_the_middle_of_a_part(self, number):
        """What it leaves goes when its job ends, however young it is."""
        job = self.jobs[number]
        if not job.is_over:
            part = f"part-000001.parquet.{job.output.writer}.{uuid.uuid4().hex[:8]}"
            job.partial.append(self.staging / part)
            job.partial[-1].write_bytes(b"PAR1")

    @rule()
    def close_whether_or_not_all_is_there(self):
        output = Output(str(self.scored))
        assert mend(output, LocalExecutor()) == {}
        totals = output.close()
        fresh = Output(str(self.scored))
        assert (totals is None) == bool(fresh.missing())

    @rule(number=st.integers(0, 1))
    def finish(self, number):
        if not self.jobs[number].is_over:
            self.check_finished(number)

    def check_finished(self, number):
        job = self.jobs[number]
        for _ in range(MAX_PAUSES):
            if not job.is_over:
                job.step()
        assert job.is_over
        output = Output(str(self.scored))
        assert output.complete
        assert is_up_to_date(self.config, output, Shards.of(job.shards))
        planned = {shard.path for made in output.plans for shard in made.shards}
        scored, rejected = self.rows()
        mine = {i: t for i, t in self.good.items() if self.path_of(i) in planned}
        assert scored == Counter(mine.keys())
        bad = {(path, row) for path, row in self.bad if path in planned}
        bad |= {(path, None) for path in self.unreadable & planned}
        assert rejected == Counter(bad)
        totals = json.loads((self.scored / "_SUCCESS").read_text())
        rejected_rows = sum(row is not None for _, row in bad)
        assert (totals["rows"], totals["rejected"]) == (len(mine), rejected_rows)
        tables = [
            pq.read_table(self.scored / f"{part.name}.parquet") for part in output.plans.parts
        ]
        for row in pa.concat_tables(tables).to_pylist() if tables else []:
            expected = self.scores[self.good[row["id"]]]
            np.testing.assert_allclose(row["positive_probability"], expected, atol=1e-6)
        assert all(path.exists() != old for path, old in self.partial.items())
        self.partial = {path: old for path, old in self.partial.items() if not old}
        other = self.jobs[1 - number]
        assert other.is_over or all(path.exists() for path in other.partial)

    def recorded(self) -> list[str]:
        """Names of the parts that are there."""
        return sorted(path.name for path in self.scored.glob("part-*.parquet"))

    @property
    def staging(self) -> Path:
        (staging,) = (self.scored / "_manifest").glob(".staging-*")
        return staging

    def path_of(self, row: str) -> str:
        number = int(row.partition("-")[0])
        (path,) = [path for path, made in self.number_of.items() if made == number]
        return str(path)

    def rows(self) -> tuple[Counter, Counter]:
        """How often each row is in the output, and in `_rejected/`."""
        parts = self.scored.glob("part-*.parquet")
        rejected = self.scored.glob("_rejected/*.parquet")
        return (
            Counter(i for path in parts for i in pq.read_table(path)["id"].to_pylist()),
            Counter(
                (row["shard"], row["row"])
                for path in rejected
                for row in pq.read_table(path).to_pylist()
            ),
        )

    @precondition(lambda self: hasattr(self, "directory"))
    @invariant()
    def no_row_is_there_twice(self):
        scored, rejected = self.rows()
        assert max(scored.values(), default=0) <= 1
        assert scored.keys() <= self.good.keys()
        numbered = Counter({key: n for key, n in rejected.items() if key[1] is not None})
        assert max(numbered.values(), default=0) <= 1
        assert numbered.keys() <= self.bad

    @precondition(lambda self: hasattr(self, "directory"))
    @invariant()
    def parts_never_change_and_nothing_foreign_goes(self):
        now = {path.name: path.read_bytes() for path in self.scored.glob("part-*.parquet")}
        assert {name: now.get(name) for name in self.bytes} == self.bytes
        self.bytes = now
        assert all((self.scored / name).read_text() == "mine" for name in FOREIGN)

    @precondition(lambda self: hasattr(self, "directory"))
    @invariant()
    def success_is_said_only_of_what_is_whole(self):
        if (self.scored / "_SUCCESS").exists():
            assert Output(str(self.scored)).missing() == []


Jobs.TestCase.settings = settings(
    examples(25),
    stateful_step_count=15,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
test_jobs_that_plan_crash_resume_and_grow = Jobs.TestCase


def test_no_success_beside_what_a_plan_of_the_same_moment_lacks(tmp_path):
    schema = pa.schema([("text", pa.string())])
    flags = {"model_hash": "m", "text_column": "text", "keep_columns": None, "part_rows": 10}
    flags |= {"encoding": "utf-8"}
    for number in range(40):
        root = tmp_path / str(number)
        first, second = Output(str(root)), Output(str(root))
        first.add(make_plan([Shard("a.csv", 1, 1)], [Counted(0, schema)], flags, 0))
        second.look()
        later = make_plan([Shard("b.csv", 1, 1)], [Counted(5, schema)], flags, 0)
        with ThreadPoolExecutor(2) as pool:
            for done in [pool.submit(first.close), pool.submit(second.add, later)]:
                done.result()
        assert len(Output(str(root)).missing()) == 1
        assert not (root / "_SUCCESS").exists()


def test_no_success_stays_beside_a_plan_if_both_programs_die_at_once(tmp_path, monkeypatch):
    """One dies after it has written `_SUCCESS`; the other one after it has written a plan."""
    schema = pa.schema([("text", pa.string())])
    flags = {"model_hash": "m", "text_column": "text", "keep_columns": None, "part_rows": 10}
    flags |= {"encoding": "utf-8"}
    first, second = Output(str(tmp_path)), Output(str(tmp_path))
    first.add(make_plan([Shard("a.csv", 1, 1)], [Counted(0, schema)], flags, 0))
    second.look()
    later = make_plan([Shard("b.csv", 1, 1)], [Counted(5, schema)], flags, 0)
    write, write_new = storage.write, storage.write_new
    has_begun = threading.Event()

    def dying_write(path, *arguments):
        if path.endswith("_SUCCESS"):
            has_begun.set()
            time.sleep(0.3)  # Without a lock, the other program plans now.
        write(path, *arguments)
        if path.endswith("_SUCCESS"):
            raise Crash

    def dying_write_new(*arguments):
        write_new(*arguments)
        raise Crash

    def plan():
        has_begun.wait(10)
        second.add(later)

    monkeypatch.setattr(storage, "write", dying_write)
    monkeypatch.setattr(storage, "write_new", dying_write_new)
    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(first.close), pool.submit(plan)]:
            with pytest.raises(Crash):
                done.result()
    assert len(Output(str(tmp_path)).missing()) == 1
    assert not (tmp_path / "_SUCCESS").exists()
