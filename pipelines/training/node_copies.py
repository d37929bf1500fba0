"""Copies of a bucket's cache on a node's disk: one for all workers of the node.

The first worker that needs a file copies it; the others wait for its lock and map the same copy.
Once every worker has its maps, `remove` deletes the name; the space is freed with the last map. A
worker that is killed before that leaves a copy, which the next run with this cache uses. The locks,
empty files, stay.
"""

import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa

from sentiment import storage


def mapped(path: str) -> pa.MemoryMappedFile:
    """A file of an object store, memory-mapped from this node's copy.

    Raises OSError if the file cannot be read.
    """
    filesystem, inner = storage.resolve(path)
    copy = _copy_of(path)
    with _locked(copy.with_suffix(".lock")):
        if not copy.exists():
            part = copy.with_suffix(".part")
            with filesystem.open_input_stream(inner) as stream, part.open("wb") as file:
                shutil.copyfileobj(stream, file)
            part.replace(copy)
        return pa.memory_map(str(copy))


def remove(path: str) -> None:
    """Delete this node's copy of a file, if there is one. Call it when every worker has its map."""
    _copy_of(path).unlink(missing_ok=True)


def _copy_of(path: str) -> Path:
    # A prepared corpus never changes: the names of its directory and files follow from its content.
    return _directory() / hashlib.sha256(path.encode()).hexdigest()


def _directory() -> Path:
    """This user's directory on this node, which no other user can write."""
    path = Path(tempfile.gettempdir()) / f"sentiment-cache-{os.getuid()}"
    path.mkdir(mode=0o700, exist_ok=True)
    if path.stat().st_uid != os.getuid() or path.is_symlink():
        raise PermissionError(f"{path} belongs to another user: remove it, or set TMPDIR")
    return path


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Context manager: this process alone has the lock. It ends with the process at the latest."""
    with path.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
