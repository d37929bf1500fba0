"""A shard that changes while a job runs is noticed: it is no longer the file that was listed."""

import posixpath
from collections.abc import Iterator
from contextlib import contextmanager
from socket import gethostname

import pyarrow.fs as pafs

from pipelines.errors import BadShard, ShardChanged, Unavailable
from pipelines.sources.shard import Shard
from pipelines.sources.shard_file import unavailable
from sentiment import storage


@contextmanager
def unless_changed(shard: Shard) -> Iterator[None]:
    """Context manager for reading a shard: ShardChanged, whatever it raises, if the shard changed.

    It is looked up last: then it was the same as long as it was read.
    """
    try:
        yield
    except (Unavailable, BadShard):
        require_unchanged(shard)
        raise
    require_unchanged(shard)


def require_unchanged(shard: Shard) -> None:
    """Raise ShardChanged if the shard is not the file that was listed.

    Raises Unavailable if that cannot be told.
    """
    try:
        filesystem, inner = storage.resolve(shard.path)
        is_local = isinstance(filesystem, pafs.LocalFileSystem)
        info = filesystem.get_file_info(inner)
        sees_directory = not is_local or storage.exists(posixpath.dirname(inner))
    except Exception as error:
        raise unavailable(shard.path, "cannot be looked up", error) from error
    if not info.is_file:
        if not sees_directory:
            raise Unavailable(
                f"{shard.path} is not there, nor is its directory: every node must see it, and "
                f"{gethostname()} does not"
            )
        raise ShardChanged(f"{shard.path} is gone: it was there when it was listed")
    # A bucket's listing may have milliseconds where a request for one object has only seconds.
    unit = 1 if is_local else 10**9
    if (info.size, (info.mtime_ns or 0) // unit) != (shard.size, shard.modified // unit):
        raise ShardChanged(
            f"{shard.path} has changed since it was listed ({shard.size:,} bytes then, "
            f"{info.size:,} now, or written again)"
        )
