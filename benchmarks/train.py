"""Measure training: examples/s by workers and batch, the phases of a step, and Keras `fit`.

    python -m benchmarks.train --data_dir DIR
    python -m benchmarks.train --data_dir DIR --use_gpu --workers 1 2 4 8

Ray Train workers take the steps of `pipelines.train`; on CPUs each has one thread on its own core.
The speed-up of several workers is measured in turns of a few steps: all workers take them, then the
first takes the same steps alone, on whole batches, while the others wait. So other programs slow
down both. Runs with different numbers of workers alternate, too. Printed are medians and ranges.

The phases of a step are timed alone, on the same batches. Their sum exceeds the time of a step,
during which the next batch is made. Keras `fit` of the same model, padded to the longest row, runs
in turns on the same worker.
"""

import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import ray.train
import tyro

from pipelines.cluster.datasets import quiet_ray_data
from pipelines.cluster.ray_train_internals import DataParallelTrainer
from pipelines.cluster.session import session
from pipelines.sources.labelled import LabelledReader
from pipelines.sources.listing import find_labelled
from pipelines.sources.split import Split
from pipelines.training.batches import CachedRows, TrainingBatches
from pipelines.training.cache import prepare
from pipelines.training.config import TrainConfig
from pipelines.training.corpus_spec import CorpusSpec
from pipelines.training.prepared_corpus import Corpus
from pipelines.training.settings import Settings, make_settings
from pipelines.training.tensorflow_cluster import TensorflowCluster
from pipelines.training.trainer_setup import make_trainer
from sentiment.model.batch import WorkerBatch, pad

WARM_UP_STEPS = 200
"""Steps before the first that counts. In its first seconds Ray Train starts processes of its own,
which take CPU time from the workers."""

TURN_STEPS, TURNS, ROUNDS, KERAS_STEPS = 8, 5, 5, 10
STEPS = TURN_STEPS * TURNS
"""Steps of a round."""
KERAS_BATCH = 256
"""Batch size at which Keras is compared."""
PHASES = ("step", "input", "forward and backward", "all-reduce", "optimizer")


@dataclass(frozen=True)
class TrainBenchmark:
    """Measure training."""

    data_dir: str
    """Labelled shards, as for `pipelines.train`."""
    text_column: str = "SentimentText"
    """Column that holds the texts."""
    label_column: str = "Sentiment"
    """Column that holds the labels."""
    workers: tuple[int, ...] = (1, 2)
    """Numbers of workers."""
    batch_sizes: tuple[int, ...] = (100, 256, 1024)
    """Global batch sizes."""
    repeats: int = 3
    """Runs of each number of workers."""
    use_gpu: bool = False
    """Give each worker a GPU."""


def measure(config: dict[str, Any]) -> None:
    """Training function of each worker; rank 0 writes the measurements as JSON."""
    settings: Settings = config["settings"]
    context = ray.train.get_context()
    rank, workers = context.get_world_rank(), context.get_world_size()
    if not settings.use_gpu:
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[context.get_local_rank() % len(cores)]})
    rows = settings.rows("train")
    trainer = make_trainer(settings, 1)
    alone = _without_others(settings) if workers > 1 and rank == 0 else None
    measured: dict[int, dict[str, Any]] = {}
    for size in config["batch_sizes"]:
        batches = TrainingBatches(rows, size, 0)
        measured[size] = _phases(trainer, alone, batches, rank, workers)
        if workers == 1 and size == KERAS_BATCH:
            measured[size] |= _compare_with_keras(settings, trainer, batches, rows)
    if rank == 0:
        Path(config["result"]).write_text(json.dumps(measured))


def _without_others(settings: Settings):
    """A trainer that takes steps on whole batches without the other workers."""
    import tensorflow as tf

    from sentiment.model.keras_model import SentimentLSTM
    from sentiment.model.trainer import Trainer

    sizes = len(settings.vocabulary), settings.embedding_size, settings.hidden_size
    model = SentimentLSTM(*sizes, settings.dropout_keep_prob, settings.random_state)
    return Trainer(model, tf.distribute.get_strategy(), settings.random_state)


