"""What the files of each format look like: their names and their first bytes."""

from dataclasses import dataclass


@dataclass(frozen=True)
class FormatFiles:
    """The files of a format."""

    title: str
    """Name of the format in messages."""
    extensions: tuple[str, ...]
    """In small letters; the first is the usual one."""
    magic: bytes = b""
    """What every file begins with, and no file of another format; b"": there is nothing such."""


FORMAT_FILES = {
    "csv": FormatFiles("CSV", (".csv",)),
    "tsv": FormatFiles("TSV", (".tsv",)),
    "json": FormatFiles("JSON lines", (".json", ".jsonl", ".jsonlines", ".ndjson")),
    "text": FormatFiles("text", (".txt", ".text")),
    "parquet": FormatFiles("Parquet", (".parquet", ".parq", ".pq"), b"PAR1"),
}
"""By the value of `--format`."""

FORMAT_OF = {
    extension: name for name, files in FORMAT_FILES.items() for extension in files.extensions
}
"""Formats by extension."""

MAGIC_BYTES = max(len(files.magic) for files in FORMAT_FILES.values())
"""So many first bytes tell the formats that have a `magic`."""


def format_told_by(first: bytes) -> str | None:
    """The format of a file, by its first MAGIC_BYTES; None: they do not tell."""
    for name, files in FORMAT_FILES.items():
        if files.magic and first.startswith(files.magic):
            return name
    return None
