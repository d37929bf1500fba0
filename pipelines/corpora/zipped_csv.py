"""Read a CSV file in a zip file from a stranger: checksums, size limit, number of fields."""

import csv
import io
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from pipelines.errors import Failure

MAX_UNPACKED_BYTES = 2**30
"""Size of one unpacked file; the largest that we expect has 239 MB."""


@contextmanager
def open_member(archive: Path, name: str, source: str) -> Iterator[tuple[IO[bytes], int]]:
    """Context manager: one file of a zip, and its unpacked size in bytes.

    Nothing else in the zip is read. `source` names the zip in messages.

    Raises Failure if the zip is damaged or lacks the file. If the block raises Failure, the rest of
    the file is read first: when its checksum is wrong, that is the error to report.
    """
    try:
        with zipfile.ZipFile(archive) as zipped:
            if name not in zipped.namelist():
                raise Failure(f"{source} is a zip file without {name}")
            info = zipped.getinfo(name)
            is_plain = info.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
            if info.flag_bits & 1 or not is_plain:
                raise Failure(f"{source}: {name} is encrypted or compressed in an unusual way")
            if info.file_size > MAX_UNPACKED_BYTES:
                raise Failure(f"{source}: {name} would unpack to {info.file_size:,} bytes")
            with zipped.open(info) as file:
                try:
                    yield file, info.file_size
                except Failure:
                    while file.read(2**20):
                        pass
                    raise
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise Failure(
            f"{source} is not a complete zip file: {error}; run the same command to download it "
            "again"
        ) from error


def numbered_rows(file: IO[bytes], name: str, width: int) -> Iterator[tuple[int, list[str]]]:
    """Rows of a Latin-1 CSV file with `width` columns, numbered from 1; blank lines do not count.

    Raises Failure for the first row that is malformed.
    """
    text, number = io.TextIOWrapper(file, "latin-1", newline=""), 0
    try:
        for row in filter(None, csv.reader(text)):
            number += 1
            if len(row) != width:
                raise Failure(f"{name}, row {number}: {len(row)} fields, not {width}")
            yield number, row
    except csv.Error as error:
        raise Failure(f"{name}, row {number + 1}: {error}") from None
    finally:
        text.detach()  # Otherwise it closes the file, which `open_member` reads to the end.
