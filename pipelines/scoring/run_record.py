"""Counts of the parts that a run writes, shown as progress, and summed up for its file."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt

from pipelines.console import progress
from pipelines.console.terminal import percent, quantity, say, warn
from pipelines.scoring.class_rows import ClassRows
from pipelines.scoring.config import ScoreConfig
from pipelines.scoring.output import Output
from pipelines.scoring.part_data import PartResult

MAX_COURSE_POINTS = 400
"""Points of a run's course, in its record."""


class RunSummary:
    """What a run has done, which may score missing parts several times."""

    def __init__(self, left_aside: Mapping[str, int] | None = None) -> None:
        self.left_aside = dict(left_aside or {})
        """Files of the input that are no shards: their number, by kind."""
        self._began = time.monotonic()
        self.counts: Counter[str] = Counter()
        """Sums of `PartCounts` over the parts that the run has written, by name."""
        self.totals: Counter[str] = Counter()
        """The same over all parts that are there."""
        self.classes: npt.NDArray[np.int64] = np.zeros(0, np.int64)
        """int64[classes]: rows of each class in the parts that the run has written; empty: none."""
        self.notes: list[str] = []
        """What is to know of the columns of the shards that it has scored, and of others."""
        self.parts = self.failed_parts = self.left_parts = self.left_rows = 0
        """Parts written, and parts that could not be written; parts and rows that are missing."""
        self.scoring_seconds = 0.0
        self.stage_seconds: Counter[str] = Counter()
        """Of all processes together, by `part_data.STAGES`."""
        self.course: Sequence[tuple[float, int]] = ()
        """Of the last time that it scored parts: seconds since that began, rows done until then."""

    def add(self, record: "RunRecord") -> None:
        """Add what was done since the record began."""
        self.counts.update(record.counts)
        self.totals = record.totals
        self.classes = record.classes + (self.classes if len(self.classes) else 0)
        self.notes += record.notes
        self.parts += record.parts
        self.failed_parts += record.failed_parts
        self.left_parts, self.left_rows = record.left_parts, record.left_rows
        self.scoring_seconds += record.seconds
        self.stage_seconds.update(record.stage_seconds)
        self.course = record.course or self.course

    def note(self, note: str) -> None:
        """Add a note, once."""
        if note not in self.notes:
            self.notes.append(note)

    @property
    def seconds(self) -> float:
        """Since the run began."""
        return time.monotonic() - self._began

    def contents(self, classes: Sequence[str]) -> dict[str, Any]:
        """What was done so far, for the run's file; `classes`: names of the model's classes."""
        rows = self.counts["rows"] + self.counts["rejected"]
        return {
            "seconds": self.scoring_seconds,
            "parts": self.parts,
            "rows": rows,
            "rows/s": rows / max(self.scoring_seconds, 1e-9),
            "stage_seconds": dict(self.stage_seconds),
            "course": self.course,
            "failed": self.failed_parts,
            "left": {"parts": self.left_parts, "rows": self.left_rows},
            "totals": dict(self.totals),
            "counts": dict(self.counts),
            "labels": dict(zip(classes, self.classes.tolist(), strict=False)),
            "notes": self.notes,
            "left_aside": self.left_aside,
        }


