"""Numba's compiler, with its cache in a directory that this user can write to.

Numba caches beside the code, or else in the home directory, or else raises an error. A process in a
container may have neither: a random uid, a read-only file system. Then the cache is in a private
temporary directory, or there is none. What a full disk has no room for is compiled in each process.
"""

import os
import shutil
import stat
import sys
import tempfile
import threading
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from numba import config, njit
from numba.core.registry import cpu_target

from sentiment.hidden_modules import hidden

_SHARED_MEMORY = "/dev/shm"

_unsaved_said = threading.Event()
"""This process has said that it cannot save what it compiles."""


def load_numba() -> None:
    """Load what Numba needs before the first call of a function, in half the time.

    Where SciPy and cffi are installed, Numba loads them, for functions that ours do not call. This
    is for processes that are ours alone: Numba compiles no product of matrices in them afterwards.
    """
    with hidden("scipy.linalg", "cffi"):
        cpu_target.typing_context.refresh()
        cpu_target.target_context.refresh()


def cached_njit(*sources: str, **options: Any) -> Callable[[Callable[..., Any]], Any]:
    """Decorator: `numba.njit(cache=True, **options)`, where Numba may find no directory for it.

    `NUMBA_CACHE_DIR` chooses the directory. What was compiled beside the code, such as in the build
    of an image, is copied to a cache that is elsewhere.

    Args:
        sources: files whose change compiles the function anew, as a change of its own file does:
            those of the intrinsics that it calls.
        options: of `numba.njit`.
    """

    def decorate(function: Callable[..., Any]) -> Any:
        compiled = _with_numbas_cache(function, options) or _with_private_cache(function, options)
        if compiled is None:
            return njit(**options)(function)
        # What Numba compares with what it has cached: time and size of the function's own file. A
        # private attribute. An argument whose default is the hash would do, too, but Numba looks up
        # the type of such a default by its class: of functions with different ones, all but the
        # first would take a tenth of a millisecond for each call.
        index = compiled._cache._cache_file
        index._source_stamp = (*index._source_stamp, *map(_checksum, sources))
        _leave_out_what_cannot_be_saved(compiled._cache)
        if not config.CACHE_DIR:
            _copy(function, Path(compiled.stats.cache_path))
        return compiled

    return decorate


def _checksum(path: str) -> int:
    return zlib.crc32(Path(path).read_bytes())


def _with_numbas_cache(function: Callable[..., Any], options: dict[str, Any]) -> Any:
    """The compiled function with Numba's choice of a cache, or None if Numba finds no directory."""
    has_home = os.path.isabs(os.path.expanduser("~"))
    beside = os.path.dirname(function.__code__.co_filename)
    # Without a home Numba would make a directory "~" in the working directory.
    if not config.CACHE_DIR and not has_home and not os.access(beside, os.W_OK):
        return None
    try:
        return njit(cache=True, **options)(function)
    except RuntimeError:
        return None


def _with_private_cache(function: Callable[..., Any], options: dict[str, Any]) -> Any:
    """The compiled function with a cache in the private directory, or None if there can be none."""
    directory = private_directory()
    if directory is None:
        return None
    default = config.CACHE_DIR
    config.CACHE_DIR = directory
    try:
        return njit(cache=True, **options)(function)
    except RuntimeError:  # A full disk has no room for the directories that Numba makes in it.
        return None
    finally:
        config.CACHE_DIR = default


def private_directory() -> str | None:
    """A temporary directory that only this user can write to, or None if there is none.

    Numba's cache holds pickles, which can run any code. So a directory that another user has made,
    or could exchange for another one, is not used.
    """
    bases = [_SHARED_MEMORY]
    with suppress(FileNotFoundError):
        bases.insert(0, tempfile.gettempdir())
    for base in bases:
        directory = os.path.join(base, f"sentiment-numba-{os.geteuid()}")
        with suppress(OSError):
            with suppress(FileExistsError):
                os.mkdir(directory, 0o700)
            if _keeps_others_out(base) and _is_ours(directory) and os.access(directory, os.W_OK):
                return directory
    return None


def _keeps_others_out(base: str) -> bool:
    """Whether other users can neither rename nor remove what this user makes in `base`."""
    status = os.stat(base)
    is_shared = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    is_safe = not is_shared or status.st_mode & stat.S_ISVTX
    return bool(is_safe) and status.st_uid in (0, os.geteuid())


def _is_ours(directory: str) -> bool:
    status = os.lstat(directory)  # A symbolic link could lead anywhere.
    is_private = stat.S_ISDIR(status.st_mode) and not stat.S_IMODE(status.st_mode) & 0o077
    return is_private and status.st_uid == os.geteuid()


def _leave_out_what_cannot_be_saved(cache: Any) -> None:
    """Have an error of saving, such as that of a full disk, said once, in place of raised.

    Numba saves what it has just compiled, so the function can be called all the same.
    """
    save = cache.save_overload

    def save_overload(signature: Any, compiled: Any) -> None:
        try:
            save(signature, compiled)
        except OSError as error:
            if not _unsaved_said.is_set():
                _unsaved_said.set()
                print(
                    f"Compiled code cannot be written to {cache.cache_path} ({error.strerror}), so "
                    "each process compiles, some 20 s: set NUMBA_CACHE_DIR to another directory",
                    file=sys.stderr,
                    flush=True,
                )

    cache.save_overload = save_overload


def _copy(function: Callable[..., Any], cache: Path) -> None:
    """Copy what is cached of a function beside its code, unless the cache has something of it.

    If it was compiled for another CPU, Numba compiles again.
    """
    source = Path(function.__code__.co_filename)
    beside = source.parent / "__pycache__"
    name = f"{source.stem}.{function.__qualname__}-*"
    if cache == beside or any(cache.glob(f"{name}.nbi")):
        return
    with suppress(OSError):
        # The index last: what it lists must be there.
        for file in (*beside.glob(f"{name}.nbc"), *beside.glob(f"{name}.nbi")):
            part = cache / f"{file.name}.{os.getpid()}"
            try:
                shutil.copyfile(file, part)
                part.replace(cache / file.name)
            except OSError:
                part.unlink(missing_ok=True)
                raise
