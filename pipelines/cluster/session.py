"""The Ray session of a program: the cluster it is submitted to, else a quiet local one."""

import logging
import math
import os
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.fs as pafs
import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from pipelines.console import command
from pipelines.errors import Failure
from sentiment import storage
from sentiment.errors import InputError, on_one_line

if TYPE_CHECKING:
    from ray.data import Dataset


@contextmanager
def session(verbose: bool = False) -> Iterator[None]:
    """Ray for the length of a block.

    `RAY_ADDRESS` names a cluster, and so does `ray job submit`, by it; without it a local Ray is
    started and stopped; one that this process has started already is used as it is. The workers'
    own output, and what Ray has to say of those that die, stay in Ray's logs, unless `verbose`.
    """
    if ray.is_initialized():
        yield
        return
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    before = signal.getsignal(signal.SIGTERM)
    with nullcontext() if verbose else _native_stderr_closed():
        try:
            ray.init(
                # Not what an earlier `ray start` has left word of: it may be gone.
                address=os.environ.get("RAY_ADDRESS") or "local",
                log_to_driver=verbose,
                logging_level=logging.INFO if verbose else logging.ERROR,
                include_dashboard=False,
            )
        except SystemExit:
            # So Ray answers SIGTERM from the moment it begins to start.
            command.terminate(signal.SIGTERM, None)
        except Exception as error:  # Ray raises bare ones, too.
            said = on_one_line(error)
            raise Failure(f"Ray did not start, or did not answer: {said}") from error
        if before is command.terminate:
            # Ray's, which is in its place, would end the program without a word.
            signal.signal(signal.SIGTERM, before)
        if not verbose:
            # What raylets report is printed whatever `log_to_driver` is, without a setting for it.
            ray._private.worker._worker_logs_enabled = False
            logging.getLogger("ray.train").setLevel(logging.ERROR)
        try:
            yield
        finally:
            ray.shutdown()


def load_data(verbose: bool = False) -> None:
    """Import Ray Data, which takes a second, and keep it quiet, unless `verbose`."""
    import ray.data

    if verbose:
        return
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)


def tables_of(dataset: "Dataset") -> Iterator[pa.Table]:
    """The blocks of the dataset that hold rows, as Ray computes them.

    When this generator is closed, by an exception say, Ray Data waits for what it runs in this
    process. The threads of `iter_rows` and `iter_batches` go on for a tenth of a second, and if one
    of them lets go of an object while Ray ends, Ray ends this process at once, without a word.
    """
    for bundle in dataset.iter_internal_ref_bundles():
        for block in bundle.block_refs:
            if len(table := ray.get(block)):
                yield table


def rows_of(dataset: "Dataset") -> Iterator[dict[str, Any]]:
    """The same row by row."""
    for table in tables_of(dataset):
        yield from table.to_pylist()


@contextmanager
def _native_stderr_closed() -> Iterator[None]:
    """A block in which only Python writes to stderr.

    Ray's core and TensorFlow write there of what is no trouble, and cannot all be told not to.
    """
    before, kept = sys.stderr, os.dup(2)
    before.flush()
    with open(os.devnull, "w") as nowhere, os.fdopen(os.dup(2), "w", buffering=1) as python:
        os.dup2(nowhere.fileno(), 2)
        sys.stderr = python
        try:
            yield
        finally:
            sys.stderr = before
            os.dup2(kept, 2)
            os.close(kept)


def require_shared(paths: Sequence[tuple[str, str]]) -> None:
    """Raise an InputError where a node of a cluster does not see what this process sees.

    Args:
        paths: flags, each with a file to read or a directory to write to.
    """
    nodes = {node["NodeID"]: node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]}
    resolved = [(flag, path, *storage.resolve(path)) for flag, path in paths]
    local = [
        (flag, path, inner)
        for flag, path, filesystem, inner in resolved
        if isinstance(filesystem, pafs.LocalFileSystem)
    ]
    if len(nodes) < 2 or not local:
        return
    with ExitStack() as stack:
        seen = []
        for _, _, inner in local:
            if os.path.isdir(inner):
                # A directory of that name may be on every node, each its own.
                inner = stack.enter_context(
                    tempfile.NamedTemporaryFile(dir=inner, prefix=".shared.")
                ).name
            seen.append((inner, os.stat(inner).st_mtime_ns))
        strategies = [NodeAffinitySchedulingStrategy(node, soft=False) for node in nodes]
        looks = [_not_seen.options(scheduling_strategy=s).remote(seen) for s in strategies]
        try:
            found = ray.get(looks)
        except RayError as error:
            message = str(error).partition("\n")[0]
            raise Failure(f"a node did not answer ({message}): run the same again") from error
    for address, not_seen in zip(nodes.values(), found, strict=True):
        for number in not_seen:
            flag, path, _ = local[number]
            raise InputError(
                f"{flag} {path} is not what node {address} sees there: use a file "
                "system that all nodes share, or s3:// or gs://"
            )


@ray.remote(num_cpus=0)
def _not_seen(seen: Sequence[tuple[str, int]]) -> list[int]:
    """Which of the files, with the nanosecond they were modified, are not here, or others."""
    return [
        number
        for number, (path, modified) in enumerate(seen)
        if not os.path.exists(path) or os.stat(path).st_mtime_ns != modified
    ]


def resources_per_worker(workers: int, use_gpu: bool) -> dict[str, float]:
    """What each training worker asks for: a CPU, or its share where one machine has fewer.

    Raises InputError where one machine is all there is and it lacks the GPUs.
    """
    have = ray.cluster_resources()
    alone = len(ray.nodes()) == 1 and have.get("CPU", 0) > 0
    if alone and use_gpu and have.get("GPU", 0) < workers:
        raise InputError(
            f"--use_gpu --num_workers {workers}: this machine has {have.get('GPU', 0):.0f} GPUs; "
            "use fewer workers, or a cluster"
        )
    # Ray counts resources in ten-thousandths.
    share = math.floor(have.get("CPU", 0) / workers * 10_000) / 10_000
    return {"CPU": min(1.0, share) if alone else 1.0} | ({"GPU": 1.0} if use_gpu else {})
