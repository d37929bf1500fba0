"""Progress: at a pace that a reader can follow, in numbers that are right."""

import io
import re

import pytest
from rich.console import Console

from pipelines.console import progress as module
from pipelines.console.progress import (
    LINE_SECONDS,
    MAX_LINES,
    Progress,
    SlowProgress,
    megabytes,
    rows,
    steps,
)


class Clock:
    """Seconds that pass when told to."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def terminal():
    written = io.StringIO()
    return Console(file=written, force_terminal=True, width=120, color_system=None), written


def test_lines_come_every_few_seconds_and_count_from_where_the_run_began(capsys, clock):
    with Progress(rows, clock=clock) as progress:
        progress.start(2_000, done=1_000)
        for done in range(1_010, 1_210, 10):
            clock.now += 1
            progress.update(done, "3 rejected")
    shown = capsys.readouterr().out.splitlines()
    assert len(shown) == 20 // LINE_SECONDS
    # 10 rows/s since the start; the thousand rows that were there do not count.
    assert shown[0] == "1,050 of 2,000 rows, 3 rejected, 95 s left"
    assert shown[-1] == "1,200 of 2,000 rows, 3 rejected, 80 s left"


def test_what_came_before_the_rate_is_measured_does_not_count(capsys, clock):
    with Progress(rows, clock=clock) as progress:
        progress.start(2_000)
        clock.now += 100
        progress.measure_from(0, seconds_ago=2)
        progress.update(100)
        clock.now += 8
        progress.update(500)
    shown = capsys.readouterr().out.splitlines()
    assert shown == ["100 of 2,000 rows, 38 s left", "500 of 2,000 rows, 30 s left"]


def test_nothing_is_said_of_work_that_is_over_at_once_unless_forced(capsys, clock):
    with Progress(steps, clock=clock) as progress:
        progress.start(100)
        clock.now += 0.5
        progress.update(99)
        progress.update(100, force=True)
    assert capsys.readouterr().out == "step 100/100\n"


def test_what_takes_long_is_said_from_then_on_and_no_end_of_it_alone(capsys, monkeypatch, clock):
    monkeypatch.setattr(module, "SHOWN_AFTER_SECONDS", 3.0)
    with (
        SlowProgress(rows, "Reading", 100, clock) as slow,
        SlowProgress(rows, "Soon over", 100, clock) as over,
    ):
        for done in (10, 20, 30, 40):
            slow.update(done, "1 file")
            clock.now += 2
        over.update(100)
        clock.now += 2
        slow.update(80, "2 files")
    assert capsys.readouterr().out.splitlines() == [
        "Reading: 30 of 100 rows, 1 file",
        "Reading: 80 of 100 rows, 2 files, 2 s left",
    ]


def test_a_long_run_has_a_bounded_number_of_lines(capsys, clock):
    with Progress(steps, clock=clock) as progress:
        progress.start(100_000)
        for done in range(100, 100_001, 100):
            clock.now += LINE_SECONDS
            progress.update(done)
    assert len(capsys.readouterr().out.splitlines()) == MAX_LINES


def test_an_unknown_total_may_become_known_and_the_stream_is_chosen(clock):
    written = io.StringIO()
    with Progress(megabytes, "downloading", written, clock) as progress:
        progress.start(None)
        for done, total in ((10_000_000, None), (20_000_000, 40_000_000)):
            clock.now += LINE_SECONDS
            progress.update(done, total=total)
        progress.say("a line")
    assert written.getvalue().splitlines() == [
        "downloading: 10.0 MB",
        "downloading: 20.0 of 40.0 MB, 10 s left",
        "a line",
    ]


def test_the_rate_is_an_average_since_the_start(clock):
    progress = Progress(rows, clock=clock)
    progress.start(2_000, done=1_000)
    clock.now += 2
    assert progress.rate(1_500) == 250


class Gone(io.StringIO):
    """A terminal that has been closed."""

    def write(self, text):
        raise OSError(5, "Input/output error")


def test_a_terminal_that_is_gone_stops_nothing(terminal):
    console, _ = terminal
    progress = Progress(rows, console=console)
    progress.start(20)
    console.file = Gone()
    progress.update(10, force=True)
    progress.say("a line")
    progress.start(20)
    progress.close()


def test_a_stream_that_is_gone_stops_nothing():
    with Progress(rows, stream=Gone()) as progress:
        progress.start(20)
        progress.update(10, force=True)


def lines(written: str) -> list[str]:
    """The lines that stood on a terminal, one drawing after another."""
    return [
        line.strip() for line in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\r", "\n", written).split("\n")
    ]


def test_a_bar_shows_amounts_details_and_time_left_and_lines_above_it(terminal, clock):
    console, written = terminal
    with Progress(rows, clock=clock, console=console) as progress:
        progress.start(2_000, done=1_000)
        for done in (1_250, 1_500):
            clock.now += 1
            progress.update(done, "15 rejected")
        progress.say("[bold]a line that rich leaves as it is: 1,234")
        progress.start(2_000, done=1_200)
    text = " ".join(lines(written.getvalue()))
    assert "1,000 of 2,000 rows" in text
    assert re.search(r"1,500 of 2,000 rows, 15 rejected \d:\d\d:\d\d left", text)
    assert lines(written.getvalue()).count("[bold]a line that rich leaves as it is: 1,234") == 1
    # Begun again: what is shown last is the new start, and the cursor is back.
    assert "1,200 of 2,000 rows" in text.rpartition("1,500 of 2,000 rows")[2]
    assert written.getvalue().rstrip().endswith("\x1b[?25h")


def test_a_bar_is_drawn_at_most_ten_times_a_second_and_at_the_end(terminal, clock):
    console, written = terminal
    with Progress(steps, clock=clock, console=console) as progress:
        progress.start(10_000)
        for done in range(10, 10_001, 10):
            clock.now += 0.002
            progress.update(done)
    assert written.getvalue().count("step ") <= 2 / 0.1 + 3
    assert "step 10,000/10,000" in written.getvalue()


def test_a_bar_needs_a_terminal_that_can_redraw_a_line(monkeypatch, clock):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    def shown(kind: str) -> str:
        monkeypatch.setenv("TERM", kind)
        stream = Terminal()
        with Progress(rows, stream=stream, clock=clock) as progress:
            progress.start(20)
        return stream.getvalue()

    assert "0 of 20 rows" in shown("xterm")
    assert shown("dumb") == ""
