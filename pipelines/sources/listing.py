"""Find the shards of a corpus: list files, directories and patterns, on disk or in a bucket."""

import fnmatch
import functools
import os
import posixpath
import re
import urllib.parse
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass

import pyarrow.fs as pafs

from pipelines.console.answering import require_answer
from pipelines.errors import BadShard, Unavailable
from pipelines.sources.format_files import FORMAT_OF, MAGIC_BYTES, format_told_by
from pipelines.sources.kinds import FIRST_BYTES, wrong_kind
from pipelines.sources.names import FETCHED, file_name
from pipelines.sources.shard import Shard
from pipelines.sources.shard_file import first_bytes, opened, unavailable
from pipelines.sources.tables import (
    METADATA,
    require_in_no_table,
    require_no_product,
    require_no_table,
)
from pipelines.sources.where import Where
from sentiment import storage
from sentiment.errors import InputError, on_one_line

CONCURRENT_LISTINGS = 16
"""Directories of a bucket that are listed, and files that are looked into, at the same time."""

KINDS_NAMED = 5
"""Kinds of files left aside that the line on the terminal names."""

NO_EXTENSION = "without extension"
DOCUMENT = "document"
"""Kinds of files that are no shards; the others are extensions."""

_DOCUMENTS = re.compile(
    r"(readme|licen[cs]e|copying|notice|authors|contributing|change(s|log)|requirements"
    r"|dataset_(infos?|dict)|schema|manifest|metadata|config|state)(\.|$)"
)
"""Names of files that lie beside data, in small letters: what has text or JSON in it is no row."""

_SAFE_IN_URI = "/:@!$&'()*+,;="  # RFC 3986: characters that a path may hold unescaped.
_MAGIC_CHARACTERS = re.compile(r"[*?[]")


@dataclass(frozen=True)
class Found:
    """The shards of a corpus, and the files among them that are none."""

    shards: list[Shard]
    aside: dict[str, list[str]]
    """The other files, by kind: an extension, NO_EXTENSION or DOCUMENT. Hidden files (a dot or an
    underscore before the name) and checksums (`.crc`) are not among them."""

    @property
    def aside_counts(self) -> dict[str, int]:
        """The number of files that are no shards, by kind."""
        return {kind: len(paths) for kind, paths in self.aside.items()}

    @property
    def remark(self) -> str:
        """One line about the files that are no shards; "": there is none."""
        number = sum(map(len, self.aside.values()))
        if not number:
            return ""
        by_number = sorted(self.aside.items(), key=lambda one: (-len(one[1]), one[0]))
        kinds = [
            f"{len(paths):,} {kind} ({', '.join(paths[:1])}{', ...' if len(paths) > 1 else ''})"
            for kind, paths in by_number[:KINDS_NAMED]
        ]
        rest = sum(len(paths) for _, paths in by_number[KINDS_NAMED:])
        if rest:
            kinds.append(f"{rest:,} of other kinds")
        hint = "; --format reads files without extension" if NO_EXTENSION in self.aside else ""
        if ".arrow" in self.aside:
            hint += "; .arrow files are read when they are converted to Parquet"
        are = "file is no shard and was" if number == 1 else "files are no shards and were"
        return f"{number:,} {are} left aside: {', '.join(kinds)}{hint}"


def find(
    paths: Sequence[str], flag: str, where: Sequence[str] = (), has_format: bool = False
) -> Found:
    """List the shards of files, directories and patterns: by path in the order given, then by name.

    Directories are read recursively. Names that begin with a dot or an underscore are skipped: by
    convention they are no data. On a disk, links to directories are resolved in the shards' paths,
    and a file that several paths or links lead to is listed once: no row is read twice.

    Args:
        paths: local paths or URIs. In patterns `*`, `?` (not in URIs) and `[...]` stand for
            characters of a name, and `**` for any directories.
        flag: the flag that gives the paths, for messages.
        where: conditions on `key=value` directories, such as "year=2024".
        has_format: whether a flag says what files are whose names do not tell it. Otherwise only
            those whose first bytes tell their format, as those of Parquet, are shards.

    Raises InputError, which names `flag`, if a path does not exist or holds no shard, if it is,
    holds or lies in a table of Delta Lake, Iceberg or Hudi, or if a condition is wrong; Unavailable
    if it cannot be listed.
    """
    conditions = Where.parse(where)
    shards: list[Shard] = []
    aside: dict[str, list[str]] = {}
    files: set[str] = set()
    looked_into: set[str] = set()
    real_directory = functools.cache(os.path.realpath)
    for path in paths:
        infos = _files(path, flag, has_format, aside, looked_into)
        listed = [
            Shard(_path_or_uri(path, info.path, real_directory), info.size, info.mtime_ns or 0)
            for info in infos
        ]
        if not listed:
            others = Found([], aside).remark
            names = ", ".join(FORMAT_OF)
            why = others if others else f"no file ends in {names}"
            if has_format and others:
                why += "; --format reads files without an extension, and those that are named"
            raise InputError(f"{flag} {path} holds no shards: {why}")
        own: list[Shard] = []
        # Links come last, so that a link that is added changes no other shard's path.
        by_file = [(_file_of(shard.path), shard) for shard in listed]
        _require_links_into_no_table(path, flag, [file for file, _ in by_file], looked_into)
        for file, shard in sorted(by_file, key=lambda one: (one[0] != one[1].path, one[1].path)):
            if file not in files:
                files.add(file)
                own.append(shard)
        shards += sorted(own, key=lambda shard: shard.path)
    return Found(
        conditions.chosen(shards), {kind: sorted(set(them)) for kind, them in aside.items()}
    )


