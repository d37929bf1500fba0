"""What the runs of a scored output did and how they ended, and what is missing now."""

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tyro.conf import Positional

from pipelines.console.terminal import printable, quantity
from pipelines.console.waiting import standard_error, waiting
from pipelines.errors import Failure
from pipelines.reports.class_shares import shares
from pipelines.scoring.final_lines import say_unreadable
from pipelines.scoring.mending import require_no_foreign
from pipelines.scoring.output import Output
from pipelines.scoring.run_log import COMPLETE, IDLE, is_alive, read_runs, run_names
from sentiment import storage
from sentiment.errors import InputError

HEADER = ("run", "plan", "took", "scored", "rejected", "removed", "ended", "classes")

MAX_RUNS = 30
"""The last runs, which are shown without `--all`."""

INDENT = "    "

RUNNING, RUNNING_OR_KILLED = "running", "running or killed"
"""Of a run that has not said how it ended: its process is there, or is on another host."""


@dataclass(frozen=True)
class Run:
    """What there is to show of a run."""

    cells: tuple[str, ...]
    """Of its line, as in `HEADER`."""
    end: str
    """How it ended, in a word or two."""
    details: Sequence[str] = ()
    """Lines below its line."""


@dataclass(frozen=True)
class StatusConfig:
    """Show what a scored output has, and what each run did: when it began, in local time, the
    number of the plan that it made, which rows in _rejected/ name, how long it took without its
    report, the rows that it scored, rejected and removed to follow the input, and how it ended."""

    output: Positional[str]
    """Directory or URI of the output."""
    all: bool = False
    """Show all runs, not only the last 30."""


def main(config: StatusConfig) -> None:
    """Print a line for each run, then what the output has.

    Raises InputError if the directory is no output, and Failure unless it is complete and has no
    file of others that readers would take for rows.
    """
    output = open_output(config.output)
    for line in _runs(output, config.all):
        print(line)
    print(_now(output))
    require_no_foreign(output)
    if output.missing_parts:
        missing = f"{quantity(output.missing_parts, 'part')} of {config.output}"
        if job := job_that_runs(output):
            raise Failure(
                f"{missing} not there yet: {job}; if it is not, run the same command again"
            )
        raise Failure(f"{missing} missing: run the same command again")
    say_unreadable(output)
    if not output.complete and output.has_success:
        raise Failure(
            f"{config.output} has _SUCCESS, but not of these files: they have other times than "
            "when they were written, as in a copy, or were changed: pipelines.verify checks them, "
            "and so does the command that scored them"
        )
    if not output.complete and (job := job_that_runs(output)):
        raise Failure(
            f"{config.output} has no _SUCCESS yet: {job}; if it is not, run the same command again"
        )
    if not output.complete:
        raise Failure(
            f"{config.output} has no _SUCCESS: its report, and the last line of its last run, say "
            "why; if that run was stopped, run the same command again"
        )
    print(f"Complete: {config.output} has _SUCCESS, and every part is as it was written")


def open_output(path: str) -> Output:
    """The output in a directory. Raises InputError if no job of this program wrote there."""
    try:
        # A table that a program reads is on standard output.
        with waiting(f"Reading {path}", stream=standard_error):
            output = Output(storage.absolute(path))
    except (InputError, Failure) as error:
        # The programs that look at an output have no such flag.
        raise type(error)(str(error).removeprefix("--output ")) from error
    if not output.plans:
        raise InputError(f"{path} is no output of pipelines.score: it has no plan")
    return output


def job_that_runs(output: Output) -> str:
    """Words for the job that writes to the output now; "": none does, as far as its runs tell.

    Of runs on other hosts, which may have been killed, only the last one counts.
    """
    records = read_runs(output.directory, run_names(output.directory)[-MAX_RUNS:])
    ends = [run.end for record in records if (run := _run(record))]
    if RUNNING in ends:
        return "a job is running"
    return "a job may be running" if ends[-1:] == [RUNNING_OR_KILLED] else ""


