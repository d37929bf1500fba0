"""What a job would do (`--dry_run`): what it reads, plans and keeps, and how long it may take."""

import time
from collections import Counter
from contextlib import closing

import pyarrow as pa

from pipelines.console.terminal import printable, quantity, say
from pipelines.scoring.by_value import require_countable
from pipelines.scoring.config import ScoreConfig
from pipelines.scoring.executor import Executor
from pipelines.scoring.follow import Stale, absent_note, next_step, say_step
from pipelines.scoring.output import Output
from pipelines.scoring.part_data import PartTask
from pipelines.scoring.plan import Plan
from pipelines.scoring.reader import PartReader
from pipelines.scoring.shards import Shards
from pipelines.sources.names import file_name, format_told, partitions
from pipelines.sources.rows import Span
from sentiment.answers import answer_schema
from sentiment.checkpoint import Checkpoint
from sentiment.model.inference import inference

MEASURED_ROWS = 5_000
"""Rows that are read and scored, on one core, to tell how long the job takes."""


def preview(
    config: ScoreConfig,
    checkpoint: Checkpoint,
    output: Output,
    shards: Shards,
    executor: Executor,
) -> None:
    """Print what the job would do, and write nothing.

    Raises InputError if it would refuse a flag or a shard, and Failure if a shard cannot be read.
    """
    settings = config.settings(checkpoint.model_hash, checkpoint.classes.names)
    _print_input(shards, config.format)
    with closing(executor):
        step = next_step(config, settings, shards, output, executor, Stale(), config.retry_rejected)
    if step is not None:
        say_step(step, output.plans.known, shards)
    elif note := absent_note(output, shards):
        say(note)
    plan = None if step is None else step.plan
    if output.plans:
        missing = quantity(output.missing_parts, "part")
        say(f"Output: {quantity(len(output.plans.names), 'part')}, of which {missing} missing")
    if plan is None:
        say("Plan: nothing new")
    else:
        require_countable(config.by or (), plan.schema, shards)
        rows = int(plan.parts.rows.sum())
        parts = quantity(len(plan.parts), "part")
        unreadable = quantity(len(plan.unreadable), "shard")
        if plan.parts.directories is not None:
            directories = quantity(len(plan.parts.directories.unique()), "partition")
            parts += f" of {directories}"
        say(f"Plan: {quantity(rows, 'row')} in {parts}; {unreadable} could not be read")
        for reason in list(plan.unreadable.values())[:3]:
            say(f"  {printable(reason)}")
        for note in plan.notes:
            say(printable(note))
        encoder = checkpoint.encoder()
        read = PartReader.of(config, encoder, plan.schema)
        say(_columns_line(read.columns, answer_schema(checkpoint.classes.names)))
        if rows:
            say(_time_line(read, checkpoint, plan))
    say("Nothing was written")


def _print_input(shards: Shards, given: str | None) -> None:
    """Print the number and size of shards, by format (`given` is `--format`), and the partition
    columns."""
    kinds: Counter[str] = Counter()
    for path in shards.paths.to_pylist():
        compression = file_name(path).compression
        told = format_told(path, given) or "told by content"
        kinds[" ".join([told, *filter(None, [compression])])] += 1
    by_kind = ", ".join(f"{number:,} {kind}" for kind, number in kinds.most_common())
    size = shards.sizes.sum() / 1e6
    say(f"Input: {quantity(len(shards), 'shard')}, {size:,.1f} MB: {by_kind}")
    values: dict[str, set[str | None]] = {}
    for path in shards.paths.to_pylist():
        for key, value in partitions(path).items():
            values.setdefault(key, set()).add(value)
    for key, found in values.items():
        say(printable(f"Partition column: {key}, {quantity(len(found), 'value')}"))


def _columns_line(kept: pa.Schema, added: pa.Schema) -> str:
    columns = [f"{field.name} {field.type}" for field in (*kept, *added)]
    return printable(f"Columns: {', '.join(columns)}")


def _time_line(read: PartReader, checkpoint: Checkpoint, plan: Plan) -> str:
    """How long the plan takes about, by the speed of its first rows on this machine."""
    infer = inference(checkpoint.network)
    task = _first_rows(PartTask.of(plan.parts[0], plan.shards))
    seconds = 0.0
    for _ in range(2):  # At first, modules load.
        began = time.perf_counter()
        part = read(task)
        infer(part.ids, part.offsets)
        seconds = time.perf_counter() - began
    rate = task.rows / seconds
    whole = int(plan.parts.rows.sum()) / rate
    about = f"about {whole:,.0f} s" if whole >= 1 else "under 1 s"
    measured = f"measured on the first {quantity(task.rows, 'row')}"
    return (
        f"Time: {about} of one core, {rate:,.0f} rows/s ({measured}); "
        "divided by the number of actors, plus the start of Ray"
    )


def _first_rows(task: PartTask) -> PartTask:
    """The first rows of a part, as a part."""
    left, pieces = MEASURED_ROWS, []
    for shard, span in task.pieces:
        if left > 0:
            rows = min(span.rows, left)
            pieces.append((shard, Span(span.first, rows, span.mark_row, span.mark_byte)))
            left -= rows
    return PartTask(task.name, tuple(pieces))