class RunRecord:
    """Counts the parts of a run, and shows its progress; `begin` comes before the first part.

    Args:
        config: the flags.
        output: the output, as it is when the run begins.
    """

    def __init__(self, config: ScoreConfig, output: Output) -> None:
        self._config = config
        self.failed_parts = 0
        """Parts of this run that could not be written."""
        self._planned_rows = output.plans.rows
        self._missing_parts = output.missing_parts
        self.parts = 0
        """Parts of this run that were written."""
        self._totals = output.records.totals().counts
        """Sums of `PartCounts` over all parts that are there, by name."""
        self._totals_before = self._totals.copy()
        self._names = output.plans.classes
        self.classes = np.zeros(len(self._names), np.int64)
        """int64[classes]: rows of each class in the parts that this run has written."""
        self.notes = [
            note
            for number, plan in enumerate(output.plans)
            if plan.notes and len(output.missing_of(number))
            for note in plan.notes
        ]
        """What is to know of the columns of the shards that this run scores."""
        self.stage_seconds: Counter[str] = Counter()
        """Of all processes together, by `part_data.STAGES`."""
        self.course: list[tuple[float, int]] = []
        """Seconds since the record began, and rows done until then."""
        self._parts_per_point = 1
        self._rows_before = self.done_rows
        if self._missing_parts:
            done = len(output.plans.names) - self._missing_parts
            done_parts = f" ({done:,} are there)" if done else ""
            say(
                f"Scoring {quantity(self._planned_rows - self.done_rows, 'row')} in "
                f"{quantity(self._missing_parts, 'part')}{done_parts} ..."
            )
        self._began = time.monotonic()
        self._progress = progress.Progress(progress.rows)

    def begin(self) -> None:
        """Begin to take time and to show progress, when what scores has started."""
        self._began = time.monotonic()
        self._progress.start(self._planned_rows, self.done_rows)

    @property
    def seconds(self) -> float:
        """Since scoring began."""
        return time.monotonic() - self._began

    @property
    def left_parts(self) -> int:
        """Parts that are missing."""
        return self._missing_parts - self.parts

    @property
    def left_rows(self) -> int:
        """Rows of those parts."""
        return self._planned_rows - self.done_rows

    @property
    def rejected_rows(self) -> int:
        """Rejected rows of all parts that are there."""
        return self._totals["rejected"]

    @property
    def done_rows(self) -> int:
        """Rows scored and rejected in all parts that are there."""
        return self._totals["rows"] + self._totals["rejected"]

    @property
    def totals(self) -> Counter[str]:
        """Sums of `PartCounts` over all parts that are there, by name."""
        return self._totals.copy()

    @property
    def counts(self) -> Counter[str]:
        """Sums of `PartCounts` over the parts that this run has written, by name."""
        counts = self._totals.copy()
        counts.subtract(self._totals_before)
        return counts

    def add(self, result: PartResult) -> None:
        """Count a part, also one that could not be written, and show progress."""
        if result.error:
            self.failed_parts += 1
        else:
            self._totals.update(asdict(result.counts))
            self.classes += ClassRows(len(self._names)).of_one(result.answers)
            self.parts += 1
            if self.parts == 1:
                # From when it was begun: until then processes have started. Or it was there.
                before = self._rows_before if result.seconds else self.done_rows
                self._progress.measure_from(before, sum(result.seconds.values()))
            self.stage_seconds.update(result.seconds)
            self._add_point(self.seconds)
        share = self.rejected_rows / max(self.done_rows, 1)
        details = f"{self.rejected_rows:,} rejected ({percent(share, 2)})"
        if rate := self._progress.rate(self.done_rows):
            details = f"{rate:,.0f} rows/s, {details}"
        if self.failed_parts:
            details += f", {quantity(self.failed_parts, 'part')} failed"
        self._progress.update(self.done_rows, details)

    def say(self, line: str) -> None:
        """Print a line, above the progress bar."""
        self._progress.say(line)

    def warn(self, line: str) -> None:
        """Print a line, above the progress bar, also with `--quiet`."""
        if self._config.quiet:
            warn(line)
        else:
            self.say(line)

    def close(self) -> None:
        """Stop the progress display."""
        self._progress.close()

    def _add_point(self, seconds: float) -> None:
        """Add a point to the course, after each part, or after every few if there are many."""
        if self.parts % self._parts_per_point:
            return
        self.course.append((round(seconds, 3), self.done_rows - self._rows_before))
        if len(self.course) == MAX_COURSE_POINTS:
            self.course = self.course[1::2]
            self._parts_per_point *= 2
