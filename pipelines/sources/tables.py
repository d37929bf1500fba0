"""Directories of table formats, whose files include rows that were deleted or replaced."""

import posixpath
from collections.abc import Iterable

import pyarrow.fs as pafs

from sentiment.errors import InputError

_EXPORTS = {
    "Delta Lake": "deltalake.DeltaTable(DIRECTORY).to_pyarrow_dataset()",
    "Iceberg": "pyiceberg's StaticTable.from_metadata(FILE).scan().to_arrow()",
    "Hudi": "spark.read.format('hudi').load(DIRECTORY)",
}
"""How each format's own library gives the rows that are live."""


def require_no_table(infos: Iterable[pafs.FileInfo], given: str) -> None:
    """Raise an InputError, which names `given`, if a directory among these files is such a table.

    Only the table's own library knows which of its files are live.
    """
    for info in infos:
        directory, name = posixpath.split(info.path)
        names = info.path.split("/")
        kind = ""
        if name == "_delta_log":
            kind = "Delta Lake"
        elif name == ".hoodie":
            kind = "Hudi"
        elif name.endswith(".metadata.json") and names[-2:-1] == ["metadata"]:
            kind, directory = "Iceberg", posixpath.dirname(directory)
        if kind:
            raise InputError(
                f"{given}: {directory} is a table of {kind}, whose files include deleted and "
                f"replaced rows: write its live rows to Parquet, by {_EXPORTS[kind]}, and give that"
            )
