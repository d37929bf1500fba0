"""Flags in, exit code out: what every program's command line does alike."""

import io
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr
from typing import NoReturn, TypeVar

from sentiment import storage
from sentiment.errors import InputError

Config = TypeVar("Config")

_STEERS = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Controls, ends of lines, directions of writing, and halves of pairs, which are no text."""


class Failure(RuntimeError):
    """The work could not be finished, through no fault of the flags; one line, exit code 1."""


def run(program: Callable[[Config], None], config: type[Config]) -> NoReturn:
    """Parse `sys.argv` into the frozen dataclass `config`, call `program` with it, and exit.

    Exit codes: 0 done; 1 failed; 2 misuse (a flag, file, row or checkpoint that cannot be used);
    130 interrupted. Only an error nobody foresaw shows a traceback.
    """
    try:
        program(_parse(config))
        sys.stdout.flush()
    except KeyboardInterrupt as interruption:
        sys.exit(_complain(str(interruption) or "interrupted", 130))
    except BrokenPipeError:
        _print_into_the_void()  # `head` has seen enough.
        sys.exit(_complain("the output is no longer read", 1))
    except Exception as error:
        causes = list(_causes(error))
        away = [cause for cause in causes if storage.is_away(cause)]
        for cause in causes:
            if isinstance(cause, Failure):
                sys.exit(_complain(cause, 1))
            if isinstance(cause, InputError) and not away:
                sys.exit(_complain(cause, 2))
        if away:
            sys.exit(_complain(f"{away[0]}: run the same command again", 1))
        raise
    sys.exit(0)


def say(line: str) -> None:
    """Print a line at once; into the void, for good, where nobody reads any more.

    For programs whose work is not what they print.
    """
    try:
        print(line, flush=True)
    except BrokenPipeError:
        _print_into_the_void()


def count(number: int, noun: str) -> str:
    """`1 shard`, `1,200 shards`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def printable(text: str) -> str:
    """The text as a terminal may show it: what would steer it is written out, `\\x1b` and the like.

    Texts, names of files and columns, and what is wrong with them come from strangers. Characters
    that turn the direction of writing can make a line say what it does not.
    """
    return _STEERS.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def require(holds: bool, flag: str, value: object, wanted: str) -> None:
    """Raise an InputError that names the flag, its value and what would do, unless it holds."""
    if not holds:
        raise InputError(f"--{flag} is {value}; it must be {wanted}")


def require_encoding(encoding: str) -> None:
    """Raise an InputError unless Python has a text codec of that name."""
    try:
        "".encode(encoding)
    except (LookupError, ValueError):
        raise InputError(
            f"--encoding {encoding} is unknown; examples: utf-8, latin-1, cp1252, utf-16"
        ) from None


def _parse(config: type[Config]) -> Config:
    """The flags, or an InputError: tyro frames what is wrong with them, over several lines."""
    # Ray's workers import this module, and do without.
    import tyro

    spec = sys.modules["__main__"].__spec__
    framed = io.StringIO()
    try:
        with redirect_stderr(framed):
            return tyro.cli(
                config, prog=f"python -m {spec.name}" if spec else None, use_underscores=True
            )
    except SystemExit as end:
        if not end.code:  # --help
            raise
        # To tyro, what __post_init__ raises is one more value that does not parse.
        if isinstance(end.__context__, InputError):
            raise end.__context__ from None
        raise InputError(_unframed(framed.getvalue())) from None


def _unframed(box: str) -> str:
    """The text in a box of tyro's, without its title, on one line."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", box)
    lines = [line.strip("│ ") for line in plain.splitlines() if not line.startswith(("╭", "╰"))]
    return " ".join("|" if set(line) == {"─"} else line for line in lines if line)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error and what it was raised from, from the outside in.

    Ray raises a task's own exception wrapped in one that carries it as `.cause`, is of its type
    too, and has a traceback for a message: what wraps is left out.
    """
    while error is not None:
        wrapped = getattr(error, "cause", None)
        if not isinstance(wrapped, BaseException):
            yield error
            wrapped = error.__cause__
        error = wrapped


def _complain(message: object, code: int) -> int:
    print("error:", printable(" ".join(str(message).splitlines())), file=sys.stderr)
    return code


def _print_into_the_void() -> None:
    """What is left to write goes nowhere, or Python would complain when it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
