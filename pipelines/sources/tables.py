"""Directories of table formats, whose files include rows that were deleted or replaced."""

import posixpath
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pyarrow.fs as pafs

from sentiment.arrow_errors import is_outage
from sentiment.errors import InputError

_EXPORTS = {
    "Delta Lake": "deltalake.DeltaTable(DIRECTORY).to_pyarrow_dataset()",
    "Iceberg": "pyiceberg's StaticTable.from_metadata(FILE).scan().to_arrow()",
    "Hudi": "spark.read.format('hudi').load(DIRECTORY)",
}
"""How each format's own library gives the rows that are live."""

METADATA = "metadata"
"""Name of a directory of Iceberg, which is one of its own only by the files in it."""

LEVELS_LOOKED_INTO = 6
"""A directory and its parents: a table's files are rarely more partitions deep."""

CONCURRENT_LOOKS = 16
"""Directories that are looked into at the same time."""

_NOT_TO_BE_READ = (PermissionError, FileNotFoundError, NotADirectoryError)
"""Errors that pass over a directory on a disk. A user may be allowed to read the input and not its
parents. In a bucket, Arrow raises a plain OSError for that."""


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
        elif name.endswith(".metadata.json") and names[-2:-1] == [METADATA]:
            kind, directory = "Iceberg", posixpath.dirname(directory)
        if kind:
            raise InputError(
                f"{given}: {directory} is a table of {kind}, whose files include deleted and "
                f"replaced rows: write its live rows to Parquet, by {_EXPORTS[kind]}, and give that"
            )


def require_no_product(infos: Iterable[pafs.FileInfo], directory: str, given: str) -> None:
    """Raise an InputError, which names `given`, if a scored output or a model of this package is
    among the files below a directory: they would be read as texts. It may itself be an output.
    """
    for info in infos:
        parent, name = posixpath.split(info.path)
        if name == "_manifest" and not info.is_file and parent != directory:
            what = "an output of pipelines.score"
        elif name == "checkpoint.json" and info.is_file:
            what = "a model of pipelines.train"
        else:
            continue
        raise InputError(
            f"{given}: {parent} is {what}, whose files would be read with the others: name the "
            "directories to read, or move it"
        )


def require_in_no_table(
    filesystem: pafs.FileSystem, directories: Iterable[str], given: str, looked_into: set[str]
) -> None:
    """Raise an InputError, which names `given`, if one of these directories, or a parent of one, is
    such a table.

    Args:
        filesystem: of the directories.
        directories: paths in it.
        given: the flag and its value, for the message.
        looked_into: directories that earlier calls have looked into, which are not looked into
            again; this call adds its own.

    Raises OSError if a bucket's server fails. A directory that may not be read is passed over.
    """
    parents = {parent for directory in directories for parent in _with_parents(directory)}
    new = sorted(f"{filesystem.type_name}:{parent}" for parent in parents)
    new = [parent for parent in new if parent not in looked_into]
    looked_into.update(new)
    with ThreadPoolExecutor(CONCURRENT_LOOKS) as pool:
        paths = [parent.partition(":")[2] for parent in new]
        for infos in pool.map(partial(_marks, filesystem), paths):
            require_no_table(infos, given)


def _with_parents(directory: str) -> list[str]:
    """A directory and its parents, LEVELS_LOOKED_INTO at most; in a bucket, up to the bucket."""
    names = directory.rstrip("/").split("/")
    return ["/".join(names[:n]) for n in range(len(names), 0, -1)][:LEVELS_LOOKED_INTO]


def _marks(filesystem: pafs.FileSystem, directory: str) -> list[pafs.FileInfo]:
    """What tells a table, as far as a directory has it."""
    names = ("_delta_log", ".hoodie", METADATA)
    try:
        infos = filesystem.get_file_info([f"{directory}/{name}" for name in names])
        if infos[-1].type == pafs.FileType.Directory:
            infos += filesystem.get_file_info(pafs.FileSelector(infos[-1].path))
    except _NOT_TO_BE_READ:
        return []
    except OSError as error:
        if isinstance(filesystem, pafs.S3FileSystem | pafs.GcsFileSystem) and not is_outage(error):
            return []
        raise
    return [info for info in infos if info.type != pafs.FileType.NotFound]
