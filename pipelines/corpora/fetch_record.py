"""The record of a fetched corpus: its source and files, kept in the corpus as `_fetched.json`.

It is written last, so a directory that has it is complete.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from pipelines.sources.names import FETCHED
from sentiment import storage


@dataclass(frozen=True)
class FetchedFile:
    """One file of a fetched corpus."""

    rows: int
    columns: Sequence[str]
    bytes: int
    """Size of the file."""

    @classmethod
    def at(cls, path: Path, rows: int, columns: Sequence[str]) -> "FetchedFile":
        """The file that was written to `path`."""
        return cls(rows, columns, path.stat().st_size)


@dataclass(frozen=True)
class FetchedCorpus:
    """What a directory holds, and where it came from."""

    corpus: str
    source: str
    """Package or URL."""
    sha256: str
    """Of the file that was downloaded."""
    terms: str
    """Licence and citation, in one line."""
    files: dict[str, FetchedFile]
    """By path in the directory, in order."""
    layout: int = 1
    """Another number for each change of what the files hold."""


def write_marker(directory: Path, fetched: FetchedCorpus) -> None:
    """Write the record of a directory that is otherwise complete."""
    content = json.dumps(asdict(fetched), indent=1) + "\n"
    storage.write(str(directory / FETCHED), content.encode())


def read_marker(directory: Path) -> FetchedCorpus | None:
    """Read the record of a directory; None: there is none that this program wrote."""
    try:
        fields = json.loads((directory / FETCHED).read_bytes())
        files = {name: FetchedFile(**file) for name, file in fields.pop("files").items()}
        return FetchedCorpus(**fields, files=files)
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None