def _phases(trainer, alone, batches: TrainingBatches, rank: int, workers: int) -> dict[str, Any]:
    """Seconds for a step and for each phase, and the speed-ups of several workers over one."""

    def take(steps: range, trainer, rank: int, workers: int) -> float:
        """Take the steps; return the seconds."""
        parts = enumerate(
            batches.worker_batches(steps.start, steps.stop, rank, workers), steps.start + 1
        )
        return _seconds(lambda: [trainer.step(part, i, i, 0.001).numpy() for i, part in parts])

    def wait_for_all() -> None:
        trainer.sum_function(np.zeros(1, np.float32)).numpy()

    if alone:
        take(range(WARM_UP_STEPS), alone, 0, 1)
    # This comes last because it leaves the batches' window where the rounds start.
    take(range(WARM_UP_STEPS + 1), trainer, rank, workers)
    rounds, speedups = [], []
    for _ in range(ROUNDS):
        together = apart = 0.0
        for first in range(WARM_UP_STEPS, WARM_UP_STEPS + STEPS, TURN_STEPS):
            turn = range(first, first + TURN_STEPS)
            # The others wait here while the first works alone.
            wait_for_all()
            together += take(turn, trainer, rank, workers)
            if alone:
                apart += take(turn, alone, 0, 1)
        rounds.append(together / STEPS)
        if alone:
            speedups.append(apart / together)
    wait_for_all()
    seconds = {}
    spans = range(WARM_UP_STEPS, WARM_UP_STEPS + STEPS)
    seconds["input"] = _seconds(lambda: [batches.batch(i).for_worker(rank, workers) for i in spans])
    parts = [batches.batch(i).for_worker(rank, workers) for i in spans]
    seed, rate = np.zeros(2, np.int64), np.float32(0.001)

    def gradient(part: WorkerBatch):
        texts = (part.unique_ids, part.places, part.lengths)
        return trainer.gradient_function(*texts, part.targets, np.int32(part.batch_rows), seed)

    gradients = [gradient(part) for part in parts]
    wait_for_all()
    seconds["forward and backward"] = _seconds(lambda: [gradient(p).numpy() for p in parts])
    wait_for_all()
    seconds["all-reduce"] = _seconds(lambda: [trainer.sum_function(g).numpy() for g in gradients])
    number = np.int64(WARM_UP_STEPS + STEPS + 1)

    def update():
        for part, g in zip(parts, gradients, strict=True):
            trainer.update_function(part.unique_ids, g[1:], number, rate)

    # The first call traces the function.
    update()
    seconds["optimizer"] = _seconds(update)
    measured = {name: each / STEPS for name, each in seconds.items()}
    return {"step": statistics.median(rounds), "speedups": speedups, **measured}


