"""How shards are read: what the flags of a program say of all of them."""

import codecs
from dataclasses import dataclass

from pipelines.sources.format_files import FORMAT_FILES
from sentiment.errors import InputError

NO_QUOTE = "none"
"""Value of `--quote` and `--escape`: there is no such character."""

FORMAT_NAMES = tuple(FORMAT_FILES)
"""Values of `--format`."""

_NAMES = {"\\t": "\t", "tab": "\t"}


@dataclass(frozen=True)
class ReadOptions:
    """How shards are read. Formats ignore what does not concern them."""

    encoding: str = "utf-8"
    """Encoding of text files, as Python names it. A byte order mark in a file overrides it."""
    delimiter: str | None = None
    """CSV: what separates fields, one ASCII character; None: as the name or the header says."""
    quote: str = '"'
    """CSV: what begins and ends a field that may hold delimiters and line breaks; "none"."""
    escape: str | None = None
    """CSV: what makes the next quote or escape character a plain one; "none": only doubled quotes
    are plain ones; None: the same, and a row that this may be wrong for is refused."""
    columns: tuple[str, ...] = ()
    """CSV: names of the columns of files without a header; (): the first line names them."""
    format: str | None = None
    """Format of `.txt` files and of those whose names do not tell it, one of FORMAT_NAMES."""
    fields: tuple[str, ...] = ()
    """Columns that are asked for by name. JSON lines: those with dots may be nested fields."""

    def __post_init__(self) -> None:
        try:
            "".encode(self.encoding)
        except (LookupError, ValueError):
            raise InputError(
                f"--encoding {self.encoding} is unknown; examples: utf-8, latin-1, cp1252, utf-16"
            ) from None
        for flag, value in (
            ("delimiter", self.delimiter),
            ("quote", self.quote),
            ("escape", self.escape),
        ):
            if value is None or (value == NO_QUOTE and flag != "delimiter"):
                continue
            if _byte(value) is None:
                wanted = "one ASCII character, such as ';' or '\\t'"
                if flag != "delimiter":
                    wanted = "one ASCII character, or none"
                raise InputError(f"--{flag} is {value!r}; it must be {wanted}")
        given = [self.delimiter or ",", self.quote, self.escape or NO_QUOTE]
        bytes_ = [_byte(value) for value in given if value != NO_QUOTE]
        if len(set(bytes_)) < len(bytes_):
            raise InputError("--delimiter, --quote and --escape must be different characters")
        if len(set(self.columns)) < len(self.columns) or "" in self.columns:
            raise InputError(f"--columns {' '.join(self.columns)}: each name must be another one")
        if self.format is not None and self.format not in FORMAT_NAMES:
            raise InputError(f"--format is {self.format}; it must be {', '.join(FORMAT_NAMES)}")

    @property
    def delimiter_byte(self) -> int | None:
        """The delimiter; None: it is not given."""
        return None if self.delimiter is None else _byte(self.delimiter)

    @property
    def quote_byte(self) -> int | None:
        """The quote; None: there is none."""
        return _byte(self.quote)

    @property
    def escape_byte(self) -> int | None:
        """The escape character; None: there is none."""
        return None if self.escape is None else _byte(self.escape)

    @property
    def is_utf8(self) -> bool:
        """Whether text files are UTF-8 unless they say otherwise."""
        return codecs.lookup(self.encoding).name == "utf-8"


def _byte(value: str) -> int | None:
    """The character that a flag names, as a byte; None: it names none."""
    value = _NAMES.get(value, value)
    if len(value) != 1 or not value.isascii() or value in "\r\n\0":
        return None
    return ord(value)
