"""Flags in, exit code out: what every program's command line does alike."""

import ast
import difflib
import inspect
import io
import itertools
import os
import re
import signal
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr
from dataclasses import field, fields, make_dataclass
from typing import TYPE_CHECKING, Annotated, NoReturn, TypeVar, get_type_hints

from sentiment import storage
from sentiment.errors import InputError

if TYPE_CHECKING:
    from rich.console import Console

Config = TypeVar("Config")

STEERS = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Controls, ends of lines, directions of writing, and halves of pairs, which are no text."""


class Failure(RuntimeError):
    """The work could not be finished, through no fault of the flags; one line, exit code 1."""


_terminated = threading.Event()
"""SIGTERM has come. An exception could not tell: of the handler's Ray makes one of its own."""


def run(program: Callable[[Config], None], config: type[Config]) -> NoReturn:
    """Parse `sys.argv` into the frozen dataclass `config`, call `program` with it, and exit.

    Exit codes: 0 done; 1 failed; 2 misuse (a flag, file, row or checkpoint that cannot be used);
    130 interrupted; 143 terminated. Only an error nobody foresaw shows a traceback. Ctrl-C once
    stops cleanly, twice at once; SIGTERM, which `ray job stop` sends, does what Ctrl-C does first.
    """
    # Whatever still asks Ray for something when a program has ended it would start another.
    os.environ.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")
    # A shell's background jobs ignore it.
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, _interrupt)
    _terminated.clear()
    signal.signal(signal.SIGTERM, terminate)
    try:
        program(_parse(config))
        sys.stdout.flush()
    except KeyboardInterrupt as interruption:
        code = 143 if _terminated.is_set() else 130
        sys.exit(_complain(str(interruption) or "interrupted", code))
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


def terminal() -> "Console | None":
    """The terminal that stdout is, if it is one on which a line can be drawn anew.

    On a dumb one, such as an editor's, a bar would show at the end.
    """
    from rich.console import Console

    console = Console()
    return console if sys.stdout.isatty() and not console.is_dumb_terminal else None


def count(number: int, noun: str) -> str:
    """`1 shard`, `1,200 shards`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def printable(text: str) -> str:
    """The text as a terminal may show it: what would steer it is written out, `\\x1b` and the like.

    Texts, names of files and columns, and what is wrong with them come from strangers. Characters
    that turn the direction of writing can make a line say what it does not.
    """
    return STEERS.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


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
    """The flags, or an InputError of one line that says what is wrong with them."""
    # Ray's workers import this module, and do without.
    import tyro

    main = sys.modules["__main__"]
    program = f"python -m {main.__spec__.name}" if main.__spec__ else None
    _require_known(config, sys.argv[1:])
    groups = _grouped(config)
    framed = io.StringIO()
    try:
        with redirect_stderr(framed):
            parsed = tyro.cli(
                groups, prog=program, description=_about(config), use_underscores=True
            )
    except SystemExit as end:
        if not end.code:  # --help
            raise
        wrong = _unframed(framed.getvalue())
        raise InputError(f"{wrong}; {program} --help explains the flags") from None
    found = vars(parsed)
    for title in getattr(config, "GROUPS", ()):
        found |= vars(found.pop(title))
    return config(**found)


def _grouped(config: type) -> type:
    """The same fields for tyro, where `config.GROUPS` names groups, by their first field, in a
    dataclass each: `--help` shows each in a box.
    """
    import tyro

    titles = {first: title for title, first in getattr(config, "GROUPS", {}).items()}
    types, explained = get_type_hints(config, include_extras=True), _explained(config)
    outer: list = []
    groups: dict[str, list] = {}
    into = outer
    for each in fields(config):
        if each.name in titles:
            into = groups.setdefault(titles[each.name], [])
        kind = Annotated[types[each.name], tyro.conf.arg(help=explained[each.name])]
        into.append((each.name, kind, field(default=each.default)))
    for title, its in groups.items():
        group = make_dataclass(title, its, kw_only=True)
        outer.append((title, tyro.conf.OmitArgPrefixes[group]))
    return make_dataclass(config.__name__, outer, kw_only=True)


def _explained(config: type) -> dict[str, str]:
    """The docstring below each field."""
    (node,) = ast.parse(textwrap.dedent(inspect.getsource(config))).body
    return {
        each.target.id: inspect.cleandoc(below.value.value)
        for each, below in itertools.pairwise(node.body)
        if isinstance(each, ast.AnnAssign) and isinstance(below, ast.Expr)
    }


def _about(config: type) -> str:
    """For `--help`: what the program does, and the commands that its module's docstring shows."""
    shown = re.findall(r"^ {4}.*$", sys.modules["__main__"].__doc__ or "", re.MULTILINE)
    examples = "\n".join(shown).replace("\\\\", "\\")
    about = inspect.cleandoc(config.__doc__ or "")
    return f"{about}\n\nExamples:\n{examples}" if examples else about


def _require_known(config: type, arguments: list[str]) -> None:
    """Raise an InputError for a flag that is not there, with the one that was probably meant."""
    names = [name for field in fields(config) for name in (field.name, f"no_{field.name}")]
    for argument in itertools.takewhile(lambda each: each != "--", arguments):
        flag = re.fullmatch(r"--([A-Za-z][\w-]*)(=.*)?", argument, re.DOTALL)
        name = flag[1].replace("-", "_") if flag else ""
        if flag and name not in [*names, "help"]:
            meant = difflib.get_close_matches(name, names, 1)
            hint = f"did you mean --{meant[0]}?" if meant else "--help shows those there are"
            raise InputError(f"there is no flag --{name}: {hint}")


def _unframed(box: str) -> str:
    """What is wrong with the flags, of what tyro says in a box, on one line."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", box)
    lines = [line.strip("│ ") for line in plain.splitlines() if not line.startswith(("╭", "╰"))]
    # Under the first rule follows what --help says.
    wrong = " ".join(itertools.takewhile(lambda line: set(line) != {"─"}, filter(None, lines)))
    flags = re.findall(r"(--\w+) .*?\(required\)", wrong)
    if flags:
        return f"{' and '.join(flags)} must be given"
    return wrong.removeprefix("Error parsing ").partition(" Got errors:")[0].rstrip(".")


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


def _print_into_the_void() -> None:
    """What is left to write goes nowhere, or Python would complain when it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
