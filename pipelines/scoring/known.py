"""The shards that an output knows: those of all its plans, as they are now.

A later plan has the last word: it may have a shard of an earlier one again, say that it is
elsewhere now, or that its rows are no longer in the output.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.scoring.plan import Changes, Plan
from pipelines.scoring.shards import Shards


class KnownShards:
    """The shards of all plans, one after another, as columns.

    Args:
        plans: the plans, in order, as they are in their files.

    Attributes:
        shards: of all plans, with the paths, times and sizes that they have now.
        is_current: bool[shards]: no later plan has the shard's path, or says that it is gone.
        is_unreadable: bool[shards]: it could not be opened when it was planned.
    """

    def __init__(self, plans: Sequence[Plan]) -> None:
        self._starts = np.cumsum([0, *(len(plan.shards) for plan in plans)])
        self.shards = Shards.concatenate([plan.shards for plan in plans])
        self.is_current = np.ones(len(self.shards), bool)
        self.is_unreadable = np.zeros(len(self.shards), bool)
        for start, plan in zip(self._starts, plans, strict=False):
            self.is_unreadable[start + np.array(sorted(plan.unreadable), np.int64)] = True
        for number, plan in enumerate(plans):
            # Plans without changes are taken together: there may be one for each night of years.
            if plan.changes:
                self._apply(plan.changes, int(self._starts[number]))
        self._keep_latest(len(self.shards))

    def of_plan(self, number: int) -> slice:
        """Where the shards of a plan are among all."""
        return slice(int(self._starts[number]), int(self._starts[number + 1]))

    @property
    def is_read(self) -> npt.NDArray[np.bool_]:
        """bool[shards]: it is current, and could be opened."""
        is_read: npt.NDArray[np.bool_] = self.is_current & ~self.is_unreadable
        return is_read

    def plans_now(self, plans: Sequence[Plan]) -> list[Plan]:
        """The same plans without the parts that later ones have retired, with the shards where they
        are now, and with those unreadable shards that are current.
        """
        if not any(plan.changes for plan in plans) and self.is_current.all():
            return list(plans)
        retired = np.concatenate([plan.changes.retired for plan in plans])
        now = []
        for number, plan in enumerate(plans):
            here = self.of_plan(number)
            left = np.flatnonzero(~np.isin(plan.parts.numbers, retired))
            unreadable = {
                index: reason
                for index, reason in plan.unreadable.items()
                if self.is_current[here.start + index]
            }
            shards, parts = self.shards[here], plan.parts.take(left)
            now.append(replace(plan, shards=shards, parts=parts, unreadable=unreadable))
        return now

    def find(self, paths: pa.LargeStringArray) -> np.ndarray:
        """int64[paths]: the index of the current shard with each path; -1: there is none."""
        return self._find(paths, len(self.shards))

    def _find(self, paths: pa.LargeStringArray, stop: int) -> np.ndarray:
        current = np.flatnonzero(self.is_current[:stop])
        found = pc.index_in(paths, self.shards.paths.take(pa.array(current)))
        indices: np.ndarray = np.append(current, -1)[np.asarray(found.fill_null(-1))]
        return indices

    def _apply(self, changes: Changes, stop: int) -> None:
        """Apply a plan's changes to the shards up to index `stop`, those of the plans before it."""
        self._keep_latest(stop)
        moved, gone = self._find(changes.earlier, stop), self._find(changes.gone, stop)
        is_found = moved >= 0
        self._replace(moved[is_found], changes.moved.take(np.flatnonzero(is_found)))
        self.is_current[gone[gone >= 0]] = False

    def _keep_latest(self, stop: int) -> None:
        """Of those shards up to index `stop` that have the same path, the last is current."""
        current = np.flatnonzero(self.is_current[:stop])
        paths = self.shards.paths.take(pa.array(current)).dictionary_encode()
        latest = np.zeros(len(paths.dictionary), np.int64)
        # Where an index is repeated, the last value is assigned.
        latest[np.asarray(paths.indices)] = current
        self.is_current[:stop] = False
        self.is_current[latest] = True

    def _replace(self, indices: np.ndarray, shards: Shards) -> None:
        order = np.arange(len(self.shards))
        order[indices] = len(self.shards) + np.arange(len(shards))
        self.shards = Shards.concatenate([self.shards, shards]).take(order)
