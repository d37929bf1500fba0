"""Compare the scoring kernel with Keras and TensorFlow on one core: token ids -> probabilities.

    python -m benchmarks.kernel
    python -m benchmarks.kernel --texts reviews/ --column text --rows 50000

Without --texts the ids are generated: a Zipf distribution, and log-normal text lengths with the
mean and standard deviation of film-review sentences (20 and 12 tokens). Weights are random; their
values do not change the time.

Four scorers run in turns, after one run that is not counted:
- the kernel;
- Keras `predict` with texts truncated and padded to 64 tokens, in batches of 32 (its default) and
  of 1024 (its best);
- a TensorFlow graph that is optimised equally: the kernel's folded table, texts sorted by length,
  each batch padded to its own longest text.

Times are CPU times of all threads, on one core. So other programs on the machine matter little.
Waiting does not count, in TensorFlow's favour.
"""

import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.tokenize import read_texts
from pipelines.console import command
from pipelines.console.flag_values import require
from sentiment.errors import InputError
from sentiment.model.batch import pad
from sentiment.model.kernel import LSTMKernel
from sentiment.network import Network, weight_shapes
from sentiment.text import vocabulary
from sentiment.text.tokenizer import Tokenizer

VOCABULARY, EMBEDDING, HIDDEN = 20_000, 75, 75
PADDED = 64
BATCH = 1024
"""Batch size of Keras and of the graph: Keras's best of 32, 100, 256, 1024 and 4096. The graph's
best is 256 or 1024."""
KERAS_TEXTS = 10_000
"""Texts that Keras scores in a repeat. It is about ten times slower than the kernel."""

Score = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""`ids: int32[tokens]`, `offsets: int64[n + 1]` -> `probabilities: float32[n]`."""


@dataclass(frozen=True)
class KernelBenchmark:
    """Compare the kernel with Keras and TensorFlow on one core."""

    texts: str | None = None
    """A shard or a directory of shards; None: ids are generated."""
    column: str = "text"
    """Column that holds the texts."""
    rows: int = 50_000
    """Number of texts."""
    repeats: int = 5
    """Measurements of each scorer."""

    def __post_init__(self) -> None:
        for name in ("rows", "repeats"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")


def generated(rows: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, int]:
    """Generate `ids: int32[tokens]`, `offsets: int64[rows + 1]`, and the vocabulary size."""
    random = np.random.default_rng(seed)
    spread = np.log1p((12 / 20) ** 2) ** 0.5
    lengths = random.lognormal(np.log(20) - spread**2 / 2, spread, rows).astype(np.int64)
    weights = 1 / np.arange(1, VOCABULARY)
    offsets = np.cumsum([0, *lengths])
    ids = 1 + random.choice(VOCABULARY - 1, offsets[-1], p=weights / weights.sum())
    return ids.astype(np.int32), offsets, VOCABULARY


def read(path: str, column: str, rows: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Read the first texts of shards, as ids, offsets and the vocabulary size."""
    texts = read_texts(path, column, rows)
    if not len(texts):
        raise InputError(f"--texts {path} holds no texts")
    tokenizer = Tokenizer()
    frequencies = vocabulary.document_frequencies(tokenizer.tokens(texts).tokens)
    words = vocabulary.build(frequencies, len(texts), min_share=0, max_size=VOCABULARY)
    encoded = tokenizer.encoder(words)(texts)
    return encoded.ids, encoded.offsets, len(words)


