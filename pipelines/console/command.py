"""What the command lines of all programs share: signals, errors and exit codes."""

import atexit
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import TYPE_CHECKING, NoReturn, TypeAlias, TypeVar

from pipelines.console.terminal import (
    dated,
    dating_lines,
    discard,
    is_one_log,
    printable,
    require_streams,
)
from pipelines.console.waiting import standard_error, waiting

if TYPE_CHECKING:
    from pipelines.errors import Failure
    from sentiment.errors import InputError

# Only light modules stand here: Ctrl-C has its handler before the heavy ones load.

Config = TypeVar("Config")

Program: TypeAlias = tuple[Callable[[Config], object], type[Config]]
"""A program's function, and the frozen dataclass of its flags."""

before_leaving: list[Callable[[], object]] = []
"""What a second Ctrl-C calls before it ends the program at once."""

_running = threading.Event()
"""`exit_code` runs."""

_terminated = threading.Event()
"""SIGTERM has come. An exception could not tell: Ray replaces what the handler raises."""

REPEAT_SECONDS = 0.05
"""Time until an interrupt that was swallowed is raised again."""


def is_program() -> bool:
    """Whether this process is one of the programs, so that signals and streams are its own.

    Otherwise another program calls a job, such as a notebook.
    """
    return _running.is_set()


def run(
    load: Callable[[], Program[Config]],
    program: str | None = None,
    doc: str | None = None,
    arguments: Sequence[str] | None = None,
) -> NoReturn:
    """Run a program, and exit with its `exit_code`; the arguments are the same."""
    _require_utf8()
    code: list[int] = []
    # What is registered first is called last.
    atexit.register(_end, code)
    code.append(exit_code(load, program, doc, arguments))
    sys.exit(code[0])


def _require_utf8() -> None:
    """Start this process again with UTF-8 file names, if its locale has another encoding.

    Arrow's paths are UTF-8 whatever the locale is. What is printed keeps the locale's encoding.
    """
    if sys.getfilesystemencoding() == "utf-8" or os.environ.get("PYTHONUTF8") == "1":
        return
    if sys.stdout is not None:
        os.environ.setdefault("PYTHONIOENCODING", sys.stdout.encoding)
    os.environ["PYTHONUTF8"] = "1"
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def exit_code(
    load: Callable[[], Program[Config]],
    program: str | None = None,
    doc: str | None = None,
    arguments: Sequence[str] | None = None,
) -> int:
    """Load a program, parse its flags, and run it; its exit code.

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
    require_streams()
    # Or Numba wraps standard output with colorama, where that is installed, which writes an escape
    # sequence to the terminal at the end.
    os.environ.setdefault("NUMBA_DISABLE_ERROR_MESSAGE_HIGHLIGHTING", "1")
    # A shell's background jobs ignore SIGINT.
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, _interrupt)
    _terminated.clear()
    signal.signal(signal.SIGTERM, terminate)
    sys.unraisablehook = _unraisable
    _running.set()
    main = sys.modules["__main__"]
    program = program or (f"python -m {main.__spec__.name}" if main.__spec__ else "program")
    try:
        # It takes a moment to load, too.
        from pipelines.console.flags import parse

        with _loading():
            function, config = load()
        flags = parse(
            config,
            program,
            main.__doc__ if doc is None else doc,
            sys.argv[1:] if arguments is None else arguments,
        )
        from pipelines.console.answering import require_answers

        with dating_lines():
            require_answers(flags)
            function(flags)
        sys.stdout.flush()
    except KeyboardInterrupt as interruption:
        code = 143 if _terminated.is_set() else 130
        return _complain(str(interruption) or "interrupted", code)
    except BrokenPipeError:
        discard(sys.stdout)  # `head` has seen enough.
        return _complain("the output is no longer read", 1)
    except Exception as error:
        known = foreseen(error)
        if known is None:
            raise
        return _complain(str(known), 2 if isinstance(known, ValueError) else 1)
    finally:
        _running.clear()
    return 0


def _loading() -> AbstractContextManager[object]:
    """What says on a terminal that the modules of a program load; a log needs no such line."""
    is_shown = sys.stderr.isatty()
    return waiting("Loading", stream=standard_error) if is_shown else nullcontext()


def terminate(number: int, frame: object) -> NoReturn:
    """Handler of SIGTERM: interrupt the program, once."""
    _terminated.set()
    _interrupt(number, frame)


def foreseen(error: Exception) -> "InputError | Failure | None":
    """The user's mistake or the failure that an error comes from; None: nobody foresaw it."""
    from pipelines.console.extras import which_extra
    from pipelines.errors import Failure, ShardChanged, Unavailable
    from sentiment.arrow_errors import without_details
    from sentiment.errors import InputError

    again, elsewhere = "run the same command again", "move it elsewhere and run again"
    for cause in _causes(error):
        if isinstance(cause, Unavailable | ShardChanged):
            return type(cause)(f"{cause}: {again}")
        # A disk or server: its message names the file, and a traceback would say no more.
        if isinstance(cause, OSError):
            is_in_the_way = isinstance(cause, IsADirectoryError | NotADirectoryError)
            remedy = elsewhere if is_in_the_way else again
            return Failure(f"{without_details(str(cause))}: {remedy}")
        if isinstance(cause, InputError | Failure):
            return cause
        if isinstance(cause, ModuleNotFoundError) and (hint := which_extra(cause.name)):
            return InputError(hint)
    return None


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


def _unraisable(error: "sys.UnraisableHookArgs") -> None:
    """What Python calls with an exception that cannot get out of a callback or destructor.

    There an interrupt would be lost, and the program would go on: llvmlite has such callbacks
    while it compiles. It is raised again a moment later.
    """
    if error.exc_type is not KeyboardInterrupt:
        sys.__unraisablehook__(error)
        return
    signal.signal(signal.SIGINT, _interrupt)
    # To the main thread, so that it does not sleep on.
    main_thread = threading.main_thread().ident
    again = threading.Timer(REPEAT_SECONDS, signal.pthread_kill, (main_thread, signal.SIGINT))
    again.daemon = True
    again.start()


def _end(code: Sequence[int]) -> None:
    """End the process as the last thing at its exit, without taking down the interpreter.

    Threads of Arrow may still hold bytes that Python gave them. One that then asks a dying
    interpreter for its lock ends the process by SIGABRT, which befell 1 of 50 short programs on a
    busy machine.

    Args:
        code: The exit code; empty: an exception says it, and the process ends as usual.
    """
    if code:
        for stream in filter(None, (sys.stdout, sys.stderr)):
            # One that is closed, or that nobody reads.
            with suppress(OSError, ValueError):
                stream.flush()
        os._exit(code[0])


def _leave(number: int, frame: object) -> NoReturn:
    if sys.stdout.isatty():
        os.write(1, b"\x1b[?25h")  # A progress bar hides the cursor.
    # `print` may be what was interrupted; file descriptor 2 may be closed by the Ray session.
    os.write(sys.stderr.fileno(), b"error: interrupted twice\n")
    for call in before_leaving:
        call()
    os._exit(130)


def _complain(message: str, code: int) -> int:
    line = f"error: {printable(' '.join(message.splitlines()))}"
    print(dated(line) if is_one_log() else line, file=sys.stderr)
    return code
