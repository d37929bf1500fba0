"""A random sample of an output's rows, of a few of its parts: the same rows each time."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.sources.parquet import COLUMN_BUFFER_BYTES
from sentiment import storage

PARTS_READ = 4
"""More are read only if these have too few rows."""

MAX_BYTES_READ = 64 * 2**20
"""Bytes of a row group that are decoded. Of a larger one only the first rows are in samples."""

MAX_BATCH_BYTES, MAX_BATCH_ROWS = 16 * 2**20, 1024
"""Size of what is decoded at a time, on average."""


def sample(
    directory: str, names: Sequence[str], rows: npt.NDArray[np.int64], number: int, seed: int
) -> pa.Table | None:
    """A sample of `number` rows, in the order of the output; None: it has no rows.

    Args:
        directory: the output, a path or URI.
        names: of the parts.
        rows: int64[parts]: the rows of each part.
        number: of rows; an output that has fewer is shown whole.
        seed: the same seed chooses the same rows.

    Raises OSError if a part cannot be read.
    """
    random = np.random.default_rng(seed)
    total = int(rows.sum())
    if not total:
        return None
    some = min(number, int(np.count_nonzero(rows)))
    parts = random.choice(len(rows), some, replace=False, p=rows / total)
    enough = int(np.searchsorted(np.cumsum(rows[parts]), number)) + 1
    parts = np.sort(parts[: max(PARTS_READ, enough)])
    ends = np.cumsum(rows[parts])
    chosen = np.sort(random.choice(ends[-1], min(number, int(ends[-1])), replace=False))
    tables = []
    for index, end in zip(parts.tolist(), ends.tolist(), strict=True):
        first = end - int(rows[index])
        here = chosen[(first <= chosen) & (chosen < end)] - first
        if len(here):
            tables.append(_rows(storage.join(directory, f"{names[index]}.parquet"), here))
    return pa.concat_tables(tables)


def _rows(path: str, rows: npt.NDArray[np.int64]) -> pa.Table:
    """The rows with these numbers, from 0, ascending; of a large row group such as are read."""
    filesystem, inner = storage.resolve(path)
    tables = []
    with filesystem.open_input_file(inner) as source:
        file = pq.ParquetFile(source, buffer_size=COLUMN_BUFFER_BYTES, pre_buffer=False)
        first = 0
        for number in range(file.num_row_groups):
            group = file.metadata.row_group(number)
            here = rows[(first <= rows) & (rows < first + group.num_rows)] - first
            first += group.num_rows
            if len(here):
                row_bytes = max(group.total_byte_size / group.num_rows, 1)
                here = np.unique(here % max(int(MAX_BYTES_READ / row_bytes), 1))
                batch_rows = max(min(MAX_BATCH_ROWS, int(MAX_BATCH_BYTES / row_bytes)), 1)
                tables += _rows_of_group(file, number, here, batch_rows)
    return pa.concat_tables(tables)


def _rows_of_group(
    file: pq.ParquetFile, group: int, rows: npt.NDArray[np.int64], batch_rows: int
) -> list[pa.Table]:
    """The rows of a row group with these numbers; nothing is decoded after the last."""
    first = 0
    tables = []
    for batch in file.iter_batches(batch_rows, row_groups=[group]):
        here = rows[(first <= rows) & (rows < first + len(batch))] - first
        first += len(batch)
        tables.append(pa.Table.from_batches([batch]).take(pa.array(here)))
        if first > rows[-1]:
            break
    return tables
