"""What is done and what is missing in a scored output, by night."""

import json
import time
from dataclasses import dataclass

from tyro.conf import Positional

from pipelines.console.terminal import printable, quantity
from pipelines.errors import Failure
from pipelines.reports.class_shares import shares
from pipelines.scoring.final_lines import say_unreadable
from pipelines.scoring.output import Output
from sentiment import storage
from sentiment.errors import InputError

HEADER = ("plan", "made", "shards", "parts", "missing", "scored", "rejected", "classes")


@dataclass(frozen=True)
class StatusConfig:
    """Show what a scored output has, by plan: there is one for each night with new shards."""

    output: Positional[str]
    """Directory or URI of the output."""


def main(config: StatusConfig) -> None:
    """Print a line for each plan, and how the last run ended.

    Raises InputError if the directory is no output, and Failure unless it is complete.
    """
    output = open_output(config.output)
    lines = [HEADER, *(_line(output, number) for number in range(len(output.plans)))]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        print("  ".join(map(str.rjust, line, widths)))
    if last := _last_run(output):
        print(last)
    if output.missing_parts:
        missing = quantity(output.missing_parts, "part")
        raise Failure(f"{missing} of {config.output} missing: run the same command again")
    say_unreadable(output)
    if not output.complete and output.has_success:
        raise Failure(
            f"{config.output} has _SUCCESS, but not of these files: they have other times than "
            "when they were written, as in a copy, or were changed: pipelines.verify checks them, "
            "and so does the command that scored them"
        )
    if not output.complete:
        raise Failure(
            f"{config.output} has no _SUCCESS: its report, and the last line of its last run, say "
            "why"
        )
    print(f"Complete: {config.output} has _SUCCESS, and every part is as it was written")


def open_output(path: str) -> Output:
    """The output in a directory. Raises InputError if no job of this program wrote there."""
    output = Output(storage.absolute(path))
    if not output.plans:
        raise InputError(f"{path} is no output of pipelines.score: it has no plan")
    return output


def _line(output: Output, number: int) -> tuple[str, ...]:
    plan, totals = output.plans[number], output.totals_of(number)
    return (
        str(number),
        _utc(output.planned_at(number)),
        f"{int(output.known.is_current[output.known.of_plan(number)].sum()):,}",
        f"{len(plan.parts):,}",
        f"{len(output.missing_of(plan)):,}",
        f"{totals.counts['rows']:,}",
        f"{totals.counts['rejected']:,}",
        printable(shares(output.classes, totals.classes)) or "-",
    )


def _last_run(output: Output) -> str:
    """A line about the last run that left a record; "": there is none that can be read."""
    directory = storage.join(output.directory, "_manifest")
    runs = [name for name in storage.names(directory) if name.startswith("run-")]
    for name in sorted(runs, key=lambda name: (len(name), name))[-1:]:
        try:
            run = json.loads(storage.read(storage.join(directory, name)))
            failed = f", {quantity(int(run['failed']), 'part')} failed" if run["failed"] else ""
            return printable(
                f"Last run: {_utc(run['began'])}, version {run['version']}, "
                f"{quantity(int(run['rows']), 'row')} in {float(run['seconds']):,.1f} s{failed}"
            )
        except (OSError, ValueError, KeyError, TypeError):
            return ""
    return ""


def _utc(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(seconds))
