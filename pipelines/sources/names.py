"""What the name of a file tells: its format, its compression, and values of its directories."""

import posixpath
import re
import urllib.parse
from collections.abc import Sequence
from dataclasses import dataclass

from pipelines.sources.format_files import FORMAT_OF
from sentiment.errors import InputError

_COMPRESSION_OF = {
    ".gz": "gzip",
    ".gzip": "gzip",
    ".zst": "zstd",
    ".zstd": "zstd",
    ".bz2": "bz2",
}
"""Compressions of whole files, as Arrow names them."""

CODECS = (*_COMPRESSION_OF, ".snappy", ".lz4", ".br", ".brotli", ".lzo")
"""Behind `.parquet`: how the pages inside are compressed."""

FETCHED = "_fetched.json"
"""Name of the record that `pipelines.fetch` leaves in a directory."""

TEXT_OR_TABLE = ".txt"
"""The extension of texts, and of many a table."""

NULL_PARTITION = "__HIVE_DEFAULT_PARTITION__"

_UNSAFE_IN_DIRECTORY = re.compile(r"""[\x00-\x1f"#%'*/:=?\\\x7f{\[\]^]""")
"""Characters that Hive escapes in the names of directories."""


@dataclass(frozen=True)
class FileName:
    """What a file's name tells."""

    format: str | None
    """A key of FORMAT_FILES; None: the name does not tell."""
    compression: str | None
    """How the whole file is compressed, as Arrow names it."""
    extension: str
    """Its extension, in small letters, for messages; "": it has none."""


def file_name(path: str) -> FileName:
    """What the name of a path or URI tells. Upper and lower case are the same."""
    stem, extension = _split(posixpath.basename(path).lower())
    _, inner = _split(stem)
    if extension in CODECS and FORMAT_OF.get(inner) == "parquet":
        return FileName("parquet", None, inner + extension)
    if extension in _COMPRESSION_OF:
        return FileName(FORMAT_OF.get(inner), _COMPRESSION_OF[extension], inner)
    return FileName(FORMAT_OF.get(extension), None, extension)


def format_told(path: str, given: str | None) -> str | None:
    """The format that the name of a file tells; None: it does not.

    Tables are often exported as `.txt`, so `--format`, if it is given, says what such files are;
    `.text` is always text.
    """
    name = file_name(path)
    return given or name.format if name.extension == TEXT_OR_TABLE else name.format


def partitions(path: str) -> dict[str, str | None]:
    """The values that directories named `key=value` give all rows of a file; None: null."""
    _, separator, rest = path.partition("://")
    directory = posixpath.dirname(urllib.parse.unquote(rest) if separator else path)
    values: dict[str, str | None] = {}
    for name in directory.split("/"):
        key, equals, value = name.partition("=")
        if key and equals:
            decoded = urllib.parse.unquote(value)
            values[urllib.parse.unquote(key)] = None if decoded == NULL_PARTITION else decoded
    return values


def require_keys(paths: Sequence[str], keys: Sequence[str], flag: str) -> None:
    """Raise an InputError that names the flag if none of the files is below `key=...`."""
    if not keys:
        return
    known = sorted({key for path in paths for key in partitions(path)})
    for key in keys:
        if key not in known:
            raise InputError(
                f"{flag}: no directory is named {key}=...; the keys there are: "
                f"{', '.join(known) or 'none'}"
            )


def partition_directory(path: str, keys: Sequence[str]) -> str:
    """The directory of an output that a file's rows belong into: `key=value/`, for each key.

    The values are those of `partitions`, with the escapes that Hive and Spark write.
    """
    values = partitions(path)
    found = {key: NULL_PARTITION if values.get(key) is None else values[key] for key in keys}
    return "".join(f"{_escaped(key)}={_escaped(str(value))}/" for key, value in found.items())


def _escaped(text: str) -> str:
    return _UNSAFE_IN_DIRECTORY.sub(lambda match: f"%{ord(match[0]):02X}", text)


def _split(name: str) -> tuple[str, str]:
    """The name, and its extension, "" if it has none. Spark's `.c000` is no extension."""
    stem, extension = posixpath.splitext(name)
    return (name, "") if re.fullmatch(r"\.c\d{3}", extension) else (stem, extension)
