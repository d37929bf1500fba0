"""Results of Ray Data in the driver: the tables or rows of a dataset."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from pipelines.cluster.ray_internals import blocks_of, data_options

if TYPE_CHECKING:
    from ray.data import Dataset


@contextmanager
def quiet_ray_data(verbose: bool = False) -> Iterator[None]:
    """Context manager: Ray Data, which takes a second to import, is quiet, unless `verbose`."""
    import ray.data  # noqa: F401

    if verbose:
        yield
        return
    logger = logging.getLogger("ray.data")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with data_options(enable_progress_bars=False, print_on_execution_start=False):
            yield
    finally:
        logger.setLevel(level)


def tables_of(dataset: "Dataset") -> Iterator[pa.Table]:
    """The dataset's non-empty blocks, as Ray computes them.

    Close this generator before Ray is shut down; see `ray_internals.blocks_of`.
    """
    for table in blocks_of(dataset):
        if len(table):
            yield table


def rows_of(dataset: "Dataset") -> Iterator[dict[str, Any]]:
    """The dataset's rows, as Ray computes them."""
    for table in tables_of(dataset):
        yield from table.to_pylist()
