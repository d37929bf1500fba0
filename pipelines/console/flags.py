"""Flags: from `sys.argv` into a frozen dataclass, or one line that says what is wrong."""

import ast
import difflib
import inspect
import io
import itertools
import re
import sys
import textwrap
from contextlib import redirect_stderr
from dataclasses import field, fields, make_dataclass
from typing import Annotated, TypeVar, get_type_hints

from sentiment.errors import InputError

Config = TypeVar("Config")


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


def parse(config: type[Config]) -> Config:
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
