"""What programs print: lines, counts, and text from strangers made safe to show."""

import os
import re
import sys
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
