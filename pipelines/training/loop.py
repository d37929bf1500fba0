"""The training loop: what each Ray Train worker runs, data-parallel in TensorFlow.

A checkpoint holds all that the next step depends on. If a worker dies, all workers resume from the
last checkpoint and end with the same bits.
"""

from typing import Any

import numpy as np
import ray.train
from ray.util.queue import Queue

from pipelines.cluster.resources import node_cpus
from pipelines.training import resume_state as state
from pipelines.training.cross_fit import cross_fit
from pipelines.training.failures import tensorflow_errors_as_text
from pipelines.training.messages import ReplicaHash
from pipelines.training.reporter import Reporter
from pipelines.training.settings import Settings
from pipelines.training.trainer_setup import make_trainer
from pipelines.training.validation import ValidationRows, is_over, measure
from sentiment.text.bigrams import Bigrams

REPORT_STEPS = 10
"""Steps between two reports to the driver."""


def train_loop(config: dict[str, Any]) -> None:
    """Train from the last checkpoint, or from the start, to the last step.

    Args:
        config: `settings`, Settings; `messages`, a Ray Queue for `pipelines.training.messages`.
            Ray Train passes a dict.
    """
    with tensorflow_errors_as_text():
        _train(config)


def _train(config: dict[str, Any]) -> None:
    settings: Settings = config["settings"]
    messages: Queue = config["messages"]
    context = ray.train.get_context()
    rank, workers = context.get_world_rank(), context.get_world_size()
    threads = settings.cpus_per_worker or _threads(context.get_local_world_size())
    trainer = make_trainer(settings, threads)
    bigrams = Bigrams(settings.vocabulary) or None
    train_rows, rows = (settings.rows(name, per_node=True) for name in ("train", "validation"))
    validation_rows = ValidationRows(rows, bigrams, rank, workers)
    crossed = None
    if settings.cross_fits:
        validated = [step for step in range(1, settings.steps + 1) if _is_validated(step, settings)]
        crossed = cross_fit(trainer, settings, train_rows, bigrams, validated, rank, workers)
    progress = state.restore(trainer)
    batches = settings.training_batches(train_rows, bigrams)
    reporter = Reporter(settings, messages, trainer, progress, workers) if rank == 0 else None

    losses = []
    over = is_over(progress.validations, settings.early_stopping)
    worker_batches = batches.worker_batches(progress.step, settings.steps, rank, workers)
    first = progress.step + 1
    for step, batch in enumerate(worker_batches, first):
        if over:
            break
        rate = settings.learning_rate_at(step)
        # Another dropout mask for every step and worker.
        losses.append(trainer.step(batch, step, (step - 1) * workers + rank, rate))
        if step == first:
            # A step ends when all workers took it, so all of them have their rows.
            train_rows.remove_copies()
            rows.remove_copies()
        validate = _is_validated(step, settings)
        if step % REPORT_STEPS == 0 or validate:
            if reporter:
                reporter.steps(step, losses, rate)
            losses = []
        if validate:
            logits = trainer.logits(validation_rows.worker_batches, rank, workers)
            targets = validation_rows.targets
            if crossed:
                targets = np.concatenate([targets, crossed.targets])
                logits = np.concatenate([logits, crossed.logits[step]])
            validation = measure(step, targets, logits, settings.calibrate)
            progress = progress.after(validation)
            over = is_over(progress.validations, settings.early_stopping)
            messages.put(ReplicaHash(step, rank, trainer.hash()))
            if reporter:
                weights = trainer.model.export()
                reporter.validation(validation, targets, logits, weights)
            state.save(trainer, progress, rank)
            if reporter:
                reporter.saved(validation)


def _is_validated(step: int, settings: Settings) -> bool:
    return step % settings.validate_every == 0 or step == settings.steps


def _threads(workers_on_node: int) -> int:
    """Threads for each of the workers that share this node: an equal share of its CPUs."""
    return max(1, int(node_cpus()) // workers_on_node)
