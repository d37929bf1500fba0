"""Scoring, token ids -> probabilities: the kernel next to Keras and TensorFlow, on one core.

    python -m benchmarks.kernel
    python -m benchmarks.kernel --texts reviews/ --column text --rows 50000

Without --texts: ids from a seeded generator, as frequent as Zipf's law has them, in texts whose
lengths are log-normal with the mean and the spread of sentences of film reviews (20 and 12). The
weights are random, too: their values do not matter for the time.

Four ways, in turns, after one run that is not counted:
- the kernel;
- Keras: `predict` over texts cut and padded to 64 tokens, as is usual, in the batches of 32 it
  takes by default, and in those of 1024 it does best with;
- a TensorFlow graph as fast as we can make it: the kernel's folded table, texts sorted by length,
  each batch padded to its own longest.

Times are of the CPU, of all the process's threads, which have one core together: so other programs
on the machine count little, and waiting does not count, in TensorFlow's favour.
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
from pipelines.console.flags import require
from sentiment.checkpoint import weight_shapes
from sentiment.errors import InputError
from sentiment.model.batch import pad
from sentiment.model.kernel import LSTMKernel
from sentiment.text import vocabulary
from sentiment.text.tokenizer import Tokenizer

VOCABULARY, EMBEDDING, HIDDEN = 20_000, 75, 75
PADDED = 64
BATCH = 1024
"""Texts that Keras and the graph take at once. Of 32, 100, 256, 1024 and 4096 it is Keras's best;
the graph's best is 256 or 1024."""
TEXTS_TO_KERAS = 10_000
"""So many texts Keras takes in a repeat: it is some ten times slower."""

Score = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class KernelBenchmark:
    """Measure the kernel beside Keras and TensorFlow, on one core."""

    texts: str | None = None
    """A shard, or a directory of them; None: ids are generated."""
    column: str = "text"
    """Their column of texts."""
    rows: int = 50_000
    """Texts."""
    repeats: int = 5
    """Times that each is measured."""

    def __post_init__(self) -> None:
        for name in ("rows", "repeats"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")


def generated(rows: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, int]:
    """ids and offsets of texts, and the size of their vocabulary."""
    random = np.random.default_rng(seed)
    spread = np.log1p((12 / 20) ** 2) ** 0.5
    lengths = random.lognormal(np.log(20) - spread**2 / 2, spread, rows).astype(np.int64)
    weights = 1 / np.arange(1, VOCABULARY)
    offsets = np.cumsum([0, *lengths])
    ids = 1 + random.choice(VOCABULARY - 1, offsets[-1], p=weights / weights.sum())
    return ids.astype(np.int32), offsets, VOCABULARY


def read(path: str, column: str, rows: int) -> tuple[np.ndarray, np.ndarray, int]:
    """The same for the first texts of shards."""
    texts = read_texts(path, column, rows)
    if not len(texts):
        raise InputError(f"--texts {path} holds no texts")
    tokenizer = Tokenizer()
    found = vocabulary.document_frequencies(tokenizer.tokens(texts).tokens)
    words = vocabulary.build(found, len(texts), min_share=0, max_size=VOCABULARY)
    encoded = tokenizer.encoder(words)(texts)
    return encoded.ids, encoded.offsets, len(words)


def random_weights(size: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Weights named as in a checkpoint, of about the size that training leaves."""
    random = np.random.default_rng(seed)
    shapes = weight_shapes(size, EMBEDDING, HIDDEN)
    return {name: random.normal(0, 0.2, shape).astype("f4") for name, shape in shapes.items()}


def keras_predict(weights: dict[str, np.ndarray], batch_size: int) -> Score:
    """`predict` with every text padded to PADDED tokens; longer ones are cut."""
    import keras

    from benchmarks.keras_model import WordsAlone

    model = WordsAlone(weights)

    def score(ids: np.ndarray, offsets: np.ndarray) -> np.ndarray:
        lengths = np.minimum(np.diff(offsets), PADDED).astype(np.int32)
        padded = np.zeros((len(lengths), PADDED), np.int32)
        found = pad(ids, offsets[:-1], lengths)
        padded[:, : found.shape[1]] = found
        logits = model.predict([padded, lengths], batch_size=batch_size, verbose=0)
        return np.asarray(keras.ops.softmax(logits))[:, 1]

    return score


def tensorflow_graph(weights: dict[str, np.ndarray]) -> Score:
    """The recurrence over a folded table as one `tf.function`."""
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
        return tf.nn.softmax(mean @ dense + bias)[:, 1]

    def score(ids: np.ndarray, offsets: np.ndarray) -> np.ndarray:
        lengths = np.diff(offsets).astype(np.int32)
        order = np.argsort(lengths, kind="stable")
        found = np.empty(len(lengths), np.float32)
        for start in range(0, len(order), BATCH):
            rows = order[start : start + BATCH]
            found[rows] = probabilities(pad(ids, offsets[rows], lengths[rows]), lengths[rows])
        return found

    return score


def one_core() -> str:
    """Keep this process to one core and TensorFlow to one thread; says what could be done."""
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
    """Measure and print."""
    if config.texts:
        ids, offsets, size = read(config.texts, config.column, config.rows)
    else:
        ids, offsets, size = generated(config.rows)
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    where = one_core()
    weights = random_weights(size)
    kernel = LSTMKernel(weights)
    all_texts, some = (ids, offsets), (ids, offsets[: TEXTS_TO_KERAS + 1])
    ways: dict[str, tuple[Score, tuple]] = {
        "kernel": (kernel, all_texts),
        "TensorFlow graph": (tensorflow_graph(weights), all_texts),
        "Keras, 1024": (keras_predict(weights, BATCH), some),
        "Keras, default": (keras_predict(weights, 32), some),
    }
    found = {name: score(*batch) for name, (score, batch) in ways.items()}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(config.repeats):
        for name, (score, batch) in ways.items():
            start = time.process_time()
            score(*batch)
            seconds[name].append((time.process_time() - start) / (len(batch[1]) - 1))

    lengths = np.diff(offsets)
    print(
        f"{len(lengths):,} {'' if config.texts else 'generated '}texts of {lengths.mean():.1f} "
        f"tokens on average (longest {lengths.max()}), {size:,} words; LSTM {EMBEDDING}/{HIDDEN}, "
        f"random weights; table {kernel.table_bytes / 2**20:.0f} MiB; {where}"
    )
    print(f"{'':<17}{'texts/s':>9}  {'from':>9} {'to':>9}  {'tokens/s':>11}  kernel is")
    for name, times in seconds.items():
        rates = [1 / spent for spent in times]
        median = statistics.median(rates)
        ratio = statistics.median(
            [slow / fast for slow, fast in zip(times, seconds["kernel"], strict=True)]
        )
        tokens = median * float(np.diff(ways[name][1][1]).mean())
        print(
            f"{name:<17}{median:>9,.0f}  {min(rates):>9,.0f} {max(rates):>9,.0f}  {tokens:>11,.0f}"
            f"  {ratio:.2f} times as fast"
        )
    # Texts that were cut for Keras have other probabilities.
    whole = lengths[: len(found["Keras, 1024"])] <= PADDED
    error = np.abs(found["kernel"][: len(whole)] - found["Keras, 1024"])[whole]
    print(f"largest difference from Keras: {error.max(initial=0):.1e} in {whole.sum():,} texts")


if __name__ == "__main__":
    command.run(main, KernelBenchmark)
