"""Counting shards: in any order, kept when it ends early; an outage is no shard's fault."""

import os
import random
import signal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.console import progress
from pipelines.errors import Failure, Unavailable
from pipelines.scoring import counting
from pipelines.scoring.config import ScoreConfig
from pipelines.scoring.counting import count_shards, forget_counts, inspect_shard
from pipelines.scoring.counts import COUNTS, Counts
from pipelines.scoring.executor import LocalExecutor
from pipelines.scoring.planner import make_plan
from pipelines.scoring.shards import Shards
from pipelines.sources.listing import find_shards
from pipelines.sources.shard import Counted, Shard
from testing.properties import examples

SETTINGS = ScoreConfig(
    checkpoints_dir="", input=(), output="", text_column="text", part_rows=10
).settings("m")


class InOrder(LocalExecutor):
    """Gives results in the order of a seed, and is killed after some."""

    def __init__(self, seed=0, results=10**9):
        self.seed, self.results = seed, results
        self.counted = []

    def map(self, function, items):
        order = random.Random(self.seed).sample(range(len(items)), len(items))
        for index in order[: self.results]:
            self.counted += [shard.path for shard in items[index].shards]
            yield index, function(items[index])
        if self.results < len(order):
            raise KeyboardInterrupt


@pytest.fixture
def corpus(tmp_path, monkeypatch):
    """Shards of every kind, which tasks count two at a time."""
    monkeypatch.setattr(counting, "CHUNK_PARQUET_SHARDS", 2)
    directory = tmp_path / "corpus"
    directory.mkdir()
    for i in range(12):
        table = pa.table({"id": range(7 * i), "text": ["great"] * (7 * i)})
        pq.write_table(table, directory / f"{i:02d}.parquet", row_group_size=13)
        (directory / f"{i:02d}.csv").write_text("text,b\n" + "great,1\n" * 5 * i)
    (directory / "bad.csv").write_text("no,such\n")
    (directory / "bad.parquet").write_bytes(b"PAR1")
    return find_shards([str(directory)], "--input")


def kept(output):
    return sorted((output / "_manifest").glob("counts-*.parquet"))


@pytest.fixture
def output(tmp_path):
    return tmp_path / "out"


def plan_of(corpus, counts):
    return make_plan(corpus, counts, SETTINGS, 0).to_bytes()


@pytest.mark.parametrize("seed", range(5))
def test_a_plan_does_not_depend_on_who_is_done_first(corpus, output, seed):
    one_by_one = [inspect_shard(shard, SETTINGS) for shard in corpus]
    counts = count_shards(corpus, SETTINGS, InOrder(seed), str(output))
    assert plan_of(corpus, counts) == plan_of(corpus, one_by_one)
    assert kept(output) == []


@pytest.mark.parametrize("results", [0, 1, 3, 6])
def test_a_planner_that_was_killed_goes_on_where_it_was(corpus, output, monkeypatch, results):
    monkeypatch.setattr(counting, "KEPT_EVERY_SECONDS", 0)
    monkeypatch.setattr(counting, "KEPT_EVERY_SHARE", 0)
    first = InOrder(1, results)
    with pytest.raises(KeyboardInterrupt):
        count_shards(corpus, SETTINGS, first, str(output))
    assert len(kept(output)) == results
    second = InOrder(2)
    counts = count_shards(corpus, SETTINGS, second, str(output))
    assert sorted(first.counted + second.counted) == sorted(shard.path for shard in corpus)
    whole = count_shards(corpus, SETTINGS, InOrder(), str(output.with_name("other")))
    assert plan_of(corpus, counts) == plan_of(corpus, whole)
    (output / "_manifest" / "plan-00000.parquet").touch()
    forget_counts(str(output))
    assert [path.name for path in (output / "_manifest").iterdir()] == ["plan-00000.parquet"]
    forget_counts(str(output.with_name("nothing")))


def test_only_counts_of_the_same_file_and_flags_are_used_again(corpus, output, monkeypatch):
    with pytest.raises(KeyboardInterrupt):
        count_shards(corpus, SETTINGS, InOrder(0, 12), str(output))
    (path,) = kept(output)
    changed = [Shard(corpus[0].path, corpus[0].size, 1), *corpus[1:]]
    done = pq.read_table(path)["path"].to_pylist()

    def counted(shards, settings=SETTINGS):
        executor = InOrder()
        count_shards(shards, settings, executor, str(output))
        return sorted(executor.counted)

    assert corpus[0].path in done
    missing = [shard.path for shard in corpus if shard.path not in done]
    assert counted(changed) == sorted([corpus[0].path, *missing])
    assert len(counted(corpus, SETTINGS | {"encoding": "latin-1"})) == len(corpus)
    for damage in (path.read_bytes()[:-9], b"", b"PAR1"):
        path.write_bytes(damage)
        assert len(counted(corpus)) == len(corpus)
    pq.write_table(pa.table({"path": ["x"]}), path)
    assert len(counted(corpus)) == len(corpus)


