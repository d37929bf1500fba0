"""Results of Ray Data in the driver: the tables or rows of a dataset."""

import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from pipelines.cluster.ray_internals import blocks_of, set_data_options

if TYPE_CHECKING:
    from ray.data import Dataset


def import_ray_data(verbose: bool = False) -> None:
    """Import Ray Data, which takes a second, and keep it quiet, unless `verbose`."""
    import ray.data  # noqa: F401

    if not verbose:
        set_data_options(enable_progress_bars=False, print_on_execution_start=False)
        logging.getLogger("ray.data").setLevel(logging.ERROR)


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
