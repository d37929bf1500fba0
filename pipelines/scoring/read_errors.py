"""Errors of reading a shard that do not come from its content: outages, and changes after planning.

Rows are rejected only for what a shard holds. After an outage the part stays missing instead, and
the same command scores it later.
"""

import errno
import posixpath
from socket import gethostname

import pyarrow.fs as pafs

from pipelines.sources.shard import Shard
from sentiment import arrow_errors, storage
from sentiment.errors import InputError


def outage_message(shard: Shard, error: BaseException) -> str:
    """Error message if the read failed for a reason outside the shard (server, node), else ""."""
    if arrow_errors.is_outage(error) or arrow_errors.is_outage(error.__cause__):
        return f"{error}: run the same command again when the server answers"
    if _is_short_of_resources(error.__cause__):
        return f"{error}: a node is short of memory, threads or files; run the same command again"
    directory = posixpath.dirname(shard.path)
    if "://" not in directory and not storage.exists(directory):
        return f"node {gethostname()} does not see {directory}: every node must"
    return ""


def change_message(shard: Shard) -> str:
    """Error message if the shard is not the file that was planned, else ""."""
    try:
        filesystem, inner = storage.resolve(shard.path)
        info = filesystem.get_file_info(inner)
    except (OSError, InputError) as error:
        # A shard that could not be read is rejected already.
        return outage_message(shard, error)
    # A bucket's listing may have milliseconds where a request for one object has only seconds.
    unit = 1 if isinstance(filesystem, pafs.LocalFileSystem) else 10**9
    size_and_time = (info.size, (info.mtime_ns or 0) // unit)
    if not info.is_file or size_and_time == (shard.size, shard.modified // unit):
        return ""
    return (
        f"{shard.path} has changed since it was planned ({shard.size:,} bytes then, "
        f"{info.size:,} now, or written again): choose another --output, or pass --overwrite"
    )


def _is_short_of_resources(error: BaseException | None) -> bool:
    """Whether this process, or its node, has run out of memory, threads or open files."""
    errnos = (errno.ENOMEM, errno.EAGAIN, errno.EMFILE, errno.ENFILE)
    return (
        isinstance(error, MemoryError)
        or (isinstance(error, OSError) and error.errno in errnos)
        or "Failed to launch worker thread" in str(error)
    )
