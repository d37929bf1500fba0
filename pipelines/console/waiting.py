"""One line that says what a program waits for, where it would be silent for seconds."""

import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, TextIO

from pipelines.console.terminal import output, say, show_for_now

DELAY_SECONDS = 1.5
"""What takes less needs no word on a terminal, and what takes less than twice as much none on a
pipe, where it stays."""

COMPILE_DELAY_SECONDS = 0.3
"""The same of each function that is compiled."""


def standard_error() -> TextIO:
    """Where a program says what it waits for, whose standard output is data."""
    return sys.stderr


@contextmanager
def waiting(
    text: str, delay: float | None = None, stream: Callable[[], TextIO] = output
) -> Iterator[threading.Event]:
    """Context manager: say `text ...` unless the block ends within `delay` seconds.

    A terminal shows it until the block ends, or until the next line. The event is set once it is
    said.

    Args:
        text: What the program waits for.
        delay: Seconds, on a pipe twice as many; None: DELAY_SECONDS.
        stream: Where to say it, when the time has come.
    """
    seconds = DELAY_SECONDS if delay is None else delay
    said = threading.Event()
    shown_after = seconds if stream().isatty() else 2 * seconds
    timer = threading.Timer(shown_after, _show, (text, stream, said))
    timer.daemon = True
    timer.start()
    try:
        yield said
    finally:
        timer.cancel()
        timer.join()
        show_for_now("", stream())


@contextmanager
def compiling_said(stream: Callable[[], TextIO] = output) -> Iterator[None]:
    """Context manager: say so when Numba compiles our functions, which takes 20 s. A decorator.

    It compiles a function once on each machine, or in each process if it finds no directory for its
    cache. A process says how long that takes once: its other functions are part of it.
    """
    from numba.core import event  # Heavy, and only some programs use it.

    compilations = _Compilations(stream)
    methods = {"on_start": compilations.begin, "on_end": compilations.end}
    listener = type("Listener", (event.Listener,), methods)()
    with event.install_listener("numba:compile", listener):
        yield


class _Compilations:
    """What Numba compiles now: a function, and those that it calls."""

    is_said = False
    """Whether this process has said how long that takes."""

    def __init__(self, stream: Callable[[], TextIO]) -> None:
        self._stream = stream
        self._lock = threading.Lock()
        self._depth = 0
        self._line = ExitStack()
        self._said = threading.Event()

    def begin(self, event: Any) -> None:
        """Numba begins to compile a function."""
        dispatcher = event.data["dispatcher"]
        with self._lock:
            self._depth += 1
            is_ours = dispatcher.py_func.__module__.startswith(("sentiment.", "pipelines."))
            if self._depth > 1 or not is_ours:
                return
            # On a pipe each line stays.
            if _Compilations.is_said and not self._stream().isatty():
                return
            if _Compilations.is_said:
                text = "Compiling"
            elif dispatcher.stats.cache_path is None:
                text = "Compiling, some 20 s in each process: set NUMBA_CACHE_DIR to a directory"
            else:
                text = "Compiling what is used for the first time on this machine: some 20 s"
            line = waiting(text, COMPILE_DELAY_SECONDS, self._stream)
            self._said = self._line.enter_context(line)

    def end(self, event: Any) -> None:
        """Numba has compiled a function."""
        with self._lock:
            self._depth -= 1
            if not self._depth:
                self._line.close()
                _Compilations.is_said |= self._said.is_set()


def _show(text: str, stream: Callable[[], TextIO], said: threading.Event) -> None:
    said.set()
    line = f"{text} ..."
    if stream().isatty():
        # A line that wraps could not be erased.
        show_for_now(line[: shutil.get_terminal_size().columns - 1], stream())
    else:
        say(line, stream())
