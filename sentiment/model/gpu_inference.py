"""Token ids -> probabilities on a GPU: an LSTM compiled by XLA, in full float32.

The product of the embedding and the LSTM's kernel is computed once, as a table with a row for each
entry of the vocabulary, so a token costs a gathered row instead of a product. XLA fuses what is
left of a step into a few operations: the gather, the product of the hidden state, the gates.
"""

import os
import threading
import time
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from sentiment.errors import InputError, on_one_line
from sentiment.model.tensorflow_loading import FOR_SCORING, load_tensorflow
from sentiment.network import BACKWARD, Network

if TYPE_CHECKING:
    import tensorflow as tf

NARROW_TOKENS = 64
"""Texts of up to this many tokens are computed `batch_size` at a time. XLA compiles for one shape
of them, and the loop over tokens ends with the longest text of the batch."""

CHECKED_TEXTS = 256
TOLERANCE = 1e-6
"""Largest difference allowed between a probability of the GPU and of the kernel. On an H100 float32
differs by 1.8e-7; TF32 by 1.2e-4, which changes the class of 27 in 1.2 million texts."""

_loading = threading.Lock()
"""Held while a model is loaded, which the threads of an actor share."""


class GPUInference:
    """Computes probabilities with TensorFlow, on this process's GPU if it has one.

    Every batch has a fixed number of rows, so XLA compiles for few shapes, and a text gets the
    same bits whatever texts come with it. The ids of all texts are copied to the GPU once, without
    padding; batches are gathered there, and the probabilities are copied back together.

    The model is loaded at the first call, in the process that has the GPU. Threads may share it:
    while one waits for the GPU, others sort their texts.
    """

    def __init__(self, network: Network, batch_size: int) -> None:
        """Args:
        network: of a checkpoint.
        batch_size: rows of a batch of texts of up to NARROW_TOKENS tokens. Longer texts are
            computed in smaller batches, of as many places for tokens.
        """
        self._network, self._batch_size = network, batch_size
        self.load_seconds = 0.0

    def __call__(self, ids: np.ndarray, offsets: np.ndarray) -> np.ndarray:
        """As `sentiment.model.inference.Inference` says.

        Raises InputError if the GPU's answers are not the kernel's, or if XLA cannot compile.
        """
        with _loading:
            model = self._model
        return model.probabilities(*self._with_bigrams(ids, offsets), self._batch_size)

    def _with_bigrams(
        self, ids: np.ndarray, offsets: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The ids, the bigram that each word ends, and the offsets, as `_FoldedLSTM` takes them."""
        bigrams = self._network.bigrams
        pairs = bigrams(ids, offsets) if bigrams else ids[:0]
        return ids, pairs, offsets

    @cached_property
    def _model(self) -> "_FoldedLSTM":
        """The model on the device. It is kept only if its answers are the kernel's."""
        began = time.monotonic()
        # TF32 keeps ten bits of each factor. The GPU's libraries read this when they are loaded.
        os.environ["NVIDIA_TF32_OVERRIDE"] = "0"
        # Or the first process on a GPU takes all of its memory, and others may want a share.
        os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
        load_tensorflow(FOR_SCORING)
        import tensorflow as tf

        from sentiment.model.tensorflow_internals import forbid_tf32

        forbid_tf32()  # This reaches what XLA compiles.
        model = _FoldedLSTM(self._network)
        if tf.config.list_logical_devices("GPU"):
            try:
                self._require_the_kernels_answers(model)
            except tf.errors.OpError as error:
                reason = on_one_line(error.message)[:300]
                raise InputError(f"--use_gpu: XLA cannot compile the model: {reason}") from error
        self.load_seconds = time.monotonic() - began
        return model

    def _require_the_kernels_answers(self, model: "_FoldedLSTM") -> None:
        """Raise an InputError unless the model answers generated texts as the CPU kernel does."""
        from sentiment.model.kernel import LSTMKernel

        random = np.random.default_rng(0)
        lengths = random.integers(0, NARROW_TOKENS, CHECKED_TEXTS, endpoint=True)
        ids = random.integers(0, self._network.words, lengths.sum(), np.int32)
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        answers = model.probabilities(*self._with_bigrams(ids, offsets), self._batch_size)
        require_close(answers, LSTMKernel(self._network)(ids, offsets))


class _Direction(NamedTuple):
    """An LSTM of the model on the device, the embedding folded into its table."""

    backward: bool
    """Whether it reads texts from their end."""
    table: "tf.Tensor"
    """float32[vocabulary + 1, 4 H]: each entry's embedding times the kernel; the last row is 0."""
    recurrent: "tf.Tensor"
    """float32[H, 4 H]."""
    bias: "tf.Tensor"
    """float32[4 H]."""


class _FoldedLSTM:
    """The model's weights on the device, and the functions that compute with them."""

    def __init__(self, network: Network) -> None:
        import tensorflow as tf

        weights = network.weights
        embedding = tf.constant(weights["embedding"])
        self._has_bigrams = bool(network.bigrams)
        self._no_bigram = len(weights["embedding"])
        """The row of zeros at the end of each table."""
        self._directions = []
        for name in network.lstms:
            kernel, recurrent, bias = (
                tf.constant(weights[f"{name}/{part}"])
                for part in ("kernel", "recurrent_kernel", "bias")
            )
            table = tf.pad(tf.matmul(embedding, kernel), [[0, 1], [0, 0]])
            self._directions.append(_Direction(name == BACKWARD, table, recurrent, bias))
        self._dense = tf.constant(weights["dense/kernel"]), tf.constant(weights["dense/bias"])

        flat, column = tf.TensorSpec([None], tf.int32), tf.TensorSpec([None, 1], tf.int64)
        starts = tf.TensorSpec([None], tf.int64)
        signature = [flat, flat, column, starts, flat]
        # No `if` or `for` depends on a tensor; autograph would write files for nothing.
        self._read = tf.function(self._padded, input_signature=signature, autograph=False)
        self._compute = tf.function(self._softmax, jit_compile=True, autograph=False)

    def probabilities(
        self, ids: np.ndarray, pairs: np.ndarray, offsets: np.ndarray, batch_size: int
    ) -> np.ndarray:
        """The probability of each class for each text, float32[n, K].

        Args:
            ids: int32[tokens], the words of all texts, one text after another.
            pairs: int32[tokens], the bigram that each word ends, 0 for none; int32[0] for a model
                without bigrams.
            offsets: int64[n + 1], where each text begins in `ids`, and the end of the last.
            batch_size: as `GPUInference` takes it.
        """
        import tensorflow as tf

        lengths = np.diff(offsets).astype(np.int32)
        # One id more, so that there is one to gather where no text has a word.
        flat = [tf.constant(np.append(each, np.int32(0))) for each in (ids, pairs)]
        widths = _widths(lengths)
        order = np.lexsort((lengths, widths))
        edges = np.flatnonzero(np.diff(widths[order], prepend=0, append=0))
        batches = []
        for first, last in pairwise(edges if len(order) else []):
            width = int(widths[order[first]])
            rows = max(batch_size * NARROW_TOKENS // width, 1)
            column = np.arange(width, dtype=np.int64)[:, None]
            for start in range(first, last, rows):
                batch = order[start : min(start + rows, last)]
                # Empty texts fill the last batch of a width.
                starts, sizes = np.zeros(rows, np.int64), np.zeros(rows, np.int32)
                starts[: len(batch)], sizes[: len(batch)] = offsets[batch], lengths[batch]
                tokens = self._read(*flat, column, starts, sizes)
                batches.append((batch, self._compute(tokens, sizes, np.int32(sizes.max()))))
        probabilities = np.empty((len(lengths), len(self._dense[1])), np.float32)
        # Reading a result waits for the GPU: every batch is on its way before the first is read.
        for batch, result in batches:
            probabilities[batch] = result.numpy()[: len(batch)]
        return probabilities

    def _padded(
        self,
        words: "tf.Tensor",
        pairs: "tf.Tensor",
        column: "tf.Tensor",
        starts: "tf.Tensor",
        lengths: "tf.Tensor",
    ) -> list[tuple["tf.Tensor", ...]]:
        """For each LSTM its words in the order it reads them, int32[width, n], then its bigrams.

        Args:
            words: int32[tokens + 1], the ids of all texts, then 0.
            pairs: int32[tokens + 1], the bigram that each word ends, then 0; int32[1] for a model
                without bigrams.
            column: int64[width, 1], from 0.
            starts: int64[n], where the batch's texts begin in `words`.
            lengths: int32[n].
        """
        import tensorflow as tf

        sizes = tf.cast(lengths, tf.int64)
        inside = column < sizes
        tokens_by_direction = []
        for direction in self._directions:
            places = starts + (sizes - 1 - column if direction.backward else column)
            # Anything readable beyond a text's end: the loop does not count it.
            places = tf.where(inside, places, 0)
            tokens = [tf.gather(words, places)]
            if self._has_bigrams:
                ends = tf.gather(pairs, places)
                tokens.append(tf.where(ends > 0, ends, self._no_bigram))
            tokens_by_direction.append(tuple(tokens))
        return tokens_by_direction

    def _softmax(
        self,
        tokens_by_direction: list[tuple["tf.Tensor", ...]],
        lengths: "tf.Tensor",
        longest: "tf.Tensor",
    ) -> "tf.Tensor":
        """float32[n, K], the probability of each class for each text of a batch.

        Args:
            tokens_by_direction: as `_padded` returns.
            lengths: int32[n].
            longest: int32[], the largest of the lengths.
        """
        import tensorflow as tf

        totals = [
            _summed_outputs(direction, tokens, lengths, longest)
            for direction, tokens in zip(self._directions, tokens_by_direction, strict=True)
        ]
        mean = tf.concat(totals, axis=1) / tf.cast(tf.maximum(lengths, 1), tf.float32)[:, None]
        kernel, bias = self._dense
        return tf.nn.softmax(tf.matmul(mean, kernel) + bias)


def _summed_outputs(
    direction: _Direction,
    tokens: tuple["tf.Tensor", ...],
    lengths: "tf.Tensor",
    longest: "tf.Tensor",
) -> "tf.Tensor":
    """float32[n, H]: an LSTM's outputs at each text's own tokens, added up.

    Args:
        direction: the LSTM.
        tokens: rows of its table, one or two for each token, int32[width, n].
        lengths: int32[n].
        longest: int32[], the largest of the lengths.
    """
    import tensorflow as tf

    def step(
        number: tf.Tensor, hidden: tf.Tensor, cell: tf.Tensor, total: tf.Tensor
    ) -> tuple[tf.Tensor, ...]:
        rows = [tf.gather(direction.table, ids[number]) for ids in tokens]
        gates = tf.add_n(rows) + direction.bias + tf.matmul(hidden, direction.recurrent)
        i, f, candidate, o = tf.split(gates, 4, axis=1)
        cell = tf.sigmoid(f) * cell + tf.sigmoid(i) * tf.tanh(candidate)
        hidden = tf.sigmoid(o) * tf.tanh(cell)
        total += tf.where((number < lengths)[:, None], hidden, 0.0)
        return number + 1, hidden, cell, total

    zeros = tf.zeros([tf.shape(lengths)[0], direction.recurrent.shape[0]])
    *_, total = tf.while_loop(lambda number, *_: number < longest, step, (0, zeros, zeros, zeros))
    return total


def require_close(answers: np.ndarray, reference: np.ndarray) -> None:
    """Raise an InputError if the GPU's probabilities, float32[n, K], are not the kernel's."""
    difference = float(np.abs(answers - reference).max(initial=0.0))
    # Not "difference > TOLERANCE": a NaN is no answer.
    if not difference <= TOLERANCE:
        raise InputError(
            f"--use_gpu: this GPU's probabilities differ from the CPU's by up to {difference:.2g}, "
            f"more than {TOLERANCE:.0e}: score without --use_gpu"
        )


def _widths(lengths: np.ndarray) -> np.ndarray:
    """int32[n]: 64 for lengths up to 64, 512 up to 512, then the next power of two."""
    huge = 2 ** np.ceil(np.log2(np.maximum(lengths, 1))).astype(np.int32)
    widths = np.where(lengths <= NARROW_TOKENS, NARROW_TOKENS, np.maximum(huge, 512))
    return widths.astype(np.int32)
