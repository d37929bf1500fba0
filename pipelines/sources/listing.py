"""Find the shards of a corpus: list files and directories, on disk or in a bucket."""

import functools
import os
import urllib.parse
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import pyarrow.fs as pafs

from pipelines.sources.shard import EXTENSIONS, Shard
from pipelines.sources.shard_file import unavailable
from sentiment import storage
from sentiment.errors import InputError, on_one_line

CONCURRENT_LISTINGS = 16
"""Directories of a bucket that are listed at the same time."""

_SAFE_IN_URI = "/:@!$&'()*+,;="  # RFC 3986: characters that a path may hold unescaped.


def find_shards(paths: Sequence[str], flag: str) -> list[Shard]:
    """List the shards of files and directories: by path in the order given, then by name.

    Directories are read recursively. Names that begin with a dot or an underscore are skipped: by
    convention they are no data. On a disk, links to directories are resolved in the shards' paths,
    and a file that several paths or links lead to is listed once: no row is read twice.

    Raises InputError, which names `flag`, if a path does not exist or holds no shard; Unavailable
    if it cannot be listed.
    """
    shards: list[Shard] = []
    files: set[str] = set()
    real_directory = functools.cache(os.path.realpath)
    for path in paths:
        listed = [
            Shard(_path_or_uri(path, info.path, real_directory), info.size, info.mtime_ns or 0)
            for info in _files(path, flag)
        ]
        if not listed:
            raise InputError(
                f"{flag} {path} holds no shards: no file ends in {', '.join(EXTENSIONS)}"
            )
        own: list[Shard] = []
        # Links come last, so that a link that is added changes no other shard's path.
        by_file = [(_file_of(shard.path), shard) for shard in listed]
        for file, shard in sorted(by_file, key=lambda one: (one[0] != one[1].path, one[1].path)):
            if file not in files:
                files.add(file)
                own.append(shard)
        shards += sorted(own, key=lambda shard: shard.path)
    return shards


def find_labelled(data_dir: str, flag: str) -> list[Shard]:
    """List the labelled shards: only `data.csv` if the directory has one, else all shards."""
    shards = find_shards([data_dir], flag)
    table = _path_or_uri(data_dir, storage.join(storage.resolve(data_dir)[1], "data.csv"))
    return [shard for shard in shards if shard.path == table] or shards


def _files(path: str, flag: str) -> list[pafs.FileInfo]:
    try:
        filesystem, inner = storage.resolve(path)
        info = filesystem.get_file_info(inner)
        if info.type == pafs.FileType.NotFound:
            raise InputError(f"{flag} {path} does not exist")
        if info.type == pafs.FileType.File:
            if not inner.endswith(EXTENSIONS):
                raise InputError(f"{flag} {path} does not end in any of {', '.join(EXTENSIONS)}")
            return [info]
        infos = _below(filesystem, inner)
        return [info for info in infos if info.is_file and _is_data(info.path, inner)]
    except InputError:
        raise
    except UnicodeDecodeError as error:
        raise InputError(f"{flag} {path} cannot be listed: {on_one_line(error)}") from error
    except Exception as error:
        raise unavailable(f"{flag} {path}", "cannot be listed", error) from error


def _below(filesystem: pafs.FileSystem, inner: str) -> list[pafs.FileInfo]:
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
    infos: list[pafs.FileInfo] = filesystem.get_file_info(pafs.FileSelector(inner))
    directories = [
        info.path
        for info in infos
        if info.type == pafs.FileType.Directory and not _is_hidden(info.base_name)
    ]
    with ThreadPoolExecutor(CONCURRENT_LISTINGS) as pool:
        selectors = [pafs.FileSelector(directory, recursive=True) for directory in directories]
        for below in pool.map(filesystem.get_file_info, selectors):
            infos += below
    return infos


def _is_data(path: str, root: str) -> bool:
    names = path[len(root) :].strip("/").split("/")
    return path.endswith(EXTENSIONS) and not any(map(_is_hidden, names))


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
