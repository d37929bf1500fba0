"""The checkpoint that a run ends with: the best weights, and a record of how they were trained."""

import unicodedata
from collections.abc import Sequence
from dataclasses import asdict, replace
from importlib.metadata import version
from typing import Any

import numpy as np

from pipelines.console.terminal import percent, quantity, say, warn
from pipelines.errors import Failure
from pipelines.training.calibration import calibrated
from pipelines.training.config import TrainConfig
from pipelines.training.ray_trainer import Fitted
from pipelines.training.settings import Settings
from pipelines.training.tensorboard_logs import mean_losses
from pipelines.training.threshold_rule import ThresholdRule
from pipelines.training.thresholds import choose_threshold, validation_answers
from pipelines.training.validation import Validation
from sentiment.checkpoint import Checkpoint
from sentiment.classes import Classes
from sentiment.network import Network

LOSS_POINTS = 200
"""Points of the loss curve in a checkpoint, at most: about 10 kB."""

DIVERGED_BY = 9.0
"""A model that diverged has a validation loss (nats) so much above that of guessing, or more."""


def final_checkpoint(
    config: TrainConfig,
    settings: Settings,
    stop_words: tuple[str, ...],
    fitted: Fitted,
) -> Checkpoint:
    """The checkpoint of a run that is done.

    Args:
        config: the flags.
        settings: of the workers.
        stop_words: the words that the tokenizer leaves out.
        fitted: what the run ended with.

    Raises Failure if training diverged.
    """
    weights, best = fitted.weights, fitted.best
    guessing = float(np.log(len(settings.corpus.classes)))
    if not best["validation_loss"] < guessing + DIVERGED_BY:  # NaN, too.
        raise Failure(
            f"training diverged: the best validation loss is {best['validation_loss']:.3g}, "
            f"where guessing gives {guessing:.2f}; --learning_rate {config.learning_rate} is too "
            "high"
        )
    if config.calibrate:
        weights = calibrated(weights, best["validation_temperature"])
    training = _training_record(config, settings, best, fitted.validations)
    names = settings.corpus.classes
    trained = Checkpoint(weights, settings.vocabulary, stop_words, training, Classes(names))
    threshold = _threshold(config, settings, trained.network)
    return replace(trained, classes=Classes(names, threshold))


def _threshold(config: TrainConfig, settings: Settings, network: Network) -> float | None:
    """The threshold that the flags give, or that is chosen as they ask; None: they do neither."""
    if config.threshold_for is None:
        return config.threshold
    rows = settings.rows("validation")
    labels, probabilities = validation_answers(rows, settings.sequence_len, network)
    chosen = choose_threshold(
        ThresholdRule.parse(config.threshold_for), labels, probabilities[:, 1]
    )
    positive = settings.corpus.classes[1]
    if chosen is None:
        warn(
            f"Warning: no threshold for {positive} reaches {config.threshold_for} on "
            f"{quantity(len(labels), 'validation row')}: the model keeps the threshold 0.5"
        )
        return None
    say(
        f"Threshold {chosen.threshold:.4f} for {positive}: precision {percent(chosen.precision)}, "
        f"recall {percent(chosen.recall)}, accuracy {percent(chosen.accuracy)} on "
        f"{quantity(chosen.rows, 'validation row')}"
    )
    return chosen.threshold


def _training_record(
    config: TrainConfig, settings: Settings, best: Validation, validations: Sequence[Validation]
) -> dict[str, Any]:
    """How the model was trained, as JSON, for `training.json`."""
    corpus = settings.corpus
    return {
        "flags": asdict(config),
        "rows": corpus.rows,
        "classes": list(corpus.classes),
        "labels": corpus.labels,
        "label_values": corpus.label_values,
        "left_out": asdict(corpus.left_out),
        "sample_below": corpus.sample_below,
        "longest": corpus.longest,
        # Scoring compares its texts with these; tokens are counted before texts are cut.
        "learnt": {
            "rows": corpus.rows["train"],
            "truncated": corpus.longer_than(config.sequence_len or corpus.longest),
            "tokens": corpus.tokens,
            "unknown": corpus.unknown,
            "validation_tokens": corpus.validation_tokens,
            "validation_unknown": corpus.validation_unknown,
        },
        "best": best,
        "validations": list(validations),
        "losses": losses(settings.summaries),
        # Which characters are letters depends on Python's version of Unicode.
        "versions": {name: version(name) for name in ("keras", "ray", "tensorflow")}
        | {"unicode": unicodedata.unidata_version},
    }


def losses(summaries: str) -> list[dict[str, float]]:
    """The run's loss curve, or no points if the metrics file was moved or edited.

    A model is worth more than its curve.
    """
    try:
        return mean_losses(summaries, LOSS_POINTS)
    except (OSError, ValueError, TypeError, KeyError):
        return []
