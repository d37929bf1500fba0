"""The losses and validations of a run as JSON lines: `metrics.jsonl`, or in a bucket its segments.

On a disk each validation appends its lines to `metrics.jsonl`. An object store cannot append. There
each validation writes a file `metrics-000000000400.jsonl`, named for its last step. All of them in
the order of their names, after a `metrics.jsonl` if there is one, are the run.
"""

import json
import re
from collections.abc import Iterable, Mapping

import pyarrow.fs as pafs

from sentiment import storage
from sentiment.errors import InputError

METRICS = "metrics.jsonl"
"""File name. One line per step, `{"step", "loss"}`; after its step, one line per validation."""

_SEGMENT = re.compile(r"metrics-(\d{12})\.jsonl")


def add(directory: str, step: int, lines: Iterable[Mapping[str, float]]) -> None:
    """Add the lines of the steps until `step`."""
    content = "".join(json.dumps(line) + "\n" for line in lines).encode()
    if isinstance(storage.resolve(directory)[0], pafs.LocalFileSystem):
        storage.append(storage.join(directory, METRICS), content)
    else:
        storage.write(storage.join(directory, f"metrics-{step:012d}.jsonl"), content)


def cut(directory: str, step: int) -> None:
    """Remove the lines of steps after `step`, and an incomplete last line.

    Raises InputError if `metrics.jsonl` is damaged.
    """
    for name in storage.names(directory):
        segment = _SEGMENT.fullmatch(name)
        if segment and int(segment[1]) > step:
            storage.remove(storage.join(directory, name))
        elif name == METRICS:
            _cut(storage.join(directory, METRICS), step)


def read(directory: str) -> list[dict[str, float]]:
    """All lines, in order; none if the directory has none. A last line may not be complete."""
    return parsed(changed(directory, {}))


def changed(directory: str, sizes: Mapping[str, int]) -> dict[str, bytes]:
    """The files that are new or have grown, in order: the content by name.

    Args:
        directory: path or URI.
        sizes: bytes of the files that are known, by name.
    """
    now = {
        info.base_name: info.size
        for info in storage.entries(directory)
        if info.base_name == METRICS or _SEGMENT.fullmatch(info.base_name)
    }
    # Names of segments follow METRICS when sorted by length.
    names = sorted(now, key=lambda name: (len(name), name))
    return {
        name: storage.read(storage.join(directory, name))
        for name in names
        if now[name] != sizes.get(name)
    }


def parsed(files: Mapping[str, bytes]) -> list[dict[str, float]]:
    """The complete lines of some files."""
    return [
        json.loads(line)
        for content in files.values()
        for line in content[: content.rfind(b"\n") + 1].splitlines()
    ]


def _cut(path: str, step: int) -> None:
    content = storage.read(path)
    kept = []
    for number, line in enumerate(content.splitlines(keepends=True), 1):
        if not line.endswith(b"\n"):
            break
        try:
            if int(json.loads(line)["step"]) <= step:
                kept.append(line)
        except (ValueError, TypeError, KeyError):
            raise InputError(
                f"{path}, line {number} is damaged: repair it, or move the file away"
            ) from None
    if len(whole := b"".join(kept)) < len(content):
        storage.write(path, whole)
