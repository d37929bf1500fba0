"""A file system whose files fail, or take their time: a local one with faults put into it."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from unittest.mock import patch

import pyarrow as pa
import pyarrow.fs as pafs

from sentiment import storage


@dataclass
class Faults:
    """What goes wrong, and what was asked for. `error` is raised by a call whose name is `at`."""

    at: str = ""
    """`open`, `size`, `read`, `stat`, `list`, or `cut`: a read that brings too little."""
    error: BaseException | None = None
    after: int = 0
    """Calls of that name that do well before."""
    latency: float = 0.0
    """Seconds that each call takes but `size`."""
    calls: dict[str, int] = field(default_factory=dict)

    def come(self, name: str) -> bool:
        """Note a call, let it take its time, raise its error; return whether it is to be cut."""
        number = self.calls[name] = self.calls.get(name, 0) + 1
        if self.latency and name != "size":
            time.sleep(self.latency)
        cut = name == "read" and self.at == "cut" and number > self.after
        if name == self.at and number > self.after and self.error is not None:
            raise self.error
        return cut


class _File:
    """A local file, for `pa.PythonFile`."""

    mode = "rb"
    closed = False

    def __init__(self, path: str, faults: Faults) -> None:
        self._file = open(path, "rb")  # noqa: SIM115
        self._faults = faults

    def read(self, size: int = -1) -> bytes:
        cut = self._faults.come("read")
        content = self._file.read(size)
        return content[: len(content) // 2] if cut else content

    def seek(self, offset: int, whence: int = 0) -> int:
        if whence == os.SEEK_END:
            self._faults.come("size")
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def close(self) -> None:
        self.closed = True
        self._file.close()


class _Handler(pafs.FSSpecHandler):
    """Arrow's file system in Python: only what readers call."""

    def __init__(self, faults: Faults) -> None:
        self._faults = faults
        self._local = pafs.LocalFileSystem()

    def get_type_name(self) -> str:
        return "faulty"

    def get_file_info(self, paths: list[str]) -> list[pafs.FileInfo]:
        self._faults.come("stat")
        return list(self._local.get_file_info(paths))

    def get_file_info_selector(self, selector: pafs.FileSelector) -> list[pafs.FileInfo]:
        self._faults.come("list")
        return list(self._local.get_file_info(selector))

    def open_input_file(self, path: str) -> pa.PythonFile:
        self._faults.come("open")
        return pa.PythonFile(_File(path, self._faults), "r")


@contextmanager
def faulty(faults: Faults, below: str = "") -> Iterator[None]:
    """Context manager: paths, below a directory, lead to local files with these faults."""
    filesystem = pafs.PyFileSystem(_Handler(faults))
    resolve = storage.resolve

    def resolve_to_faults(path: str) -> tuple[pafs.FileSystem, str]:
        absolute = storage.absolute(path)
        return (filesystem, absolute) if absolute.startswith(below) else resolve(path)

    with patch.object(storage, "resolve", resolve_to_faults):
        yield
