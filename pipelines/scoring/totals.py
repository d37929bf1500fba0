"""Footers -> totals: what a scored output holds, added up from what each part says of itself."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipelines.scoring.plan import Part, Plan
from sentiment.errors import UNREADABLE

BINS = 20
"""Of the histogram of probabilities, of equal width: positive are those of the upper half."""

REASONS_A_PART = 20
"""Reasons for rejecting that a part counts by name, the most frequent; more make one, `OTHER`."""

REASONS = 1000
"""Reasons that totals count by name, about."""

WIDEST_REASON = 120
"""Characters of a reason that rows are counted by."""

OTHER = "other reasons"


class Totals:
    """Sums over parts.

    Counts are exact. So is all else, of parts that say it: those of earlier versions, `silent` in
    number, know nothing of shards, bins and reasons. Reasons are texts, of which a corpus may have
    as many as rows: beyond `REASONS` the rarer half so far becomes `OTHER`.
    """

    def __init__(self, plans: Sequence[Plan]) -> None:
        self.counts: Counter[str] = Counter()
        """By the names of `pipelines.scoring.output.COUNTS`."""
        self.parts = self.silent = 0
        self.histogram = np.zeros(BINS, np.int64)
        """Rows scored, by probability."""
        self.shards = [np.zeros((len(plan.shards), 2), np.int64) for plan in plans]
        """Of each plan, int64 (shards, 2): rows scored, and those found positive."""
        self.reasons: Counter[str] = Counter()
        """Rows rejected, by reason."""

    def add(self, part: Part, plan: int, footer: Mapping[str, Any]) -> None:
        """Add a part of the plan of that number, by what its footer holds."""
        self.parts += 1
        self.counts.update(footer["counts"])
        try:
            histogram = np.array(footer["histogram"], np.int64).reshape(BINS)
            answers = np.array(footer["answers"], np.int64).reshape(len(part.pieces), 2)
            reasons = {str(reason): int(rows) for reason, rows in footer["reasons"].items()}
        except (*UNREADABLE, AttributeError):
            self.silent += 1
            return
        self.histogram += histogram
        np.add.at(self.shards[plan], [piece.shard for piece in part.pieces], answers)
        self.reasons.update(reasons)
        if len(self.reasons) > REASONS:
            self.reasons = most_frequent(self.reasons, REASONS // 2)


def kind_of(reason: str) -> str:
    """What rows are counted by: their reason without what it says of a single value."""
    return reason.partition(": ")[0][:WIDEST_REASON]


def most_frequent(reasons: Counter[str], number: int) -> Counter[str]:
    """So many of the reasons, the most frequent; the rows of all others count as `OTHER`."""
    # Ties by name: what a part says follows from its rows alone.
    ordered = sorted(reasons.items(), key=lambda item: (item[0] == OTHER, -item[1], item[0]))
    kept = Counter(dict(ordered[:number]))
    rest = sum(rows for _, rows in ordered[number:])
    if rest:
        kept[OTHER] += rest
    return kept
