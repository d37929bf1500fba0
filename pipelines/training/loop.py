"""Batches -> weights: what each Ray Train worker runs, step by step, data-parallel in TensorFlow.

The checkpoint of a validation holds all that the next step depends on. Where a worker dies, all go
on from the last one, to the same bits.
"""

import json
import os
import posixpath
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.fs as pafs
import ray.train
import safetensors.numpy
import scipy.optimize
from ray.util.queue import Queue

from pipelines.training.batches import CachedRows, TrainingBatches
from pipelines.training.cache import Corpus
from pipelines.training.summaries import Summaries
from sentiment import storage
from sentiment.text.bigrams import Bigrams

if TYPE_CHECKING:  # Loads TensorFlow, which is for the workers alone.
    from sentiment.model.trainer import Trainer

STATE, PROGRESS = "state.safetensors", "progress.json"

VALIDATION_ROWS = 10_000
"""Most rows a validation looks at: enough for half a percent of accuracy."""

MOST_HEAT = 2.0
"""A temperature is between this and 1 / this: of few validation texts it could be anything."""

LOG_EVERY = 10
"""Steps between two reports to the terminal."""


@dataclass(frozen=True)
class Settings:
    """What every worker needs to know."""

    corpus: Corpus
    vocabulary: tuple[str, ...]
    """Words, then bigrams."""
    vectors: str | None
    """Where the words' first embeddings are, a path or URI; None: they are random."""
    batch_size: int
    """Rows of the global batch, however many workers share it."""
    steps: int
    hidden_size: int
    embedding_size: int
    bidirectional: bool
    random_state: int
    learning_rate: float
    schedule: str
    dropout_keep_prob: float
    word_keep_prob: float
    bigram_keep_prob: float
    sequence_len: int
    validate_every: int
    early_stopping: int | None
    summaries: str
    """Directory or URI of this run's summaries."""
    flags: dict[str, Any]
    """Of the run, for its summaries."""
    use_gpu: bool


