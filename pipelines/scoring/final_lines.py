"""What the scoring job says of its output: damage, how to read it, totals, what this run did."""

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.console.terminal import printable, quantity, say, warn
from pipelines.reports.class_shares import shares
from pipelines.scoring.output import Output
from pipelines.scoring.run_record import RunSummary
from pipelines.scoring.sample import sample
from pipelines.scoring.totals import Totals
from sentiment import storage
from sentiment.errors import on_one_line

ROWS_SHOWN = 10

MAX_VALUE_CHARACTERS = 60
MAX_SCHEMA_CHARACTERS = 1000

MAX_DAMAGED_SHOWN = 5
MAX_UNREADABLE_SHOWN = 5


def say_damage(directory: str, damaged: Mapping[str, str]) -> None:
    """Print which parts are damaged, each with the reason, in a line each, or a few and a count."""
    for name, reason in islice(damaged.items(), MAX_DAMAGED_SHOWN):
        warn(f"Damaged: {storage.join(directory, name)}.parquet {printable(reason)}")
    if len(damaged) > MAX_DAMAGED_SHOWN:
        warn(f"Damaged: {len(damaged) - MAX_DAMAGED_SHOWN:,} more parts")
    if damaged:
        warn(f"Scoring {quantity(len(damaged), 'damaged part')} again")


def say_unreadable(output: Output) -> None:
    """Print which shards could not be read, and so have no rows in the output, and why; also with
    `--quiet`. A few in a line each, and a count."""
    shards = output.plans.unreadable().to_pylist()
    for row in shards[:MAX_UNREADABLE_SHOWN]:
        where = "" if row["shard"] in row["reason"] else f"{row['shard']}: "
        warn(f"Not read: {printable(where + row['reason'])}")
    if len(shards) > MAX_UNREADABLE_SHOWN:
        warn(f"Not read: {quantity(len(shards) - MAX_UNREADABLE_SHOWN, 'more shard')}")


def say_how_to_read(
    directory: str, output: Output, show_samples: bool, is_partitioned: bool
) -> None:
    """Print the output's schema and a command that reads it; with `show_samples`, a few rows."""
    for part in islice((part for plan in output.plans for part in plan.parts), 1):
        filesystem, inner = storage.resolve(storage.join(directory, f"{part.name}.parquet"))
        with filesystem.open_input_file(inner) as opened:
            file = pq.ParquetFile(opened)
            schema = ", ".join(f"{field.name} {field.type}" for field in file.schema_arrow)
            short = textwrap.shorten(printable(schema), MAX_SCHEMA_CHARACTERS, placeholder=" ...")
            say(f"\nSchema: {short}")
    if show_samples:
        rows = sample(
            output.directory, *output.records.scored_rows(), ROWS_SHOWN, output.plans.seed
        )
        if rows is not None:
            _say_rows(rows)
    modules, keys = "pandas", ""
    if is_partitioned:
        # By itself, pandas cannot read keys of which a directory has none.
        modules += ", pyarrow.dataset as ds"
        keys = ", partitioning=ds.partitioning(flavor='hive')"
    read = f"pandas.read_parquet('{directory}'{keys})"
    say(f"""\nRead it: python -c "import {modules}; print({read})\"""")


def _say_rows(rows: pa.Table) -> None:
    columns = [
        [_brief(name), *(_brief(value) for value in column.to_pylist())]
        for name, column in zip(rows.schema.names, rows.columns, strict=True)
    ]
    widths = [max(map(len, column)) for column in columns]
    for row in zip(*columns, strict=True):
        say("  ".join(map(str.rjust, row, widths)))


def say_totals(
    directory: str,
    max_tokens: int,
    totals: Totals,
    classes: Sequence[str],
    unreadable_shards: int,
) -> None:
    """Print the totals of all runs, and how many rows and shards could not be scored, if any.

    Args:
        directory: the output.
        max_tokens: texts were truncated to this many tokens.
        totals: of all parts.
        classes: names of the model's classes.
        unreadable_shards: number of shards that could not be opened.
    """
    counts = totals.counts
    say(f"\n{_scored(totals.classes, classes)}, in {directory}")
    if counts["truncated"]:
        say(f"{counts['truncated']:,} texts were scored on their first {max_tokens} tokens")
    if totals.wordless:
        is_all = totals.wordless_of == counts["rows"]
        of = "" if is_all else f" (of {totals.wordless_of:,} that were counted)"
        say(
            f"{quantity(totals.wordless, 'text')}{of} without a word that the model knows: "
            "answers to such texts mean nothing"
        )
    if counts["rejected"] or unreadable_shards:
        say(
            f"{quantity(counts['rejected'], 'row')} and {quantity(unreadable_shards, 'shard')} "
            f"could not be scored: see {storage.join(directory, '_rejected')}"
        )


def say_run(run: RunSummary, classes: Sequence[str], warnings: Iterable[str]) -> None:
    """Print the last lines, also with `--quiet`: what is to know of shards and texts, and what this
    run did; `classes`: names of the model's classes."""
    for note in [*run.notes, *(f"Warning: {warning}" for warning in warnings)]:
        warn(printable(note))
    rejected = f"{run.counts['rejected']:,} rejected, " if run.counts["rejected"] else ""
    warn(f"This run: {_scored(run.classes, classes)}, {rejected}in {run.seconds:,.1f} s")


def _scored(rows: npt.NDArray[np.int64], classes: Sequence[str]) -> str:
    """How many rows are scored, and the share of each class; `rows`: int64[classes]."""
    return ", ".join(
        filter(
            None, [f"{quantity(int(rows.sum()), 'row')} scored", printable(shares(classes, rows))]
        )
    )


def _brief(value: object) -> str:
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return printable(on_one_line(text)[:MAX_VALUE_CHARACTERS])
