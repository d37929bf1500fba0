"""What a file is by its first bytes, whatever its name says."""

from pipelines.errors import BadShard
from pipelines.sources.format_files import FORMAT_FILES
from pipelines.sources.names import CODECS, file_name

FIRST_BYTES = 512
"""So many bytes tell the kind of a file."""

_KINDS = (
    *(
        (files.magic, files.title, f"name it {files.extensions[0]}")
        for files in FORMAT_FILES.values()
        if files.magic
    ),
    (b"\x1f\x8b", "gzip", "name it so that it ends in .gz, such as .csv.gz"),
    (b"\x28\xb5\x2f\xfd", "zstd", "name it so that it ends in .zst, such as .csv.zst"),
    (b"BZh", "bz2", "name it so that it ends in .bz2, such as .csv.bz2"),
    (b"PK\x03\x04", "a zip archive, or a workbook (.xlsx, .ods)", "unpack it, or export it as CSV"),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook (.xls)", "export it as CSV"),
    (b"Obj\x01", "Avro", "convert it to Parquet"),
    (b"ORC", "ORC", "convert it to Parquet"),
    (b"ARROW1", "an Arrow file (Feather)", "convert it to Parquet"),
    (b"\xff\xff\xff\xff", "an Arrow stream, as Hugging Face saves it", "convert it to Parquet"),
    (b"SQLite format 3\0", "an SQLite database", "export it as CSV"),
    (b"%PDF-", "PDF", "extract its texts"),
    (b"\x7fELF", "a program", "leave it out"),
    (b"\xfd7zXZ\0", "xz", "decompress it, or compress it with gzip or zstd"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", "unpack it"),
    (b"\xff\x06\0\0sNaPpY", "Snappy", "decompress it, or compress it with gzip or zstd"),
    (b"\x04\x22\x4d\x18", "LZ4", "decompress it, or compress it with gzip or zstd"),
    (
        b"version https://git-lfs.github.com/",
        "a pointer of Git LFS, not the file itself",
        "run `git lfs pull`",
    ),
)
COMPRESSIONS = ("gzip", "zstd", "bz2")
"""Kinds whose files always begin alike."""

_TAR, _TAR_AT = (b"ustar\0", b"ustar  \0"), 257
"""What tar archives have, and where. Their NUL bytes tell them from texts about mustard."""

_PAGES = (b"<!doctype html", b"<html", b"<head")


def wrong_kind(path: str, first: bytes, expected: str = "") -> BadShard | None:
    """The error to raise if a file is of another kind than expected: it names what the file is.

    Args:
        path: the file, for the message.
        first: its first bytes, FIRST_BYTES if it has so many.
        expected: the name of a kind; "": a text.
    """
    seen = next(((name, remedy) for magic, name, remedy in _KINDS if first.startswith(magic)), None)
    text = first.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if seen is None and text.startswith(_PAGES):
        seen = "an HTML page", "was it an error page of a server? Fetch the file again"
    if seen is None and first.startswith(_TAR, _TAR_AT):
        seen = "a tar archive", "unpack it"
    if seen is None and expected in COMPRESSIONS:
        return BadShard(f"{path} is not {expected}, whatever its name says: name it as what it is")
    if seen is None or seen[0] == expected:
        return None
    (kind, remedy), name = seen, file_name(path)
    is_inside = expected not in COMPRESSIONS and name.compression is not None
    if is_inside and kind in COMPRESSIONS:
        return BadShard(f"{path} is compressed twice: decompress it once")
    if is_inside:
        # Formats that are read are told by their name.
        first_step = "decompress it, then " if remedy.startswith("name it") else ""
        return BadShard(f"{path} is {kind} in {name.compression}: {first_step}{remedy}")
    if expected == "Parquet" and kind in COMPRESSIONS and path.lower().endswith(CODECS):
        return BadShard(
            f"{path} is {kind} around a whole file: decompress it, since Parquet files are "
            "compressed inside"
        )
    says = "" if name.format is None else ", whatever its name says"
    return BadShard(f"{path} is {kind}{says}: {remedy}")
