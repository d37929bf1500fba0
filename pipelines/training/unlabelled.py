"""Texts without labels: a random sample of them, from which words and their vectors are learnt."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.sources.counted import Counted
from pipelines.sources.options import ReadOptions
from pipelines.sources.shard import Shard
from pipelines.sources.split import Split
from sentiment import storage
from sentiment.errors import InputError
from sentiment.text import vocabulary
from sentiment.text.tokenizer import Encoder, Tokenizer

FILE = "unlabelled.arrow"
"""File of a prepared corpus: the sample's token ids, `ids` (large_list<int32>), in one batch."""

MAX_TEXTS = 500_000
MAX_BYTES = 128 * 2**20
"""Texts of a sample at most, and their size in UTF-8. More would change the vectors little; the
sample is in memory while a corpus is prepared, at most twice."""


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

    def write(self, encoder: Encoder, directory: str) -> None:
        """Write the token ids into the directory of a prepared corpus."""
        tokens = encoder(self.texts)
        ids = pa.LargeListArray.from_arrays(tokens.offsets, tokens.ids)
        batch = pa.record_batch({"ids": ids})
        with (
            storage.writing(storage.join(directory, FILE)) as file,
            pa.ipc.new_file(file, batch.schema) as writer,
        ):
            writer.write_batch(batch)


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
        max_texts: int = MAX_TEXTS,
        max_bytes: int = MAX_BYTES,
    ) -> UnlabelledSample:
        """The texts with the smallest sampling hashes, as many as the limits allow.

        All shards are read, one after another in this process.

        Args:
            tokenizer: gives the texts' hashes.
            split: gives the sampling hashes.
            max_texts: texts to take at most.
            max_bytes: size of the texts at most.

        Raises InputError if no row holds a text, BadShard for a shard without a column of text, and
        what `Shard.rows` raises.
        """
        kept = _Kept(np.empty(0, np.uint64), pa.array([], pa.large_binary()))
        rejected = 0
        for shard in self.shards:
            for texts, bad in self._read(shard):
                tokens = tokenizer.tokens(texts)
                rejected += bad + len(tokens.invalid)
                valid = np.ones(len(texts), bool)
                valid[tokens.invalid] = False
                kept = kept.plus(split.sampling_hashes(tokens.hashes), texts, valid)
                if len(kept.hashes) > 2 * max_texts or kept.texts.nbytes > 2 * max_bytes:
                    kept = kept.cut(max_texts, max_bytes)
        kept = kept.cut(max_texts, max_bytes)
        if not len(kept.texts):
            raise InputError(f"--unlabelled: no row has a text in column {self.text_column!r}")
        return UnlabelledSample(kept.texts, rejected)

    def _read(self, shard: Shard) -> Iterator[tuple[pa.Array, int]]:
        """Batches of texts, large_binary without nulls, and the number of other rows with each."""
        options = replace(self.options, fields=(self.text_column,))
        for rows in shard.rows([self.text_column], options):
            Counted(len(rows.table), rows.table.schema).require_text(shard.path, self.text_column)
            column = rows.table[self.text_column]
            texts = column.drop_null().cast(pa.large_binary()).combine_chunks()
            yield texts, len(rows.bad) + column.null_count


@dataclass(frozen=True)
class _Kept:
    """The texts that may be in the sample."""

    hashes: np.ndarray
    """uint64[n]: their sampling hashes."""
    texts: pa.Array
    """large_binary[n]."""
    below: int | None = None
    """Texts with this hash or a greater one cannot be in the sample; None: all can."""

    def plus(self, hashes: np.ndarray, texts: pa.Array, valid: np.ndarray) -> "_Kept":
        """These texts and those of others that are valid and can be in the sample."""
        if self.below is not None:
            valid = valid & (hashes < np.uint64(self.below))
        return _Kept(
            np.concatenate([self.hashes, hashes[valid]]),
            pa.concat_arrays([self.texts, texts.filter(pa.array(valid))]),
            self.below,
        )

    def cut(self, max_texts: int, max_bytes: int) -> "_Kept":
        """Only the texts with the smallest hashes, within the limits."""
        order = np.argsort(self.hashes, kind="stable")
        sizes = pc.binary_length(self.texts).to_numpy()[order]
        within = min(int(np.searchsorted(np.cumsum(sizes), max_bytes, side="right")), max_texts)
        below = int(self.hashes[order[within]]) if within < len(order) else self.below
        order = order[:within]
        return _Kept(self.hashes[order], self.texts.take(pa.array(order)), below)
