"""Check that every node of the cluster sees the same local files as the driver."""

import os
import posixpath
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import ExitStack

import pyarrow.fs as pafs
import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from pipelines.errors import Failure
from sentiment import storage
from sentiment.errors import InputError

MAX_DIRECTORIES_CHECKED = 100
"""Directories of an input that are checked to be visible from every node."""


def one_of_each_directory(paths: Iterable[str]) -> list[str]:
    """A path in each of the first MAX_DIRECTORIES_CHECKED directories, for `require_shared`."""
    by_directory = {posixpath.dirname(path): path for path in paths}
    return list(by_directory.values())[:MAX_DIRECTORIES_CHECKED]


def require_shared(paths: Sequence[tuple[str, str]]) -> None:
    """Raise an InputError if a node does not see a local path as this process sees it.

    Raises Failure if a node does not answer.

    Args:
        paths: Flags, each with a file to read or a directory to write to.
    """
    nodes = {node["NodeID"]: node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]}
    resolved = [(flag, path, *storage.resolve(path)) for flag, path in paths]
    local = [
        (flag, path, local_path)
        for flag, path, filesystem, local_path in resolved
        if isinstance(filesystem, pafs.LocalFileSystem)
    ]
    if len(nodes) < 2 or not local:
        return
    with ExitStack() as stack:
        files = []
        for _, _, local_path in local:
            if os.path.isdir(local_path):
                # Every node may have a directory of that name, each its own.
                local_path = stack.enter_context(
                    tempfile.NamedTemporaryFile(dir=local_path, prefix=".shared.")
                ).name
            files.append((local_path, os.stat(local_path).st_mtime_ns))
        strategies = [NodeAffinitySchedulingStrategy(node, soft=False) for node in nodes]
        checks = [
            _files_that_differ.options(scheduling_strategy=strategy).remote(files)
            for strategy in strategies
        ]
        try:
            differences = ray.get(checks)
        except RayError as error:
            message = str(error).partition("\n")[0]
            raise Failure(
                f"a node did not answer ({message}): run the same command again"
            ) from error
    for address, indices in zip(nodes.values(), differences, strict=True):
        for index in indices:
            flag, path, _ = local[index]
            raise InputError(
                f"{flag} {path}: node {address} does not have the same files there; use a file "
                "system that all nodes share, or s3:// or gs://"
            )


@ray.remote(num_cpus=0)
def _files_that_differ(files: Sequence[tuple[str, int]]) -> list[int]:
    """Indices of the files that are missing here or have another modification time (ns)."""
    return [
        index
        for index, (path, modified) in enumerate(files)
        if not os.path.exists(path) or os.stat(path).st_mtime_ns != modified
    ]
