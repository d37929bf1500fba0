"""Lines of standard input, as soon as they arrive."""

from codecs import BOM_UTF8
from collections.abc import Iterator
from typing import BinaryIO

READ_BYTES = 2**20


def lines_of(stream: BinaryIO) -> Iterator[list[bytes]]:
    """The lines of a stream, without their ends and a byte order mark: in each list those that have
    arrived."""
    rest, mark = b"", BOM_UTF8
    while chunk := stream.read1(READ_BYTES):  # type: ignore[attr-defined]
        *lines, rest = (rest + chunk).split(b"\n")
        if lines:
            lines[0] = lines[0].removeprefix(mark)
            mark = b""
            yield [line.removesuffix(b"\r") for line in lines]
    if rest := rest.removeprefix(mark):
        yield [rest.removesuffix(b"\r")]
