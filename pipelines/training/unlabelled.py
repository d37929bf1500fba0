"""Texts without labels: a random sample of them, from which words and their vectors are learnt."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.console.progress import SlowProgress, megabytes
from pipelines.sources.counted import Counted
from pipelines.sources.options import ReadOptions
from pipelines.sources.pieces import ShardPiece, divided
from pipelines.sources.shard import Shard
from pipelines.sources.split import Split
from pipelines.sources.unchanged import unless_changed
from sentiment import storage
from sentiment.errors import InputError
from sentiment.text import vocabulary
from sentiment.text.tokenizer import Encoder, Tokenizer

Run = Callable[[Callable[[Any], Any], Sequence[Any]], Iterable[Any]]
"""Calls a function for each item, and yields the results in order: `map`, or one in tasks."""

FILE = "unlabelled.arrow"
"""File of a prepared corpus: the sample's token ids, `ids` (large_list<int32>), in one batch."""

MAX_TEXTS = 500_000
MAX_BYTES = 128 * 2**20
"""Texts of a sample at most, and their size in UTF-8. More would change the vectors little; the
sample is in memory while a corpus is prepared, at most twice."""

FIRST_PIECES = 8
"""Pieces of which each may have a whole sample. Then come as many as before them, which together
have about half a sample that can be in the final one."""


@dataclass(frozen=True)
class UnlabelledSample:
    """A random sample of texts. It does not depend on how they are divided into shards."""

    texts: pa.Array
    """large_binary[n]: valid UTF-8, in the order of their hashes."""
    rejected: int
    """Rows that are null, malformed or not valid UTF-8."""

    def frequencies(self, tokenizer: Tokenizer, min_share: float) -> pa.Table:
        """The texts that each token is in, if it is in a larger share of them than `min_share`."""
        counted = vocabulary.document_frequencies(tokenizer.tokens(self.texts).tokens)
        return vocabulary.frequent(counted, len(self.texts), min_share)

    def write(self, encoder: Encoder, directory: str) -> int:
        """Write the token ids into the directory of a prepared corpus; the bytes of the file."""
        tokens = encoder(self.texts)
        ids = pa.LargeListArray.from_arrays(tokens.offsets, tokens.ids)
        batch = pa.record_batch({"ids": ids})
        with storage.writing(storage.join(directory, FILE)) as file:
            with pa.ipc.new_file(file, batch.schema) as writer:
                writer.write_batch(batch)
            return int(file.tell())


