"""TrainingRun: what reports show of the run that trained a model."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated

from pydantic import Field, InstanceOf

from pipelines.sources.split import is_cross_fitted
from sentiment import storage

# The annotations are checked where a checkpoint's training.json is read, not here.
Count = Annotated[int, Field(strict=True, ge=0, lt=2**53)]
Number = Annotated[float, Field(strict=True, gt=-1e300, lt=1e300)]
Text = InstanceOf[str]


@dataclass(frozen=True)
class ClassCounts:
    """Rows of each class, in the order of the classes, in each part of the split."""

    train: Sequence[Count]
    validation: Sequence[Count]
    test: Sequence[Count]


@dataclass(frozen=True)
class LossPoint:
    """Training loss at a step."""

    step: Count
    loss: Number
    """Mean cross-entropy in nats, measured with dropout."""


@dataclass(frozen=True)
class ValidationPoint:
    """Metrics on the validation rows at a step; see `TrainingRun.cross_fitted`."""

    step: Count
    validation_loss: Number
    """Mean cross-entropy in nats."""
    validation_accuracy: Number
    """Of the most probable class."""


@dataclass(frozen=True)
class TrainingRun:
    """A training run, as a checkpoint's training.json describes it."""

    flags: Mapping[Text, object]
    """All flags of `pipelines.train`, without dashes."""
    classes: Sequence[Text]
    labels: ClassCounts
    longest: Count | None = None
    """Tokens of the longest training text."""
    best: ValidationPoint | None = None
    """The validation whose weights were kept."""
    losses: Sequence[LossPoint] = ()
    validations: Sequence[ValidationPoint] = ()
    versions: Mapping[Text, Text] = field(default_factory=dict)
    """Versions of the libraries that trained the model, by name."""

    @property
    def cross_fitted(self) -> bool:
        """Whether training rows, answered by models that did not learn them, validated as well."""
        batch_size = self.flags.get("batch_size")
        return isinstance(batch_size, int) and is_cross_fitted(
            self.flags.get("calibrate") is True,
            sum(self.labels.train),
            sum(self.labels.validation),
            batch_size,
        )


def origin_warning(flags: Mapping[str, object]) -> str:
    """A sentence for a run that began from a model, whose own training is not known; else ""."""
    origin = flags.get("initial_checkpoint")
    if origin is None:
        return ""
    return (
        f"The model began from {origin}, which may have learnt some of these rows: not if it was "
        "trained with the same --random_state and --test_size."
    )


def rows_warning(run: TrainingRun, data_dir: str, held_out: bool, rows: int) -> str:
    """A sentence if the model has learnt rows that it is measured on, or may have, or if these are
    not those that training held out; else "".

    Args:
        run: that trained the model.
        data_dir: path or URI of the rows.
        held_out: whether they are those that the run held out.
        rows: their number.
    """
    if held_out:
        return " ".join(filter(None, (origin_warning(run.flags), changed_rows(run, rows))))
    paths = (storage.absolute(str(path)).rstrip("/") for path in (run.flags["data_dir"], data_dir))
    corpus, texts = (f"{path}/" for path in paths)
    if not corpus.startswith(texts) and not texts.startswith(corpus):
        return ""
    return (
        "The model was trained on most of these rows, so the metrics are too good: without "
        "--data_dir the rows that it has not learnt are measured."
    )


def changed_rows(run: TrainingRun, rows: int) -> str:
    """A sentence if so many rows are held out now, and were not in training; else ""."""
    held_out = sum(run.labels.test)
    if rows == held_out:
        return ""
    return (
        f"Training held out {held_out:,} rows, and these are {rows:,}: the corpus, or how it is "
        "read, has changed since."
    )


def train_command(flags: Mapping[str, object]) -> list[str]:
    """The `pipelines.train` command with these flags, quoted for a shell, one flag an item.

    It needs no preset and no file: what they set is among the flags.
    """
    words = ["python -m pipelines.train"]
    for name, value in sorted(flags.items()):
        if name in ("preset", "config"):
            continue
        flag = shlex.quote(f"--{name}")
        if isinstance(value, bool):
            words.append(flag if value else shlex.quote(f"--no_{name}"))
        elif isinstance(value, list | tuple):
            if value:
                words.append(" ".join([flag, *(shlex.quote(str(each)) for each in value)]))
        else:
            words.append(f"{flag} {shlex.quote(str(value))}")
    return words
