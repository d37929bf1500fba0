"""Lines of standard input, as soon as they arrive."""

from codecs import BOM_UTF8
from collections.abc import Iterator
from typing import BinaryIO

from sentiment.errors import InputError

READ_BYTES = 2**20


def lines_of(stream: BinaryIO, max_bytes: int) -> Iterator[list[bytes]]:
    """The lines of a stream, without their ends and a byte order mark: in each list those that have
    arrived.

    Raises InputError once more than `max_bytes`, at least READ_BYTES, of a line have arrived.
    """
    # A bytearray grows in place: to add to bytes would copy a long line for each chunk of it.
    rest, mark, ended = bytearray(), BOM_UTF8, 0
    while chunk := stream.read1(READ_BYTES):  # type: ignore[attr-defined]
        end, *others = chunk.split(b"\n")
        rest += end
        if len(rest) > max_bytes:
            raise InputError(
                f"standard input, line {ended + 1} is longer than {max_bytes >> 20} MiB: "
                "end each text by a line feed"
            )
        if others:
            lines = [bytes(rest).removeprefix(mark), *others[:-1]]
            rest, mark = bytearray(others[-1]), b""
            ended += len(lines)
            yield [line.removesuffix(b"\r") for line in lines]
    if rest := rest.removeprefix(mark):
        yield [bytes(rest).removesuffix(b"\r")]
