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
from pipelines.summaries import Summaries

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
    """Directory or URI of this run's summaries."""
    flags: dict[str, Any]
    """Of the run, for its summaries."""
    use_gpu: bool


def train_loop(config: dict[str, Any]) -> None:
    """Train from the last checkpoint, or from the start, to the last step.

    Args:
        config: `settings`, Settings; `messages`, a Ray Queue that takes what the user should see:
            dicts with a `kind` of `start`, `step`, `validation` or `replica`, as
            `pipelines.progress` shows them.
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
    for step in range(progress["step"], settings.steps):
        if _is_over(progress["validations"], settings.early_stopping):
            break
        batch = batches.batch(step)
        pending.append(trainer.step(batch.part(rank, workers), step * workers + rank))
        done = step + 1
        validate = done % settings.validate_every == 0 or done == settings.steps
        if done % LOG_EVERY == 0 or validate:
            losses = [float(loss) for loss in pending]
            if rank == 0:
                rate = len(losses) * settings.batch_size / (time.perf_counter() - began)
                messages.put({"kind": "step", "step": done, "loss": losses[-1], "examples/s": rate})
                scalars = {"learning_rate": settings.learning_rate, "examples_per_second": rate}
                summaries.steps(done - len(losses) + 1, losses, **scalars)
            pending, began = [], time.perf_counter()
        if validate:
            validated, *curve = trainer.validate(_parts(validation, rank, workers))
            if rank == 0:
                # Before the checkpoint. A crash between them leaves a segment of steps that are
                # taken again, and removed first; the other way round, steps would be missing.
                summaries.validation(done, validated, *curve, trainer.model.export())
                summaries.save(done)
            metrics = {"step": done, **validated}
            progress["step"] = done
            progress["validations"].append(metrics)
            messages.put({"kind": "replica", "step": done, "rank": rank, "hash": trainer.hash()})
            _report(trainer, progress, metrics, rank)
            if rank == 0:
                # Only now: what is said to be validated is there to resume from.
                messages.put({"kind": "validation", **metrics})
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
            sums = tf.stack(
                [
                    tf.reduce_sum(losses(logits, labels)),
                    tf.reduce_sum(tf.cast(right, tf.float32)),
                    tf.cast(tf.shape(labels)[0], tf.float32),
                ]
            )
            return sums, tf.nn.softmax(logits)[:, 1]

        def summed(values):
            return self._strategy.reduce(tf.distribute.ReduceOp.SUM, values, axis=None)

        def step_everywhere(*inputs):
            return summed(self._strategy.run(step, inputs))

        def validate_everywhere(*inputs):
            sums, probabilities = self._strategy.run(validate, inputs)
            return summed(sums), self._strategy.experimental_local_results(probabilities)[0]

        self.train_function = tf.function(step_everywhere, input_signature=[ids, ints, ints, seed])
        self._validate = tf.function(validate_everywhere, input_signature=[ids, ints, ints])

    def step(self, batch: Batch, draw: int):
        """Take one step on this worker's part of the batch; the global batch's mean loss.

        `draw` numbers the dropout masks: another one for every step and worker.
        """
        seed = np.array([self._random_state, draw], np.int64)
        return self.train_function(batch.ids, batch.lengths, batch.labels, seed)

    def validate(self, parts: Iterator[Batch]) -> tuple[dict[str, float], np.ndarray, np.ndarray]:
        """Mean cross-entropy (nats) and accuracy over all workers' parts.

        Beside them the labels (n,) of this worker's own rows, every so many-th of all, and the
        probabilities (n,) of label 1: enough for a curve.
        """
        totals, labels, probabilities = [], [], []
        for part in parts:
            sums, positive = self._validate(part.ids, part.lengths, part.labels)
            totals.append(sums.numpy())
            labels.append(part.labels)
            probabilities.append(positive.numpy())
        loss, right, rows = np.sum(totals, axis=0, dtype=np.float64)
        metrics = {
            "validation_loss": float(loss / rows),
            "validation_accuracy": float(right / rows),
        }
        return metrics, np.concatenate(labels), np.concatenate(probabilities)

    def graph(self) -> bytes:
        """The graph of a step, as a serialized GraphDef."""
        graph = self.train_function.get_concrete_function().graph
        return graph.as_graph_def().SerializeToString()

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
        return {"step": 0, "validations": []}
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
