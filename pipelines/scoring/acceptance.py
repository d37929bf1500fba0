"""What `--max_rejected` judges: the rows and shards that no `_SUCCESS` has accepted before.

What was accepted once stays accepted, by content: also if a shard is renamed, or scored again
because it shares a part with one that has changed.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.scoring.output import Output
from pipelines.scoring.shards import Shards, digest_column
from pipelines.scoring.success import accepted_plans


@dataclass(frozen=True)
class Unaccepted:
    """Counts of what is new since the last `_SUCCESS`."""

    rows: int = 0
    """Rows scored and rejected."""
    rejected: int = 0
    """Rows rejected."""
    unreadable_shards: int = 0
    """Shards that could not be opened."""


def unaccepted(output: Output) -> Unaccepted:
    """What an output has that is not accepted yet, as far as its parts are done and recorded."""
    plans = output.plans
    known, first = plans.known, accepted_plans(output.directory, plans.digests)
    before = known.of_plan(first).start if first < len(plans) else len(known.shards)
    new = known.shards[before:]
    is_new = ~_is_among(new, known.shards[:before])
    rows, rejected, unreadable = 0, 0, 0
    for number in range(first, len(plans)):
        here = known.of_plan(number)
        is_judged = is_new[here.start - before : here.stop - before]
        totals = output.records.totals_of(number)
        read, scored = totals.shard_rows[0], totals.shards[0][:, 0]
        rows += int(read[is_judged].sum())
        rejected += int((read - scored)[is_judged].sum())
        unreadable += sum(bool(is_judged[index]) for index in plans[number].unreadable)
    return Unaccepted(rows, rejected, unreadable)


def _is_among(shards: Shards, others: Shards) -> np.ndarray:
    """bool[shards]: which have the content of one of the others; of shards whose content is not
    known, which are one of them, by path, size and time."""
    digests = digest_column(shards.digests)
    is_same = pc.is_in(digests, digest_column(others.digests), skip_nulls=True)
    is_one = pc.is_in(_identities(shards), _identities(others))
    return np.asarray(pc.if_else(digests.is_valid(), is_same, is_one))


def _identities(shards: Shards) -> pa.Array:
    """large_string[shards]: path, size and time."""
    numbers = [pa.array(each).cast(pa.large_string()) for each in (shards.sizes, shards.modified)]
    return pc.binary_join_element_wise(shards.paths, *numbers, pa.scalar(" ", pa.large_string()))
