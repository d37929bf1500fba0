"""The last lines of the scoring job on the terminal: first rows, how to read the output, totals."""

import textwrap
from collections.abc import Mapping, Sequence
from itertools import islice

import pyarrow.parquet as pq

from pipelines.console.terminal import printable, quantity
from pipelines.scoring.plan import Plan
from sentiment import storage
from sentiment.errors import on_one_line

ROWS_SHOWN = 10

MAX_VALUE_CHARACTERS = 60
MAX_SCHEMA_CHARACTERS = 1000


MAX_DAMAGED_SHOWN = 5


def print_damage(directory: str, damaged: Mapping[str, str]) -> None:
    """Print which parts are damaged, each with the reason, in a line each, or a few and a count."""
    for name, reason in islice(damaged.items(), MAX_DAMAGED_SHOWN):
        print(f"Damaged: {storage.join(directory, name)}.parquet {printable(reason)}")
    if len(damaged) > MAX_DAMAGED_SHOWN:
        print(f"Damaged: {len(damaged) - MAX_DAMAGED_SHOWN:,} more parts")
    if damaged:
        print(f"Scoring {quantity(len(damaged), 'damaged part')} again", flush=True)


def print_first_rows(directory: str, plans: Sequence[Plan]) -> None:
    """Print the output's schema, the first rows of its first part, and a command that reads it."""
    for part in islice((part for plan in plans for part in plan.parts), 1):
        filesystem, inner = storage.resolve(storage.join(directory, f"{part.name}.parquet"))
        with filesystem.open_input_file(inner) as file:
            rows = next(pq.ParquetFile(file).iter_batches(ROWS_SHOWN), None)
        if rows is not None:
            schema = printable(", ".join(f"{field.name} {field.type}" for field in rows.schema))
            shown = textwrap.shorten(schema, MAX_SCHEMA_CHARACTERS, placeholder=" ...")
            print(f"\nSchema: {shown}")
            columns = [
                [_brief(name), *(_brief(value) for value in column.to_pylist())]
                for name, column in zip(rows.schema.names, rows.columns, strict=True)
            ]
            widths = [max(map(len, column)) for column in columns]
            for row in zip(*columns, strict=True):
                print("  ".join(map(str.rjust, row, widths)))
    print(f"""\nRead it: python -c "import pandas; print(pandas.read_parquet('{directory}'))\"""")


def print_totals(
    directory: str, max_tokens: int, counts: Mapping[str, int], unreadable_shards: int
) -> None:
    """Print the totals. The last line names what could not be scored, if anything.

    Args:
        directory: the output.
        max_tokens: texts were truncated to this many tokens.
        counts: sums of `PartCounts`, by name.
        unreadable_shards: number of shards that could not be opened.
    """
    share = counts["positive"] / max(counts["rows"], 1)
    print(f"\n{counts['rows']:,} rows scored, {share:.1%} positive, in {directory}")
    if counts["truncated"]:
        print(f"{counts['truncated']:,} texts were scored on their first {max_tokens} tokens")
    if counts["rejected"] or unreadable_shards:
        print(
            f"{quantity(counts['rejected'], 'row')} and {quantity(unreadable_shards, 'shard')} "
            f"could not be scored: see {storage.join(directory, '_rejected')}"
        )


def _brief(value: object) -> str:
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return printable(on_one_line(text)[:MAX_VALUE_CHARACTERS])
