"""The record of a run: counts of the parts it wrote, shown as progress and kept in `_manifest/`."""

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

import numpy as np
import numpy.typing as npt

from pipelines.console import progress
from pipelines.console.terminal import quantity, say, warn
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
        self.classes: npt.NDArray[np.int64] = np.zeros(0, np.int64)
        """int64[classes]: rows of each class in the parts that the run has written; empty: none."""
        self.notes: list[str] = []
        """What is to know of the columns of the shards that it has scored."""

    def add(self, record: "RunRecord") -> None:
        """Add what was done since the record began."""
        self.counts.update(record.counts)
        self.classes = record.classes + (self.classes if len(self.classes) else 0)
        self.notes += record.notes

    @property
    def seconds(self) -> float:
        """Since the run began."""
        return time.monotonic() - self._began


class RunRecord:
    """Counts the parts of a run, and shows its progress.

    Args:
        config: the flags.
        output: the output, as it is when the run begins.
    """

    def __init__(self, config: ScoreConfig, output: Output) -> None:
        self._config = config
        self.failed_parts = 0
        """Parts of this run that could not be written."""
        self._planned_rows = output.planned_rows
        self._missing_parts = output.missing_parts
        self._parts = 0
        self._totals = output.totals().counts
        """Sums of `PartCounts` over all parts that are there, by name."""
        self._totals_before = self._totals.copy()
        self._names = output.classes
        self.classes = np.zeros(len(self._names), np.int64)
        """int64[classes]: rows of each class in the parts that this run has written."""
        self.notes = [
            note
            for plan in output.plans
            if plan.notes and len(output.missing_of(plan))
            for note in plan.notes
        ]
        """What is to know of the columns of the shards that this run scores."""
        self._stages: Counter[str] = Counter()
        self._course: list[tuple[float, int]] = []
        self._parts_per_point = 1
        self._rows_before = self.done_rows
        if self._missing_parts:
            done = output.planned_parts - self._missing_parts
            done_parts = f" ({done:,} are there)" if done else ""
            say(
                f"Scoring {quantity(self._planned_rows - self.done_rows, 'row')} in "
                f"{quantity(self._missing_parts, 'part')}{done_parts} ..."
            )
        self._began_time = time.time()
        self._began = time.monotonic()
        self._progress = progress.Progress(progress.rows)
        self._progress.start(self._planned_rows, self.done_rows)

    @property
    def began_ms(self) -> int:
        """When the run began, in milliseconds since 1970."""
        return int(self._began_time * 1000)

    @property
    def rejected_rows(self) -> int:
        """Rejected rows of all parts that are there."""
        return self._totals["rejected"]

    @property
    def done_rows(self) -> int:
        """Rows scored and rejected in all parts that are there."""
        return self._totals["rows"] + self._totals["rejected"]

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
            self._parts += 1
            self._stages.update(result.seconds)
            self._add_point(time.monotonic() - self._began)
        share = self.rejected_rows / max(self.done_rows, 1)
        rate = self._progress.rate(self.done_rows)
        details = f"{rate:,.0f} rows/s, {self.rejected_rows:,} rejected ({share:.2%})"
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

    def contents(self, model_hash: str) -> dict[str, Any]:
        """The record so far, for the run's JSON file."""
        seconds = time.monotonic() - self._began
        rows = self.done_rows - self._rows_before
        return {
            "version": version("sentiment-pipelines"),
            "model_hash": model_hash,
            "flags": asdict(self._config),
            "began": self._began_time,
            "seconds": seconds,
            "parts": self._parts,
            "rows": rows,
            "rows/s": rows / seconds,
            # Of all processes together.
            "stage_seconds": dict(self._stages),
            "course": self._course,
            "failed": self.failed_parts,
            "left": {
                "parts": self._missing_parts - self._parts,
                "rows": self._planned_rows - self.done_rows,
            },
            "totals": dict(self._totals),
            "counts": dict(self.counts),
            "labels": dict(zip(self._names, self.classes.tolist(), strict=True)),
            "notes": self.notes,
        }

    def _add_point(self, seconds: float) -> None:
        """Add a point to the course, after each part, or after every few if there are many."""
        if self._parts % self._parts_per_point:
            return
        self._course.append((round(seconds, 3), self.done_rows - self._rows_before))
        if len(self._course) == MAX_COURSE_POINTS:
            self._course = self._course[1::2]
            self._parts_per_point *= 2
