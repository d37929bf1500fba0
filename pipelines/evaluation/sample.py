"""Sample: a random sample of rows that arrive in blocks; all of them while they are few."""

import math

import numpy as np
import pyarrow as pa

SAMPLE_ROWS = 500_000
"""Rows of a sample, at most: some 100 MB of short texts, and areas under curves to 0.001."""

_KEY = "__key"


class Sample:
    """At most so many rows of a table, each as likely as the others, by keys that they have.

    Args:
        rows: at most.
        of: rows that are added to all samples that will be one (`extend`).
    """

    def __init__(self, rows: int, of: int) -> None:
        self._rows = rows
        # The rows with the smallest keys stay. Of those that are left out here, none would stay.
        self._largest_key = (rows + 6 * math.sqrt(rows)) / max(of, 1)
        self._blocks: list[pa.Table] = []
        self._held = 0

    def add(self, block: pa.Table, keys: np.ndarray) -> None:
        """Add n rows with their keys, float64[n], which are random in [0, 1); all blocks have the
        same columns."""
        keyed = block.append_column(_KEY, pa.array(keys))
        self._hold([keyed.filter(pa.array(keys < self._largest_key))])

    def extend(self, other: "Sample") -> None:
        """Add another sample's rows."""
        self._hold(other._blocks)

    def table(self) -> pa.Table:
        """The sample, in the order in which the rows came. At least one block was added."""
        self._cut()
        (whole,) = self._blocks
        return whole.drop_columns(_KEY)

    def _hold(self, blocks: list[pa.Table]) -> None:
        self._blocks += blocks
        self._held += sum(map(len, blocks))
        if self._held > 2 * self._rows:
            self._cut()

    def _cut(self) -> None:
        whole = pa.concat_tables(self._blocks)
        keys = whole[_KEY].to_numpy()
        if len(keys) > self._rows:
            kept = np.sort(np.argpartition(keys, self._rows - 1)[: self._rows])
            whole = whole.take(pa.array(kept))
        self._blocks, self._held = [whole.combine_chunks()], len(whole)