def find_shards(paths: Sequence[str], flag: str) -> list[Shard]:
    """The shards that `find` lists."""
    return find(paths, flag).shards


def find_labelled(
    data_dir: str, flag: str, where: Sequence[str] = (), has_format: bool = False
) -> Found:
    """List the labelled shards: those of `find`, but of a directory that `pipelines.fetch` has made
    only `data.csv`, if it has one: its other files have the same rows.

    Arguments and errors are those of `find`.
    """
    found = find([data_dir], flag, where, has_format)
    if _MAGIC_CHARACTERS.search(data_dir):
        return found
    table = _path_or_uri(data_dir, storage.join(storage.resolve(data_dir)[1], "data.csv"))
    tables = [shard for shard in found.shards if shard.path == table]
    if tables and storage.exists(storage.join(data_dir, FETCHED)):
        return Found(tables, {})
    return found


def directory_of(path: str, shards: Sequence[Shard]) -> str:
    """The directory that the shards of a path are in: itself, that of a pattern, or of a file."""
    base = _base(path)
    names = [posixpath.basename(shard.path) for shard in shards]
    return posixpath.dirname(base) if names == [posixpath.basename(base)] else base


def require_apart(paths: Sequence[str], shards: Sequence[Shard], output: str) -> None:
    """Raise an InputError if the input is below the output, or the output below the input.

    The next run would read the parts as shards. Links are resolved.
    """
    target = _real(output)
    for path in paths:
        base = _real(_base(path))
        if _is_below(target, base) or _is_below(base, target):
            raise InputError(
                f"--output {output} and --input {path} are inside each other, so the next run "
                "would read what this one writes: choose an --output beside the --input"
            )
    for shard in shards:
        if _is_below(shard.path, target):
            raise InputError(
                f"--output {output} has a file of the --input, {shard.path}, so the next run would "
                "read what this one writes: choose another --output"
            )


def _base(path: str) -> str:
    """The part of a pattern before the first name that is one."""
    names = path.split("/")
    plain = [i for i, name in enumerate(names) if _MAGIC_CHARACTERS.search(name)]
    return "/".join(names[: plain[0]]) if plain and not os.path.exists(path) else path


def _real(path: str) -> str:
    """The path with links resolved; of a URI in a bucket, a form that is the same for all users."""
    scheme, separator, rest = path.partition("://")
    if not separator or scheme == "file":
        return os.path.realpath(urllib.parse.unquote(rest) if separator else path)
    rest = urllib.parse.unquote(rest.removeprefix("anonymous@"))
    return f"{scheme}://{posixpath.normpath(rest)}"


def _is_below(path: str, directory: str) -> bool:
    return path == directory or path.startswith(directory.rstrip("/") + "/")


def _files(
    path: str, flag: str, has_format: bool, aside: dict[str, list[str]], looked_into: set[str]
) -> list[pafs.FileInfo]:
    """The shards of one path; adds other files to `aside`, and directories to `looked_into`."""
    try:
        require_answer(path, f"{flag} {path}")
        filesystem, inner = storage.resolve(path)
        info = filesystem.get_file_info(inner)
        if info.type == pafs.FileType.File:
            if file_name(inner).format is None and not has_format and not _is_told(info, path):
                raise InputError(f"{flag} {_problem_of_unknown(path)}")
            parents = [posixpath.dirname(inner)]
            require_in_no_table(filesystem, parents, f"{flag} {path}", looked_into)
            return [info]
        if info.type != pafs.FileType.NotFound:
            below = files_below(filesystem, inner)
            require_no_product(below, inner, f"{flag} {path}")
        elif _MAGIC_CHARACTERS.search(inner):
            below, inner = _matching(filesystem, inner, f"{flag} {path}", looked_into)
            if not below:
                raise InputError(f"{flag} {path} matches no file and no directory")
        else:
            raise InputError(f"{flag} {path} does not exist")
        require_no_table(below, f"{flag} {path}")
        require_in_no_table(filesystem, [inner], f"{flag} {path}", looked_into)
        data = [info for info in below if info.is_file and not _is_skipped(info.path, inner)]
        return list(_shards(data, path, has_format, aside))
    except (InputError, Unavailable):
        raise
    except UnicodeDecodeError as error:
        raise InputError(f"{flag} {path} cannot be listed: {on_one_line(error)}") from error
    except Exception as error:
        raise unavailable(f"{flag} {path}", "cannot be listed", error) from error


