"""The scoring job on Ray Data: count shards, score the missing parts, say how it goes."""

import math
import time
from collections.abc import Iterator
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

import pyarrow.parquet as pq
import ray
import ray.data
from ray.data import ActorPoolStrategy

from pipelines import cli, plan
from pipelines.output import Output
from pipelines.parts import PartReader, PartScorer, to_item
from pipelines.plan import Part, Plan
from pipelines.score import ScoreConfig
from pipelines.session import session
from pipelines.shards import Counted, Shard
from sentiment import storage
from sentiment.checkpoint import Checkpoint
from sentiment.errors import InputError
from sentiment.tokenizer import Tokenizer

SAMPLES = 10
"""Rows to show at the end."""

EVERY = 5.0
"""Seconds between two lines of progress, at least."""


def run(config: ScoreConfig, checkpoint: Checkpoint, output: Output, shards: list[Shard]) -> None:
    """Plan the shards that are new, score every part that is missing, and mark the output whole.

    Raises Failure where a part cannot be written, or more rows are rejected than
    `--max_rejected` allows.
    """
    began = time.time()
    with session():
        # Another program may plan at the same time: then its plan holds, and what it lacks is new.
        while new := output.new_shards(shards):
            _plan(new, config.settings(checkpoint.model_hash), output)
        missing = output.missing()
        tally = _Tally(config, output, {part.name for part, _ in missing})
        try:
            for planned in output.plans:
                parts = [part for part, its in missing if its is planned]
                for done in _score(config, checkpoint, output.directory, planned, parts):
                    tally.add(done)
        finally:
            output.record(tally.record(began), int(began * 1000))
    output.finish(tally.totals)
    tally.say_done(config.output)
    _say_how_to_read(config.output, output.parts)


def _plan(new: list[Shard], settings: dict[str, Any], output: Output) -> None:
    print(f"Counting the rows of {cli.count(len(new), 'shard')} ...", flush=True)
    size = math.ceil(len(new) / 256)
    chunks = [new[start : start + size] for start in range(0, len(new), size)]
    tasks = [
        _count.remote(chunk, settings["encoding"], settings["text_column"]) for chunk in chunks
    ]
    counts = [count for chunk in ray.get(tasks) for count in chunk]
    if not output.plans and not any(isinstance(count, Counted) for count in counts):
        raise InputError(counts[0])
    output.add(plan.make(new, counts, settings, first_part=len(output.parts)))


@ray.remote
def _count(shards: list[Shard], encoding: str, text_column: str) -> list[Counted | str]:
    """What each shard holds, or why it cannot be read."""
    counts: list[Counted | str] = []
    for shard in shards:
        try:
            counted = shard.count(encoding)
            counted.require_text(shard.path, text_column)
            counts.append(counted)
        except InputError as error:
            counts.append(str(error))
    return counts


def _score(
    config: ScoreConfig,
    checkpoint: Checkpoint,
    directory: str,
    planned: Plan,
    parts: list[Part],
) -> Iterator[dict[str, Any]]:
    """What was done for each part, as they are done."""
    if not parts:
        return
    reader = PartReader(
        encoder=Tokenizer(checkpoint.stop_words).encoder(checkpoint.vocabulary),
        text_column=config.text_column,
        schema=planned.schema,
        encoding=config.encoding,
        max_tokens=config.max_tokens,
    )
    resources = _resources(config)
    items = [to_item(part, planned.shards) for part in parts]
    done = (
        ray.data.from_items(items, override_num_blocks=min(len(items), 1000))
        .map(reader, num_cpus=resources["task_cpus"])
        .map(
            PartScorer,
            fn_constructor_kwargs={
                "weights": dict(checkpoint.weights),
                "output": directory,
                "model_hash": checkpoint.model_hash,
                "use_gpu": config.use_gpu,
                "batch_size": config.batch_size,
            },
            compute=ActorPoolStrategy(size=min(resources["actors"], len(items))),
            num_cpus=resources["actor_cpus"],
            num_gpus=1 if config.use_gpu else None,
        )
    )
    yield from done.iter_rows()


