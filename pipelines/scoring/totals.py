"""Totals of a scored output: sums over the counts in its parts' footers."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipelines.scoring.plan import Part, Plan
from sentiment.errors import UNREADABLE

BINS = 20
"""Bins of the histogram of probabilities, of equal width. The upper half is positive."""

MAX_REASONS_PER_PART = 20
"""Rejection reasons stored per part, the most frequent; rarer ones are summed under `OTHER`."""

MAX_REASONS = 1000
"""Approximate number of rejection reasons in totals; rarer ones are summed under `OTHER`."""

MAX_REASON_CHARACTERS = 120
"""Rows are counted by this many first characters of their reason."""

OTHER = "other reasons"


class Totals:
    """Sums over parts.

    Counts are exact. Histogram, shards and reasons are exact too, but lack parts that an earlier
    version wrote: those have counts only. A corpus may have as many reasons as rows: beyond
    `MAX_REASONS` the rarer half so far is summed under `OTHER`.
    """

    def __init__(self, plans: Sequence[Plan]) -> None:
        self.counts: Counter[str] = Counter()
        """By the names of `pipelines.scoring.part_data.PartCounts`."""
        self.parts = 0
        self.parts_with_counts_only = 0
        self.histogram = np.zeros(BINS, np.int64)
        """int64[BINS]: rows scored, by probability."""
        self.shards = [np.zeros((len(plan.shards), 2), np.int64) for plan in plans]
        """For each plan, int64[shards, 2]: rows scored, and those that are positive."""
        self.reasons: Counter[str] = Counter()
        """Rows rejected, by reason."""

    def add(self, part: Part, plan: int, footer: Mapping[str, Any]) -> None:
        """Add a part.

        Args:
            part: the part.
            plan: number of its plan.
            footer: JSON in the part's Parquet footer.
        """
        self.parts += 1
        self.counts.update(footer["counts"])
        try:
            histogram = np.array(footer["histogram"], np.int64).reshape(BINS)
            answers = np.array(footer["answers"], np.int64).reshape(len(part.pieces), 2)
            reasons = {str(reason): int(rows) for reason, rows in footer["reasons"].items()}
        except (*UNREADABLE, AttributeError):
            self.parts_with_counts_only += 1
            return
        self.histogram += histogram
        np.add.at(self.shards[plan], [piece.shard for piece in part.pieces], answers)
        self.reasons.update(reasons)
        if len(self.reasons) > MAX_REASONS:
            self.reasons = most_frequent(self.reasons, MAX_REASONS // 2)


def kind_of(reason: str) -> str:
    """A reason without its details of a single value: rows are counted by this."""
    return reason.partition(": ")[0][:MAX_REASON_CHARACTERS]


def most_frequent(reasons: Counter[str], number: int) -> Counter[str]:
    """The `number` most frequent reasons; the rows of all others are summed under `OTHER`."""
    # Ties are broken by name, so that a part's footer follows from its rows alone.
    ordered = sorted(reasons.items(), key=lambda item: (item[0] == OTHER, -item[1], item[0]))
    kept = Counter(dict(ordered[:number]))
    rest = sum(rows for _, rows in ordered[number:])
    if rest:
        kept[OTHER] += rest
    return kept
