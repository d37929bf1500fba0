"""Keeps the programs on one output apart: a lock, staging directories, and `--overwrite`.

On a disk a job writes each file in a staging directory, `_manifest/.staging-*`, and renames it into
place. `--overwrite` removes that directory first. Then no file of a job that still runs appears any
more: its next rename fails. Only drivers create directories, and only below `_manifest`, which a
first plan has created: an output that was renamed or unmounted is not created again.

A bucket has neither locks nor renames: there `plan` in the parts' footers tells jobs apart.
"""

import posixpath
import re
import shutil
import time
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path, PurePath

import pyarrow as pa
import pyarrow.fs as pafs

from pipelines.errors import Failure
from pipelines.scoring.file_listing import Listing
from pipelines.scoring.plan import Plan, plan_file
from sentiment import storage
from sentiment.errors import InputError

STALE_SECONDS = 3600.0
"""Age at which a partial file counts as one whose writer died."""

CONCURRENT_FILES = 16
"""Files that are removed at the same time: a bucket takes time for each."""

_STAGING, _REMOVED, _PROBE = ".staging-", ".removed-", ".writable."
_COUNTS = ".counts-"
"""`pipelines.scoring.counting` writes before there is a plan, and a staging directory."""

_LOCK = ".lock"
_OWN = re.compile(
    r"accepted\.json|run-\d+\.json|counts-[0-9a-f]{8}\.parquet|parts-\d{5,}\.parquet|report\.html"
)
_PART = re.compile(r"part-\d{6,}\.parquet")


def make_directories(output: str) -> None:
    """Create the directories of a new output, on a disk."""
    if directory := _local(output):
        for below in ("_manifest", "_rejected"):
            (directory / below).mkdir(parents=True, exist_ok=True)


def make_partitions(output: str, plans: Sequence[Plan]) -> None:
    """Create the directories of the plans' parts, of an output on a disk."""
    directory = _local(output)
    directories = [plan.parts.directories.unique() for plan in plans if plan.parts.directories]
    if directory and directories:
        for name in pa.concat_arrays(directories).unique().to_pylist():
            for below in ("", "_rejected"):
                (directory / below / name).mkdir(parents=True, exist_ok=True)


def has_staging(output: str) -> bool:
    """Whether the output is on a disk, where files are renamed into place."""
    return _local(output) is not None


@contextmanager
def locked(output: str) -> Iterator[None]:
    """Context manager: of the programs on this output, one runs its block (on a disk)."""
    with storage.locked(storage.join(output, "_manifest", _LOCK)):
        yield


def open_staging(output: str) -> str:
    """The staging directory of an output on a disk that has a plan, or is about to have one.

    The caller has the lock, and knows that no other program has overwritten the output.
    """
    directory = Path(storage.resolve(output)[1])
    with suppress(FileExistsError):
        (directory / "_rejected").mkdir()
    existing = sorted((directory / "_manifest").glob(f"{_STAGING}*"))
    if existing:
        return str(existing[0])
    staging = directory / "_manifest" / f"{_STAGING}{uuid.uuid4().hex[:8]}"
    staging.mkdir()
    return str(staging)


def remove(output: str, names: Sequence[str]) -> None:
    """Remove those of the files that exist. Raises OSError.

    Args:
        output: the output directory.
        names: paths below it.
    """
    directories = list(dict.fromkeys(map(posixpath.dirname, names)))
    with ThreadPoolExecutor(CONCURRENT_FILES) as pool:
        listed = pool.map(storage.names, [storage.join(output, name) for name in directories])
        existing = {
            posixpath.join(directory, name)
            for directory, there in zip(directories, listed, strict=True)
            for name in there
        }
        paths = [storage.join(output, name) for name in names if name in existing]
        list(pool.map(storage.remove, paths))


def remove_partial(output: str, writer: str) -> None:
    """Remove partial files that no process will finish: those of `writer`, and stale ones.

    Another job may still be writing the others. Buckets have no partial files.
    """
    directory = _local(output)
    if not directory:
        return
    partial: list[Path] = []
    # A partial file that stays harms no reader, and an error here would hide the first one.
    with suppress(OSError):
        partial += directory.glob(f"{_PROBE}*")
        partial += (directory / "_manifest").glob(f"{_COUNTS}*")
        for kind in (_STAGING, _REMOVED):
            partial += (directory / "_manifest").glob(f"{kind}*/*")
    for path in partial:
        with suppress(OSError):
            is_own = f".{writer}." in path.name
            if is_own or time.time() - path.stat().st_mtime > STALE_SECONDS:
                path.unlink()


def has_plan(output: str) -> bool:
    """Whether a job of this program has planned something there. Raises OSError."""
    return storage.exists(_plan_path(output, 0))


def clear(output: str) -> bool:
    """Remove the files that a job of this program wrote, and no others (`--overwrite`).

    Returns whether there was such a job.

    The staging directory goes first, so that a running job commits no more, then `_SUCCESS`. Of an
    output with a damaged plan everything goes that has the name of a part. Raises OSError.
    """
    if not has_plan(output):
        return False
    with locked(output):
        close_staging(output)
        storage.remove_if_there(storage.join(output, "_SUCCESS"))
        plans = 0
        parts: set[str] = set()
        for plans in count():
            path = _plan_path(output, plans)
            if not storage.exists(path):
                break
            try:
                plan = Plan.from_bytes(storage.read(path), path)
                parts |= {f"{name}.parquet" for name in plan.parts.names.to_pylist()}
            except (InputError, Failure):
                for below in ("", "_rejected"):
                    names = Listing.below(storage.join(output, below)).names.to_pylist()
                    parts |= {name for name in names if _PART.fullmatch(posixpath.basename(name))}
        own = filter(_OWN.fullmatch, storage.names(storage.join(output, "_manifest")))
        rejected = [f"_rejected/{name}" for name in [*parts, "shards.parquet"]]
        remove(output, [*parts, *rejected, *(f"_manifest/{name}" for name in own)])
        _remove_partitions(output, {*map(posixpath.dirname, [*parts, *rejected])})
        # The first plan is last: it marks the directory as an output, so if the program dies here,
        # it can be run again.
        for number in reversed(range(plans)):
            storage.remove(_plan_path(output, number))
        if directory := _local(output):
            (directory / "_manifest" / _LOCK).unlink()
    return True


def _remove_partitions(output: str, names: set[str]) -> None:
    """Remove those directories below an output on a disk that are empty now."""
    directory = _local(output)
    if not directory:
        return
    below = {*names, *(str(parent) for name in names for parent in PurePath(name).parents)}
    for name in sorted(below - {"", ".", "_rejected"}, reverse=True):
        with suppress(OSError):  # Not empty: somebody else's files are there.
            (directory / name).rmdir()


def close_staging(output: str) -> None:
    """Remove the staging directories: a job that still runs writes nothing any more.

    They are renamed first: one step, after which no file can be renamed out of them.
    """
    if directory := _local(output):
        for staging in (directory / "_manifest").glob(f"{_STAGING}*"):
            staging.rename(staging.with_name(f"{_REMOVED}{uuid.uuid4().hex[:8]}"))
        for removed in (directory / "_manifest").glob(f"{_REMOVED}*"):
            shutil.rmtree(removed, ignore_errors=True)


def _local(output: str) -> Path | None:
    """The output's path on a disk; None: it is in a bucket."""
    filesystem, inner = storage.resolve(output)
    return Path(inner) if isinstance(filesystem, pafs.LocalFileSystem) else None


def _plan_path(output: str, number: int) -> str:
    return storage.join(output, "_manifest", plan_file(number))