def test_an_outage_ends_the_counting_and_keeps_the_rest(corpus, output, monkeypatch):
    away = corpus[8].path
    count = Shard.count

    def unless_away(shard, encoding):
        if shard.path == away:
            raise Unavailable(f"{away} cannot be read: no answer")
        return count(shard, encoding)

    with monkeypatch.context() as patch:
        patch.setattr(Shard, "count", unless_away)
        with pytest.raises(Failure, match=r"no answer: run the same command again$"):
            count_shards(corpus, SETTINGS, InOrder(), str(output))
    second = InOrder()
    counts = count_shards(corpus, SETTINGS, second, str(output))
    # Its task counts one shard more.
    assert away in second.counted
    assert len(second.counted) <= 2
    assert plan_of(corpus, counts) == plan_of(corpus, [inspect_shard(s, SETTINGS) for s in corpus])


def test_a_long_count_shows_progress(corpus, output, monkeypatch, capsys):
    count_shards(corpus, SETTINGS, InOrder(), str(output))
    assert capsys.readouterr().out == ""
    monkeypatch.setattr(progress, "SHOWN_AFTER_SECONDS", -1)
    count_shards(corpus, SETTINGS, InOrder(), str(output))
    line = capsys.readouterr().out.splitlines()[0]
    assert line == "Counting: 2 of 26 shards"
    monkeypatch.setattr(counting, "SHOWN_BYTES", 1)
    count_shards(corpus, SETTINGS, InOrder(), str(output))
    line = capsys.readouterr().out.splitlines()[0]
    assert line.startswith("Counting: 2 of 26 shards, 0.0 of 0.0 MB read")


def test_what_cannot_be_kept_is_said_in_one_line(corpus, output, monkeypatch):
    monkeypatch.setattr(counting, "KEPT_EVERY_SECONDS", 0)
    monkeypatch.setattr(counting, "KEPT_EVERY_SHARE", 0)
    output.mkdir()
    (output / "_manifest").touch()
    with pytest.raises(Failure, match=r"^--output .*out cannot be written: .*"):
        count_shards(corpus, SETTINGS, InOrder(), str(output))


COUNTED = st.text(max_size=3) | st.builds(
    lambda rows, names, marks, groups: Counted(
        rows, pa.schema([(name, pa.string()) for name in names]), marks, groups
    ),
    st.integers(0, 10**12),
    st.lists(st.sampled_from("abc"), max_size=2),
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=3).map(tuple),
    st.lists(st.integers(0, 9), max_size=3).map(tuple),
)


@examples(200)
@given(st.lists(COUNTED, max_size=8), st.randoms())
def test_counts_are_the_same_in_parts_and_in_a_table(counted, chance):
    shards = [Shard(f"{i}.csv", i, 2 * i) for i in range(len(counted))]
    expected = Counts.of(counted)
    put = Counts.none_of(len(counted))
    indices = chance.sample(range(len(counted)), len(counted))
    while indices:
        some, indices = indices[:3], indices[3:]
        part = Counts.of([counted[i] for i in some])
        of_some = Shards.of([shards[i] for i in some])
        table = part.to_table(of_some)
        assert table.schema == COUNTS
        again, from_table = Counts.from_table(table)
        assert again == of_some
        put.put(np.array(some, np.int64), from_table)
    assert put.is_done.all()

    def told(counts):
        return [
            (
                counts.rows[i],
                counts.errors.get(i),
                counts.rows[i] < 0 or counts.schemas[counts.schema_indices[i]],
                counts.marks.get(i, np.zeros(0)).tolist(),
                counts.groups.get(i, np.zeros(0)).tolist(),
            )
            for i in range(len(counted))
        ]

    assert told(put) == told(expected)


def test_tasks_of_ray_count_as_this_process_does(corpus, output, local_ray):
    from pipelines.scoring.ray_executor import RayExecutor

    config = ScoreConfig(checkpoints_dir="", input=(), output="", num_actors=1)
    executor = RayExecutor(config, [], str(output))
    try:
        counted = count_shards(corpus, SETTINGS, executor, str(output))
    finally:
        executor.close()
    expected = count_shards(corpus, SETTINGS, LocalExecutor(), None)
    assert plan_of(corpus, counted) == plan_of(corpus, expected)


def _die(_):
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.ray
@pytest.mark.process
def test_a_task_whose_process_always_dies_is_a_failure_in_one_line(tmp_path):
    from pipelines.scoring.ray_executor import RayExecutor

    config = ScoreConfig(checkpoints_dir="", input=(), output="", num_actors=1)
    executor = RayExecutor(config, [], str(tmp_path))
    try:
        with pytest.raises(Failure, match=r"^Ray gave up \(.*\): run the same command again$"):
            list(executor.map(_die, [1, 2]))
    finally:
        executor.close()
