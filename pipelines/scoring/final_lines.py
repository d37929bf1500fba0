"""What the scoring job says of its output: damage, how to read it, totals, what this run did."""

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.console.terminal import printable, quantity, say, warn
from pipelines.scoring.plan import Plan
from pipelines.scoring.run_record import RunSummary
from sentiment import storage
from sentiment.errors import on_one_line

ROWS_SHOWN = 10

MAX_VALUE_CHARACTERS = 60
MAX_SCHEMA_CHARACTERS = 1000


MAX_DAMAGED_SHOWN = 5


def say_damage(directory: str, damaged: Mapping[str, str]) -> None:
    """Print which parts are damaged, each with the reason, in a line each, or a few and a count."""
    for name, reason in islice(damaged.items(), MAX_DAMAGED_SHOWN):
        warn(f"Damaged: {storage.join(directory, name)}.parquet {printable(reason)}")
    if len(damaged) > MAX_DAMAGED_SHOWN:
        warn(f"Damaged: {len(damaged) - MAX_DAMAGED_SHOWN:,} more parts")
    if damaged:
        warn(f"Scoring {quantity(len(damaged), 'damaged part')} again")


def say_how_to_read(directory: str, plans: Sequence[Plan], show_samples: bool) -> None:
    """Print the output's schema and a command that reads it; with `show_samples`, the first rows of
    its first part."""
    for part in islice((part for plan in plans for part in plan.parts), 1):
        filesystem, inner = storage.resolve(storage.join(directory, f"{part.name}.parquet"))
        with filesystem.open_input_file(inner) as opened:
            file = pq.ParquetFile(opened)
            schema = ", ".join(f"{field.name} {field.type}" for field in file.schema_arrow)
            short = textwrap.shorten(printable(schema), MAX_SCHEMA_CHARACTERS, placeholder=" ...")
            say(f"\nSchema: {short}")
            rows = next(file.iter_batches(ROWS_SHOWN), None) if show_samples else None
        if rows is not None:
            _say_rows(rows)
    say(f"""\nRead it: python -c "import pandas; print(pandas.read_parquet('{directory}'))\"""")


def _say_rows(rows: pa.RecordBatch) -> None:
    columns = [
        [_brief(name), *(_brief(value) for value in column.to_pylist())]
        for name, column in zip(rows.schema.names, rows.columns, strict=True)
    ]
    widths = [max(map(len, column)) for column in columns]
    for row in zip(*columns, strict=True):
        say("  ".join(map(str.rjust, row, widths)))


def say_totals(
    directory: str, max_tokens: int, counts: Mapping[str, int], unreadable_shards: int
) -> None:
    """Print the totals of all runs, and how many rows and shards could not be scored, if any.

    Args:
        directory: the output.
        max_tokens: texts were truncated to this many tokens.
        counts: sums of `PartCounts`, by name.
        unreadable_shards: number of shards that could not be opened.
    """
    say(f"\n{_scored(counts)}, in {directory}")
    if counts["truncated"]:
        say(f"{counts['truncated']:,} texts were scored on their first {max_tokens} tokens")
    if counts["rejected"] or unreadable_shards:
        say(
            f"{quantity(counts['rejected'], 'row')} and {quantity(unreadable_shards, 'shard')} "
            f"could not be scored: see {storage.join(directory, '_rejected')}"
        )


def say_run(run: RunSummary, warnings: Iterable[str]) -> None:
    """Print the last lines, also with `--quiet`: what is to know of shards and texts, and what this
    run did."""
    for note in [*run.notes, *(f"Warning: {warning}" for warning in warnings)]:
        warn(printable(note))
    rejected = f"{run.counts['rejected']:,} rejected, " if run.counts["rejected"] else ""
    warn(f"This run: {_scored(run.counts)}, {rejected}in {run.seconds:,.1f} s")


def _scored(counts: Mapping[str, int]) -> str:
    share = f", {counts['positive'] / counts['rows']:.1%} positive" if counts["rows"] else ""
    return f"{quantity(counts['rows'], 'row')} scored{share}"


def _brief(value: object) -> str:
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return printable(on_one_line(text)[:MAX_VALUE_CHARACTERS])
