"""Word vectors from a text file, as GloVe and fastText publish them: only those of known words.

A line is a token and its numbers, with blanks or tabs in between. fastText's files begin with a
line of two numbers: how many tokens there are, and how many numbers each has.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import pyarrow as pa

from sentiment import storage
from sentiment.errors import InputError, on_one_line

BUFFER_BYTES = 2**20
COMPRESSIONS = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd"}


def read_vectors(path: str, words: Sequence[str], size: int) -> tuple[np.ndarray, np.ndarray]:
    """The vectors of the words that the file has; of a token that occurs twice, the first.

    The file is read line by line, so it may be larger than memory.

    Args:
        path: path or URI, compressed (.gz, .bz2, .zst) or not.
        words: to look for.
        size: E, the numbers of a vector.

    Returns:
        int32[m], the index in `words` of each vector; and float32[m, E].

    Raises InputError if the file cannot be read, holds no such vectors or none of the words.
    """
    place = {word.encode(): index for index, word in enumerate(words)}
    found: dict[int, np.ndarray] = {}
    with _lines(path) as lines:
        for number, line in enumerate(lines, 1):
            if number == 1 and _is_header(line, path, size):
                continue
            token, *rest = line.split(maxsplit=1) or [b""]
            index = place.get(token, -1)
            if index < 0 or index in found:
                continue
            numbers = rest[0].split() if rest else []
            # Tokens with blanks in them are none of ours: they look like too many numbers.
            if len(numbers) > size:
                continue
            try:
                vector = np.array(numbers, np.float64)
            except ValueError:
                vector = np.empty(0)
            largest = np.abs(vector).max(initial=0)
            if len(vector) != size or not largest <= np.finfo(np.float32).max:  # NaN, too.
                raise InputError(
                    f"--initial_vectors {path}, line {number}: not a token and {size} numbers"
                )
            found[index] = vector
    if not found:
        raise InputError(f"--initial_vectors {path}: it has none of the {len(words):,} words")
    return np.array(list(found), np.int32), np.stack(list(found.values())).astype(np.float32)


def require_vectors(path: str, size: int) -> None:
    """Raise what `read_vectors` raises, as far as a file's first line tells."""
    with _lines(path) as lines:
        line = next(lines, None)
    if line is None:
        raise InputError(f"--initial_vectors {path} is empty")
    _is_header(line, path, size)


def _is_header(line: bytes, path: str, size: int) -> bool:
    """Whether a file's first line is that of fastText's: how many tokens, and numbers of each.

    Raises InputError if the vectors have another size.
    """
    token, *numbers = line.split() or [b""]
    is_header = len(numbers) == 1 and token.isdigit()
    dimension = int(numbers[0]) if is_header and numbers[0].isdigit() else len(numbers)
    if not dimension:
        raise InputError(f"--initial_vectors {path}, line 1: not a token and {size} numbers")
    if dimension != size:
        raise InputError(
            f"--initial_vectors {path}: its vectors have {dimension} numbers: pass "
            f"--embedding_size {dimension}"
        )
    return is_header


@contextmanager
def _lines(path: str) -> Iterator[Iterator[bytes]]:
    """The lines of a file, without their ends; InputError if it cannot be read."""
    try:
        filesystem, inner = storage.resolve(path)
        suffix = f".{inner.rpartition('.')[2]}"
        with filesystem.open_input_stream(
            inner, compression=COMPRESSIONS.get(suffix), buffer_size=BUFFER_BYTES
        ) as stream:
            yield _split(stream)
    except OSError as error:
        raise InputError(
            f"--initial_vectors {path} cannot be read: {on_one_line(error)}"
        ) from error


def _split(stream: pa.NativeFile) -> Iterator[bytes]:
    rest = b""
    while chunk := stream.read(BUFFER_BYTES):
        *lines, rest = (rest + chunk).split(b"\n")
        yield from lines
    if rest:
        yield rest
