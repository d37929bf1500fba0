"""Command-line flags: parsed by tyro into a frozen dataclass, or one line that says what is wrong.

A config may have these static members:

- `GROUPS: dict[title, field name]`: groups of its fields, each by its first field. `--help` shows
  each group in a box.
- `from_files(given: Mapping[str, str]) -> dict[str, Any]`: values that files set, which flags
  override. `given` are the flags on the command line, as text by name.
- `more_help(width: int) -> str`: what `--help` says after the examples, in lines of that width.
"""

import difflib
import inspect
import io
import re
import shutil
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import redirect_stderr
from dataclasses import MISSING, field, fields, make_dataclass
from itertools import pairwise, takewhile
from typing import Annotated, Any, TypeVar, get_type_hints

import docstring_parser
import tyro

from sentiment.errors import InputError

Config = TypeVar("Config")

PATHS = (
    *("input", "output", "checkpoints", "config"),
    *("unlabelled", "initial_checkpoint", "initial_vectors"),
)
PATH_ENDINGS = ("_dir", "_root", "_file")
"""Names of flags that have paths."""

MAX_HELP_COLUMNS = 100
"""Longer lines of text are hard to read, however wide the terminal is."""


def parse(config: type[Config], program: str, doc: str | None, arguments: Sequence[str]) -> Config:
    """The flags as a `config`, or an InputError of one line; `--help` prints help and exits.

    tyro prints an error as paragraphs in a box and has no hook for its text. So the flags' names
    are checked here, and of a wrong value the first paragraph is taken out of the box. Nor does it
    wrap a description; so it is printed here, before tyro's usage and flags.

    Args:
        config: Frozen dataclass with a docstring below each field.
        program: Command that `--help` shows.
        doc: Docstring whose indented lines are examples for `--help`.
        arguments: Command line without the program.
    """
    _require_names(config, program, arguments)
    asks_for_help = _asks_for_help(arguments)
    if asks_for_help:
        columns = shutil.get_terminal_size().columns
        print(_description(config, doc, min(columns, MAX_HELP_COLUMNS)), end="\n\n")
    from_files = getattr(config, "from_files", None)
    set_by_files = from_files(dict(_flags(arguments))) if from_files and not asks_for_help else {}
    box = io.StringIO()
    try:
        with redirect_stderr(box):
            parsed: Any = tyro.cli(
                _nested(config, set_by_files),
                prog=program,
                description="",
                args=arguments,
                use_underscores=True,
                config=(tyro.conf.OmitArgPrefixes,),
            )
    except SystemExit as end:
        if not end.code:  # --help
            raise
        _, *lines = [line.strip("│─╭╮╰╯ ") for line in box.getvalue().splitlines()]
        message = " ".join(takewhile(bool, lines)).removeprefix("Error parsing ").rstrip(".")
        message = re.sub(r"Missing value for argument '(--\w+).*", r"\1 needs a value", message)
        raise InputError(f"{message}; {program} --help explains the flags") from None
    values: dict[str, Any] = vars(parsed)
    for title in getattr(config, "GROUPS", {}):
        values |= vars(values.pop(title))
    positional, given = _positional(config), {name for name, _ in _flags(arguments)}
    for name, value in values.items():
        if _is_path(name) and value == () and name in given:
            raise InputError(f"--{name} needs a path: is a variable not set?")
        if _is_path(name) and "" in (value, *(value if isinstance(value, tuple) else ())):
            flag = name if name in positional else f"--{name}"
            raise InputError(f"{flag} has an empty path: is a variable not set?")
    return config(**values)


def _is_path(name: str) -> bool:
    """Whether a flag has paths, as its name tells."""
    return name in PATHS or name.endswith(PATH_ENDINGS)


def _positional(config: type) -> set[str]:
    """Names of the fields that stand on the command line without them."""
    types = get_type_hints(config, include_extras=True)
    return {
        name
        for name, annotation in types.items()
        if tyro.conf.Positional in getattr(annotation, "__metadata__", ())
    }


