"""The files below a directory of an output, as one listing shows them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.fs as pafs

from pipelines.scoring.manifest import positions
from pipelines.sources.listing import files_below
from sentiment import storage


@dataclass(frozen=True)
class Listing:
    """Files below a directory, save for those that readers of a table pass over.

    names string[n]: their paths from there; sizes int64[n]; modified int64[n] in ns since 1970;
    directories string[m]: paths of those whose names are of Parquet files.
    """

    names: pa.Array
    sizes: npt.NDArray[np.int64]
    modified: npt.NDArray[np.int64]
    directories: pa.Array

    @staticmethod
    def below(directory: str) -> "Listing":
        """The files below a directory, which may be missing. Raises OSError."""
        filesystem, inner = storage.resolve(directory)
        try:
            infos = files_below(filesystem, inner)
        except FileNotFoundError:
            # It is missing, or a directory below it came or went while it was listed.
            infos = files_below(filesystem, inner) if storage.exists(directory) else []
        return Listing._of(infos, inner)

    @staticmethod
    def _of(infos: Sequence[pafs.FileInfo], inner: str) -> "Listing":
        files = [
            info
            for info in infos
            if info.type == pafs.FileType.File and not info.base_name.startswith(".")
        ]
        directories = [
            info
            for info in infos
            if info.type == pafs.FileType.Directory and info.base_name.endswith(".parquet")
        ]
        return Listing(
            _names(files, inner),
            np.array([file.size for file in files], np.int64),
            np.array([file.mtime_ns or 0 for file in files], np.int64),
            _names(directories, inner),
        )

    def size_of(self, name: str) -> int:
        """Bytes of a file; 0: it is not there."""
        (index,) = positions(pa.array([name]), self.names)
        return int(self.sizes[index]) if index >= 0 else 0


def _names(infos: Sequence[pafs.FileInfo], inner: str) -> pa.Array:
    """string[n]: their paths from the directory `inner`."""
    return pa.array([info.path[len(inner) :].lstrip("/") for info in infos], pa.string())
