"""What the command lines of all programs share: signals, errors and exit codes."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import NoReturn, TypeAlias, TypeVar

from pipelines.console.terminal import discard, printable

# Only light modules stand here: Ctrl-C has its handler before the heavy ones load.

Config = TypeVar("Config")

Program: TypeAlias = tuple[Callable[[Config], None], type[Config]]
"""A program's function, and the frozen dataclass of its flags."""

before_leaving: list[Callable[[], object]] = []
"""What a second Ctrl-C calls before it ends the program at once."""

_terminated = threading.Event()
"""SIGTERM has come. An exception could not tell: Ray replaces what the handler raises."""


def run(
    load: Callable[[], Program[Config]],
    program: str | None = None,
    doc: str | None = None,
    arguments: Sequence[str] | None = None,
) -> NoReturn:
    """Load a program, parse its flags, run it, and exit.

    Exit codes: 0 done; 1 failed; 2 misuse (a flag, file, row or checkpoint that cannot be used, or
    a package that is not installed); 130 interrupted; 143 terminated. Only an unforeseen error
    shows a traceback. Ctrl-C once stops cleanly, twice at once. SIGTERM, which `ray job stop`
    sends, acts like the first Ctrl-C.

    Args:
        load: Imports the program and returns it.
        program: Its name on the command line; None: `python -m MODULE`.
        doc: Docstring with example commands for `--help`; None: that of `__main__`.
        arguments: Command line without the program's name; None: `sys.argv`.
    """
    # A shell's background jobs ignore SIGINT.
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, _interrupt)
    _terminated.clear()
    signal.signal(signal.SIGTERM, terminate)
    main = sys.modules["__main__"]
    program = program or (f"python -m {main.__spec__.name}" if main.__spec__ else "program")
    try:
        # It takes a moment to load, too.
        from pipelines.console.flags import parse

        function, config = load()
        function(
            parse(
                config,
                program,
                main.__doc__ if doc is None else doc,
                sys.argv[1:] if arguments is None else arguments,
            )
        )
        sys.stdout.flush()
    except KeyboardInterrupt as interruption:
        code = 143 if _terminated.is_set() else 130
        sys.exit(_complain(str(interruption) or "interrupted", code))
    except BrokenPipeError:
        discard(sys.stdout)  # `head` has seen enough.
        sys.exit(_complain("the output is no longer read", 1))
    except Exception as error:
        message, code = _explain(error)
        if not message:
            raise
        sys.exit(_complain(message, code))
    sys.exit(0)


def terminate(number: int, frame: object) -> NoReturn:
    """Handler of SIGTERM: interrupt the program, once."""
    _terminated.set()
    _interrupt(number, frame)


def _explain(error: Exception) -> tuple[str, int]:
    """Message and exit code of an error that was foreseen; otherwise an empty message."""
    from pipelines.console.extras import which_extra
    from pipelines.errors import Failure
    from sentiment.arrow_errors import without_details
    from sentiment.errors import InputError

    for cause in _causes(error):
        if isinstance(cause, Failure):
            return str(cause), 1
        if isinstance(cause, InputError):
            return str(cause), 2
        # A disk or server: its message names the file, and a traceback would say no more.
        if isinstance(cause, OSError):
            return f"{without_details(str(cause))}: run the same command again", 1
        if isinstance(cause, ModuleNotFoundError) and (hint := which_extra(cause.name)):
            return hint, 2
    return "", 1


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error and what it was raised from, from the outside in.

    Ray raises a task's exception wrapped in another one, which carries it as `.cause`, has its
    type, too, and has a traceback for a message. The wrapper is left out.
    """
    while error is not None:
        wrapped = getattr(error, "cause", None)
        if not isinstance(wrapped, BaseException):
            yield error
            wrapped = error.__cause__
        error = wrapped


def _interrupt(number: int, frame: object) -> NoReturn:
    signal.signal(signal.SIGINT, _leave)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise KeyboardInterrupt


def _leave(number: int, frame: object) -> NoReturn:
    if sys.stdout.isatty():
        os.write(1, b"\x1b[?25h")  # A progress bar hides the cursor.
    # `print` may be what was interrupted; file descriptor 2 may be closed by the Ray session.
    os.write(sys.stderr.fileno(), b"error: interrupted twice\n")
    for call in before_leaving:
        call()
    os._exit(130)


def _complain(message: str, code: int) -> int:
    print("error:", printable(" ".join(message.splitlines())), file=sys.stderr)
    return code
