"""Text files as chunks of UTF-8, whatever their encoding; one bad byte costs one row.

A byte order mark tells the encoding of a file; otherwise it is that of the options. UTF-8 is not
checked. In other encodings, bytes that are no character come out as bytes that are not UTF-8. So
whoever checks a row's text for UTF-8 finds them.
"""

import codecs
import re
from collections.abc import Iterator
from typing import TypeAlias

import numpy as np
import pyarrow as pa

from pipelines.errors import BadShard
from pipelines.sources.kinds import FIRST_BYTES, wrong_kind
from pipelines.sources.shard_file import is_shortage
from sentiment.errors import on_one_line

CHUNK_BYTES = 2**20
"""Bytes that are parsed at a time. They stay in the processor's cache."""

REQUEST_BYTES = 8 * 2**20
"""Bytes that are read from a bucket at a time, which takes time for each request."""

FIRST_CHUNK_BYTES = 64 * 2**10
"""Bytes read first: a reader that then seeks to its rows needs the header only."""

LOOKED_AT_BYTES = 2 * 2**20
"""Bytes at the beginning of a file, in another encoding than UTF-8, that are compared with it."""

_UTF8 = re.compile(rb"[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}")
"""A character of several bytes."""

_LATIN = ("iso8859-1", "iso8859-15", "cp1252")
"""In texts of these encodings, next to no characters could be UTF-8."""

MIN_SHARE, MIN_LATIN_SHARE = 0.99, 0.1
"""A file looks like UTF-8 if this share of its bytes beyond ASCII could be; the second is for
Latin encodings, where it also tells files of which some rows are UTF-8."""

Chunk: TypeAlias = bytes | memoryview
"""A piece of a file. What is read is not copied until the rows in it are scanned."""

_MARKS = (
    # UTF-32 begins as UTF-16 does.
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)

_ERRORS = "sentiment.keep_invalid"


class TextFile:
    """A text file, decompressed, that is read as UTF-8. Raises BadShard if it is no text."""

    def __init__(self, source: pa.NativeFile, path: str, encoding: str) -> None:
        self._source, self.path = source, path
        self._position = 0
        self._left = memoryview(b"")
        """Bytes that have been read from a bucket, and are not parsed yet."""
        size = min(FIRST_CHUNK_BYTES, CHUNK_BYTES)
        self._given = codecs.lookup(encoding).name
        self._looked_at = self._beyond_ascii = self._like_utf8 = 0
        first = bytes(self._read(size))
        while len(first) < FIRST_BYTES and (more := self._read(size)):
            first += more
        if wrong := wrong_kind(path, first):
            raise wrong
        mark, self.encoding = next(
            ((mark, name) for mark, name in _MARKS if first.startswith(mark)),
            (b"", self._given),
        )
        self._first: Chunk = first[len(mark) :]
        self.start = len(mark)
        """Offset of the first byte after the byte order mark."""

    @property
    def is_utf8(self) -> bool:
        """Whether bytes of a chunk are bytes of the decompressed file."""
        return self.encoding == "utf-8"

    @property
    def detected(self) -> list[str]:
        """What the file told of its encoding, as far as it has been read, in lines as
        `with_detected` takes them."""
        # Of UTF-16 a mark tells the order of the bytes.
        given = self._given.removesuffix("-sig")
        if not self.encoding.startswith(given):
            return [f"Decoded as {self.encoding}, as a byte order mark says"]
        share = MIN_LATIN_SHARE if self.encoding in _LATIN else MIN_SHARE
        if self._like_utf8 and self._like_utf8 >= share * self._beyond_ascii:
            return [f"Decoded as {self.encoding} by --encoding, but UTF-8 by the look of it"]
        return []

    def chunks(self) -> Iterator[tuple[Chunk, bool]]:
        """The text in UTF-8: chunks, and whether each is the last (which is empty)."""
        decoder = None
        if not self.is_utf8:
            decoder = codecs.getincrementaldecoder(self.encoding)(_ERRORS)
        chunk = self._first
        while True:
            is_last = not chunk
            yield self._utf8(chunk, decoder), is_last
            if is_last:
                return
            chunk = self._next()

    def chunks_from(self, position: int) -> Iterator[tuple[Chunk, bool]]:
        """The text from a byte of the file on; of files in UTF-8 that are not compressed."""
        self._source.seek(position)
        self._position = position
        while chunk := self._next():
            yield chunk, False
        yield b"", True

    def _utf8(self, chunk: Chunk, decoder: codecs.IncrementalDecoder | None) -> Chunk:
        if decoder is None:
            return chunk
        if self._looked_at < LOOKED_AT_BYTES and not self.encoding.startswith("utf"):
            self._looked_at += len(chunk)
            self._beyond_ascii += int((np.frombuffer(chunk, np.uint8) >= 0x80).sum())
            self._like_utf8 += sum(map(len, _UTF8.findall(chunk)))
        try:
            return decoder.decode(chunk, not chunk).encode("utf-8", "surrogateescape")
        except UnicodeError as error:
            raise BadShard(f"{self.path} is not {self.encoding}: {error}") from None

    def _next(self) -> memoryview:
        """The next CHUNK_BYTES at most; none: the file ends."""
        if "://" not in self.path:
            return self._read(CHUNK_BYTES)
        if not self._left:
            self._left = self._read(REQUEST_BYTES)
        chunk, self._left = self._left[:CHUNK_BYTES], self._left[CHUNK_BYTES:]
        return chunk

    def _read(self, size: int) -> memoryview:
        try:
            chunk = memoryview(self._source.read_buffer(size))
        except (OSError, pa.ArrowInvalid) as error:
            if is_shortage(error):
                raise
            reason = on_one_line(error)
            raise BadShard(
                f"{self.path} cannot be read after byte {self._position}: {reason}"
            ) from error
        self._position += len(chunk)
        return chunk


def has_half_pair(value: bytes) -> bool:
    """Whether bytes are UTF-8, except that they have half of a surrogate pair, as JSON can."""
    try:
        value.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return False
    try:
        value.decode()
    except UnicodeDecodeError:
        return True
    return False


def _keep_invalid(error: UnicodeError) -> tuple[str, int]:
    """Error handler for decoding: bytes that are no character become bytes that are not UTF-8."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    byte = error.object[error.start]
    # Alone, bytes from 0x80 to 0xBF are not UTF-8. Others could be the start of a character.
    escape = chr(0xDC00 + byte) if 0x80 <= byte < 0xC0 else "\udcff"
    if error.encoding.startswith(("utf-16", "utf-32", "utf16", "utf32")):
        return "\udcff", error.end
    return escape, error.start + 1


codecs.register_error(_ERRORS, _keep_invalid)