def _require_targets(filesystem: pafs.FileSystem, directory: str, pattern: str = "*") -> None:
    """Raise Unavailable for a link in a directory whose target is away: it may be a shard, or have
    shards. Arrow does not list it. `pattern`: of the names that count."""
    if not isinstance(filesystem, pafs.LocalFileSystem) or not os.path.isdir(directory):
        return
    with os.scandir(directory) as entries:
        for entry in entries:
            is_meant = not _is_hidden(entry.name) and fnmatch.fnmatchcase(entry.name, pattern)
            if is_meant and entry.is_symlink() and not os.path.exists(entry.path):
                target = os.readlink(entry.path)
                raise Unavailable(f"{entry.path} is a link to {target}, which is not there")


def _shards(
    infos: Sequence[pafs.FileInfo], given: str, has_format: bool, aside: dict[str, list[str]]
) -> Iterator[pafs.FileInfo]:
    """Those of the files that are shards; adds the others to `aside`."""
    unknown: list[pafs.FileInfo] = []
    for info in infos:
        name = file_name(info.path)
        if name.format in ("text", "json") and _DOCUMENTS.match(info.base_name.lower()):
            aside.setdefault(DOCUMENT, []).append(info.path)
        elif name.format is not None or (has_format and not name.extension):
            yield info
        elif name.extension:
            aside.setdefault(name.extension, []).append(info.path)
        else:
            unknown.append(info)
    with ThreadPoolExecutor(CONCURRENT_LISTINGS) as pool:
        are_told = pool.map(lambda info: _is_told(info, given), unknown)
        for info, is_told in zip(unknown, are_told, strict=True):
            if is_told:
                yield info
            else:
                aside.setdefault(NO_EXTENSION, []).append(info.path)


def _is_told(info: pafs.FileInfo, given: str) -> bool:
    """Whether the first bytes of a file tell its format, whatever its name."""
    # No file has first bytes only.
    if info.size < 2 * MAGIC_BYTES:
        return False
    return format_told_by(first_bytes(_path_or_uri(given, info.path), MAGIC_BYTES)) is not None


def _problem_of_unknown(path: str) -> str:
    """What to say of a file whose name and beginning tell no format: what it is, or which flag
    says so."""
    beginning, compression = first_bytes(path, FIRST_BYTES), file_name(path).compression
    if wrong := wrong_kind(path, beginning, compression or ""):
        return str(wrong)
    if compression is not None:
        # What cannot be decompressed tells nothing more.
        with suppress(BadShard), opened(path) as source:
            if wrong := wrong_kind(path, source.read(FIRST_BYTES)):
                return str(wrong)
    return (
        f"{path} does not end in any of {', '.join(FORMAT_OF)} (also .gz, .zst, .bz2): pass "
        "--format"
    )


def _matching(
    filesystem: pafs.FileSystem, pattern: str, given: str, looked_into: set[str]
) -> tuple[list[pafs.FileInfo], str]:
    """The files that a pattern matches, and those below the directories that it matches; and the
    directory before the first name with special characters.

    Raises InputError, which names `given`, if a directory on the way is a table.
    """
    names = pattern.split("/")
    first = next(i for i, name in enumerate(names) if _MAGIC_CHARACTERS.search(name))
    base = "/".join(names[:first])
    directories = [base]
    for name in names[first:-1]:
        if name == "**":
            below = [info for one in directories for info in files_below(filesystem, one)]
        else:
            below = _level(filesystem, directories, name, given, looked_into)
        inner = [
            info.path
            for info in below
            if info.type == pafs.FileType.Directory and not _is_hidden(info.base_name)
        ]
        directories = [*directories, *inner] if name == "**" else inner
    matched = {}
    if names[-1] != "**":
        infos = _level(filesystem, directories, names[-1], given, looked_into)
        matched = {info.path: info for info in infos if info.is_file}
        directories = [info.path for info in infos if info.type == pafs.FileType.Directory]
    for directory in directories:
        matched |= {info.path: info for info in files_below(filesystem, directory)}
    return list(matched.values()), base