def _resources(config: ScoreConfig) -> dict[str, Any]:
    """Actors and what they and the reading tasks ask for: tasks must always find a CPU.

    Reading is an eighth of the work, so on CPUs actors and tasks each count half: as many scorers
    as CPUs run, and as many readers have room beside them and wait on what is scored.
    """
    have = ray.cluster_resources()
    cpus, gpus = have.get("CPU", 1.0), have.get("GPU", 0.0)
    if config.use_gpu:
        actors = config.num_actors or int(gpus)
        if not gpus or actors > gpus:
            raise InputError(
                f"--use_gpu: {gpus:.0f} GPUs here; use at most as many --num_actors, or a cluster"
            )
        return {"actors": actors, "actor_cpus": 0, "task_cpus": min(1.0, cpus / 2)}
    actors = config.num_actors or max(int(cpus), 1)
    # Ray counts resources in ten-thousandths.
    share = int(min(0.5, cpus / 2 / actors) * 10_000) / 10_000
    return {"actors": actors, "actor_cpus": share, "task_cpus": 0.4}


def _say_how_to_read(directory: str, parts: list[Part]) -> None:
    """Show the schema and the first rows, and the line that reads them all."""
    for part in parts[:1]:
        filesystem, inner = storage.resolve(storage.join(directory, f"{part.name}.parquet"))
        with filesystem.open_input_file(inner) as file:
            rows = next(pq.ParquetFile(file).iter_batches(SAMPLES), None)
        if rows is not None:
            print(f"\nSchema: {', '.join(f'{f.name} {f.type}' for f in rows.schema)}")
            print(rows.to_pandas().to_string(max_colwidth=60))
    print(f"""\nRead it: python -c "import pandas; print(pandas.read_parquet('{directory}'))\"""")


class _Tally:
    """Counts what was done, and says so."""

    def __init__(self, config: ScoreConfig, output: Output, missing: set[str]) -> None:
        self._config = config
        self.totals = dict.fromkeys(("rows", "rejected", "truncated", "positive", "tokens"), 0)
        self._unreadable = len(output.unreadable())
        self._planned = sum(part.rows for part in output.parts)
        self._most = config.most_rejected(self._planned)
        self._now = self._done = 0
        for part in output.parts:
            if part.name not in missing:
                self._count(output.done(part))
        there = len(output.parts) - len(missing)
        earlier = f" ({there:,} are there)" if there else ""
        print(
            f"Scoring {cli.count(self._planned - self._done, 'row')} in "
            f"{cli.count(len(missing), 'part')}{earlier} ...",
            flush=True,
        )
        self._began = self._printed = time.monotonic()
        self._require_few_rejected()

    def add(self, done: dict[str, Any]) -> None:
        """Count a part that was just written, and say how it goes now and then.

        Raises Failure if it could not be written, or too many rows are rejected.
        """
        if done["error"]:
            raise cli.Failure(f"{done['name']} could not be written: {done['error']}")
        self._count(done)
        self._require_few_rejected()
        self._now += done["rows"] + done["rejected"]
        now = time.monotonic()
        if now - self._printed >= EVERY:
            self._printed = now
            rate = self._now / (now - self._began)
            left = (self._planned - self._done) / max(rate, 1)
            print(
                f"{self._done:,} of {self._planned:,} rows, {rate:,.0f} rows/s, "
                f"{self.totals['rejected']:,} rejected, {left:,.0f} s left",
                flush=True,
            )

    def _require_few_rejected(self) -> None:
        rejected = self.totals["rejected"] + self._unreadable
        if rejected > self._most:
            raise cli.Failure(
                f"{rejected:,} rows or shards are rejected, more than "
                f"--max_rejected {self._config.max_rejected}: see _rejected/ in the output"
            )

    def _count(self, done: dict[str, Any]) -> None:
        for name in self.totals:
            self.totals[name] += done[name]
        self._done += done["rows"] + done["rejected"]

    def record(self, began: float) -> dict[str, Any]:
        """What this run did, for `_manifest/`."""
        seconds = time.time() - began
        return {
            "began": began,
            "seconds": seconds,
            "rows": self._now,
            "rows/s": self._now / seconds,
            "totals": self.totals,
            "flags": asdict(self._config),
            "version": version("sentiment-pipelines"),
        }

    def say_done(self, directory: str) -> None:
        """The last lines."""
        totals = self.totals
        share = totals["positive"] / max(totals["rows"], 1)
        print(f"{totals['rows']:,} rows scored, {share:.1%} positive, in {directory}")
        if totals["truncated"]:
            print(
                f"{totals['truncated']:,} texts were scored on their first "
                f"{self._config.max_tokens} tokens"
            )
        if totals["rejected"] or self._unreadable:
            print(
                f"{totals['rejected']:,} rows and {self._unreadable:,} shards were rejected: "
                f"see {directory}/_rejected"
            )
