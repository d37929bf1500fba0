"""Every row once, whatever dies on the way: a state machine over jobs that share an output."""

import json
import os
import tempfile
import time
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pipelines.scoring.config import ScoreConfig
from pipelines.scoring.output import STALE, Output
from pipelines.scoring.parts import PartReader, PartScorer, to_item
from pipelines.scoring.plan import Part, Plan, make
from pipelines.sources.listing import find_shards
from pipelines.sources.shard import Counted, Shard
from sentiment.errors import InputError
from sentiment.model.inference import inference
from sentiment.text.tokenizer import Tokenizer
from testing.generated import save_checkpoint

TEXTS = ("lovely great day", "awful sad", "word1 word2 word3", "", "unknown", ":) :(")
FOREIGN = ("notes.txt", "_rejected/mine", "sub/.part-000000.parquet.01234567", ".hidden")
FOREIGN += (".part-000000.parquet.backup", "_manifest/.mine.json.01234567")


class Driver:
    """What `pipelines.scoring.job.run` does, step by step and without Ray."""

    def __init__(self, machine: "Jobs") -> None:
        self.machine = machine
        self.output = Output(str(machine.scored))
        self.shards = find_shards([str(machine.corpus)], "--input")
        self.plan()

    def plan(self) -> None:
        flags = self.machine.flags
        while new := self.output.new_shards(self.shards):
            counts = []
            for shard in new:
                try:
                    counts.append(shard.count("utf-8"))
                except InputError as error:
                    counts.append(str(error))
            self.output.add(make(new, counts, flags, len(self.output.parts)))

    def score(self, part: Part, planned: Plan) -> dict:
        machine = self.machine
        reader = PartReader(machine.encoder, "text", planned.schema, "utf-8", 512)
        return machine.scorer(reader(to_item(part, planned.shards)))

    def finish(self) -> Counter:
        totals = None
        while totals is None:
            self.plan()
            for part, planned in self.output.missing():
                assert self.score(part, planned)["error"] == ""
            totals = self.output.close()
        self.output.remove_partial()
        return totals.counts


