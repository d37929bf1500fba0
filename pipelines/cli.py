"""Flags in, exit code out: what every program's command line does alike."""

import sys
from collections.abc import Callable
from typing import NoReturn, TypeVar

import tyro

from sentiment.errors import InputError

Config = TypeVar("Config")


class Failure(RuntimeError):
    """The work could not be finished, through no fault of the flags; one line, exit code 1."""


def run(program: Callable[[Config], None], config: type[Config]) -> NoReturn:
    """Parse `sys.argv` into the frozen dataclass `config`, call `program` with it, and exit.

    Exit codes: 0 done; 1 failed; 2 misuse (a flag, file, row or checkpoint that cannot be used);
    130 interrupted. Only an error nobody foresaw shows a traceback.
    """
    name = sys.modules["__main__"].__spec__.name
    try:
        program(tyro.cli(config, prog=f"python -m {name}", use_underscores=True))
    except KeyboardInterrupt:
        sys.exit(_complain("interrupted", 130))
    except Exception as error:
        for cause in _causes(error):
            if isinstance(cause, InputError):
                sys.exit(_complain(cause, 2))
            if isinstance(cause, Failure):
                sys.exit(_complain(cause, 1))
        raise
    sys.exit(0)


def require(holds: bool, flag: str, value: object, wanted: str) -> None:
    """Raise an InputError that names the flag, its value and what would do, unless it holds."""
    if not holds:
        raise InputError(f"--{flag} is {value}; it must be {wanted}")


def require_encoding(encoding: str) -> None:
    """Raise an InputError unless Python has a text codec of that name."""
    try:
        "".encode(encoding)
    except LookupError:
        raise InputError(
            f"--encoding {encoding} is unknown; examples: utf-8, latin-1, cp1252, utf-16"
        ) from None


def _causes(error: BaseException | None):
    """The error and what it wraps: Ray carries a task's own exception inside `.cause`."""
    while error is not None:
        yield error
        error = getattr(error, "cause", None) or error.__cause__


def _complain(message: object, code: int) -> int:
    print(f"error: {message}", file=sys.stderr)
    return code
