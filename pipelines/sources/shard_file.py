"""The bytes of a shard: what a file system does wrong is `Unavailable`, never the shard's fault.

Parsers read from a Python file object around Arrow's file. It turns every error of the file system
into `Unavailable`, whatever its type, and Arrow hands a Python exception through unchanged. So what
else a parser raises is about bytes that it has: `BadShard`. Gzip is decompressed above the file
object, so damaged gzip is the shard's fault, too.
"""

import errno
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa

from pipelines.errors import BadShard, Failure, Unavailable
from pipelines.sources.kinds import FIRST_BYTES, wrong_kind
from pipelines.sources.names import file_name
from sentiment import storage
from sentiment.arrow_errors import without_details
from sentiment.errors import InputError, on_one_line

GZIP_BUFFER_BYTES = 4 * 2**20
"""Bytes of a compressed file that are read at a time."""

DIGEST_BYTES = 16
"""Length of a digest: SHA-256, cut. Two files of a corpus never have the same by chance."""

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


class Digest:
    """The digest of bytes that are added piece by piece."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    def add(self, content: bytes) -> None:
        """Add bytes."""
        self._hash.update(content)

    def value(self) -> bytes:
        """The first DIGEST_BYTES of the SHA-256 of all bytes so far."""
        return self._hash.digest()[:DIGEST_BYTES]


@contextmanager
def opened(
    path: str, content: pa.Buffer | None = None, digest: Digest | None = None
) -> Iterator[pa.NativeFile]:
    """Context manager: a stream of the shard's decompressed bytes, for parsers.

    Args:
        path: of the shard.
        content: the whole file, if it has been fetched already (`fetched`).
        digest: gets all bytes of the file, compressed as they are. The block must read from the
            start to the end: a seek is an error. It is complete when the block has ended.

    Whatever keeps the file from being opened, or read by the block, comes out as Unavailable. What
    a parser in the block raises comes out as BadShard.
    """
    compression = file_name(path).compression
    file = _File(path, digest) if content is None else None
    try:
        with pa.BufferReader(content) if file is None else pa.PythonFile(file, "r") as raw:
            if compression is not None:
                # Arrow would ask for 64 KiB at a time, and a bucket takes time for each request.
                buffered = pa.BufferedInputStream(raw, GZIP_BUFFER_BYTES)
                with pa.CompressedInputStream(buffered, compression) as decompressed:
                    yield decompressed
            else:
                yield raw
            if file is not None and digest is not None:
                # A parser may stop before the last bytes, such as those behind a gzip stream.
                while file.read(GZIP_BUFFER_BYTES):
                    pass
    except Exception as error:
        if file is not None and file.error is not None:
            raise file.error from error
        is_parsed = isinstance(error, BadShard | OSError | pa.ArrowException)
        if compression is not None and is_parsed and not is_shortage(error):
            first = file.first if file is not None else _beginning(content)
            wrong = wrong_kind(path, first, compression) if first else None
            if wrong is not None:
                raise wrong from error
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
        return pa.py_buffer(file.read()) if file.size() <= max_bytes else None
    except MemoryError as error:
        raise unavailable(path, "cannot be read", error) from error
    finally:
        file.close()


def _beginning(content: pa.Buffer | None) -> bytes:
    beginning: bytes = b"" if content is None else content[:FIRST_BYTES].to_pybytes()
    return beginning


def first_bytes(path: str, size: int) -> bytes:
    """The first bytes of a file, as they are. Raises Unavailable."""
    file = _File(path)
    try:
        return file.read(size)
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

    def __init__(self, path: str, digest: Digest | None = None) -> None:
        self._path = path
        self._digest = digest
        self._position = 0
        self.first = b""
        """The first bytes, if they have been read: at most FIRST_BYTES."""
        self.error: Unavailable | None = None
        """The first error of the file system, in case a parser wraps or swallows it."""
        try:
            filesystem, inner = storage.resolve(path)
            self._file = filesystem.open_input_file(inner)
            self._size = int(self._file.size())
        except Exception as error:
            raise unavailable(path, "cannot be opened", error) from error

    @property
    def closed(self) -> bool:
        return bool(self._file.closed)

    def size(self) -> int:
        return self._size

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        before = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        if before + offset < 0:
            # Only a parser that follows a wrong number wants to go there.
            raise pa.ArrowInvalid(f"there is no byte {before + offset:,}")
        if self._digest is not None and before + offset != self._position:
            raise RuntimeError("a reader that seeks leaves bytes out of the digest that is taken")
        self._position = before + offset
        return self._position

    def read(self, size: int | None = None) -> bytes:
        """Up to `size` bytes; None: all that are left."""
        left = max(self._size - self._position, 0)
        wanted = left if size is None or size < 0 else min(size, left)
        if not wanted:
            return b""
        try:
            # In a bucket, each seek would be a request, and Google's refuses one to the end.
            content: bytes = self._file.read_at(wanted, self._position)
            if len(content) < wanted:
                problem = f"{len(content):,} bytes came of {wanted:,} at byte {self._position:,}"
                raise OSError(problem)
        except MemoryError:
            # Whose fault it is depends on what was being parsed (`limited_memory`).
            raise
        except Exception as error:
            self.error = self.error or unavailable(self._path, "cannot be read", error)
            raise self.error from error
        self._position += wanted
        if self._digest is not None:
            self._digest.add(content)
        if self._position == wanted:
            self.first = content[:FIRST_BYTES]
        return content

    def close(self) -> None:
        # Nothing is written, so nothing can be lost.
        try:
            self._file.close()
        except Exception:
            return