class Jobs(RuleBasedStateMachine):
    """Jobs on one output that plan, crash and resume in any order, while shards come in."""

    @initialize(part_rows=st.integers(1, 12), rows=st.lists(st.booleans(), min_size=1, max_size=20))
    def begin(self, part_rows, rows):
        self.directory = tempfile.TemporaryDirectory()
        root = Path(self.directory.name)
        self.corpus, self.scored = root / "corpus", root / "scored"
        self.corpus.mkdir()
        model = save_checkpoint(root / "model")
        config = ScoreConfig(
            checkpoints_dir="", input=(), output="", keep_columns=("id",), part_rows=part_rows
        )
        self.flags = config.settings(model.model_hash)
        self.encoder = Tokenizer(model.stop_words).encoder(model.vocabulary)
        self.scorer = PartScorer(inference(model.weights), str(self.scored), model.model_hash)
        tokens = self.encoder(pa.chunked_array([TEXTS]))
        scores = inference(model.weights)(tokens.ids, tokens.offsets)
        self.scores = dict(zip(TEXTS, scores.tolist(), strict=True))
        self.good: dict[str, str] = {}
        self.bad: set[tuple[str, int]] = set()
        self.unreadable: set[str] = set()
        self.bytes: dict[str, bytes] = {}
        self.partial: dict[Path, bool] = {}
        self.left: list[list[Path]] = [[], []]
        self.add_shard("csv", rows)
        self.drivers = [Driver(self), Driver(self)]
        for name in FOREIGN:
            (self.scored / name).parent.mkdir(exist_ok=True)
            (self.scored / name).write_text("mine")
            os.utime(self.scored / name, (0, 0))

    def teardown(self):
        if hasattr(self, "directory"):
            self.crash_and_start_again(0)
            self.check_finished(0)
            self.directory.cleanup()

    @rule(kind=st.sampled_from(["csv", "parquet"]), rows=st.lists(st.booleans(), max_size=40))
    def add_shard(self, kind, rows):
        number = len(list(self.corpus.iterdir()))
        path = self.corpus / f"{number}.{kind}"
        ids = [f"{number}-{i}" for i in range(1, len(rows) + 1)]
        texts = [TEXTS[i % len(TEXTS)] for i in range(len(rows))]
        self.good |= {i: t for i, t, good in zip(ids, texts, rows, strict=True) if good}
        self.bad |= {(str(path), i) for i, good in enumerate(rows, 1) if not good}
        if kind == "parquet":
            kept = [t if good else None for t, good in zip(texts, rows, strict=True)]
            pq.write_table(pa.table({"id": ids, "text": pa.array(kept, pa.string())}), path)
            return
        lines = [f"{i},{t}" if g else f"{i}" for i, t, g in zip(ids, texts, rows, strict=True)]
        path.write_text("\n".join(["id,text", *lines]))

    @rule()
    def add_a_shard_that_cannot_be_opened(self):
        path = self.corpus / f"{len(list(self.corpus.iterdir()))}.parquet"
        path.write_bytes(b"PAR1")
        self.unreadable.add(str(path))

    @rule(number=st.integers(0, 1))
    def crash_and_start_again(self, number):
        self.partial |= dict.fromkeys(self.left[number], False)
        self.left[number] = []
        self.drivers[number] = Driver(self)

    @rule(number=st.integers(0, 1))
    def find_new_shards(self, number):
        """A driver whose view of the output is as old as it may be."""
        self.drivers[number].shards = find_shards([str(self.corpus)], "--input")
        self.drivers[number].plan()

    @rule(number=st.integers(0, 1), data=st.data())
    def score_some(self, number, data):
        driver = self.drivers[number]
        if missing := driver.output.missing():
            for part, planned in data.draw(st.lists(st.sampled_from(missing), max_size=4)):
                done = driver.score(part, planned)
                assert (done["error"], done["rows"] + done["rejected"]) == ("", part.rows)

    @rule(data=st.data(), away=st.booleans())
    def die_between_the_rejected_rows_and_the_part(self, data, away):
        """What takes the part's name keeps it from the commit; `away`: nor could it be read."""
        driver = Driver(self)
        missing = driver.output.missing()
        if not missing:
            return
        part, planned = data.draw(st.sampled_from(missing))
        target = self.scored / f"{part.name}.parquet"
        target.mkdir()
        if away:
            self.corpus.rename(self.corpus.with_name("away"))
            self.corpus.mkdir()
        assert f"{part.name} could not be written" in driver.score(part, planned)["error"]
        if away:
            self.corpus.rmdir()
            self.corpus.with_name("away").rename(self.corpus)
        target.rmdir()

    @rule(
        name=st.sampled_from(["part-000001.parquet", "_rejected/part-000000.parquet", "_SUCCESS"]),
        named=st.booleans(),
        old=st.booleans(),
    )
    def die_in_the_middle_of_a_file(self, name, named, old):
        job = f".{uuid.uuid4().hex[:8]}" if named else ""
        path = (self.scored / name).with_name(f".{Path(name).name}{job}.{uuid.uuid4().hex[:8]}")
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"PAR1")
        if old:
            os.utime(path, (time.time() - STALE - 60,) * 2)
        self.partial[path] = old

    @rule(number=st.integers(0, 1))
    def have_an_actor_killed_in_the_middle_of_a_part(self, number):
        """What it leaves goes when its driver has done, however young it is."""
        part = f".part-000001.parquet.{self.drivers[number].output.writer}"
        self.left[number].append(self.scored / f"{part}.{uuid.uuid4().hex[:8]}")
        self.left[number][-1].write_bytes(b"PAR1")

    @rule(number=st.integers(0, 1))
    def close_whether_or_not_all_is_there(self, number):
        output = self.drivers[number].output
        totals = output.close()
        assert (totals is None) == bool(Output(str(self.scored)).missing())

    @rule(number=st.integers(0, 1))
    def finish(self, number):
        self.check_finished(number)

    def check_finished(self, number):
        driver = self.drivers[number]
        totals = driver.finish()
        output = Output(str(self.scored))
        assert output.complete
        assert output.new_shards(driver.shards) == []
        planned = {shard.path for made in output.plans for shard in made.shards}
        scored, rejected = self.rows()
        mine = {i: t for i, t in self.good.items() if self.path_of(i) in planned}
        assert scored == Counter(mine.keys())
        bad = {(path, row) for path, row in self.bad if path in planned}
        bad |= {(path, None) for path in self.unreadable & planned}
        assert rejected == Counter(bad)
        assert (totals["rows"], totals["rejected"]) == (
            len(mine),
            sum(row is not None for _, row in bad),
        )
        assert json.loads((self.scored / "_SUCCESS").read_text()) == totals
        tables = [pq.read_table(self.scored / f"{part.name}.parquet") for part in output.parts]
        for row in pa.concat_tables(tables).to_pylist() if tables else []:
            expected = self.scores[self.good[row["id"]]]
            np.testing.assert_allclose(row["positive_probability"], expected, atol=1e-6)
        assert all(path.exists() != old for path, old in self.partial.items())
        self.partial = {path: old for path, old in self.partial.items() if not old}
        assert not any(path.exists() for path in self.left[number])
        assert all(path.exists() for path in self.left[1 - number])
        self.left[number] = []

    def path_of(self, row: str) -> str:
        (path,) = self.corpus.glob(f"{row.partition('-')[0]}.*")
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
    max_examples=40,
    stateful_step_count=15,
    deadline=None,
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
        first.add(make([Shard("a.csv", 1, 1)], [Counted(0, schema)], flags, 0))
        second.look()
        later = make([Shard("b.csv", 1, 1)], [Counted(5, schema)], flags, 0)
        with ThreadPoolExecutor(2) as pool:
            for done in [pool.submit(first.close), pool.submit(second.add, later)]:
                done.result()
        assert len(Output(str(root)).missing()) == 1
        assert not (root / "_SUCCESS").exists()
