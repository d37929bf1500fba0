"""Sample: a random sample of rows that arrive in blocks; all of them while they are few."""

import numpy as np
import pyarrow as pa

SAMPLE_ROWS = 500_000
"""Rows of a sample, at most: some 100 MB of short texts, and areas under curves to 0.001."""

_KEY = "__key"


class Sample:
    """At most so many rows of a table, each as likely as the others; the same in every run."""

    def __init__(self, rows: int = SAMPLE_ROWS) -> None:
        self._rows, self._random = rows, np.random.default_rng(0)
        self._blocks: list[pa.Table] = []
        self._held = 0

    def add(self, block: pa.Table) -> None:
        """Add rows; all blocks have the same columns."""
        # The rows with the smallest keys stay.
        self._blocks.append(block.append_column(_KEY, pa.array(self._random.random(len(block)))))
        self._held += len(block)
        if self._held > 2 * self._rows:
            self._cut()

    def table(self) -> pa.Table:
        """The sample, in the order in which the rows came. At least one block was added."""
        self._cut()
        (whole,) = self._blocks
        return whole.drop_columns(_KEY)

    def _cut(self) -> None:
        whole = pa.concat_tables(self._blocks)
        keys = whole[_KEY].to_numpy()
        if len(keys) > self._rows:
            kept = np.sort(np.argpartition(keys, self._rows - 1)[: self._rows])
            whole = whole.take(pa.array(kept))
        self._blocks, self._held = [whole.combine_chunks()], len(whole)
