"""Training batches from the cache: any step's batch follows from the step's number alone.

Every epoch reads the rows in another order. The rows are cut into chunks of consecutive rows, at an
offset that each epoch draws; the chunks are shuffled and read in windows of `WINDOW_BATCHES`
batches. The rows of a window are sorted by length (ties at random) and cut into batches, and the
batches are shuffled. So a batch has little padding. Each row occurs in one batch per epoch, except
for the remainder that does not fill a batch; each epoch leaves out other rows.
"""

import copy
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pyarrow.fs as pafs

from pipelines.training import node_copies
from sentiment import storage
from sentiment.model.batch import Batch, WorkerBatch, pad
from sentiment.text.bigrams import NONE, Bigrams
from sentiment.text.tokenizer import PADDING, UNKNOWN

CHUNK_ROWS = 1024
"""Consecutive rows that stay together. An epoch's order takes rows / CHUNK_ROWS numbers."""

WINDOW_BATCHES = 64
"""Batches whose rows are sorted by length together."""


class CachedRows:
    """The rows of one split of a prepared corpus, read by range from memory-mapped files."""

    def __init__(
        self,
        directory: str,
        files: list[str],
        longest: int,
        class_weights: Sequence[float] = (),
        per_node: bool = False,
    ) -> None:
        """Args:
        directory: of the prepared corpus, a path or URI.
        files: names of the split's files, in order.
        longest: tokens to keep of a text; the rest is cut off.
        class_weights: what a row of each class counts; only `ranges` does without them.
        per_node: whether all workers of a node share one copy of a bucket's files. Then call
            `remove_copies` when all of them have theirs.
        """
        self._longest = longest
        self._class_weights = np.array(class_weights, np.float32)
        paths = [storage.join(directory, name) for name in files]
        is_local = isinstance(storage.resolve(directory)[0], pafs.LocalFileSystem)
        self._copied = paths if per_node and not is_local else []
        self._files = [_open(path, per_node) for path in paths]
        self._starts = np.cumsum([0, *(len(labels) for labels, _, _ in self._files)])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def remove_copies(self) -> None:
        """Delete the names of this node's copies; the rows stay mapped."""
        for path in self._copied:
            node_copies.remove(path)

    def part(self, ranges: Sequence[tuple[int, int]]) -> "CachedRows":
        """Only the rows of some ranges (first row, and the row after the last), in order."""
        part = copy.copy(self)
        part._files = [
            (labels[first:last], offsets[first : last + 1], ids)
            for (labels, offsets, ids), at in zip(self._files, self._starts[:-1], strict=True)
            for start, stop in ranges
            if (first := max(start - at, 0)) < (last := min(stop - at, len(labels)))
        ]
        part._starts = np.cumsum([0, *(len(labels) for labels, _, _ in part._files)])
        return part

    def ranges(self, ranges: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The rows of several ranges, one after another.

        Args:
            ranges: first row, and the row after the last.

        Returns:
            labels: int16[n], the class; or float32[n, K], the probabilities of soft labels.
            lengths: int64[n], tokens of each text before it is cut.
            ids: int32[tokens], the ids of all texts.
        """
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

    def padded(
        self,
        labels: np.ndarray,
        lengths: np.ndarray,
        starts: np.ndarray,
        ids: np.ndarray,
        rows: np.ndarray,
    ) -> Batch:
        """The batch of some of the rows that `ranges` returned.

        Args:
            labels: int16[n] or float32[n, K].
            lengths: int64[n].
            starts: int64[n], the index in `ids` where each text starts.
            ids: int32[tokens].
            rows: int64[batch], which of the n rows.
        """
        kept = np.minimum(lengths[rows], self._longest).astype(np.int32)
        targets = labels[rows]
        if targets.ndim == 1:
            targets = np.zeros((len(rows), len(self._class_weights)), np.float32)
            targets[np.arange(len(rows)), labels[rows]] = 1
        targets = targets * self._class_weights
        return Batch(pad(ids, starts[rows], kept), kept, targets)

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
        batch_size: rows of a batch, over all workers.
        random_state: seeds the order, and which words and bigrams are kept.
        bigrams: finds the bigrams of the vocabulary; None: the vocabulary has none.
        word_keep_prob: share of the words that are kept; the others become unknown words.
        bigram_keep_prob: share of the bigrams of kept words that are kept.
        """
        self._rows, self._batch_size, self._random_state = rows, batch_size, random_state
        self._bigrams = bigrams
        self._word_keep_prob, self._bigram_keep_prob = word_keep_prob, bigram_keep_prob
        self.steps_per_epoch = len(rows) // batch_size
        self._epoch, self._window = -1, (-1, -1)

    def batch(self, step: int) -> Batch:
        """The batch of a step, counted from 0; it does not depend on earlier calls."""
        epoch, place = divmod(step, self.steps_per_epoch)
        window, index = divmod(place, WINDOW_BATCHES)
        if self._window != (epoch, window):
            self._load(epoch, window)
        return self._rows.padded(*self._loaded, self._batches[index])

    def worker_batches(
        self, first: int, last: int, rank: int, workers: int
    ) -> Iterator[WorkerBatch]:
        """One worker's rows of the batches of steps `first` to `last - 1`.

        A thread makes the next batch while the caller uses the current one.
        """
        with ThreadPoolExecutor(1) as thread:

            def make(step: int) -> Future[WorkerBatch]:
                return thread.submit(self._worker_batch, step, rank, workers)

            upcoming = make(first)
            for step in range(first + 1, last + 1):
                current = upcoming.result()
                if step < last:
                    upcoming = make(step)
                yield current

    def _worker_batch(self, step: int, rank: int, workers: int) -> WorkerBatch:
        batch = self.batch(step)
        random = np.random.default_rng([self._random_state, step, 0, 1])
        if self._word_keep_prob < 1:
            # The model learns what an unknown word means, and to rely on no single word.
            dropped = random.random(batch.ids.shape) >= self._word_keep_prob
            batch.ids[dropped & (batch.ids != PADDING)] = UNKNOWN
        if self._bigrams is None:
            return batch.for_worker(rank, workers)
        pairs = batch.bigram_ids(self._bigrams)
        if self._bigram_keep_prob < 1:
            # Words must often decide without bigrams, so the model learns to use them alone.
            pairs[random.random(pairs.shape) >= self._bigram_keep_prob] = NONE
        return batch.for_worker(rank, workers, pairs)

    def _load(self, epoch: int, window: int) -> None:
        size = self._batch_size
        first = window * WINDOW_BATCHES * size
        batches = min(WINDOW_BATCHES, self.steps_per_epoch - window * WINDOW_BATCHES)
        labels, lengths, ids = self._rows.ranges(self._ranges(epoch, first, first + batches * size))
        random = np.random.default_rng([self._random_state, epoch, window + 1])
        by_length = np.lexsort((random.random(len(lengths)), lengths))
        self._batches = random.permutation(by_length.reshape(batches, size))
        self._loaded = (labels, lengths, np.cumsum(lengths) - lengths, ids)
        self._window = (epoch, window)

    def _ranges(self, epoch: int, first: int, last: int) -> list[tuple[int, int]]:
        """Ranges of the cache's rows at places `first` to `last - 1` of the epoch's order."""
        if epoch != self._epoch:
            self._shuffle_chunks(epoch)
        ranges = []
        index = int(np.searchsorted(self._places, first, side="right")) - 1
        while first < last:
            start, stop = self._chunks[index]
            offset = first - self._places[index]
            taken = min(stop - start - offset, last - first)
            ranges.append((int(start + offset), int(start + offset + taken)))
            first += taken
            index += 1
        return ranges

    def _shuffle_chunks(self, epoch: int) -> None:
        rows = len(self._rows)
        random = np.random.default_rng([self._random_state, epoch, 0])
        edges = np.arange(random.integers(CHUNK_ROWS), rows, CHUNK_ROWS)
        starts = np.concatenate([[0], edges, [rows]])
        chunks = np.stack([starts[:-1], starts[1:]], axis=1)
        self._chunks = random.permutation(chunks[chunks[:, 0] < chunks[:, 1]])
        self._places = np.cumsum([0, *(self._chunks[:, 1] - self._chunks[:, 0])])
        self._epoch = epoch


def _open(path: str, per_node: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A file of the cache: labels as in `ranges`, offsets int64[n + 1], ids int32[tokens]."""
    batch = mapped(path, per_node)
    ids = batch.column("ids")
    if "target" in batch.schema.names:
        targets = batch.column("target")
        labels = targets.flatten().to_numpy().reshape(len(targets), targets.type.list_size)
    else:
        labels = batch.column("label").to_numpy()
    return labels, ids.offsets.to_numpy(), ids.values.to_numpy()


def mapped(path: str, per_node: bool = False) -> pa.RecordBatch:
    """The rows of a file of the cache, memory-mapped; `per_node` as for `CachedRows`."""
    filesystem, inner = storage.resolve(path)
    if isinstance(filesystem, pafs.LocalFileSystem):
        source = pa.memory_map(inner)
    elif per_node:
        source = node_copies.mapped(path)
    else:
        # Copy it from the object store to this machine's disk. The name goes at once; the space is
        # freed when the map is.
        with tempfile.NamedTemporaryFile() as copy:
            with filesystem.open_input_stream(inner) as stream:
                shutil.copyfileobj(stream, copy)
            copy.flush()
            source = pa.memory_map(copy.name)
    return pa.ipc.open_file(source).get_batch(0)


def _concatenate(arrays: list[np.ndarray]) -> np.ndarray:
    return np.concatenate(arrays) if arrays else np.empty(0, np.int64)
