"""The two steps of a part, read and score, with bounded retries: an outage costs no row.

A step that fails is tried again after a pause. What fails each time becomes the part's result: the
part stays missing, its error names its shards, and the job goes on with the other parts.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from pipelines.console.terminal import quantity
from pipelines.errors import Failure, Unavailable
from pipelines.scoring.part_data import PartCounts, PartResult, PartTask, ReadPart
from pipelines.scoring.reader import PartReader
from pipelines.scoring.scorer import PartScorer
from sentiment.errors import InputError, on_one_line

Result = TypeVar("Result")

FIRST_PAUSE_SECONDS, MAX_PAUSE_SECONDS = 2.0, 30.0
"""Pauses between attempts; each is four times the one before. A bucket's requests have been retried
for a minute before an attempt fails."""

MAX_SHARDS_NAMED = 3


@dataclass(frozen=True)
class ReadStep:
    """Reads and tokenizes a part, unless it is there already."""

    readers: Sequence[PartReader]
    """By number of the plan."""
    finished: Callable[[PartTask], PartResult | None]
    """The result of a part that is there; None: it is not."""
    max_attempts: int

    def __call__(self, task: PartTask) -> ReadPart:
        """The part's rows, or its result if it is there or cannot be read."""

        def read() -> ReadPart:
            if finished := self.finished(task):
                return finished
            began = time.monotonic()
            part = self.readers[task.plan](task)
            return replace(part, seconds=time.monotonic() - began)

        return _with_retries(read, task, self.max_attempts)


@dataclass(frozen=True)
class ScoreStep:
    """Scores a part that was read, and writes its files."""

    scorer: PartScorer
    max_attempts: int

    def __call__(self, part: ReadPart) -> PartResult:
        """The part's result; a part that has one already is passed on."""
        if isinstance(part, PartResult):
            return part
        tokenized = part
        return _with_retries(lambda: self.scorer(tokenized), part.task, self.max_attempts)


@dataclass(frozen=True)
class PartWorker:
    """Both steps."""

    read: ReadStep
    score: ScoreStep

    def __call__(self, task: PartTask) -> PartResult:
        """Read, score and write a part."""
        return self.score(self.read(task))


def failed(task: PartTask, reason: str) -> PartResult:
    """The result of a part that could not be read, scored or written."""
    shards = [shard.path for shard, _ in task.pieces]
    names = ", ".join(shards[:MAX_SHARDS_NAMED])
    if len(shards) > MAX_SHARDS_NAMED:
        names += f" and {quantity(len(shards) - MAX_SHARDS_NAMED, 'more shard')}"
    return PartResult(task.name, PartCounts(), f"{task.name} of {names}: {on_one_line(reason)}")


def _with_retries(
    work: Callable[[], Result], task: PartTask, max_attempts: int
) -> Result | PartResult:
    """What `work` returns, or the part's failure after `max_attempts`.

    Any exception counts, the unknown ones too: they fail this part, and are shown as its error.
    A Failure other than Unavailable, and an InputError, would be the same another time.
    """
    pause = FIRST_PAUSE_SECONDS
    for attempt in range(1, max_attempts + 1):
        try:
            return work()
        except Exception as error:
            is_final = isinstance(error, Failure | InputError) and not isinstance(
                error, Unavailable
            )
            if is_final or attempt == max_attempts:
                attempts = "" if is_final else f" (attempts: {attempt})"
                return failed(task, f"{_description(error)}{attempts}")
        time.sleep(pause)
        pause = min(4 * pause, MAX_PAUSE_SECONDS)
    raise AssertionError("unreachable: max_attempts is at least 1")


def _description(error: Exception) -> str:
    message = on_one_line(error)
    is_foreseen = isinstance(error, Failure | InputError | OSError)
    return message if is_foreseen and message else f"{type(error).__name__}: {message}"
