"""Errors that decide what becomes of a run, a shard or a row.

`sentiment.errors.InputError`: a flag or a file cannot be used; exit code 2. `BadShard`: a shard's
content is at fault, so its rows are rejected. `Failure` and `Unavailable`: something else failed,
so no row may be rejected; exit code 1.
"""

from sentiment.errors import InputError


class Failure(RuntimeError):
    """The work could not be finished, through no fault of the flags; one line, exit code 1."""


class Unavailable(Failure):
    """A server, disk, node or credential failed, or something unknown; the file may be good.

    The message names the file and the reason.
    """


class ShardChanged(Failure):
    """A shard is no longer the file that was listed."""


class BadShard(InputError):
    """A parser cannot use the bytes of a shard. The message names the file and the reason."""
