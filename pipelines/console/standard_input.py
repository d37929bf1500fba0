"""Lines of standard input, as soon as they arrive."""

from collections.abc import Iterator
from typing import BinaryIO

READ_BYTES = 2**20


def lines_of(stream: BinaryIO) -> Iterator[list[bytes]]:
    """The lines of a stream, without their ends: in each list those that have arrived."""
    rest = b""
    while chunk := stream.read1(READ_BYTES):  # type: ignore[attr-defined]
        *lines, rest = (rest + chunk).split(b"\n")
        if lines:
            yield [line.removesuffix(b"\r") for line in lines]
    if rest:
        yield [rest.removesuffix(b"\r")]