def _compare_with_keras(settings: Settings, trainer, batches: TrainingBatches, rows: CachedRows):
    """Seconds for a row with our trainer and with Keras `fit`, in turns."""
    import keras

    # Deterministic operations need a seed.
    keras.utils.set_random_seed(0)
    labels, lengths, ids = rows.ranges([(0, KERAS_STEPS * KERAS_BATCH)])
    padded = np.zeros((len(labels), settings.corpus.longest), np.int32)
    as_long = pad(ids, np.cumsum(lengths) - lengths, lengths)
    padded[:, : as_long.shape[1]] = as_long
    tokens = keras.Input((padded.shape[1],), dtype="int32")
    own = keras.Input((padded.shape[1], 1))
    embedded = keras.layers.Embedding(len(settings.corpus.vocabulary), settings.embedding_size)(
        tokens
    )
    dropped = keras.layers.Dropout(1 - settings.dropout_keep_prob)(embedded)
    outputs = keras.layers.LSTM(settings.hidden_size, return_sequences=True)(dropped)
    outputs = keras.layers.Dropout(1 - settings.dropout_keep_prob)(outputs)
    mean = keras.ops.sum(outputs * own, axis=1) / keras.ops.sum(own, axis=1)
    model = keras.Model([tokens, own], keras.layers.Dense(2, activation="softmax")(mean))
    model.compile(keras.optimizers.RMSprop(0.001), "sparse_categorical_crossentropy")
    inside = np.arange(padded.shape[1]) < np.maximum(lengths, 1)[:, None]
    inputs = [padded, inside[:, :, None].astype(np.float32)]

    def fit() -> float:
        return _seconds(lambda: model.fit(inputs, labels, batch_size=KERAS_BATCH, verbose=0)) / len(
            labels
        )

    def ours() -> float:
        parts = enumerate(batches.worker_batches(0, STEPS, 0, 1), 1)
        return _seconds(lambda: [trainer.step(part, i, i, 0.001).numpy() for i, part in parts]) / (
            STEPS * KERAS_BATCH
        )

    fit()
    turns = [(ours(), fit()) for _ in range(3)]
    return {"ours": [a for a, _ in turns], "Keras": [b for _, b in turns]}


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def main(config: TrainBenchmark) -> None:
    """Run the measurements and print the tables."""
    with session(), quiet_ray_data(), tempfile.TemporaryDirectory() as root:
        source = LabelledReader(config.text_column, config.label_column)
        shards = find_labelled(config.data_dir, "--data_dir").shards
        corpus = prepare(CorpusSpec(shards, source, Split(0, 0.2)), f"{root}/cache")
        settings = _settings(corpus, config.use_gpu)
        runs: dict[int, list[dict]] = {workers: [] for workers in config.workers}
        for number in range(config.repeats):
            for workers in config.workers:
                result = f"{root}/{number}-{workers}.json"
                DataParallelTrainer(
                    measure,
                    backend_config=TensorflowCluster(),
                    train_loop_config={
                        "settings": settings,
                        "batch_sizes": config.batch_sizes,
                        "result": result,
                    },
                    scaling_config=ray.train.ScalingConfig(
                        num_workers=workers, use_gpu=config.use_gpu
                    ),
                    run_config=ray.train.RunConfig(storage_path=f"{root}/runs"),
                ).fit()
                measured = json.loads(Path(result).read_text())
                runs[workers].append({int(size): seconds for size, seconds in measured.items()})
    _print_table(corpus, config, runs)


def _settings(corpus: Corpus, use_gpu: bool) -> Settings:
    """Settings of a step by the default flags."""
    return make_settings(TrainConfig(bigram_keep_prob=1.0, use_gpu=use_gpu), corpus, "")


def _print_table(corpus: Corpus, config: TrainBenchmark, runs: dict[int, list[dict]]) -> None:
    print(
        f"{corpus.rows['train']:,} rows, {len(corpus.vocabulary):,} words, longest text "
        f"{corpus.longest} tokens; LSTM 75/75; {config.repeats} runs of {ROUNDS} rounds of {STEPS} "
        f"steps\n{'workers':>7}  {'batch':>6}  {'examples/s (from .. to)':27}  "
        f"{'times one worker (from .. to)':29}  ms: " + "  ".join(PHASES)
    )
    for size in config.batch_sizes:
        for workers in config.workers:
            of_size = [run[size] for run in runs[workers]]
            rates = _of([size / run["step"] for run in of_size], ",.0f")
            speedups = [speedup for run in of_size for speedup in run["speedups"]]
            times = _of(speedups, ".2f") if speedups else ""
            phases = "  ".join(
                f"{1000 * statistics.median([run[name] for run in of_size]):{len(name)}.1f}"
                for name in PHASES
            )
            print(f"{workers:7}  {size:6,}  {rates:27}  {times:29}      {phases}")
    turns = [
        (ours, theirs)
        for run in runs.get(1, [])
        for ours, theirs in zip(
            run.get(KERAS_BATCH, {}).get("ours", []),
            run.get(KERAS_BATCH, {}).get("Keras", []),
            strict=True,
        )
    ]
    if turns:
        ratios = [theirs / ours for ours, theirs in turns]
        print(
            f"Keras fit, padded to {corpus.longest}, batch {KERAS_BATCH}, one worker: "
            f"{1 / statistics.median([theirs for _, theirs in turns]):,.0f} examples/s; ours "
            f"{1 / statistics.median([ours for ours, _ in turns]):,.0f}: "
            f"{statistics.median(ratios):.1f}x ({min(ratios):.1f} .. {max(ratios):.1f})"
        )


def _of(values: list[float], form: str) -> str:
    """Median and range, as text."""
    return f"{statistics.median(values):{form}} ({min(values):{form}} .. {max(values):{form}})"


if __name__ == "__main__":
    main(tyro.cli(TrainBenchmark, use_underscores=True))