def train_loop(config: dict[str, Any]) -> None:
    """Train from the last checkpoint, or from the start, to the last step.

    Args:
        config: `settings`, Settings; `messages`, a Ray Queue that takes what the user should see:
            dicts with a `kind` of `start`, `step`, `validation` or `replica`, as
            `pipelines.training.progress` shows them.
    """
    settings: Settings = config["settings"]
    messages: Queue = config["messages"]
    context = ray.train.get_context()
    rank, workers = context.get_world_rank(), context.get_world_size()
    threads = max(1, (os.cpu_count() or 1) // context.get_local_world_size())
    trainer = make_trainer(settings, threads)
    rows, validation = (
        CachedRows(settings.corpus.directory, settings.corpus.files[name], settings.sequence_len)
        for name in ("train", "validation")
    )
    bigrams = Bigrams(settings.vocabulary) or None
    batches = TrainingBatches(
        rows,
        settings.batch_size,
        settings.random_state,
        bigrams,
        settings.word_keep_prob,
        settings.bigram_keep_prob,
    )
    validation_batches = validation.by_length(512, VALIDATION_ROWS)
    validation_labels = np.concatenate([batch.labels for batch in validation_batches])
    validation_parts = [
        batch.for_worker(rank, workers, batch.bigram_ids(bigrams) if bigrams else None)
        for batch in validation_batches
    ]
    progress = _restore(trainer)
    if rank == 0:
        losses = [validation["validation_loss"] for validation in progress["validations"]]
        best = min(losses, default=float("inf"))
        start = {"step": progress["step"], "steps": settings.steps, "best": best}
        messages.put({"kind": "start", **start})
        summaries = Summaries(settings.summaries, progress["step"])
        if not progress["step"]:
            summaries.graph(trainer.graph())
            summaries.hparams(settings.flags)

    pending, began = [], time.perf_counter()
    parts = batches.worker_batches(progress["step"], settings.steps, rank, workers)
    for done, part in enumerate(parts, progress["step"] + 1):
        if _is_over(progress["validations"], settings.early_stopping):
            break
        rate = _learning_rate(settings, done)
        pending.append(trainer.step(part, done, (done - 1) * workers + rank, rate))
        validate = done % settings.validate_every == 0 or done == settings.steps
        if done % LOG_EVERY == 0 or validate:
            if rank == 0:
                losses = [float(loss) for loss in pending]
                speed = len(losses) * settings.batch_size / (time.perf_counter() - began)
                messages.put(
                    {"kind": "step", "step": done, "loss": losses[-1], "examples/s": speed}
                )
                scalars = {"learning_rate": rate, "examples_per_second": speed}
                summaries.steps(done - len(losses) + 1, losses, **scalars)
            pending, began = [], time.perf_counter()
        if validate:
            margins = trainer.margins(validation_parts, rank, workers)
            metrics = {"step": done, **_measure(validation_labels, margins)}
            progress = {"step": done, "validations": [*progress["validations"], metrics]}
            messages.put({"kind": "replica", "step": done, "rank": rank, "hash": trainer.hash()})
            if rank == 0:
                probabilities = 1 / (1 + np.exp(-margins.astype(np.float64)))
                weights = trainer.model.export()
                summaries.validation(done, metrics, validation_labels, probabilities, weights)
                # Before the checkpoint. A crash between them leaves a segment of steps that are
                # taken again, and removed first; the other way round, steps would be missing.
                summaries.save(done)
            _report(trainer, progress, metrics, rank)
            if rank == 0:
                # After it: the checkpoint is there, and in a moment Ray Train knows of it.
                messages.put({"kind": "validation", **metrics})
            began = time.perf_counter()


def _learning_rate(settings: Settings, step: int) -> float:
    """That of a step, from 1."""
    left = (settings.steps - step + 1) / settings.steps
    return settings.learning_rate * (left if settings.schedule == "linear" else 1)


def _measure(labels: np.ndarray, margins: np.ndarray) -> dict[str, float]:
    """Mean cross-entropy (nats), accuracy, and the temperature that would make the first least.

    Of the weights as they are: `--calibrate` divides by the temperature only what is saved.
    """
    against = np.where(labels == 1, -margins, margins).astype(np.float64)
    return {
        "validation_loss": float(np.logaddexp(0, against).mean()),
        "validation_accuracy": float(((margins >= 0) == (labels == 1)).mean()),
        "validation_temperature": _temperature(against),
    }


def _temperature(against: np.ndarray) -> float:
    """What to divide logits by, so that the mean cross-entropy is least (Guo et al. 2017).

    Args:
        against: float (n,), by how much the logit of the wrong class is larger.
    """
    limit = np.log(MOST_HEAT)
    found = scipy.optimize.minimize_scalar(
        lambda heat: np.logaddexp(0, against / np.exp(heat)).mean(),
        bounds=(-limit, limit),
        method="bounded",
    )
    return float(np.exp(found.x))


def make_trainer(settings: Settings, threads: int) -> "Trainer":
    """This worker's trainer; TensorFlow computes in so many threads."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import tensorflow as tf

    if not settings.use_gpu:
        # Ray leaves a node's GPUs in sight of workers that asked for none.
        tf.config.set_visible_devices([], "GPU")
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    tf.config.experimental.enable_op_determinism()
    ways = tf.distribute.experimental.CommunicationImplementation
    options = tf.distribute.experimental.CommunicationOptions(
        implementation=ways.NCCL if settings.use_gpu else ways.RING
    )
    # Before any other operation of TensorFlow, or the workers do not find each other.
    strategy = tf.distribute.MultiWorkerMirroredStrategy(communication_options=options)

    from sentiment.model.keras_model import SentimentLSTM
    from sentiment.model.trainer import Trainer

    model = SentimentLSTM(
        len(settings.vocabulary),
        settings.embedding_size,
        settings.hidden_size,
        settings.dropout_keep_prob,
        settings.random_state,
        settings.bidirectional,
    )
    (rows,) = model.embedding.get_weights()
    words = len(settings.corpus.vocabulary)
    # A bigram is the sum of its words until it has learnt better.
    rows[words:] = 0
    if settings.vectors:
        rows[:words] = safetensors.numpy.load(storage.read(settings.vectors))["vectors"]
    model.embedding.set_weights([rows])
    return Trainer(model, strategy, settings.random_state, options)


def _is_over(validations: list[dict[str, float]], patience: int | None) -> bool:
    """Whether the last `patience` validations have all been worse than the best before them."""
    if patience is None or not validations:
        return False
    losses = [validation["validation_loss"] for validation in validations]
    return len(losses) - 1 - int(np.argmin(losses)) >= patience


def _restore(trainer: "Trainer") -> dict[str, Any]:
    checkpoint = ray.train.get_checkpoint()
    if checkpoint is None:
        return {"step": 0, "validations": []}
    state, progress = read_state(checkpoint)
    trainer.restore(state)
    return progress


def _report(trainer: "Trainer", progress, metrics: dict[str, float], rank: int) -> None:
    """Every worker reports; rank 0 attaches the checkpoint."""
    if rank != 0:
        ray.train.report(metrics)
        return
    with tempfile.TemporaryDirectory() as directory:
        (Path(directory) / STATE).write_bytes(safetensors.numpy.save(trainer.state()))
        (Path(directory) / PROGRESS).write_text(json.dumps(progress))
        ray.train.report(metrics, checkpoint=ray.train.Checkpoint.from_directory(directory))


def read_state(
    checkpoint: ray.train.Checkpoint,
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The state and progress that a training checkpoint holds."""

    # Not `as_directory`: of two workers on a node that take it from a bucket at once, the first to
    # be done removes what the other reads.
    def content(name: str) -> bytes:
        path = posixpath.join(checkpoint.path, name)
        with checkpoint.filesystem.open_input_file(path) as file:
            return file.read()

    return safetensors.numpy.load(content(STATE)), json.loads(content(PROGRESS))


def holds_only_state(filesystem: pafs.FileSystem, directory: str) -> bool:
    """Whether a directory holds no file but those of a training checkpoint."""
    entries = filesystem.get_file_info(pafs.FileSelector(directory))
    return all(info.is_file and info.base_name in (STATE, PROGRESS) for info in entries)


def model_weights(state: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The model's part of a state, under the names of a checkpoint."""
    prefix = "model/"
    return {n.removeprefix(prefix): value for n, value in state.items() if n.startswith(prefix)}