def _level(
    filesystem: pafs.FileSystem,
    directories: Sequence[str],
    name: str,
    given: str,
    looked_into: set[str],
) -> list[pafs.FileInfo]:
    """The entries of directories that one name of a pattern matches; none that is hidden."""
    for directory in directories:
        _require_targets(filesystem, directory, name)
    if not _MAGIC_CHARACTERS.search(name):
        infos = filesystem.get_file_info([f"{directory}/{name}" for directory in directories])
        entries = [info for info in infos if info.type != pafs.FileType.NotFound]
        with_entry = [posixpath.dirname(info.path) for info in entries]
        require_in_no_table(filesystem, with_entry, given, looked_into)
        return entries
    selectors = [pafs.FileSelector(directory, allow_not_found=True) for directory in directories]
    with ThreadPoolExecutor(CONCURRENT_LISTINGS) as pool:
        listed = [info for infos in pool.map(filesystem.get_file_info, selectors) for info in infos]
    require_no_table(listed, given)
    with_metadata = [posixpath.dirname(info.path) for info in listed if info.base_name == METADATA]
    require_in_no_table(filesystem, with_metadata, given, looked_into)
    return [
        info
        for info in listed
        if fnmatch.fnmatchcase(info.base_name, name) and not _is_hidden(info.base_name)
    ]


def _require_links_into_no_table(
    given: str, flag: str, files: Sequence[str], looked_into: set[str]
) -> None:
    """Raise an InputError if a path on a disk leads, by a link, into a table."""
    if not files or "://" in files[0]:
        return
    root = _real(_base(given))
    away = {posixpath.dirname(file) for file in files if not _is_below(file, root)}
    directories = {posixpath.dirname(root), *away}
    require_in_no_table(pafs.LocalFileSystem(), directories, f"{flag} {given}", looked_into)


def files_below(filesystem: pafs.FileSystem, inner: str) -> list[pafs.FileInfo]:
    """List a directory recursively, without entering hidden directories on a local disk.

    Local directories are visited once each, because two symbolic links can make endless paths.
    Directories are visited before links, so that a link added later changes no shard's path.
    """
    if not isinstance(filesystem, pafs.LocalFileSystem):
        return _below_in_bucket(filesystem, inner)
    infos: list[pafs.FileInfo] = []
    visited: set[str] = set()
    directories: list[str] = [inner]
    links: list[str] = []
    while directories or links:
        directory = (directories or links).pop()
        if (real := os.path.realpath(directory)) in visited:
            continue
        visited.add(real)
        _require_targets(filesystem, directory)
        entries = filesystem.get_file_info(pafs.FileSelector(directory))
        infos += entries
        for info in sorted(entries, key=lambda info: info.path, reverse=True):
            if info.type == pafs.FileType.Directory and not _is_hidden(info.base_name):
                (links if os.path.islink(info.path) else directories).append(info.path)
    return infos


def _below_in_bucket(filesystem: pafs.FileSystem, inner: str) -> list[pafs.FileInfo]:
    """List a directory in a bucket recursively, without what is below its own hidden directories.

    Those may have more objects than the data, such as a prepared corpus. A request lists up to
    1,000 objects, however deep they are, so directories further down are not worth one each.
    """
    # A bucket has no directories, only names: one without objects is not there.
    top = pafs.FileSelector(inner, allow_not_found=True)
    infos: list[pafs.FileInfo] = filesystem.get_file_info(top)
    directories = [
        info.path
        for info in infos
        if info.type == pafs.FileType.Directory and not _is_hidden(info.base_name)
    ]
    with ThreadPoolExecutor(CONCURRENT_LISTINGS) as pool:
        selectors = [
            pafs.FileSelector(directory, allow_not_found=True, recursive=True)
            for directory in directories
        ]
        for below in pool.map(filesystem.get_file_info, selectors):
            infos += below
    return infos


def _is_skipped(path: str, root: str) -> bool:
    """Whether a file below a directory is hidden, or a checksum of Hadoop."""
    names = path[len(root) :].strip("/").split("/")
    return path.endswith(".crc") or any(map(_is_hidden, names))


def _is_hidden(name: str) -> bool:
    return name.startswith((".", "_"))


def _path_or_uri(
    given: str, inner: str, real_directory: Callable[[str], str] = os.path.realpath
) -> str:
    """The local path or URI of a file that was found under `given`; `file://` becomes a path.

    The directory in a local path is the real one. The name may be that of a link, whose target may
    have a name without an extension.
    """
    scheme, separator, rest = given.partition("://")
    if not separator or scheme == "file":
        directory, name = os.path.split(inner)
        return os.path.join(real_directory(directory), name)
    user = "anonymous@" if rest.startswith("anonymous@") else ""
    return f"{scheme}://{user}{urllib.parse.quote(inner, safe=_SAFE_IN_URI)}"


def _file_of(path: str) -> str:
    """What the file of a shard's path is known by: two paths to one file have the same."""
    if "://" in path:
        return path.replace("://anonymous@", "://", 1)
    return os.path.realpath(path) if os.path.islink(path) else path