def _require_names(config: type, program: str, arguments: Sequence[str]) -> None:
    """Raise an InputError for a flag that does not exist, or for required flags not given."""
    names = [name for each in fields(config) for name in (each.name, f"no_{each.name}")]
    given = [name for name, _ in _flags(arguments)]
    for name in given:
        if name not in (*names, "help"):
            meant = difflib.get_close_matches(name, names, 1)
            hint = f"did you mean --{meant[0]}?" if meant else "--help lists all flags"
            raise InputError(f"there is no flag --{name}: {hint}")
    positional = _positional(config)
    required = [
        each.name
        for each in fields(config)
        if each.default is MISSING and each.name not in positional
    ]
    missing = [f"--{name}" for name in required if name not in given]
    if missing and not _asks_for_help(arguments):
        raise InputError(f"{' and '.join(missing)} must be given; {program} --help has examples")


def _asks_for_help(arguments: Sequence[str]) -> bool:
    return bool({"-h", "--help"} & set(takewhile(lambda each: each != "--", arguments)))


def _flags(arguments: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Names of the flags on a command line, without dashes, and what follows each; `--` ends them.

    What follows a flag without a value is of no use.
    """
    before = list(takewhile(lambda each: each != "--", arguments))
    for argument, following in pairwise([*before, ""]):
        if match := re.match(r"--([A-Za-z][\w-]*)(=|$)", argument):
            value = argument[match.end() :] if match[2] else following
            yield match[1].replace("-", "_"), value


def _nested(config: type, defaults: Mapping[str, Any]) -> type:
    """A dataclass with the same fields, those of a group nested: tyro gives each group a box.

    `defaults` replace those of the fields.
    """
    titles = {first: title for title, first in getattr(config, "GROUPS", {}).items()}
    types = get_type_hints(config, include_extras=True)
    docs = {
        each.arg_name: each.description
        for each in docstring_parser.parse_from_object(config).params
    }
    groups: dict[str, list[tuple[str, Any, Any]]] = {"": []}
    title = ""
    for each in fields(config):
        title = titles.get(each.name, title)
        default = defaults.get(each.name, each.default)
        help_text = tyro.conf.arg(help=" ".join((docs[each.name] or "").split()))
        flag = each.name, Annotated[types[each.name], help_text], field(default=default)
        groups.setdefault(title, []).append(flag)
    outer: list[Any] = [*groups.pop("")]
    for title, flags in groups.items():
        outer.append((title, make_dataclass(title, flags, kw_only=True)))
    return make_dataclass(config.__name__, outer, kw_only=True)


def _description(config: type, doc: str | None, width: int) -> str:
    """What the program does, and example commands: the indented lines of a docstring.

    Its lines have at most `width` characters, save for words that are longer.
    """
    paragraphs = inspect.cleandoc(config.__doc__ or "").split("\n\n")
    about = "\n\n".join(_paragraph(each, width) for each in paragraphs)
    lines = re.findall(r"^ {4}.*$", doc or "", re.MULTILINE)
    commands = re.sub(r" *\\+\n *", " ", "\n".join(map(str.strip, lines))).splitlines()
    examples = "\n".join(_command(command, width) for command in commands)
    more_help = getattr(config, "more_help", None)
    return "\n\n".join(
        [
            about,
            *([f"Examples:\n{examples}"] if examples else []),
            *([more_help(width)] if more_help else []),
        ]
    )


def _paragraph(text: str, width: int) -> str:
    """A paragraph in lines of `width` characters. One with indented lines stays, if it fits."""
    lines = text.splitlines()
    if any(line.startswith(" ") for line in lines) and max(map(len, lines)) <= width:
        return text
    return textwrap.fill(" ".join(text.split()), width)


def _command(command: str, width: int) -> str:
    """A command for a shell, broken before flags into lines of `width` characters, if it can be."""
    first, *flags = re.split(r" (?=--\w)", command)
    lines = [f"    {first}"]
    for flag in flags:
        if len(lines[-1]) + len(f" {flag} \\") <= width:
            lines[-1] += f" {flag}"
        else:
            lines.append(f"        {flag}")
    return " \\\n".join(lines)
