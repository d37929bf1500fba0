"""Verify a scored output as a stranger would: every file, count and hash, and the input it is of.

Nothing is written, and nothing is needed but the output and, if it is to be compared, the input.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TypeVar, cast

import numpy as np
from tyro.conf import Positional

from pipelines.console.progress import Progress
from pipelines.console.terminal import printable, quantity
from pipelines.errors import Failure
from pipelines.scoring.changes import Difference, difference, find_changes, way_of_reading
from pipelines.scoring.config import OutputSettings
from pipelines.scoring.counting import inspect_shard
from pipelines.scoring.counts import Counts
from pipelines.scoring.final_lines import say_unreadable
from pipelines.scoring.follow import say_moved
from pipelines.scoring.known import KnownShards
from pipelines.scoring.mending import require_no_foreign
from pipelines.scoring.output import Output
from pipelines.scoring.shards import Shards
from pipelines.scoring.status import job_that_runs, open_output
from pipelines.scoring.success import SUCCESS
from pipelines.scoring.verify import verify
from pipelines.sources.listing import find
from pipelines.sources.shard import Counted, Shard
from sentiment import storage
from sentiment.errors import UNREADABLE, InputError

MAX_PROBLEMS_SHOWN = 20

CONCURRENT_FILES = 4
"""Files that are read at the same time."""

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class VerifyConfig:
    """Read every file of a scored output and check it against plans and records; with --input, read
    the corpus, too, and check that the output has each of its rows. Nothing is written."""

    output: Positional[str]
    """Directory or URI of the output."""
    input: tuple[str, ...] = field(default=())
    """Files, directories, patterns or URIs that were scored; none: only the output is checked."""
    where: tuple[str, ...] = field(default=())
    """The conditions on key=value directories that they were scored with."""


def main(config: VerifyConfig) -> None:
    """Print what is wrong, a line each, or that nothing is.

    Raises InputError if the directory is no output, or only that of a part of the input, and
    Failure if anything is wrong with it.
    """
    if config.where and not config.input:
        raise InputError("--where chooses shards of the input: name it by --input")
    output = open_output(config.output)
    settings = cast(OutputSettings, output.plans[0].settings)
    if config.input and "limit" in settings:
        raise InputError(
            f"--input: {config.output} has only the first {quantity(settings['limit'], 'row')} of "
            "its input (--limit): verify it without --input"
        )
    problems = [*_problems_of_parts(output), *_problems_of_totals(output)]
    checked = f"{quantity(len(output.plans.names), 'part')}, {quantity(output.plans.rows, 'row')}"
    if config.input:
        paths = [storage.absolute(path) for path in config.input]
        has_format = any("format" in plan.settings for plan in output.plans)
        shards = Shards.of(find(paths, "--input", config.where, has_format).shards)
        problems += _problems_of_input(output, shards)
        checked += f", {quantity(len(shards), 'shard')} of the input"
    say_unreadable(output)
    for problem in problems[:MAX_PROBLEMS_SHOWN]:
        print(f"Wrong: {printable(problem)}")
    if len(problems) > MAX_PROBLEMS_SHOWN:
        print(f"Wrong: {len(problems) - MAX_PROBLEMS_SHOWN:,} more")
    if problems:
        remedy = "the command that scored it mends what it can"
        if job := job_that_runs(output):
            remedy = f"{job}; if it is not, {remedy}"
        raise Failure(f"{quantity(len(problems), 'problem')} in {config.output}: {remedy}")
    print(f"Verified: {checked}: every file, count and hash is as it was written")


def _problems_of_parts(output: Output) -> Iterator[str]:
    """Parts that are missing or damaged, and files that no job wrote."""
    try:
        require_no_foreign(output)
    except Failure as error:
        yield str(error)
    damage = output.comparison.damaged
    for part in output.missing():
        yield f"{part.name}.parquet {damage.get(part.name, 'is missing')}"
    checks = output.checks()
    for check, (result,) in _each(lambda check: verify([check]), checks, "part"):
        if result.error:
            yield f"{check.name}.parquet {result.error}"


def _problems_of_totals(output: Output) -> Iterator[str]:
    """Whether `_SUCCESS` is there, and says what the records say."""
    path = storage.join(output.directory, SUCCESS)
    if not storage.exists(path):
        yield "_SUCCESS is missing: the job has not ended well"
        return
    try:
        success = dict(json.loads(storage.read(path)))
    except UNREADABLE:
        yield "_SUCCESS cannot be read"
        return
    totals = output.records.totals()
    for name, value in totals.counts.items():
        if success.get(name) != value:
            yield f"_SUCCESS says {name} {success.get(name)}, the records of the parts {value}"
    labels = dict(zip(output.plans.classes, totals.classes.tolist(), strict=True))
    # Earlier versions did not write them.
    if success.get("labels", labels) != labels:
        yield "_SUCCESS says other rows of the classes than the records of the parts"


def _problems_of_input(output: Output, listed: Shards) -> Iterator[str]:
    """Shards that are not, or not as they are now, in the output, by content and rows."""
    known = output.plans.known
    rows = np.array([row or 0 for plan in output.plans for row in plan.rows], np.int64)
    settings = cast(OutputSettings, output.plans[0].settings)
    found = difference(known, listed)
    yield from _problems_of_difference(output, rows, settings, listed, found)
    # What is left is listed as it was planned: is its content what was counted then?
    current = np.setdiff1d(np.flatnonzero(known.is_read), found.unseen)

    def problem_of(index: int) -> str:
        shard = known.shards[index]
        counted = inspect_shard(shard, settings)
        if isinstance(counted, str):
            return f"{counted}: it could be read when it was planned"
        if counted.rows != rows[index]:
            return f"{shard.path} has {counted.rows:,} rows, and {rows[index]:,} were planned"
        if counted.digest != bytes(known.shards.digests[index]):
            return f"{shard.path} has another content than when it was planned"
        return ""

    for _, problem in _each(problem_of, current.tolist(), "shard"):
        if problem:
            yield problem


def _problems_of_difference(
    output: Output, rows: np.ndarray, settings: OutputSettings, listed: Shards, found: Difference
) -> Iterator[str]:
    """Of shards that are not listed as they were planned: what is missing or has changed.

    Those that are elsewhere with the same content, as in a copy of the corpus, are counted in a
    line on the terminal. `rows`: int64[known shards], as they were planned.
    """

    def inspected(index: int) -> Counted | str:
        counted = inspect_shard(listed[index], settings)
        # Only the number of rows and the digest are needed, of up to a million shards.
        return counted if isinstance(counted, str) else replace(counted, marks=(), groups=())

    unknown = found.unknown.tolist()
    counts = Counts.of([counted for _, counted in _each(inspected, unknown, "shard")])
    known = output.plans.known
    # The shards that were scored may still be there, beside a copy of them.
    findings = find_changes(
        known, rows, listed, found, counts, lambda indices: np.zeros(len(indices), bool)
    )
    say_moved(findings, known, listed)
    errors = {unknown[i]: error for i, error in counts.errors.items()}
    unreadable = _UnreadableElsewhere(known, findings.absent)
    copies = set(findings.copies.tolist())
    for index in findings.new.tolist():
        shard = listed[index]
        if index not in errors:
            copy = ", and has the content of another shard" if index in copies else ""
            yield f"{shard.path} is not in the output{copy}"
        elif not unreadable.has(shard):
            yield f"{errors[index]}: it is not in the output"
    for index, k in zip(findings.changed.tolist(), findings.known_changed.tolist(), strict=True):
        shard, was = listed[index], known.shards[k]
        if index in errors and known.is_unreadable[k]:
            continue
        if index in errors:
            yield f"{errors[index]}: it could be read when it was planned"
        elif shard.path != was.path:
            yield (
                f"{shard.path} has the content of {was.path}, and is read in another way: in other "
                "key=value directories, or by another extension"
            )
        else:
            yield f"{shard.path} has changed since it was planned"
    # The output has no row of one that could not be read.
    for shard in known.shards.take(findings.absent[~known.is_unreadable[findings.absent]]):
        yield f"{shard.path} is in the output, and not in --input"
    numbers = counts.rows[np.searchsorted(found.unknown, findings.moved)]
    for index, k, number in zip(findings.moved, findings.known_moved, numbers, strict=True):
        if number != rows[k]:
            yield f"{listed[index].path} has {number:,} rows, and {rows[k]:,} were planned"


class _UnreadableElsewhere:
    """Known shards that could not be read and are not listed: one elsewhere may be such a one.

    They have no digest, so they are told by size, format and directories; each is one shard.
    """

    def __init__(self, known: KnownShards, absent: np.ndarray) -> None:
        shards = known.shards.take(absent[known.is_unreadable[absent]])
        self._left = Counter((shard.size, way_of_reading(shard.path)) for shard in shards)

    def has(self, shard: Shard) -> bool:
        """Whether a listed shard that cannot be read is one of them that no other one was."""
        key = shard.size, way_of_reading(shard.path)
        self._left[key] -= 1
        return self._left[key] >= 0


def _each(
    function: Callable[[Item], Result], items: Sequence[Item], noun: str
) -> Iterator[tuple[Item, Result]]:
    """Call the function for each item, in threads, and show how far it is."""

    def amounts(done: int, total: int | None) -> str:
        return f"{done:,} of {quantity(total or 0, noun)}"

    with Progress(amounts, "Verifying") as progress, ThreadPoolExecutor(CONCURRENT_FILES) as pool:
        progress.start(len(items), 0)
        for number, (item, result) in enumerate(zip(items, pool.map(function, items), strict=True)):
            progress.update(number + 1)
            yield item, result
