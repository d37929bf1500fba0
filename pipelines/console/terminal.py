"""What programs print: lines, counts, and text from strangers made safe to show."""

import os
import re
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

STEERS = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Controls, ends of lines, directions of writing, and halves of pairs, which are no text."""


def say(line: str) -> None:
    """Print a line at once; into the void, for good, where nobody reads any more.

    For programs whose work is not what they print.
    """
    try:
        print(line, flush=True)
    except BrokenPipeError:
        discard_stdout()


def live_console() -> "Console | None":
    """The terminal that stdout is, if it is one on which a line can be drawn anew.

    On a dumb one, such as an editor's, a bar would show at the end.
    """
    from rich.console import Console

    console = Console()
    return console if sys.stdout.isatty() and not console.is_dumb_terminal else None


def quantity(number: int, noun: str) -> str:
    """`1 shard`, `1,200 shards`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def printable(text: str) -> str:
    """The text as a terminal may show it: what would steer it is written out, `\\x1b` and the like.

    Texts, names of files and columns, and what is wrong with them come from strangers. Characters
    that turn the direction of writing can make a line say what it does not.
    """
    return STEERS.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def discard_stdout() -> None:
    """What is left to write goes nowhere, or Python would complain when it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
