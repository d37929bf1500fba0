"""How scoring goes: at a reader's pace, in numbers that are right."""

import io
import itertools

from rich.console import Console

from pipelines.console.rows_progress import EVERY, Bar, Lines


def every(seconds: float):
    """A clock that is read at equal intervals, first at 100 s."""
    return itertools.count(100, seconds).__next__


def test_lines_come_at_a_pace_and_count_from_where_the_run_began(capsys):
    lines = Lines(planned=2_000, done=1_000, clock=every(1.0))
    for done in range(1_010, 1_210, 10):
        lines.show(done, rejected=3)
    lines.close()
    shown = capsys.readouterr().out.splitlines()
    # In 20 s; 10 rows/s of this run, whatever was there before.
    assert len(shown) == 20 // EVERY
    assert shown[0] == "1,050 of 2,000 rows, 10 rows/s, 3 rejected, 95 s left"
    assert shown[-1] == "1,200 of 2,000 rows, 10 rows/s, 3 rejected, 80 s left"


def test_nothing_is_said_of_what_is_over_at_once(capsys):
    lines = Lines(planned=100, done=0, clock=every(0.1))
    lines.show(100, rejected=0)
    lines.close()
    assert capsys.readouterr().out == ""


class Gone(io.StringIO):
    """A terminal that has been closed."""

    def write(self, text):
        raise OSError(5, "Input/output error")


def test_a_terminal_that_is_gone_stops_nothing():
    terminal = io.StringIO()
    console = Console(file=terminal, force_terminal=True, width=120)
    bar = Bar(planned=20, done=0, console=console)
    console.file = Gone()
    bar.show(10, rejected=0)
    bar.close()


def test_a_bar_shows_rows_rate_and_share_rejected():
    terminal = io.StringIO()
    console = Console(file=terminal, force_terminal=True, width=120, color_system=None)
    bar = Bar(planned=2_000, done=1_000, console=console, clock=every(2.0))
    bar.show(1_500, rejected=15)
    bar.close()
    shown = terminal.getvalue()
    assert "1,500 of 2,000 rows" in shown
    assert "250 rows/s" in shown
    assert "1.00% rejected" in shown
    # The cursor is back.
    assert shown.rstrip().endswith("\x1b[?25h")
