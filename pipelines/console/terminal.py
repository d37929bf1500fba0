"""What programs print: lines, counts, and text from strangers made safe to show."""

import io
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters, line separators, bidirectional overrides and lone surrogates."""


def say(line: str, stream: TextIO | None = None) -> None:
    """Print a line at once, to standard output by default; once its reader is gone, to nowhere.

    For programs whose work is not what they print.
    """
    stream = stream or sys.stdout
    try:
        print(line, file=stream, flush=True)
    except BrokenPipeError:
        discard(stream)


_loud: list[TextIO] = []
"""Standard output, while `quietly` keeps others from it."""


@contextmanager
def quietly(is_quiet: bool) -> Iterator[None]:
    """Context manager: if `is_quiet`, standard output shows nothing but what `warn` prints."""
    if not is_quiet:
        yield
        return
    _loud.append(sys.stdout)
    try:
        with open(os.devnull, "w") as sys.stdout:
            yield
    finally:
        sys.stdout = _loud.pop()


def warn(line: str) -> None:
    """Print a line, also within `quietly`."""
    say(line, _loud[-1] if _loud else None)


def require_streams() -> None:
    """Make standard output and standard error fit for any text: a character that their encoding
    lacks is written as an escape, and one that is closed is nowhere.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def quantity(number: int, noun: str) -> str:
    """`1 shard`, `1,200 shards`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def printable(text: str) -> str:
    """The text with characters that could control a terminal escaped, as in `\\x1b`.

    Texts, file names, column names and error messages come from strangers. An override of the
    writing direction, for example, makes a line look like another one.
    """
    return UNSAFE.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def discard(stream: TextIO) -> None:
    """Point the stream at /dev/null, so that Python's exit does not raise BrokenPipeError."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
