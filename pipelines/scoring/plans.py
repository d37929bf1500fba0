"""The plans of an output, as they are now, and the parts of all of them, one after another.

A later plan may retire parts of earlier ones, and say that their shards are elsewhere now
(`pipelines.scoring.known`).
"""

from collections.abc import Sequence
from typing import cast, overload

import numpy as np
import pyarrow as pa

from pipelines.scoring.config import OutputSettings, class_names
from pipelines.scoring.known import KnownShards
from pipelines.scoring.part_data import REJECTED
from pipelines.scoring.plan import Part, Plan


class Plans(Sequence[Plan]):
    """Plans without the parts that later ones have retired, and with the shards where they are now.

    Args:
        written: the plans, in order, as they are in their files.
        digests: SHA-256 of each plan's file, in hex.

    Attributes:
        digests: the same.
        known: the shards of all plans.
        names: string[parts]: the names of the parts.
        plan_of: int64[parts]: the number of each part's plan.
        index_in_plan: int64[parts]: the index of each part in its plan.
        retired: string[retired]: the names of the parts that a later plan has retired.
    """

    def __init__(self, written: Sequence[Plan] = (), digests: Sequence[str] = ()) -> None:
        self.digests = tuple(digests)
        self.known = KnownShards(written)
        self._written = tuple(written)
        self._now = self.known.plans_now(written)
        counts = np.array([len(plan.parts) for plan in self._now], np.int64)
        none = pa.array([], pa.string())
        self.names = pa.concat_arrays([none, *(plan.parts.names for plan in self._now)])
        self.plan_of = np.repeat(np.arange(len(counts)), counts)
        starts = np.cumsum(counts) - counts
        self.index_in_plan = np.arange(len(self.names)) - starts[self.plan_of]
        self.retired = _retired_names(written)

    def followed_by(self, written: Sequence[Plan], digests: Sequence[str]) -> "Plans":
        """These and further plans."""
        return Plans((*self._written, *written), (*self.digests, *digests))

    def __len__(self) -> int:
        return len(self._now)

    @overload
    def __getitem__(self, index: int) -> Plan: ...

    @overload
    def __getitem__(self, index: slice) -> list[Plan]: ...

    def __getitem__(self, index: int | slice) -> Plan | list[Plan]:
        return self._now[index]

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the model's classes, in order, as the first plan has them."""
        settings = self._now[0].settings if self._now else {}
        return class_names(cast(OutputSettings, settings))

    @property
    def seed(self) -> int:
        """Chooses random rows: the plans tell two outputs apart, and stay what they are."""
        return int(self.digests[0][:16], 16)

    @property
    def parts(self) -> list[Part]:
        """The parts of all plans."""
        return [part for plan in self._now for part in plan.parts]

    @property
    def rows(self) -> int:
        """The number of their input rows."""
        return sum(int(plan.parts.rows.sum()) for plan in self._now)

    @property
    def next_part(self) -> int:
        """The number of the first part of another plan."""
        numbers = [plan.parts.numbers for plan in self._written if len(plan.parts)]
        return int(numbers[-1][-1]) + 1 if numbers else 0

    def names_of(self, number: int) -> pa.StringArray:
        """string[parts]: the names of the parts of a plan."""
        first, last = np.searchsorted(self.plan_of, [number, number + 1]).tolist()
        return self.names[first:last]

    def unreadable(self) -> pa.Table:
        """The shards that could not be opened, as a table with the schema REJECTED."""
        rows = [
            {"shard": plan.shards[index].path, "reason": reason, "plan": number}
            for number, plan in enumerate(self._now)
            for index, reason in plan.unreadable.items()
        ]
        return pa.Table.from_pylist(rows, REJECTED)


def _retired_names(plans: Sequence[Plan]) -> pa.StringArray:
    """string[retired]: the names of the parts that a later plan has retired."""
    retired = [plan.changes.retired for plan in plans if len(plan.changes.retired)]
    if not retired:
        return pa.array([], pa.string())
    numbers = np.concatenate([plan.parts.numbers for plan in plans])
    names = pa.concat_arrays([plan.parts.names for plan in plans])
    # The numbers of parts ascend from plan to plan.
    return names.take(pa.array(np.searchsorted(numbers, np.concatenate(retired))))
