"""Commits a part: writes its rejected rows and its scored rows, so that the part appears whole."""

import itertools
import os
from dataclasses import dataclass, replace
from functools import lru_cache
from socket import gethostname

import pyarrow as pa
import pyarrow.fs as pafs

from pipelines.errors import Failure, Unavailable
from pipelines.scoring.part_data import WrittenFile
from pipelines.scoring.part_file import fingerprint
from pipelines.scoring.plan import Plan, number_of, plan_file
from sentiment import storage
from sentiment.errors import on_one_line


@dataclass(frozen=True)
class PartWriter:
    """Writes the files of parts into an output. It creates no directories."""

    output: str
    """The output directory."""
    staging: str = ""
    """`Output.staging` of the job: the directory, on a disk, where files are written before they
    are renamed. `--overwrite` of another job removes it, and then no file of this job appears."""
    writer: str = ""
    """`Output.writer` of the job."""
    plans: int = 0
    """Plans that the job knows."""

    def write_rejected(self, name: str, content: pa.Buffer | None) -> WrittenFile | None:
        """Write a part's file in `_rejected/`. None: it has none, and an earlier one is removed.

        Raises OSError, and Failure if this job may no longer write.
        """
        self._require_staging()
        path = storage.join(self.output, "_rejected", f"{name}.parquet")
        if content is None:
            # An earlier attempt may have left the file, when a shard could not be read.
            storage.remove_if_there(path)
            return None
        return self._write(path, content)

    def commit(self, name: str, content: pa.Buffer) -> WrittenFile:
        """Write the part's file, after its rejected rows. Then the part is done.

        Raises OSError, and Failure if this job may no longer write.
        """
        self._require_staging()
        if not self.staging:
            self._require_planned(name)
        return self._write(storage.join(self.output, f"{name}.parquet"), content)

    def modified(self, name: str, below: str) -> int:
        """When a part's file was written, in nanoseconds since 1970; 0: it is not there.

        `below`: `_rejected` for its file there, else "". Raises Unavailable during an outage.
        """
        path = storage.join(self.output, below, f"{name}.parquet")
        try:
            filesystem, inner = storage.resolve(path)
            info = filesystem.get_file_info(inner)
        except OSError as error:
            raise Unavailable(f"{path} cannot be looked for: {on_one_line(error)}") from error
        return (info.mtime_ns or 1) if info.is_file else 0

    def _require_staging(self) -> None:
        # A node that joined later may have a local directory of that name. A bucket is the same
        # for all nodes, and to check it costs a request.
        if self.staging and not os.path.isdir(self.staging):
            raise Failure(
                f"node {gethostname()} does not see {self.staging}: --output is not mounted there, "
                "or another program has started it from scratch"
            )

    def _require_planned(self, name: str) -> None:
        # In a bucket no staging directory is taken away from a job that another one overtakes. What
        # is left is the time of a request: the other job looks for such parts when it ends.
        for number in itertools.count(self.plans):
            path = storage.join(self.output, "_manifest", plan_file(number))
            filesystem, inner = storage.resolve(path)
            info = filesystem.get_file_info(inner)
            if not info.is_file:
                return
            if number_of(name) in _retired_by(path, info.mtime_ns):
                raise Failure(
                    "another program has removed it to follow the input: run the same command again"
                )

    def _write(self, path: str, content: pa.Buffer) -> WrittenFile:
        written = fingerprint(content)
        storage.write(path, content, self.staging, self.writer)
        filesystem, inner = storage.resolve(path)
        if isinstance(filesystem, pafs.LocalFileSystem):
            # If another job has just written the same part, this is its time, and its size or its
            # hash tells whether the content is the same.
            written = replace(written, modified=os.stat(inner).st_mtime_ns)
        return written


@lru_cache(maxsize=64)
def _retired_by(path: str, modified: int | None) -> frozenset[int]:
    """The numbers of the parts that a plan retires; the time tells its file from an earlier one."""
    return frozenset(Plan.from_bytes(storage.read(path), path).changes.retired.tolist())
