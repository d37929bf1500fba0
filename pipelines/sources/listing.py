"""Paths -> shards: which files of a corpus are read, and how."""

import codecs
import os
import urllib.parse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.fs as pafs

from pipelines.sources.csv import count_csv, csv_columns, read_csv
from pipelines.sources.parquet import Rows, Span, choose_columns, count_parquet, read_parquet
from sentiment import storage
from sentiment.errors import InputError, on_one_line

_TEXT = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
_TEXT += (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view, pa.types.is_null)
_IN_URI = "/:@!$&'()*+,;="  # RFC 3986: in a path these stand for themselves.
EXTENSIONS = (".csv", ".csv.gz", ".parquet")


@dataclass(frozen=True)
class Counted:
    """What a shard holds."""

    rows: int
    """Rows, bad ones included."""
    schema: pa.Schema
    marks: tuple[tuple[int, int], ...] = ()
    """CSV: rows, by the number of rows before them, and the byte each begins at."""

    def require_text(self, path: str, column: str) -> None:
        """Raise an InputError unless the column is there and holds text."""
        choose_columns(path, self.schema.names, [column], ())
        kind = self.schema.field(column).type
        if not any(check(kind) for check in _TEXT):
            raise InputError(f"{path}: column {column!r} is {kind}, not text")


@dataclass(frozen=True)
class Shard:
    """One file of a corpus, as it was when it was found."""

    path: str
    """A local path or URI."""
    size: int
    """Bytes."""
    modified: int
    """Nanoseconds since 1970."""

    def rows(
        self,
        columns: Sequence[str] | None,
        encoding: str,
        span: Span | None = None,
        optional: Sequence[str] = (),
    ) -> Iterator[Rows]:
        """Its rows, some at a time.

        Args:
            columns: the columns to read, in this order; None: all, as they stand.
            encoding: of a CSV shard, a Python codec's name.
            span: the rows to read; None: all.
            optional: columns to read besides, where the shard has them.

        Raises InputError if the shard cannot be read or lacks a column.
        """
        with self.open() as source:
            if self.is_parquet:
                yield from read_parquet(source, self.path, columns, span, optional)
            else:
                yield from read_csv(source, self.path, columns, encoding, span, optional)

    def count(self, encoding: str) -> "Counted":
        """Open it and count its rows. Raises InputError if it cannot be read."""
        with self.open() as source:
            if self.is_parquet:
                return Counted(*count_parquet(source, self.path))
            columns, rows, marks = count_csv(source, self.path, encoding)
        if self.path.endswith(".gz") or codecs.lookup(encoding).name != "utf-8":
            marks = []  # They count bytes of what was read, not of the file.
        return Counted(rows, _text_columns(columns), tuple(marks))

    def schema(self, encoding: str) -> pa.Schema:
        """Open it and read what columns it has. Raises InputError if it cannot be read."""
        with self.open() as source:
            if self.is_parquet:
                return count_parquet(source, self.path)[1]
            return _text_columns(csv_columns(source, self.path, encoding))

    @property
    def is_parquet(self) -> bool:
        """Whether it is Parquet; else it is CSV, perhaps compressed."""
        return self.path.endswith(".parquet")

    def open(self) -> pa.NativeFile:
        """Its bytes, decompressed. Raises InputError if it cannot be opened."""
        filesystem, inner = storage.resolve(self.path)
        try:
            if self.path.endswith(".gz"):
                return filesystem.open_input_stream(inner, compression="gzip")
            return filesystem.open_input_file(inner)
        except OSError as error:
            raise InputError(f"{self.path} cannot be opened: {on_one_line(error)}") from error


def _text_columns(names: Sequence[str]) -> pa.Schema:
    return pa.schema([(name, pa.string()) for name in names])


def find_shards(paths: Sequence[str], flag: str) -> list[Shard]:
    """The shards under files and directories, in the order of the paths, then by name.

    A directory is read with all below it, save names that begin with a dot or an underscore,
    which are nobody's data. Raises InputError, naming the flag, where nothing is found.
    """
    found: dict[str, Shard] = {}
    for path in paths:
        shards = [
            Shard(_full(path, info.path), info.size, info.mtime_ns or 0)
            for info in _files(path, flag)
        ]
        if not shards:
            raise InputError(
                f"{flag} {path} holds no shards: no file ends in {', '.join(EXTENSIONS)}"
            )
        found |= {shard.path: shard for shard in sorted(shards, key=lambda shard: shard.path)}
    return list(found.values())


def find_labelled(data_dir: str, flag: str) -> list[Shard]:
    """The shards to learn from: `data.csv` alone where the directory has one, else all of them."""
    shards = find_shards([data_dir], flag)
    table = _full(data_dir, storage.join(storage.resolve(data_dir)[1], "data.csv"))
    return [shard for shard in shards if shard.path == table] or shards


def _files(path: str, flag: str) -> list[pafs.FileInfo]:
    filesystem, inner = storage.resolve(path)
    try:
        info = filesystem.get_file_info(inner)
        if info.type == pafs.FileType.NotFound:
            raise InputError(f"{flag} {path} does not exist")
        if info.type == pafs.FileType.File:
            if not inner.endswith(EXTENSIONS):
                raise InputError(f"{flag} {path} ends in none of {', '.join(EXTENSIONS)}")
            return [info]
        infos = _below(filesystem, inner)
        return [info for info in infos if info.is_file and _is_data(info.path, inner)]
    except InputError:
        raise
    except (OSError, pa.ArrowInvalid, UnicodeDecodeError) as error:
        raise InputError(f"{flag} {path} cannot be listed: {on_one_line(error)}") from error


def _below(filesystem: pafs.FileSystem, inner: str) -> list[pafs.FileInfo]:
    """All that is below a directory, save what is below names with `.` or `_` in front.

    Each directory once, since two links make endless paths; by the path without links, if it has
    one here, so that a link that is added leads to no shard again.
    """
    if not isinstance(filesystem, pafs.LocalFileSystem):
        return filesystem.get_file_info(pafs.FileSelector(inner, recursive=True))
    found: list[pafs.FileInfo] = []
    seen: set[str] = set()
    directories, links = [inner], []
    while directories or links:
        directory = (directories or links).pop()
        if (real := os.path.realpath(directory)) in seen:
            continue
        seen.add(real)
        infos = filesystem.get_file_info(pafs.FileSelector(directory))
        found += infos
        for info in sorted(infos, key=lambda info: info.path, reverse=True):
            if info.type == pafs.FileType.Directory and not _is_hidden(info.base_name):
                (links if os.path.islink(info.path) else directories).append(info.path)
    return found


def _is_data(path: str, root: str) -> bool:
    below = path[len(root) :].strip("/").split("/")
    return path.endswith(EXTENSIONS) and not any(map(_is_hidden, below))


def _is_hidden(name: str) -> bool:
    return name.startswith((".", "_"))


def _full(given: str, inner: str) -> str:
    """The local path or URI of what a filesystem found under `given`; `file://` is local."""
    scheme, separator, rest = given.partition("://")
    if not separator or scheme == "file":
        return inner
    nobody = "anonymous@" if rest.startswith("anonymous@") else ""
    return f"{scheme}://{nobody}{urllib.parse.quote(inner, safe=_IN_URI)}"