def _runs(output: Output, shows_all: bool) -> Iterator[str]:
    """The lines of the table: a header, and for each run one, with details below it."""
    names = run_names(output.directory)
    shown = names if shows_all else names[-MAX_RUNS:]
    runs = [run for record in read_runs(output.directory, shown) if (run := _run(record))]
    lines = [HEADER, *(run.cells for run in runs)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    adjust = [str.ljust, *[str.rjust] * 5, str.ljust, str.ljust]
    if len(names) > len(shown):
        yield f"... and {len(names) - len(shown):,} earlier: --all"
    for run in [Run(HEADER, ""), *runs]:
        padded = (side(cell, n) for side, cell, n in zip(adjust, run.cells, widths, strict=True))
        yield "  ".join(padded).rstrip()
        yield from (f"{INDENT}{detail}" for detail in run.details)


def _run(record: dict[str, Any]) -> Run | None:
    """What a run's file has of it; None: it is damaged."""
    try:
        began = _local(float(record["began"]))
        if record.get("end") == IDLE:
            times = int(record["times"])
            since = f", {times:,} times: last {_local(float(record['ended']))}" if times > 1 else ""
            return Run((began, "", "", "", "", "", f"{IDLE}{since}", ""), IDLE)
        how, details = _end(record)
        counts = Counter(record.get("counts", {}))
        labels = dict(record.get("labels", {}))
        rows = np.array([int(number) for number in labels.values()], np.int64)
        ended = record.get("ended", float(record["began"]) + float(record.get("seconds", 0)))
        cells = (
            began,
            ", ".join(str(int(number)) for number in record.get("plans", ())),
            _duration(float(ended) - float(record["began"])) if "seconds" in record else "",
            f"{counts['rows']:,}" if "counts" in record else "",
            f"{counts['rejected']:,}" if "counts" in record else "",
            f"{int(record['removed'].get('rows', 0)):,}" if "removed" in record else "",
            how,
            shares([*labels], rows) if rows.any() else "",
        )
        return Run(tuple(map(printable, cells)), how, [printable(detail) for detail in details])
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
        return None


def _end(record: dict[str, Any]) -> tuple[str, list[str]]:
    """How a run ended, in a word or two, and what there is to say of it."""
    if "end" in record:
        return str(record["end"]), [*_accepted(record), *([why] if (why := record["why"]) else [])]
    if "process" in record:
        process = record["process"]
        alive = is_alive(process)
        if alive is None:
            where = f"process {process['pid']} of {process['host']} has not said how it ended"
            return RUNNING_OR_KILLED, [where]
        return (RUNNING, []) if alive else ("killed", ["its process ended without a word"])
    # Of an earlier version.
    if record["failed"]:
        return "failed", [f"{quantity(int(record['failed']), 'part')} failed"]
    return ("unfinished" if record["left"]["parts"] else "done"), []


def _accepted(record: dict[str, Any]) -> Iterator[str]:
    """What `--max_rejected` has accepted, if it was given for that."""
    judged, most = record["judged"], record["flags"]["max_rejected"]
    rows, rejected, shards = (judged[n] for n in ("rows", "rejected", "unreadable_shards"))
    if record["end"] == COMPLETE and (shards or 100 * rejected > rows):
        yield (
            f"accepted, by --max_rejected {most}: {rejected:,} of {quantity(rows, 'new row')} "
            f"rejected, {quantity(shards, 'shard')} not read"
        )


def _now(output: Output) -> str:
    """A line about what the output has."""
    totals = output.records.totals()
    # A job that is killed leaves parts of its last seconds without a record.
    uncounted = int(np.count_nonzero(output.is_done & (output.comparison.record < 0)))
    parts = [
        quantity(int(np.count_nonzero(output.plans.known.is_read)), "shard"),
        quantity(len(output.plans.names), "part"),
        f"{quantity(totals.counts['rows'], 'row')} scored",
        f"{totals.counts['rejected']:,} rejected",
        shares(output.plans.classes, totals.classes),
        f"without {quantity(uncounted, 'part')} not counted yet" if uncounted else "",
    ]
    return f"In all: {', '.join(printable(part) for part in parts if part)}"


def _local(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def _duration(seconds: float) -> str:
    """`2.1 s`, `3 min`, `2 h 05 min`."""
    if seconds < 99.95:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"
