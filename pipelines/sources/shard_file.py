"""The bytes of a shard: what a file system does wrong is `Unavailable`, never the shard's fault.

Parsers read from a Python file object around Arrow's file. It turns every error of the file system
into `Unavailable`, whatever its type, and Arrow hands a Python exception through unchanged. So what
else a parser raises is about bytes that it has: `BadShard`. Gzip is decompressed above the file
object, so damaged gzip is the shard's fault, too.
"""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa

from pipelines.errors import BadShard, Failure, Unavailable
from sentiment import storage
from sentiment.arrow_errors import without_details
from sentiment.errors import InputError, on_one_line

_SHORTAGES = (errno.ENOMEM, errno.EAGAIN, errno.EMFILE, errno.ENFILE)
"""Errors of a process or node that has no memory, threads or open files left."""

_NO_THREAD = "Failed to launch worker thread"
"""Arrow's message if the system gives it no thread; the error has no number."""


def unavailable(path: str, problem: str, error: BaseException) -> Unavailable:
    """The error to raise when something other than the content keeps a file from being read.

    `problem` says what cannot be done, such as "cannot be read".
    """
    reason = without_details(on_one_line(error)) or type(error).__name__
    if isinstance(error, MemoryError):
        reason = "this process is short of memory"
    elif not isinstance(error, OSError | InputError | pa.ArrowException):
        reason = f"{type(error).__name__}: {reason}"
    return Unavailable(f"{path} {problem}: {reason}")


@contextmanager
def opened(path: str, content: pa.Buffer | None = None) -> Iterator[pa.NativeFile]:
    """Context manager: a stream of the shard's decompressed bytes, for parsers.

    `content` is the whole file, if it has been fetched already (`fetched`).

    Whatever keeps the file from being opened, or read by the block, comes out as Unavailable. What
    a parser in the block raises comes out as BadShard.
    """
    file = _File(path) if content is None else None
    try:
        with pa.BufferReader(content) if file is None else pa.PythonFile(file, "r") as raw:
            if path.endswith(".gz"):
                with pa.CompressedInputStream(raw, "gzip") as decompressed:
                    yield decompressed
            else:
                yield raw
    except Exception as error:
        if file is not None and file.error is not None:
            raise file.error from error
        if isinstance(error, InputError | Failure):
            raise
        problem = "cannot be read"
        if is_shortage(error) or not isinstance(error, OSError | UnicodeError | pa.ArrowException):
            raise unavailable(path, problem, error) from error
        raise BadShard(f"{path} {problem}: {on_one_line(error)}") from error
    if file is not None and file.error is not None:
        # A parser took the error for the end of the file, or ignored it.
        raise file.error


def fetched(path: str, max_bytes: int) -> pa.Buffer | None:
    """A whole file, compressed as it is; None if it has more than `max_bytes`.

    Raises Unavailable.
    """
    file = _File(path)
    try:
        return file.read_buffer() if file.size() <= max_bytes else None
    except MemoryError as error:
        raise unavailable(path, "cannot be read", error) from error
    finally:
        file.close()


def is_shortage(error: BaseException) -> bool:
    """Whether a parser failed because this process, or its node, has run out of something."""
    return (
        isinstance(error, MemoryError)
        or (isinstance(error, OSError) and error.errno in _SHORTAGES)
        or _NO_THREAD in str(error)
    )


class _File:
    """The file object that `pa.PythonFile` reads from.

    A read that ends before the file does is an error: the bytes are there, and did not come. A file
    that is itself too short for what its content claims is the parser's business.
    """

    mode = "rb"

    def __init__(self, path: str) -> None:
        self._path = path
        self.error: Unavailable | None = None
        """The first error of the file system, in case a parser wraps or swallows it."""
        try:
            filesystem, inner = storage.resolve(path)
            self._file = filesystem.open_input_file(inner)
            self._size = self._file.size()
        except Exception as error:
            raise unavailable(path, "cannot be opened", error) from error

    @property
    def closed(self) -> bool:
        return bool(self._file.closed)

    def size(self) -> int:
        return int(self._size)

    def tell(self) -> int:
        with self._guarded():
            return int(self._file.tell())

    def seek(self, offset: int, whence: int = 0) -> int:
        with self._guarded():
            if whence == 2:
                offset, whence = self._size + offset, 0
            return int(self._file.seek(offset, whence))

    def read(self, size: int | None = None) -> bytes:
        return bytes(self.read_buffer(size))

    def read_buffer(self, size: int | None = None) -> pa.Buffer:
        with self._guarded():
            position = self._file.tell()
            rest = max(self._size - position, 0)
            wanted = rest if size is None or size < 0 else min(size, rest)
            content = self._file.read_buffer(wanted)
            if len(content) < wanted:
                raise OSError(
                    f"{len(content):,} bytes came where {wanted:,} are, at byte {position:,}"
                )
            return content

    def close(self) -> None:
        # Nothing is written, so nothing can be lost.
        try:
            self._file.close()
        except Exception:
            return

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except MemoryError:
            # Whose fault it is depends on what was being parsed (`limited_memory`).
            raise
        except Exception as error:
            self.error = self.error or unavailable(self._path, "cannot be read", error)
            raise self.error from error
