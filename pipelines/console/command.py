"""Flags in, exit code out: what every program's command line does alike."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import NoReturn, TypeVar

from pipelines.console.flags import parse
from pipelines.console.terminal import discard, printable
from pipelines.errors import Failure
from sentiment import arrow_errors
from sentiment.errors import InputError

Config = TypeVar("Config")

_terminated = threading.Event()
"""SIGTERM has come. An exception could not tell: of the handler's Ray makes one of its own."""


def run(program: Callable[[Config], None], config: type[Config]) -> NoReturn:
    """Parse `sys.argv` into the frozen dataclass `config`, call `program` with it, and exit.

    Exit codes: 0 done; 1 failed; 2 misuse (a flag, file, row or checkpoint that cannot be used);
    130 interrupted; 143 terminated. Only an error nobody foresaw shows a traceback. Ctrl-C once
    stops cleanly, twice at once; SIGTERM, which `ray job stop` sends, does what Ctrl-C does first.
    """
    # A shell's background jobs ignore it.
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, _interrupt)
    _terminated.clear()
    signal.signal(signal.SIGTERM, terminate)
    try:
        program(parse(config))
        sys.stdout.flush()
    except KeyboardInterrupt as interruption:
        code = 143 if _terminated.is_set() else 130
        sys.exit(_complain(str(interruption) or "interrupted", code))
    except BrokenPipeError:
        discard(sys.stdout)  # `head` has seen enough.
        sys.exit(_complain("the output is no longer read", 1))
    except Exception as error:
        causes = list(_causes(error))
        away = [cause for cause in causes if arrow_errors.is_outage(cause)]
        for cause in causes:
            if isinstance(cause, Failure):
                sys.exit(_complain(cause, 1))
            if isinstance(cause, InputError) and not away:
                sys.exit(_complain(cause, 2))
        if away:
            sys.exit(_complain(f"{away[0]}: run the same command again", 1))
        raise
    sys.exit(0)


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


def terminate(number: int, frame: object) -> NoReturn:
    """What SIGTERM does: interrupts the program, once."""
    _terminated.set()
    _interrupt(number, frame)


def _interrupt(number: int, frame: object) -> NoReturn:
    signal.signal(signal.SIGINT, _leave)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise KeyboardInterrupt


def _leave(number: int, frame: object) -> NoReturn:
    if sys.stdout.isatty():
        os.write(1, b"\x1b[?25h")  # A bar hides the cursor.
    # Not `print`, which may be what was interrupted; and not 2, which Ray's session has closed.
    os.write(sys.stderr.fileno(), b"error: interrupted twice\n")
    os._exit(130)


def _complain(message: object, code: int) -> int:
    print("error:", printable(" ".join(str(message).splitlines())), file=sys.stderr)
    return code
