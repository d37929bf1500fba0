"""Reporter: worker 0 tells the driver how training goes, and writes TensorBoard logs."""

import time
from typing import TYPE_CHECKING

import numpy as np
from ray.util.queue import Queue
from scipy.special import softmax

from pipelines.training.messages import Started, StepDone, Validated
from pipelines.training.resume_state import RunProgress
from pipelines.training.settings import Settings
from pipelines.training.tensorboard_logs import Summaries
from pipelines.training.validation import Validation, macro_f1

if TYPE_CHECKING:  # Loads TensorFlow, which only the workers need.
    import tensorflow as tf

    from sentiment.model.trainer import Trainer


class Reporter:
    """What worker 0 reports of a run. The other workers report nothing."""

    def __init__(
        self,
        settings: Settings,
        messages: Queue,
        trainer: "Trainer",
        progress: RunProgress,
        workers: int,
    ) -> None:
        """Say that so many workers start after `progress`, and continue the run's TensorBoard logs.

        Raises InputError if the run's metrics.jsonl is damaged.
        """
        self._settings, self._messages = settings, messages
        losses = [validation["validation_loss"] for validation in progress.validations]
        best = min(losses, default=float("inf"))
        messages.put(Started(progress.step, settings.steps, best, workers))
        self._summaries = Summaries(settings.summaries, progress.step)
        if not progress.step:
            self._summaries.graph(trainer.graph())
        # Also of a run that goes on: steps, patience and workers may be others now.
        self._summaries.hparams(settings.flags)
        self._since = time.perf_counter()

    def steps(self, last: int, losses: "list[tf.Tensor]", rate: float) -> None:
        """Report the steps since the last report, of which `last` is the last.

        Args:
            last: number of the last step, from 1.
            losses: float32[] of each step, mean cross-entropy (nats).
            rate: learning rate of the last step.
        """
        values = [float(loss) for loss in losses]
        speed = len(values) * self._settings.batch_size / (time.perf_counter() - self._since)
        self._messages.put(StepDone(last, values[-1], speed))
        scalars = {"learning_rate": rate, "examples_per_second": speed}
        self._summaries.steps(last - len(values) + 1, values, **scalars)
        self._since = time.perf_counter()

    def validation(
        self,
        validation: Validation,
        targets: np.ndarray,
        logits: np.ndarray,
        weights: dict[str, np.ndarray],
    ) -> None:
        """Write a validation to the TensorBoard logs, before its checkpoint is saved.

        A crash between the two leaves logs of steps that are taken again; the next start removes
        them. In the other order, steps would be missing in the logs.

        Args:
            validation: its result.
            targets: float32[n, K], as in `Batch`.
            logits: float32[n, K].
            weights: float32 arrays by name.
        """
        # As the model answers when it is saved, and as its loss is measured.
        divisor = validation["validation_temperature"] if self._settings.calibrate else 1.0
        probabilities = softmax(logits.astype(np.float64) / divisor, axis=1)
        step = validation["step"]
        metrics = {
            "validation_loss": validation["validation_loss"],
            "validation_accuracy": validation["validation_accuracy"],
            "validation_macro_f1": macro_f1(targets, logits),
            "validation_temperature": validation["validation_temperature"],
        }
        labels = targets.argmax(axis=1)
        classes = self._settings.corpus.classes
        also = " and the training rows, cross-fitted" if self._settings.cross_fits else ""
        about = f"On the validation rows{also}. Accuracy is that of the most probable class."
        self._summaries.validation(step, metrics, labels, probabilities, classes, weights, about)
        self._summaries.save(step)

    def saved(self, validation: Validation) -> None:
        """Say that a validation is done and its checkpoint saved."""
        step, loss = validation["step"], validation["validation_loss"]
        self._messages.put(Validated(step, loss, validation["validation_accuracy"]))
        self._since = time.perf_counter()
