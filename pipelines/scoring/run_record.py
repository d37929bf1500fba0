"""The record of a run: counts of the parts it wrote, shown as progress and kept in `_manifest/`."""

import time
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

from pipelines.console import progress
from pipelines.console.terminal import quantity
from pipelines.errors import Failure
from pipelines.scoring.config import ScoreConfig
from pipelines.scoring.output import Output
from pipelines.scoring.part_data import PartResult

MAX_COURSE_POINTS = 400
"""Points of a run's course, in its record."""


class TooManyRejected(Failure):
    """More rows are rejected than `--max_rejected` allows."""


class RunRecord:
    """Counts the parts of a run, and shows its progress.

    Args:
        config: the flags.
        output: the output, as it is when the run begins.
        missing: names of the parts that the run will write.

    Raises TooManyRejected if the parts that are there already have too many rejected rows.
    """

    def __init__(self, config: ScoreConfig, output: Output, missing: set[str]) -> None:
        self._config = config
        self._unreadable_shards = len(output.unreadable())
        self._planned_rows = sum(part.rows for part in output.parts)
        self._rejected_limit = config.rejected_limit(self._planned_rows)
        self._missing_parts = len(missing)
        self._parts = 0
        done = [part for part in output.parts if part.name not in missing]
        self._totals = output.totals(done).counts
        """Sums of `PartCounts` over all parts that are there, by name."""
        self._course: list[tuple[float, int]] = []
        self._parts_per_point = 1
        self._rows_before = self._rows_done
        if missing:
            done_parts = f" ({len(done):,} are there)" if done else ""
            print(
                f"Scoring {quantity(self._planned_rows - self._rows_done, 'row')} in "
                f"{quantity(len(missing), 'part')}{done_parts} ...",
                flush=True,
            )
        self._began_time = time.time()
        self._began = time.monotonic()
        self._require_few_rejected()
        self._progress = progress.Progress(progress.rows)
        self._progress.start(self._planned_rows, self._rows_done)

    @property
    def began_ms(self) -> int:
        """When the run began, in milliseconds since 1970."""
        return int(self._began_time * 1000)

    @property
    def _rows_done(self) -> int:
        return self._totals["rows"] + self._totals["rejected"]

    def add(self, result: PartResult) -> None:
        """Count a part, and show progress.

        Raises Failure if the part was not written, and TooManyRejected.
        """
        if result.error:
            raise Failure(result.error)
        self._totals.update(asdict(result.counts))
        self._parts += 1
        self._add_point(time.monotonic() - self._began)
        self._require_few_rejected()
        rejected = self._totals["rejected"]
        share = rejected / max(self._rows_done, 1)
        rate = self._progress.rate(self._rows_done)
        details = f"{rate:,.0f} rows/s, {rejected:,} rejected ({share:.2%})"
        self._progress.update(self._rows_done, details)

    def close(self) -> None:
        """Stop the progress display."""
        self._progress.close()

    def contents(self, model_hash: str) -> dict[str, Any]:
        """The record so far, for the run's JSON file."""
        seconds = time.monotonic() - self._began
        rows = self._rows_done - self._rows_before
        return {
            "version": version("sentiment-pipelines"),
            "model_hash": model_hash,
            "flags": asdict(self._config),
            "began": self._began_time,
            "seconds": seconds,
            "parts": self._parts,
            "rows": rows,
            "rows/s": rows / seconds,
            "course": self._course,
            "left": {
                "parts": self._missing_parts - self._parts,
                "rows": self._planned_rows - self._rows_done,
            },
            "totals": dict(self._totals),
        }

    def _add_point(self, seconds: float) -> None:
        """Add a point to the course, after each part, or after every few if there are many."""
        if self._parts % self._parts_per_point:
            return
        self._course.append((round(seconds, 3), self._rows_done - self._rows_before))
        if len(self._course) == MAX_COURSE_POINTS:
            self._course = self._course[1::2]
            self._parts_per_point *= 2

    def _require_few_rejected(self) -> None:
        rejected = self._totals["rejected"] + self._unreadable_shards
        if rejected > self._rejected_limit:
            raise TooManyRejected(
                f"{rejected:,} rows or shards are rejected, more than "
                f"--max_rejected {self._config.max_rejected}: see _rejected/ in the output"
            )
