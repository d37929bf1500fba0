"""Batches -> weights: what each Ray Train worker runs, step by step, data-parallel in TensorFlow.

Every worker computes the gradient of its part of the global batch; the optimizer sums them. So the
loss is divided by the global batch, and nothing else is reduced by hand.
"""

import hashlib
import json
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import ray.train
import safetensors.numpy
from ray.util.queue import Queue

from pipelines.batches import Batch, CachedRows, TrainingBatches
from pipelines.prepare import Corpus
from sentiment import storage

STATE, PROGRESS = "state.safetensors", "progress.json"

VALIDATION_ROWS = 10_000
"""Most rows a validation looks at: enough for half a percent of accuracy."""

LOG_EVERY = 10
"""Steps between two reports to the terminal."""


@dataclass(frozen=True)
class Settings:
    """What every worker needs to know."""

    corpus: Corpus
    batch_size: int
    """Rows of the global batch, however many workers share it."""
    steps: int
    hidden_size: int
    embedding_size: int
    random_state: int
    learning_rate: float
    dropout_keep_prob: float
    sequence_len: int
    validate_every: int
    early_stopping: int | None
    summaries: str
    use_gpu: bool


def train_loop(config: dict[str, Any]) -> None:
    """Train from the last checkpoint, or from the start, to the last step.

    Args:
        config: `settings`, Settings; `messages`, a Ray Queue that takes what the user should see:
            dicts with a `kind` of `start`, `step`, `validation` or `replica`.
    """
    settings: Settings = config["settings"]
    messages: Queue = config["messages"]
    context = ray.train.get_context()
    rank, workers = context.get_world_rank(), context.get_world_size()
    threads = max(1, (os.cpu_count() or 1) // context.get_local_world_size())
    trainer = _Trainer(settings, threads)
    rows = CachedRows(
        settings.corpus.directory, settings.corpus.files["train"], settings.sequence_len
    )
    validation = CachedRows(
        settings.corpus.directory, settings.corpus.files["validation"], settings.sequence_len
    )
    batches = TrainingBatches(rows, settings.batch_size, settings.random_state)
    progress = _restore(trainer)
    summaries = _Summaries(settings, trainer, progress) if rank == 0 else None
    if rank == 0:
        losses = [validation["validation_loss"] for validation in progress["validations"]]
        best = min(losses, default=float("inf"))
        start = {"step": progress["step"], "steps": settings.steps, "best": best}
        messages.put({"kind": "start", **start})

    pending, began = [], time.perf_counter()
    for step in range(progress["step"], settings.steps):
        if _is_over(progress["validations"], settings.early_stopping):
            break
        batch = batches.batch(step)
        pending.append(trainer.step(batch.part(rank, workers), step * workers + rank))
        done = step + 1
        validate = done % settings.validate_every == 0 or done == settings.steps
        if done % LOG_EVERY == 0 or validate:
            losses = [float(loss) for loss in pending]
            progress["losses"] += losses
            if rank == 0:
                rate = len(losses) * settings.batch_size / (time.perf_counter() - began)
                messages.put({"kind": "step", "step": done, "loss": losses[-1], "examples/s": rate})
                summaries.losses(done, losses)
            pending, began = [], time.perf_counter()
        if validate:
            metrics = {"step": done, **trainer.validate(_parts(validation, rank, workers))}
            progress["step"] = done
            progress["validations"].append(metrics)
            messages.put({"kind": "replica", "step": done, "rank": rank, "hash": trainer.hash()})
            _report(trainer, progress, metrics, rank)
            if rank == 0:
                # Only now: what is said to be validated is there to resume from.
                messages.put({"kind": "validation", **metrics})
                summaries.validation(metrics)
                summaries.write_metrics(progress)
            began = time.perf_counter()


class _Trainer:
    """The replicated model, its optimizer, and one step of each kind."""

    def __init__(self, settings: Settings, threads: int) -> None:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
        tf.config.experimental.enable_op_determinism()
        ring = tf.distribute.experimental.CommunicationImplementation
        communication = tf.distribute.experimental.CommunicationOptions(
            implementation=ring.NCCL if settings.use_gpu else ring.RING
        )
        # Before any other operation of TensorFlow, or the workers do not find each other.
        self._strategy = tf.distribute.MultiWorkerMirroredStrategy(
            communication_options=communication
        )

        import keras

        from sentiment.model import SentimentLSTM

        with self._strategy.scope():
            self.model = SentimentLSTM(
                len(settings.corpus.vocabulary),
                settings.embedding_size,
                settings.hidden_size,
                settings.dropout_keep_prob,
                settings.random_state,
            )
            self.optimizer = keras.optimizers.RMSprop(settings.learning_rate)
            self.optimizer.build(self.model.trainable_variables)
        self._tf, self._random_state = tf, settings.random_state
        ids, ints = tf.TensorSpec([None, None], tf.int32), tf.TensorSpec([None], tf.int32)
        seed = tf.TensorSpec([2], tf.int64)

        def losses(logits, labels):
            return tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)

        def step(ids, lengths, labels, seed):
            with tf.GradientTape() as tape:
                logits = self.model([ids, lengths], dropout_seed=seed)
                loss = tf.reduce_sum(losses(logits, labels)) / settings.batch_size
            gradients = tape.gradient(loss, self.model.trainable_variables)
            self.optimizer.apply_gradients(
                zip(gradients, self.model.trainable_variables, strict=True)
            )
            return loss

        def validate(ids, lengths, labels):
            logits = self.model([ids, lengths])
            right = tf.equal(tf.argmax(logits, 1, tf.int32), labels)
            return tf.stack(
                [
                    tf.reduce_sum(losses(logits, labels)),
                    tf.reduce_sum(tf.cast(right, tf.float32)),
                    tf.cast(tf.shape(labels)[0], tf.float32),
                ]
            )

        def everywhere(function):
            def run(*inputs):
                return self._strategy.reduce(
                    tf.distribute.ReduceOp.SUM, self._strategy.run(function, inputs), axis=None
                )

            return run

        self.train_function = tf.function(everywhere(step), input_signature=[ids, ints, ints, seed])
        self._validate = tf.function(everywhere(validate), input_signature=[ids, ints, ints])

    def step(self, batch: Batch, draw: int):
        """Take one step on this worker's part of the batch; the global batch's mean loss.

        `draw` numbers the dropout masks: another one for every step and worker.
        """
        seed = np.array([self._random_state, draw], np.int64)
        return self.train_function(batch.ids, batch.lengths, batch.labels, seed)

    def validate(self, parts: Iterator[Batch]) -> dict[str, float]:
        """Mean cross-entropy (nats) and accuracy over all workers' parts."""
        sums = [self._validate(part.ids, part.lengths, part.labels).numpy() for part in parts]
        loss, right, rows = np.sum(sums, axis=0, dtype=np.float64)
        return {"validation_loss": float(loss / rows), "validation_accuracy": float(right / rows)}

    def state(self) -> dict[str, np.ndarray]:
        """Everything that the next step depends on besides the data."""
        model = {f"model/{name}": value for name, value in self.model.export().items()}
        slots = {
            f"optimizer/{i:02d}": variable.numpy()
            for i, variable in enumerate(self.optimizer.variables)
        }
        return {name: np.array(value, order="C") for name, value in (model | slots).items()}

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """Continue from a `state`."""
        with self._strategy.scope():
            self.model.restore(model_weights(state))
            for i, variable in enumerate(self.optimizer.variables):
                variable.assign(state[f"optimizer/{i:02d}"])

    def hash(self) -> str:
        """Identifies the state: replicas that went the same way have the same."""
        return hashlib.sha256(safetensors.numpy.save(self.state())).hexdigest()


