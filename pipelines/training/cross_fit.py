"""Cross-fitting: where few rows validate, the training rows validate, too.

Some dozens of rows leave the best step and the temperature to chance. So `FOLDS` more models are
trained, each without one fold of the training rows, which it then answers. Their answers after each
step that is validated join those of the run's own model to the validation rows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from pipelines.sources.split import FOLDS
from pipelines.training.batches import CachedRows
from pipelines.training.settings import Settings
from pipelines.training.validation import ValidationRows
from sentiment.text.bigrams import Bigrams

if TYPE_CHECKING:  # Loads TensorFlow, which only the workers need.
    from sentiment.model.trainer import Trainer


@dataclass(frozen=True)
class CrossFit:
    """What models that did not learn the training rows answer for them."""

    targets: np.ndarray
    """float32[n, K], as in `Batch`, of n rows."""
    logits: Mapping[int, np.ndarray]
    """float32[n, K] after each step of the run that is validated."""


def cross_fit(
    trainer: "Trainer",
    settings: Settings,
    rows: CachedRows,
    bigrams: Bigrams | None,
    steps: Sequence[int],
    rank: int,
    workers: int,
) -> CrossFit:
    """Train a model for each fold, and answer its rows. Every worker calls it.

    The models take fewer steps than the run, for as many epochs.

    Args:
        trainer: with its initial weights, which it has again at the end.
        settings: of the run.
        rows: of the training split.
        bigrams: finds the bigrams of the vocabulary; None: the vocabulary has none.
        steps: of the run, after which to answer; ascending, the last one is the run's last.
        rank: number of this worker, from 0.
        workers: number of workers.
    """
    initial = trainer.state()
    stops = [_step_of_fold(step) for step in steps]
    of_fold = replace(settings, steps=stops[-1])
    targets: list[np.ndarray] = []
    logits: dict[int, list[np.ndarray]] = {step: [] for step in steps}
    for learnt, held_out in _folds(rows):
        validation = ValidationRows(held_out, bigrams, rank, workers)
        targets.append(validation.targets)
        batches = of_fold.training_batches(learnt, bigrams)
        done = 0
        for step, stop in zip(steps, stops, strict=True):
            for batch in batches.worker_batches(done, stop, rank, workers):
                done += 1
                rate = of_fold.learning_rate_at(done)
                trainer.step(batch, done, (done - 1) * workers + rank, rate)
            logits[step].append(trainer.logits(validation.worker_batches, rank, workers))
        trainer.restore(initial)
    return CrossFit(
        np.concatenate(targets), {step: np.concatenate(each) for step, each in logits.items()}
    )


def _step_of_fold(step: int) -> int:
    """The step after which a fold's model has seen its rows as often as the run's after `step`."""
    return max(1, round(step * (FOLDS - 1) / FOLDS))


def _folds(rows: CachedRows) -> list[tuple[CachedRows, CachedRows]]:
    """Rows to learn and rows to answer, for each fold. The cache is in the order of hashes, so that
    consecutive rows are random ones."""
    edges = np.linspace(0, len(rows), FOLDS + 1).astype(int).tolist()
    return [
        (rows.part([(0, start), (stop, len(rows))]), rows.part([(start, stop)]))
        for start, stop in pairwise(edges)
    ]