def random_weights(size: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Random weights with the names of a checkpoint, about as large as trained ones."""
    random = np.random.default_rng(seed)
    shapes = weight_shapes(size, EMBEDDING, HIDDEN)
    return {name: random.normal(0, 0.2, shape).astype("f4") for name, shape in shapes.items()}


def keras_predict(weights: dict[str, np.ndarray], batch_size: int) -> Score:
    """Keras `predict` with each text padded or truncated to PADDED tokens."""
    import keras

    from benchmarks.keras_model import WordsAlone

    model = WordsAlone(weights)

    def score(ids: np.ndarray, offsets: np.ndarray) -> np.ndarray:
        lengths = np.minimum(np.diff(offsets), PADDED).astype(np.int32)
        padded = np.zeros((len(lengths), PADDED), np.int32)
        as_long = pad(ids, offsets[:-1], lengths)
        padded[:, : as_long.shape[1]] = as_long
        logits = model.predict([padded, lengths], batch_size=batch_size, verbose=0)
        return np.asarray(keras.ops.softmax(logits))

    return score


def tensorflow_graph(weights: dict[str, np.ndarray]) -> Score:
    """The LSTM over a folded table as one `tf.function`."""
    import tensorflow as tf

    table = tf.constant(weights["embedding"] @ weights["lstm/kernel"] + weights["lstm/bias"])
    recurrent = tf.constant(weights["lstm/recurrent_kernel"])
    dense, bias = tf.constant(weights["dense/kernel"]), tf.constant(weights["dense/bias"])

    @tf.function(
        input_signature=[tf.TensorSpec((None, None), tf.int32), tf.TensorSpec((None,), tf.int32)]
    )
    def probabilities(ids, lengths):
        rows, longest = tf.shape(ids)[0], tf.shape(ids)[1]
        columns = tf.transpose(ids)
        h = c = total = tf.zeros((rows, HIDDEN))
        for step in tf.range(longest):
            gates = tf.gather(table, columns[step]) + h @ recurrent
            i, f, g, o = tf.split(gates, 4, axis=1)
            c = tf.sigmoid(f) * c + tf.sigmoid(i) * tf.tanh(g)
            h = tf.sigmoid(o) * tf.tanh(c)
            total += h * tf.cast(step < lengths, tf.float32)[:, None]
        mean = total / tf.cast(tf.maximum(lengths, 1), tf.float32)[:, None]
        return tf.nn.softmax(mean @ dense + bias)

    def score(ids: np.ndarray, offsets: np.ndarray) -> np.ndarray:
        lengths = np.diff(offsets).astype(np.int32)
        order = np.argsort(lengths, kind="stable")
        scores = np.empty((len(lengths), 2), np.float32)
        for start in range(0, len(order), BATCH):
            rows = order[start : start + BATCH]
            scores[rows] = probabilities(pad(ids, offsets[rows], lengths[rows]), lengths[rows])
        return scores

    return score


def one_core() -> str:
    """Pin this process to one core and TensorFlow to one thread; return the pinning in words."""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    if not hasattr(os, "sched_setaffinity"):
        return "not pinned to a core"
    core = max(os.sched_getaffinity(0))
    for thread in Path("/proc/self/task").iterdir():
        os.sched_setaffinity(int(thread.name), {core})
    return f"pinned to core {core}"


def main(config: KernelBenchmark) -> None:
    """Measure each scorer and print the rates."""
    if config.texts:
        ids, offsets, size = read(config.texts, config.column, config.rows)
    else:
        ids, offsets, size = generated(config.rows)
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    pinning = one_core()
    weights = random_weights(size)
    kernel = LSTMKernel(Network(weights))
    all_texts, few_texts = (ids, offsets), (ids, offsets[: KERAS_TEXTS + 1])
    scorers: dict[str, tuple[Score, tuple]] = {
        "kernel": (kernel, all_texts),
        "TensorFlow graph": (tensorflow_graph(weights), all_texts),
        "Keras, 1024": (keras_predict(weights, BATCH), few_texts),
        "Keras, default": (keras_predict(weights, 32), few_texts),
    }
    answers = {name: score(*batch) for name, (score, batch) in scorers.items()}
    seconds: dict[str, list[float]] = {name: [] for name in scorers}
    for _ in range(config.repeats):
        for name, (score, batch) in scorers.items():
            start = time.process_time()
            score(*batch)
            seconds[name].append((time.process_time() - start) / (len(batch[1]) - 1))

    lengths = np.diff(offsets)
    print(
        f"{len(lengths):,} {'' if config.texts else 'generated '}texts of {lengths.mean():.1f} "
        f"tokens on average (longest {lengths.max()}), {size:,} words; LSTM {EMBEDDING}/{HIDDEN}, "
        f"random weights; table {kernel.table_bytes / 2**20:.0f} MiB; {pinning}"
    )
    print(f"{'':<17}{'texts/s':>9}  {'from':>9} {'to':>9}  {'tokens/s':>11}  kernel is faster by")
    for name, times in seconds.items():
        rates = [1 / spent for spent in times]
        median = statistics.median(rates)
        ratio = statistics.median(
            [slow / fast for slow, fast in zip(times, seconds["kernel"], strict=True)]
        )
        tokens = median * float(np.diff(scorers[name][1][1]).mean())
        print(
            f"{name:<17}{median:>9,.0f}  {min(rates):>9,.0f} {max(rates):>9,.0f}  {tokens:>11,.0f}"
            f"  {ratio:.2f}"
        )
    # Texts that were truncated for Keras have other probabilities.
    whole = lengths[: len(answers["Keras, 1024"])] <= PADDED
    error = np.abs(answers["kernel"][: len(whole)] - answers["Keras, 1024"])[whole]
    print(f"largest difference from Keras: {error.max(initial=0):.1e} in {whole.sum():,} texts")


if __name__ == "__main__":
    command.run(lambda: (main, KernelBenchmark))
