"""Progress of long work: a bar on a terminal, a line every few seconds on a pipe."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Self, TextIO

import rich.progress
from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn

from pipelines.console.terminal import output, say, show_for_now

LINE_SECONDS = 5.0
"""Shortest time between two lines."""

MAX_LINES = 200
"""A line tells of at least this fraction of the total, so that a long run's log stays short."""

REFRESH_SECONDS = 0.1
"""Shortest time between two drawings of the bar."""

SHOWN_AFTER_SECONDS = 3.0
"""What takes longer shows its progress."""


def rows(done: int, total: int | None) -> str:
    """`1,050 of 2,000 rows`."""
    return f"{done:,} rows" if total is None else f"{done:,} of {total:,} rows"


def steps(done: int, total: int | None) -> str:
    """`step 40/300`."""
    return f"step {done:,}" if total is None else f"step {done:,}/{total:,}"


def megabytes(done: int, total: int | None = None) -> str:
    """`12.3 of 81.4 MB`, given bytes."""
    return f"{done / 1e6:.1f} MB" if total is None else f"{done / 1e6:.1f} of {total / 1e6:.1f} MB"


class Progress:
    """Shows how much work is done and how long the rest takes; a context manager.

    `start` comes before the first `update`. When the terminal or the reader of the pipe is gone,
    the work goes on without being shown.

    Args:
        count: Formats the amounts done and in total: `rows`, `steps` or `megabytes`.
        label: What the lines begin with.
        stream: Where to show it; None: `terminal.output()`.
        clock: Seconds.
        console: Terminal for the bar; None: that of `stream`, if it is one.
    """

    def __init__(
        self,
        count: Callable[[int, int | None], str],
        label: str = "",
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
        console: Console | None = None,
    ) -> None:
        self._count, self._clock = count, clock
        self._prefix = f"{label}: " if label else ""
        self._stream = stream or output()
        console = console or _terminal(self._stream)
        self._bar = _bar(console) if console else None
        self._total: int | None = None
        self._first_done = self._shown_done = 0
        self._started_at = self._shown_at = clock()

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def start(self, total: int | None, done: int = 0) -> None:
        """Begin, or begin again, with `done` of `total` already there; None: total unknown."""
        self._total = total
        self._first_done = self._shown_done = done
        self._started_at = self._shown_at = self._clock()
        with self._showing():
            if self._bar:
                # A new task: rich estimates the time left from the speed since it was added.
                for task in self._bar.task_ids:
                    self._bar.remove_task(task)
                text = self._count(done, total)
                self._task = self._bar.add_task("", total=total, completed=done, text=text)
                show_for_now("", self._stream)
                self._bar.start()

    def update(
        self, done: int, details: str = "", total: int | None = None, force: bool = False
    ) -> None:
        """Show that `done` are done, with `details`, if the last time was long enough ago.

        Args:
            done: Amount done, including what was there at the start.
            details: Shown behind the amounts.
            total: Amount in total, if it was unknown at the start.
            force: Show it now.
        """
        self._total = self._total if total is None else total
        now = self._clock()
        text = ", ".join(filter(None, [self._count(done, self._total), details]))
        if self._bar:
            self._bar.update(self._task, completed=done, total=self._total, text=text)
            if force or now - self._shown_at >= REFRESH_SECONDS:
                self._shown_at = now
                with self._showing():
                    self._bar.refresh()
        elif force or (
            now - self._shown_at >= LINE_SECONDS
            and done - self._shown_done >= (self._total or 0) / MAX_LINES
        ):
            self._shown_at, self._shown_done = now, done
            rate = self.rate(done)
            if rate and self._total and done < self._total:
                text += f", {(self._total - done) / rate:,.0f} s left"
            self.say(self._prefix + text)

    def measure_from(self, done: int, seconds_ago: float) -> None:
        """Measure the rate from some seconds ago, when `done` were done."""
        self._first_done, self._started_at = done, self._clock() - seconds_ago

    def rate(self, done: int) -> float:
        """Average amount per second since it is measured, if `done` are done now."""
        seconds = self._clock() - self._started_at
        return (done - self._first_done) / max(seconds, 1e-9)

    def say(self, line: str) -> None:
        """Print a line of its own, above the bar."""
        with self._showing():
            if self._bar:
                self._bar.console.print(line, markup=False, highlight=False, soft_wrap=True)
            else:
                say(line, self._stream)

    def close(self) -> None:
        """Draw the bar for the last time and leave it there."""
        with self._showing():
            if self._bar:
                self._bar.stop()

    @contextmanager
    def _showing(self) -> Iterator[None]:
        """Give the bar up when the terminal is gone."""
        try:
            yield
        except OSError:
            bar, self._bar = self._bar, None
            with suppress(OSError):
                if bar:
                    bar.stop()


class SlowProgress:
    """Shows how far work is once it takes long; a context manager.

    Args:
        count: Formats the amounts done and in total.
        label: What the lines begin with.
        total: Amount in total.
        clock: Seconds.
    """

    def __init__(
        self,
        count: Callable[[int, int | None], str],
        label: str,
        total: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._count, self._label, self._total, self._clock = count, label, total, clock
        self._began = clock()
        self._progress: Progress | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._progress:
            self._progress.close()

    def update(self, done: int, details: str = "") -> None:
        """Show that `done` are done, with `details`, if it is time to."""
        if self._progress:
            self._progress.update(done, details)
        elif self._clock() - self._began > SHOWN_AFTER_SECONDS and done < self._total:
            self._progress = Progress(self._count, self._label, clock=self._clock)
            self._progress.start(self._total, done)
            self._progress.update(done, details, force=True)


def _terminal(stream: TextIO) -> Console | None:
    """The terminal that the stream writes to, if it can redraw a line; an editor's cannot."""
    console = Console(file=stream)
    return console if stream.isatty() and not console.is_dumb_terminal else None


def _bar(console: Console) -> rich.progress.Progress:
    return rich.progress.Progress(
        BarColumn(),
        TextColumn("{task.fields[text]}"),
        TimeRemainingColumn(),
        TextColumn("left"),
        console=console,
        # rich's thread would raise an error when the terminal is gone.
        auto_refresh=False,
    )