@dataclass(frozen=True)
class UnlabelledShards:
    """Shards of texts without labels, or whose labels are not read."""

    shards: tuple[Shard, ...]
    text_column: str
    options: ReadOptions
    """How shards are read; `fields` is the column."""

    def sample(
        self,
        tokenizer: Tokenizer,
        split: Split,
        run: Run = map,
        max_texts: int = MAX_TEXTS,
        max_bytes: int = MAX_BYTES,
    ) -> UnlabelledSample:
        """The texts with the smallest sampling hashes, as many as the limits allow.

        Args:
            tokenizer: gives the texts' hashes.
            split: gives the sampling hashes.
            run: calls a function, which pickles, for each item; the results in order.
            max_texts: texts to take at most.
            max_bytes: size of the texts at most.

        Raises InputError if no row holds a text, BadShard for a shard without a column of text, and
        what `Shard.rows` raises.
        """
        pieces = divided(self.shards, partial(run, self._count))
        limits, rejected = (max_texts, max_bytes), 0
        smallest = _Smallest(*limits)
        start, stop, done = 0, FIRST_PIECES, 0
        total = sum(piece.size for piece in pieces)
        with SlowProgress(megabytes, "Reading texts without labels", total) as progress:
            while chosen := pieces[start:stop]:
                # Of later pieces only what is below the bound that the first ones have set.
                sampled = partial(self._sampled, tokenizer, split, limits, smallest.below)
                for piece, (hashes, texts, bad) in zip(chosen, run(sampled, chosen), strict=True):
                    smallest.add(hashes, texts)
                    rejected += bad
                    done += piece.size
                    progress.update(done)
                start, stop = stop, 2 * stop
        _, texts = smallest.cut()
        if not len(texts):
            raise InputError(f"--unlabelled: no row has a text in column {self.text_column!r}")
        return UnlabelledSample(texts, rejected)

    def _count(self, shard: Shard) -> Counted:
        return shard.count(self._options)

    @property
    def _options(self) -> ReadOptions:
        return replace(self.options, fields=(self.text_column,))

    def _sampled(
        self,
        tokenizer: Tokenizer,
        split: Split,
        limits: tuple[int, int],
        below: int | None,
        piece: ShardPiece,
    ) -> tuple[np.ndarray, pa.Array, int]:
        """The texts of a piece that may be in the sample, and the number of its other rows.

        Returns uint64[n], their sampling hashes; large_binary[n]; and the rows without a text.
        """
        smallest, rejected = _Smallest(*limits, below), 0
        for texts, bad in self._read(piece):
            tokens = tokenizer.tokens(texts)
            rejected += bad + len(tokens.invalid)
            valid = np.ones(len(texts), bool)
            valid[tokens.invalid] = False
            hashes = split.sampling_hashes(tokens.hashes)
            smallest.add(hashes[valid], texts.filter(pa.array(valid)))
        return *smallest.cut(), rejected

    def _read(self, piece: ShardPiece) -> Iterator[tuple[pa.Array, int]]:
        """Batches of texts, large_binary without nulls, and the number of other rows with each."""
        with unless_changed(piece.shard):
            for rows in piece.shard.rows([self.text_column], self._options, piece.span):
                counted = Counted(len(rows.table), rows.table.schema)
                counted.require_text(piece.shard.path, self.text_column)
                column = rows.table[self.text_column]
                texts = column.drop_null().cast(pa.large_binary()).combine_chunks()
                yield texts, len(rows.bad) + column.null_count


class _Smallest:
    """The texts with the smallest hashes, within limits.

    Args:
        max_texts: texts at most.
        max_bytes: their size at most.
        below: texts with this hash or a greater one cannot be in the sample; None: all can.
    """

    def __init__(self, max_texts: int, max_bytes: int, below: int | None = None) -> None:
        self._max_texts, self._max_bytes = max_texts, max_bytes
        self.below = below
        self._hashes = [np.empty(0, np.uint64)]
        self._texts = [pa.array([], pa.large_binary())]
        self._held_texts = self._held_bytes = 0

    def add(self, hashes: np.ndarray, texts: pa.Array) -> None:
        """Add texts, large_binary[n], and their hashes, uint64[n]."""
        if self.below is not None:
            can_be = hashes < np.uint64(self.below)
            hashes, texts = hashes[can_be], texts.filter(pa.array(can_be))
        self._hashes.append(hashes)
        self._texts.append(texts)
        self._held_texts += len(texts)
        self._held_bytes += texts.nbytes
        if self._held_texts > 2 * self._max_texts or self._held_bytes > 2 * self._max_bytes:
            self.cut()

    def cut(self) -> tuple[np.ndarray, pa.Array]:
        """Leave out what is beyond the limits, and return the others by their hashes, ascending."""
        hashes, texts = np.concatenate(self._hashes), pa.concat_arrays(self._texts)
        order = np.argsort(hashes, kind="stable")
        sizes = pc.binary_length(texts).to_numpy()[order]
        within = int(np.searchsorted(np.cumsum(sizes), self._max_bytes, side="right"))
        within = min(within, self._max_texts)
        if within < len(order):
            self.below = int(hashes[order[within]])
        hashes, texts = hashes[order[:within]], texts.take(pa.array(order[:within]))
        self._hashes, self._texts = [hashes], [texts]
        self._held_texts, self._held_bytes = len(texts), texts.nbytes
        return hashes, texts