class _Summaries:
    """TensorBoard's files of one run, written by rank 0 alone.

    A run that resumes writes its history anew from the checkpoint and drops the files of the
    attempt before, so that no step is there twice or missing.
    """

    def __init__(self, settings: Settings, trainer: _Trainer, progress: dict[str, Any]) -> None:
        import tensorflow as tf

        self._summary = tf.summary
        tf.io.gfile.makedirs(settings.summaries)
        for old in tf.io.gfile.glob(f"{settings.summaries}/events.out.tfevents.*"):
            tf.io.gfile.remove(old)
        self._writer = tf.summary.create_file_writer(settings.summaries)
        with self._writer.as_default(0):
            tf.summary.graph(trainer.train_function.get_concrete_function().graph)
        self.losses(len(progress["losses"]), progress["losses"])
        for metrics in progress["validations"]:
            self.validation(metrics)
        self._metrics = storage.join(settings.summaries, "metrics.jsonl")
        self.write_metrics(progress)

    def losses(self, last_step: int, losses: list[float]) -> None:
        with self._writer.as_default():
            for step, loss in enumerate(losses, last_step - len(losses) + 1):
                self._summary.scalar("train/loss", loss, step)

    def validation(self, metrics: dict[str, float]) -> None:
        with self._writer.as_default():
            for name in ("loss", "accuracy"):
                self._summary.scalar(
                    f"validation/{name}", metrics[f"validation_{name}"], metrics["step"]
                )
        self._writer.flush()

    def write_metrics(self, progress: dict[str, Any]) -> None:
        """Write `metrics.jsonl`: a line for each step, and one for each validation."""
        lines = [{"step": i, "loss": loss} for i, loss in enumerate(progress["losses"], 1)]
        for validation in reversed(progress["validations"]):
            lines.insert(validation["step"], validation)
        content = "".join(json.dumps(line) + "\n" for line in lines)
        storage.write(self._metrics, content.encode())


def _is_over(validations: list[dict[str, float]], patience: int | None) -> bool:
    """Whether the last `patience` validations have all been worse than the best before them."""
    if patience is None or not validations:
        return False
    losses = [validation["validation_loss"] for validation in validations]
    return len(losses) - 1 - int(np.argmin(losses)) >= patience


def _parts(validation: CachedRows, rank: int, workers: int) -> Iterator[Batch]:
    for batch in validation.in_order(512, VALIDATION_ROWS):
        yield batch.part(rank, workers)


def _restore(trainer: _Trainer) -> dict[str, Any]:
    checkpoint = ray.train.get_checkpoint()
    if checkpoint is None:
        return {"step": 0, "losses": [], "validations": []}
    with checkpoint.as_directory() as directory:
        state, progress = read_state(directory)
    trainer.restore(state)
    return progress


def _report(trainer: _Trainer, progress, metrics: dict[str, float], rank: int) -> None:
    """Every worker reports; rank 0 attaches the checkpoint."""
    if rank != 0:
        ray.train.report(metrics)
        return
    with tempfile.TemporaryDirectory() as directory:
        (Path(directory) / STATE).write_bytes(safetensors.numpy.save(trainer.state()))
        (Path(directory) / PROGRESS).write_text(json.dumps(progress))
        ray.train.report(metrics, checkpoint=ray.train.Checkpoint.from_directory(directory))


def read_state(directory: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The state and progress that a training checkpoint holds."""
    state = safetensors.numpy.load((Path(directory) / STATE).read_bytes())
    return state, json.loads((Path(directory) / PROGRESS).read_text())


def model_weights(state: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The model's part of a state, under the names of a checkpoint."""
    prefix = "model/"
    return {n.removeprefix(prefix): value for n, value in state.items() if n.startswith(prefix)}
