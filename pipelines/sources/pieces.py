"""ShardPiece: a shard, or a run of its rows. Of a large shard many cores can read one each."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

from pipelines.console.waiting import waiting
from pipelines.sources.counted import Counted
from pipelines.sources.names import file_name
from pipelines.sources.rows import Span
from pipelines.sources.shard import Shard

PIECE_BYTES = 2**25
"""Bytes of a file that make a piece, or more: a piece ends where a row group does, or where a
reader of text can begin."""

MAX_DIVIDED = 64
"""Shards that are divided at most: more of that size keep many cores busy as they are, and one
without a footer is read in full to be divided."""


@dataclass(frozen=True)
class ShardPiece:
    """A shard, or a run of its rows."""

    shard: Shard
    span: Span | None
    """The rows; None: all."""
    size: int
    """Bytes of the shard that hold them, about."""

    @staticmethod
    def whole(shard: Shard) -> "ShardPiece":
        """All rows of a shard."""
        return ShardPiece(shard, None, shard.size)


def divided(
    shards: Sequence[Shard], count: Callable[[Sequence[Shard]], Iterable[Counted]]
) -> list[ShardPiece]:
    """The pieces of the shards, in order: several of those that are large.

    Args:
        shards: to divide.
        count: counts the rows of some of them, in order.
    """
    least = max(2 * PIECE_BYTES, sum(shard.size for shard in shards) / MAX_DIVIDED)
    large = [shard for shard in shards if shard.size >= least and _can_be_cut(shard)]
    with waiting("Counting the rows of large shards"):
        counted = dict(zip(large, count(large), strict=True)) if large else {}
    return [
        piece
        for shard in shards
        for piece in (
            _cut(shard, counted[shard]) if shard in counted else [ShardPiece.whole(shard)]
        )
    ]


def _can_be_cut(shard: Shard) -> bool:
    # What is compressed can only be read from its start.
    return shard.has_footer or file_name(shard.path).compression is None


def _cut(shard: Shard, counted: Counted) -> list[ShardPiece]:
    """The pieces of a shard of which this is counted."""
    if counted.groups:
        # Of a row group the footer tells the rows.
        before = accumulate(counted.groups[:-1], initial=0)
        starts = [(row, 0, shard.size * row // max(counted.rows, 1)) for row in before]
    else:
        starts = [(row, byte, byte) for row, byte in counted.marks]
    # From the shard's first byte, so that their sizes add up to its own.
    cuts = [(0, 0, 0)]
    for start in starts:
        if start[2] >= cuts[-1][2] + PIECE_BYTES and start[0] > cuts[-1][0]:
            cuts.append(start)
    pieces = []
    for (row, byte, offset), (end, _, stop) in pairwise([*cuts, (counted.rows, 0, shard.size)]):
        span = Span(row, end - row, *((row, byte) if byte else ()))
        pieces.append(ShardPiece(shard, span, stop - offset))
    return pieces if len(pieces) > 1 else [ShardPiece.whole(shard)]
