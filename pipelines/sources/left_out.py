"""LeftOut: how many rows are not learnt from, and why."""

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from pipelines.console.flag_values import rejected_limit
from pipelines.sources.labels import shown
from sentiment.errors import InputError

MAX_FIRST = 3
"""Rejected rows that are named."""

MAX_UNNAMED = 1000
"""Values that are counted one by one."""

OTHERS = "..."
"""Stands for the values beyond these."""


@dataclass(frozen=True)
class LeftOut:
    """Rows that are left out: they have no label, another label, or cannot be used (rejected)."""

    unlabelled: int = 0
    """Rows with no label: null, empty or NaN."""
    unnamed: dict[str, int] = field(default_factory=dict)
    """Rows with a label that no class has, by its value."""
    rejected: dict[str, int] = field(default_factory=dict)
    """Labelled rows that cannot be used, by reason; and malformed rows."""
    first: tuple[str, ...] = ()
    """The first rejected rows: `SHARD, row NUMBER: reason`."""

    @staticmethod
    def merged(parts: Iterable["LeftOut"]) -> "LeftOut":
        """The sum of the parts, in their order."""
        unlabelled = 0
        unnamed: Counter[str] = Counter()
        rejected: Counter[str] = Counter()
        first: list[str] = []
        for part in parts:
            unlabelled += part.unlabelled
            for value, rows in part.unnamed.items():
                is_counted = value in unnamed or len(unnamed) < MAX_UNNAMED
                unnamed[value if is_counted else OTHERS] += rows
            rejected.update(part.rejected)
            first += part.first[: MAX_FIRST - len(first)]
        return LeftOut(unlabelled, dict(unnamed), dict(rejected), tuple(first))

    @property
    def rejected_rows(self) -> int:
        """Number of rejected rows."""
        return sum(self.rejected.values())

    @property
    def reasons(self) -> str:
        """The rejected rows by reason, the most frequent first: `2 text is null, 1 malformed`."""
        most = sorted(self.rejected, key=lambda reason: (-self.rejected[reason], reason))
        return ", ".join(f"{self.rejected[reason]:,} {reason}" for reason in most)

    def __str__(self) -> str:
        """One line; empty if no row is left out."""
        parts = []
        if self.unlabelled:
            parts.append(f"{self.unlabelled:,} without a label")
        if self.unnamed:
            rows = sum(self.unnamed.values())
            parts.append(f"{rows:,} with a label that no class has: {shown(self.unnamed)}")
        if self.rejected:
            parts.append(
                f"{self.rejected_rows:,} that cannot be used: {self.reasons}; {self.first[0]}"
            )
        return f"Rows left out: {'; '.join(parts)}" if parts else ""


def require_few_rejected(left_out: LeftOut, usable: int, max_rejected: str) -> None:
    """Raise InputError if more rows are rejected than `--max_rejected` allows.

    Args:
        left_out: with the rejected rows.
        usable: labelled rows that can be used.
        max_rejected: the flag.
    """
    rejected, rows = left_out.rejected_rows, left_out.rejected_rows + usable
    if rejected > rejected_limit(max_rejected, rows):
        share = f"{math.ceil(1000 * rejected / rows) / 10:g}%"
        raise InputError(
            f"{rejected:,} of {rows:,} labelled rows cannot be used, more than --max_rejected "
            f"{max_rejected}: {left_out.reasons}; {'; '.join(left_out.first)}; "
            f"--max_rejected {share} leaves them out"
        )
