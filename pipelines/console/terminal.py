"""What programs print: lines, counts, and text from strangers made safe to show."""

import io
import math
import os
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TextIO, cast

UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters, line separators, bidirectional overrides and isolates, lone surrogates; not
the marks U+200E, U+200F and U+061C, which Hebrew and Arabic texts are typed with."""


def say(line: str, stream: TextIO | None = None) -> None:
    """Print a line at once, to `output()` by default; once its reader is gone, to nowhere.

    For programs whose work is not what they print.
    """
    stream = stream or output()
    try:
        show_for_now("", stream)
        if _dates_lines and not stream.isatty():
            line = dated(line.lstrip("\n"))
        print(line, file=stream, flush=True)
    except BrokenPipeError:
        discard(stream)


_dates_lines: list[bool] = []
"""Not empty while a block of `dating_lines` runs."""


@contextmanager
def dating_lines() -> Iterator[None]:
    """Context manager: lines of `say` and `warn` that go to no terminal, as in a log, begin with
    the local date and time."""
    _dates_lines.append(True)
    try:
        yield
    finally:
        _dates_lines.pop()


def dated(line: str) -> str:
    """`2026-11-27 19:30:05 line`, in local time, as cron and loggers write it."""
    return f"{time.strftime('%Y-%m-%d %H:%M:%S')} {line}"


def is_one_log() -> bool:
    """Whether standard output and standard error go to the same file or pipe, and to no terminal,
    as with `>> scoring.log 2>&1`."""
    try:
        files = [os.fstat(stream.fileno()) for stream in (sys.stdout, sys.stderr)]
    except (OSError, ValueError):
        return False
    return os.path.samestat(*files) and not sys.stderr.isatty()


_shown_for_now: list[TextIO] = []
"""The terminal whose last line is to be erased; empty: none is."""


def show_for_now(line: str, stream: TextIO) -> None:
    """Show a line on a terminal until the next one, in place of the last one; "": erase that."""
    with suppress(OSError, ValueError):  # The terminal is gone, or the stream closed.
        if _shown_for_now:
            _shown_for_now.pop().write("\r\x1b[2K")
        if line:
            stream.write(line)
            _shown_for_now.append(stream)
        stream.flush()


class _Nowhere(io.TextIOBase):
    """A stream that shows nothing."""

    def write(self, text: str) -> int:
        return len(text)


_NOWHERE: TextIO = cast(TextIO, _Nowhere())

_quiet: list[bool] = []
"""For each block of `quietly` that runs, whether it keeps warnings back, too."""


@contextmanager
def quietly(is_quiet: bool, warnings: bool = True) -> Iterator[None]:
    """Context manager: if `is_quiet`, nothing is shown but what `warn` prints.

    `sys.stdout` stays what it is: other threads of the process may print.

    Args:
        is_quiet: whether to do anything at all.
        warnings: whether to show what `warn` prints.
    """
    if not is_quiet:
        yield
        return
    _quiet.append(not warnings)
    try:
        yield
    finally:
        _quiet.pop()


def output() -> TextIO:
    """Where lines and progress are shown: standard output; within `quietly` nowhere."""
    return _NOWHERE if _quiet else sys.stdout


def warn(line: str) -> None:
    """Print a line, also within `quietly`."""
    say(line, _NOWHERE if any(_quiet) else sys.stdout)


def require_streams() -> None:
    """Make standard output and standard error fit for any text: a character that their encoding
    lacks is written as an escape. A stream that is closed is empty, or nowhere.
    """
    for name in ("stdin", "stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "r" if name == "stdin" else "w"))  # noqa: SIM115
        elif isinstance(stream, io.TextIOWrapper) and name != "stdin":
            stream.reconfigure(errors="backslashreplace")


def quantity(number: int, noun: str) -> str:
    """`1 shard`, `1,200 shards`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def percent(share: float, digits: int = 1) -> str:
    """`12.3%`, or `–` for NaN. 0.0% is none and 100.0% all: what only rounds to them is `<0.1%` or
    `>99.9%`.

    Args:
        share: from 0 to 1.
        digits: after the point.
    """
    if math.isnan(share):
        return "–"
    shown, least = f"{share:.{digits}%}", 10.0**-digits
    if share > 0 and shown == f"{0:.{digits}%}":
        return f"<{least:.{digits}f}%"
    if share < 1 and shown == f"{1:.{digits}%}":
        return f">{100 - least:.{digits}f}%"
    return shown


def printable(text: str) -> str:
    """The text with characters that could control a terminal escaped, as in `\\x1b`.

    Texts, file names, column names and error messages come from strangers. An override of the
    writing direction, for example, makes a line look like another one.
    """
    return UNSAFE.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def discard(stream: TextIO) -> None:
    """Point the stream at /dev/null, so that Python's exit does not raise BrokenPipeError."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
