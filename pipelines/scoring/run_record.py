"""Parts that were just written -> the run's counts: shown on the terminal, kept in its record."""

import time
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

from pipelines.console import progress
from pipelines.console.terminal import quantity
from pipelines.errors import Failure
from pipelines.scoring.config import ScoreConfig
from pipelines.scoring.output import COUNTS, Output

MOST_POINTS = 400
"""Of a run's course, in its record."""


class TooManyRejected(Failure):
    """Scoring stopped by `--max_rejected`."""


class Tally:
    """Counts the parts of a run, and shows how it goes."""

    def __init__(self, config: ScoreConfig, output: Output, missing: set[str]) -> None:
        self._config = config
        self._unreadable = len(output.unreadable())
        self._planned = sum(part.rows for part in output.parts)
        self._most = config.rejected_limit(self._planned)
        self._missing, self._parts = len(missing), 0
        there = [part for part in output.parts if part.name not in missing]
        self._totals = output.totals(there).counts
        self._course: list[tuple[float, int]] = []
        self._parts_a_point = 1
        self._before = self._done
        earlier = f" ({len(there):,} are there)" if there else ""
        if missing:
            print(
                f"Scoring {quantity(self._planned - self._done, 'row')} in "
                f"{quantity(len(missing), 'part')}{earlier} ...",
                flush=True,
            )
        self._time, self._began = time.time(), time.monotonic()
        self._require_few_rejected()
        self._progress = progress.Progress(progress.rows)
        self._progress.start(self._planned, self._done)

    @property
    def _done(self) -> int:
        return self._totals["rows"] + self._totals["rejected"]

    def add(self, done: dict[str, Any]) -> None:
        """Count a part that was just written, and say how it goes now and then.

        Raises Failure if it could not be written, or too many rows are rejected.
        """
        if done["error"]:
            raise Failure(done["error"])
        self._totals.update({name: done[name] for name in COUNTS})
        self._parts += 1
        self._add_point(time.monotonic() - self._began)
        self._require_few_rejected()
        rejected = self._totals["rejected"]
        share = rejected / max(self._done, 1)
        rate = self._progress.rate(self._done)
        details = f"{rate:,.0f} rows/s, {rejected:,} rejected ({share:.2%})"
        self._progress.update(self._done, details)

    def close(self) -> None:
        """Stop the progress display."""
        self._progress.close()

    def _add_point(self, seconds: float) -> None:
        """After a part, or after as many as keep the points few."""
        if self._parts % self._parts_a_point:
            return
        self._course.append((round(seconds, 3), self._done - self._before))
        if len(self._course) == MOST_POINTS:
            self._course = self._course[1::2]
            self._parts_a_point *= 2

    def _require_few_rejected(self) -> None:
        rejected = self._totals["rejected"] + self._unreadable
        if rejected > self._most:
            raise TooManyRejected(
                f"{rejected:,} rows or shards are rejected, more than "
                f"--max_rejected {self._config.max_rejected}: see _rejected/ in the output"
            )

    def record(self, model_hash: str) -> tuple[dict[str, Any], int]:
        """What this run did, for `_manifest/`, and when it began, in Unix milliseconds."""
        seconds = time.monotonic() - self._began
        rows = self._done - self._before
        run = {
            "version": version("sentiment-pipelines"),
            "model_hash": model_hash,
            "flags": asdict(self._config),
            "began": self._time,
            "seconds": seconds,
            "parts": self._parts,
            "rows": rows,
            "rows/s": rows / seconds,
            "course": self._course,
            "left": {"parts": self._missing - self._parts, "rows": self._planned - self._done},
            "totals": dict(self._totals),
        }
        return run, int(self._time * 1000)
