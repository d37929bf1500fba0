"""Rows done, of those there are to do -> the terminal: a bar, or plain lines at a human pace."""

import time
from collections.abc import Callable
from contextlib import suppress

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from pipelines.console.terminal import live_console, say

EVERY = 5.0
"""Seconds between two lines, at least."""


def pace(planned: int, done: int) -> "Lines":
    """What shows how it goes where this process's output goes, from so many rows done on."""
    terminal = live_console()
    return Bar(planned, done, terminal) if terminal else Lines(planned, done)


class Lines:
    """A line now and then: rows, rows/s, how many are rejected, and the time left."""

    def __init__(
        self, planned: int, done: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._planned, self._before, self._clock = planned, done, clock
        self._began = self._shown = clock()

    def show(self, done: int, rejected: int) -> None:
        """So many rows are done by now, and of them so many rejected."""
        now = self._clock()
        if now - self._shown >= EVERY:
            self._shown = now
            rate = self._rate(done, now)
            left = (self._planned - done) / max(rate, 1)
            say(
                f"{done:,} of {self._planned:,} rows, {rate:,.0f} rows/s, {rejected:,} rejected, "
                f"{left:,.0f} s left"
            )

    def close(self) -> None:
        """Nothing more is to come."""

    def _rate(self, done: int, now: float) -> float:
        """Rows a second since it began."""
        return (done - self._before) / max(now - self._began, 1e-9)


class Bar(Lines):
    """The same in a bar that is drawn anew whenever there is something to tell."""

    def __init__(
        self,
        planned: int,
        done: int,
        console: Console,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(planned, done, clock)
        self._bar = Progress(
            BarColumn(),
            TextColumn("{task.completed:,.0f} of {task.total:,.0f} rows"),
            TextColumn("{task.fields[told]}"),
            TimeRemainingColumn(),
            TextColumn("left"),
            console=console,
            # `show` draws: in a thread of its own, a terminal that is gone would be an error.
            auto_refresh=False,
        )
        self._task = self._bar.add_task("", total=planned, completed=done, told="")
        self._bar.start()

    def show(self, done: int, rejected: int) -> None:
        """See `Lines`."""
        rate = self._rate(done, self._clock())
        told = f"{rate:,.0f} rows/s  {rejected / max(done, 1):.2%} rejected"
        with suppress(OSError):  # The terminal is gone; scoring goes on.
            self._bar.update(self._task, completed=done, told=told)
            self._bar.refresh()

    def close(self) -> None:
        """Leave the bar as it is."""
        with suppress(OSError):
            self._bar.stop()
