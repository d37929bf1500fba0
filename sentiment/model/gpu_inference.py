"""Token ids -> probabilities on a GPU: an LSTM compiled by XLA, in full float32.

The product of the embedding and the LSTM's kernel is computed once, as a table with a row for each
entry of the vocabulary, so a token costs a gathered row instead of a product. XLA fuses what is
left of a step into a few operations: the gather, the product of the hidden state, the gates.
"""

import os
import time
from collections.abc import Mapping
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from sentiment.checkpoint import BACKWARD, lstms
from sentiment.errors import InputError, on_one_line
from sentiment.text.bigrams import Bigrams

if TYPE_CHECKING:
    import tensorflow as tf

NARROW_TOKENS = 64
"""Texts of up to this many tokens are computed `batch_size` at a time. XLA compiles for one shape
of them, and the loop over tokens ends with the longest text of the batch."""

CHECKED_TEXTS = 256
TOLERANCE = 1e-6
"""Largest difference allowed between a probability of the GPU and of the kernel. On an H100 float32
differs by 1.2e-7; TF32 by 1.2e-4, which changes the class of 27 in 1.2 million texts."""


class GPUInference:
    """Computes probabilities with TensorFlow, on this process's GPU if it has one.

    Every batch has a fixed number of rows, so XLA compiles for few shapes, and a text gets the
    same bits whatever texts come with it. The ids of all texts are copied to the GPU once, without
    padding; batches are gathered there, and the probabilities are copied back together.

    The model is loaded at the first call, in the process that has the GPU.
    """

    def __init__(
        self, weights: Mapping[str, np.ndarray], bigrams: Bigrams | None, batch_size: int
    ) -> None:
        """Args:
        weights: float32 arrays by name, as in `sentiment.checkpoint.Checkpoint.weights`.
        bigrams: the same checkpoint's bigrams; None for a model without bigrams.
        batch_size: rows of a batch of texts of up to NARROW_TOKENS tokens. Longer texts are
            computed in smaller batches, of as many places for tokens.
        """
        self._weights, self._bigrams, self._batch_size = dict(weights), bigrams, batch_size
        self.load_seconds = 0.0

    def __call__(self, ids: np.ndarray, offsets: np.ndarray) -> np.ndarray:
        """The probability that each text is positive.

        Args:
            ids: int32[tokens], the token ids of all texts, one text after another.
            offsets: int64[n + 1], where each text begins in `ids`, and the end of the last.

        Returns:
            float32[n], in the order of the texts.

        Raises:
            InputError: the GPU's answers are not the kernel's, or XLA cannot compile.
        """
        compute = self._compute
        lengths = np.diff(offsets).astype(np.int32)
        if not len(lengths):
            return np.empty(0, np.float32)
        import tensorflow as tf

        pairs = self._bigrams(ids, offsets) if self._bigrams else ids[:0]
        # One id more, so that there is one to gather where no text has a word.
        words, pairs = (tf.constant(np.append(each, np.int32(0))) for each in (ids, pairs))
        widths = _widths(lengths)
        order = np.lexsort((lengths, widths))
        edges = np.flatnonzero(np.diff(widths[order], prepend=0, append=0))
        batches = []
        for first, last in pairwise(edges):
            width = int(widths[order[first]])
            rows = max(self._batch_size * NARROW_TOKENS // width, 1)
            for start in range(first, last, rows):
                batch = order[start : min(start + rows, last)]
                # Empty texts fill the last batch of a width.
                starts, sizes = np.zeros(rows, np.int64), np.zeros(rows, np.int32)
                starts[: len(batch)], sizes[: len(batch)] = offsets[batch], lengths[batch]
                batches.append((len(batch), compute(words, pairs, starts, sizes, width)))
        probabilities = np.empty(len(lengths), np.float32)
        # Reading a result waits for the GPU: every batch is on its way before the first is read.
        results = [result.numpy()[:rows] for rows, result in batches]
        probabilities[order] = np.concatenate(results)
        return probabilities

    @cached_property
    def _compute(self) -> Any:
        """Computes a batch: flat ids, starts, lengths and the width -> float32[n], on the GPU."""
        began = time.monotonic()
        # TF32 keeps ten bits of each factor. The GPU's libraries read this when they are loaded.
        os.environ["NVIDIA_TF32_OVERRIDE"] = "0"
        # Or the first process on a GPU takes all of its memory, and others may want a share.
        os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
        import tensorflow as tf

        # This reaches what XLA compiles.
        tf.config.experimental.enable_tensor_float_32_execution(False)
        lstm = _FoldedLSTM(self._weights, bool(self._bigrams))
        positive = tf.function(lstm.positive, jit_compile=True)

        def compute(
            words: tf.Tensor, pairs: tf.Tensor, starts: np.ndarray, lengths: np.ndarray, width: int
        ) -> tf.Tensor:
            column = np.arange(width, dtype=np.int64)[:, None]
            longest = np.int32(lengths.max())
            padded = lstm.padded(words, pairs, column, starts, lengths)
            return positive(padded, lengths, longest)

        if tf.config.list_logical_devices("GPU"):
            # Found by the call that the check makes.
            self.__dict__["_compute"] = compute
            try:
                self._require_the_kernels_answers()
            except tf.errors.OpError as error:
                reason = on_one_line(error.message)[:300]
                raise InputError(f"--use_gpu: XLA cannot compile the model: {reason}") from error
        self.load_seconds = time.monotonic() - began
        return compute

    def _require_the_kernels_answers(self) -> None:
        """Raise an InputError unless the GPU answers generated texts as the CPU kernel does."""
        from sentiment.model.kernel import LSTMKernel

        random = np.random.default_rng(0)
        lengths = random.integers(0, NARROW_TOKENS, CHECKED_TEXTS, endpoint=True)
        words = self._bigrams.words if self._bigrams else len(self._weights["embedding"])
        ids = random.integers(0, words, lengths.sum(), np.int32)
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        require_close(self(ids, offsets), LSTMKernel(self._weights, self._bigrams)(ids, offsets))


class _FoldedLSTM:
    """The model's weights on the device, the embedding folded into the LSTMs' tables."""

    def __init__(self, weights: Mapping[str, np.ndarray], has_bigrams: bool) -> None:
        import tensorflow as tf

        embedding = tf.constant(weights["embedding"])
        self._has_bigrams = has_bigrams
        self._no_bigram = len(weights["embedding"])
        """The row of zeros at the end of each table."""
        self._directions = []
        for name in lstms(weights):
            kernel, recurrent, bias = (
                tf.constant(weights[f"{name}/{part}"])
                for part in ("kernel", "recurrent_kernel", "bias")
            )
            table = tf.pad(tf.matmul(embedding, kernel), [[0, 1], [0, 0]])
            self._directions.append((name, table, recurrent, bias))
        self._dense = tf.constant(weights["dense/kernel"]), tf.constant(weights["dense/bias"])

        flat, column = tf.TensorSpec([None], tf.int32), tf.TensorSpec([None, 1], tf.int64)
        starts = tf.TensorSpec([None], tf.int64)
        self.padded = tf.function(self._padded, input_signature=[flat, flat, column, starts, flat])

    def _padded(
        self,
        words: "tf.Tensor",
        pairs: "tf.Tensor",
        column: "tf.Tensor",
        starts: "tf.Tensor",
        lengths: "tf.Tensor",
    ) -> list[tuple["tf.Tensor", ...]]:
        """For each LSTM int32[width, n], its words in the order it reads them, then its bigrams.

        Args:
            words: int32[tokens + 1], the ids of all texts, then 0.
            pairs: int32[tokens + 1], the bigram that each word ends, 0 for none; without the
                tokens for a model without bigrams.
            column: int64[width, 1], from 0.
            starts: int64[n], where the batch's texts begin in `words`.
            lengths: int32[n].
        """
        import tensorflow as tf

        sizes = tf.cast(lengths, tf.int64)
        inside = column < sizes
        read = []
        for name, *_ in self._directions:
            places = starts + (sizes - 1 - column if name == BACKWARD else column)
            # Anything readable beyond a text's end: the loop does not count it.
            places = tf.where(inside, places, 0)
            tokens = [tf.gather(words, places)]
            if self._has_bigrams:
                ends = tf.gather(pairs, places)
                tokens.append(tf.where(ends > 0, ends, self._no_bigram))
            read.append(tuple(tokens))
        return read

    def positive(
        self, read: list[tuple["tf.Tensor", ...]], lengths: "tf.Tensor", longest: "tf.Tensor"
    ) -> "tf.Tensor":
        """float32[n], the probability that each text of a batch is positive.

        Args:
            read: as `padded` returns.
            lengths: int32[n].
            longest: int32, the largest of the lengths.
        """
        import tensorflow as tf

        totals = []
        for tokens, (_, table, recurrent, bias) in zip(read, self._directions, strict=True):

            def step(
                number: tf.Tensor,
                hidden: tf.Tensor,
                cell: tf.Tensor,
                total: tf.Tensor,
                tokens: tuple[tf.Tensor, ...] = tokens,
                table: tf.Tensor = table,
                recurrent: tf.Tensor = recurrent,
                bias: tf.Tensor = bias,
            ) -> tuple[tf.Tensor, ...]:
                rows = [tf.gather(table, ids[number]) for ids in tokens]
                gates = tf.add_n(rows) + bias + tf.matmul(hidden, recurrent)
                i, f, candidate, o = tf.split(gates, 4, axis=1)
                cell = tf.sigmoid(f) * cell + tf.sigmoid(i) * tf.tanh(candidate)
                hidden = tf.sigmoid(o) * tf.tanh(cell)
                total += tf.where((number < lengths)[:, None], hidden, 0.0)
                return number + 1, hidden, cell, total

            zeros = tf.zeros([tf.shape(lengths)[0], recurrent.shape[0]])
            *_, total = tf.while_loop(
                lambda number, *_: number < longest, step, (0, zeros, zeros, zeros)
            )
            totals.append(total)
        mean = tf.concat(totals, axis=1) / tf.cast(tf.maximum(lengths, 1), tf.float32)[:, None]
        kernel, bias = self._dense
        return tf.nn.softmax(tf.matmul(mean, kernel) + bias)[:, 1]


def require_close(answers: np.ndarray, reference: np.ndarray) -> None:
    """Raise an InputError if probabilities of the GPU, float32[n], are not those of the kernel."""
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
