"""What takes seconds is said: for a while on a terminal, in one line on a pipe."""

import io
import time

import pytest
from numba import njit

from pipelines.console import waiting as module
from pipelines.console.terminal import say
from pipelines.console.waiting import compiling_said, waiting

ERASED = "\r\x1b[2K"


class Stream(io.StringIO):
    """A terminal, or a pipe."""

    def __init__(self, is_terminal: bool) -> None:
        super().__init__()
        self.is_terminal = is_terminal

    def isatty(self) -> bool:
        return self.is_terminal


def shown(stream: Stream) -> None:
    deadline = time.monotonic() + 10
    while not stream.getvalue() and time.monotonic() < deadline:
        time.sleep(0.01)


@pytest.mark.parametrize("is_terminal", [True, False])
def test_what_is_quick_needs_no_word(is_terminal):
    stream = Stream(is_terminal)
    with waiting("Loading", 60, lambda: stream):
        pass
    assert stream.getvalue() == ""


def test_a_pipe_gets_one_line():
    stream = Stream(False)
    with waiting("Loading", 0, lambda: stream):
        shown(stream)
        say("Loaded", stream)
    assert stream.getvalue() == "Loading ...\nLoaded\n"


def test_a_terminal_shows_it_until_the_next_line_or_the_end(monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    stream = Stream(True)
    with waiting("Loading", 0, lambda: stream):
        shown(stream)
        say("Loaded", stream)
    assert stream.getvalue() == f"Loading ...{ERASED}Loaded\n"
    stream = Stream(True)
    with waiting("x" * 100, 0, lambda: stream):
        shown(stream)
    assert stream.getvalue() == "x" * 59 + ERASED


def compiled(name: str):
    """A function of a module, which compiles another one."""

    @njit
    def twice(number):
        return 2 * number

    def four_times(number):
        return twice(twice(number))

    four_times.__module__ = name
    return njit(four_times)


@pytest.mark.parametrize("is_terminal", [True, False])
def test_compiling_is_said_once_where_each_line_stays(is_terminal, monkeypatch):
    monkeypatch.setattr(module._Compilations, "is_said", False)
    stream = Stream(is_terminal)
    with compiling_said(lambda: stream):
        assert compiled("sentiment.text")(1) == 4  # Too quick for a word.
        monkeypatch.setattr(module, "COMPILE_DELAY_SECONDS", 0)
        assert compiled("someone.else")(1) == 4
        assert stream.getvalue() == ""
        for _ in range(2):
            assert compiled("sentiment.text")(1) == 4
    assert compiled("sentiment.text")(1) == 4
    with compiling_said(lambda: stream):  # Another job in the same process.
        assert compiled("pipelines.sources")(1) == 4
    text = "Compiling, some 20 s in each process: set NUMBA_CACHE_DIR to a directory ..."
    assert stream.getvalue() == (
        text + ERASED + 2 * f"Compiling ...{ERASED}" if is_terminal else f"{text}\n"
    )
