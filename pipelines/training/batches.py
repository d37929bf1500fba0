"""The cache -> batches: the batch of any step, from the step's number alone.

Every epoch goes through the rows in another order. Chunks of consecutive rows, cut at an offset
of the epoch's own, are put in random order and read in windows of `WINDOW` batches. Within a window
the rows are sorted by length, ties at random, cut into batches, and the batches put in random
order: a batch pads little, and since the cache's order is random, which lengths meet in a step is
the only thing that is not. Every row is in one batch an epoch, save the remainder that does not
fill one, which is other rows each time.
"""

import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pyarrow.fs as pafs

from sentiment import storage
from sentiment.model.batch import Batch, Part, pad
from sentiment.text.bigrams import NONE, Bigrams
from sentiment.text.tokenizer import PADDING, UNKNOWN

CHUNK = 1024
"""Consecutive rows that stay together; the memory of an epoch's order is rows / CHUNK numbers."""

WINDOW = 64
"""Batches that are sorted by length together."""


class CachedRows:
    """The rows of a split of a prepared corpus, by range, without holding them in memory."""

    def __init__(self, directory: str, files: list[str], longest: int) -> None:
        """`longest`: tokens kept of a text; the rest of it is cut off."""
        self._longest = longest
        self._files = [_open(storage.join(directory, name)) for name in files]
        self._starts = np.cumsum([0, *(len(labels) for labels, _, _ in self._files)])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def ranges(self, ranges: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The rows of some ranges: labels (n,), lengths (n,), and their ids one after another."""
        labels, lengths, ids = [], [], []
        for start, stop in ranges:
            number = int(np.searchsorted(self._starts, start, side="right")) - 1
            while start < stop:
                file_labels, offsets, values = self._files[number]
                first = start - self._starts[number]
                last = min(stop - self._starts[number], len(file_labels))
                labels.append(file_labels[first:last])
                lengths.append(np.diff(offsets[first : last + 1]))
                ids.append(values[offsets[first] : offsets[last]])
                start += last - first
                number += 1
        return _concatenate(labels), _concatenate(lengths), _concatenate(ids)

    def padded(self, labels, lengths, starts, ids, rows: np.ndarray) -> Batch:
        """The batch of some of the rows that `ranges` gave; their ids begin at `starts`."""
        kept = np.minimum(lengths[rows], self._longest).astype(np.int32)
        return Batch(pad(ids, starts[rows], kept), kept, labels[rows].astype(np.int32))

    def by_length(self, batch_size: int, most: int) -> list[Batch]:
        """The first `most` rows, sorted by length, in batches."""
        labels, lengths, ids = self.ranges([(0, min(most, len(self)))])
        starts = np.cumsum(lengths) - lengths
        order = np.argsort(lengths, kind="stable")
        return [
            self.padded(labels, lengths, starts, ids, order[start : start + batch_size])
            for start in range(0, len(order), batch_size)
        ]


class TrainingBatches:
    """The batches of training, by step."""

    def __init__(
        self,
        rows: CachedRows,
        batch_size: int,
        random_state: int,
        bigrams: Bigrams | None = None,
        word_keep_prob: float = 1.0,
        bigram_keep_prob: float = 1.0,
    ) -> None:
        """Args:
        rows: of the training split.
        batch_size: rows of the global batch.
        random_state: seeds the order, and which words and bigrams are kept.
        bigrams: finds those of the vocabulary; None: it has none.
        word_keep_prob: share of a batch's words that are kept; the others become unknown ones.
        bigram_keep_prob: share of a batch's bigrams, of words that are kept, that are kept.
        """
        self._rows, self._batch_size, self._random_state = rows, batch_size, random_state
        self._bigrams = bigrams
        self._word_keep_prob, self._bigram_keep_prob = word_keep_prob, bigram_keep_prob
        self.steps_an_epoch = len(rows) // batch_size
        self._epoch, self._window = -1, (-1, -1)

    def batch(self, step: int) -> Batch:
        """The batch of a step, from 0: the same whatever was asked for before."""
        epoch, place = divmod(step, self.steps_an_epoch)
        window, index = divmod(place, WINDOW)
        if self._window != (epoch, window):
            self._load(epoch, window)
        return self._rows.padded(*self._loaded, self._batches[index])

    def parts(self, first: int, last: int, rank: int, of: int) -> Iterator[Part]:
        """A worker's parts of the batches of some steps; the next one is made meanwhile."""
        with ThreadPoolExecutor(1) as thread:

            def make(step: int) -> Future[Part]:
                return thread.submit(lambda: self._part(step, rank, of))

            following = make(first)
            for step in range(first + 1, last + 1):
                part = following.result()
                if step < last:
                    following = make(step)
                yield part

    def _part(self, step: int, rank: int, of: int) -> Part:
        batch = self.batch(step)
        random = np.random.default_rng([self._random_state, step, 0, 1])
        if self._word_keep_prob < 1:
            # What an unknown word means is learnt so, and that no word is to be relied on.
            lost = random.random(batch.ids.shape) >= self._word_keep_prob
            batch.ids[lost & (batch.ids != PADDING)] = UNKNOWN
        if self._bigrams is None:
            return batch.part(rank, of)
        pairs = batch.pairs(self._bigrams)
        if self._bigram_keep_prob < 1:
            # Words must be able to answer without them, as they often have to.
            pairs[random.random(pairs.shape) >= self._bigram_keep_prob] = NONE
        return batch.part(rank, of, pairs)

    def _load(self, epoch: int, window: int) -> None:
        size = self._batch_size
        first = window * WINDOW * size
        batches = min(WINDOW, self.steps_an_epoch - window * WINDOW)
        labels, lengths, ids = self._rows.ranges(self._ranges(epoch, first, first + batches * size))
        random = np.random.default_rng([self._random_state, epoch, window + 1])
        by_length = np.lexsort((random.random(len(lengths)), lengths))
        self._batches = random.permutation(by_length.reshape(batches, size))
        self._loaded = (labels, lengths, np.cumsum(lengths) - lengths, ids)
        self._window = (epoch, window)

    def _ranges(self, epoch: int, first: int, last: int) -> list[tuple[int, int]]:
        """The cache's ranges that stand at places `first` to `last` of an epoch's order."""
        rows = len(self._rows)
        if epoch != self._epoch:
            random = np.random.default_rng([self._random_state, epoch, 0])
            edges = np.arange(random.integers(CHUNK), rows, CHUNK)
            starts = np.concatenate([[0], edges, [rows]])
            chunks = np.stack([starts[:-1], starts[1:]], axis=1)
            self._chunks = random.permutation(chunks[chunks[:, 0] < chunks[:, 1]])
            self._places = np.cumsum([0, *(self._chunks[:, 1] - self._chunks[:, 0])])
            self._epoch = epoch
        found = []
        index = int(np.searchsorted(self._places, first, side="right")) - 1
        while first < last:
            start, stop = self._chunks[index]
            offset = first - self._places[index]
            taken = min(stop - start - offset, last - first)
            found.append((int(start + offset), int(start + offset + taken)))
            first += taken
            index += 1
        return found


def _open(path: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, offsets and ids of a cached file: mapped, not read, so that memory does not grow."""
    filesystem, inner = storage.resolve(path)
    if isinstance(filesystem, pafs.LocalFileSystem):
        source = pa.memory_map(inner)
    else:
        # From an object store to this machine's disk. The name goes at once, the file with the map.
        with tempfile.NamedTemporaryFile() as copy:
            with filesystem.open_input_stream(inner) as stream:
                shutil.copyfileobj(stream, copy)
            copy.flush()
            source = pa.memory_map(copy.name)
    batch = pa.ipc.open_file(source).get_batch(0)
    ids = batch.column("ids")
    return batch.column("label").to_numpy(), ids.offsets.to_numpy(), ids.values.to_numpy()


def _concatenate(arrays: list[np.ndarray]) -> np.ndarray:
    return np.concatenate(arrays) if arrays else np.empty(0, np.int64)
