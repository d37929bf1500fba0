"""Find the shards of a corpus: list files and directories, on disk or in a bucket."""

import os
import urllib.parse
from collections.abc import Sequence

import pyarrow.fs as pafs

from pipelines.sources.shard import EXTENSIONS, Shard
from pipelines.sources.shard_file import unavailable
from sentiment import storage
from sentiment.errors import InputError, on_one_line

_SAFE_IN_URI = "/:@!$&'()*+,;="  # RFC 3986: characters that a path may hold unescaped.


def find_shards(paths: Sequence[str], flag: str) -> list[Shard]:
    """List the shards of files and directories: by path in the order given, then by name.

    Directories are read recursively. Names that begin with a dot or an underscore are skipped: by
    convention they are no data. A shard that two paths lead to is listed once.

    Raises InputError, which names `flag`, if a path does not exist or holds no shard; Unavailable
    if it cannot be listed.
    """
    shards: dict[str, Shard] = {}
    for path in paths:
        listed = [
            Shard(_path_or_uri(path, info.path), info.size, info.mtime_ns or 0)
            for info in _files(path, flag)
        ]
        if not listed:
            raise InputError(
                f"{flag} {path} holds no shards: no file ends in {', '.join(EXTENSIONS)}"
            )
        shards |= {shard.path: shard for shard in sorted(listed, key=lambda shard: shard.path)}
    return list(shards.values())


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
        return list(filesystem.get_file_info(pafs.FileSelector(inner, recursive=True)))
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


def _is_data(path: str, root: str) -> bool:
    names = path[len(root) :].strip("/").split("/")
    return path.endswith(EXTENSIONS) and not any(map(_is_hidden, names))


def _is_hidden(name: str) -> bool:
    return name.startswith((".", "_"))


def _path_or_uri(given: str, inner: str) -> str:
    """The local path or URI of a file that was found under `given`; `file://` becomes a path."""
    scheme, separator, rest = given.partition("://")
    if not separator or scheme == "file":
        return inner
    user = "anonymous@" if rest.startswith("anonymous@") else ""
    return f"{scheme}://{user}{urllib.parse.quote(inner, safe=_SAFE_IN_URI)}"
