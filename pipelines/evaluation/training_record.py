"""Validate a checkpoint's training.json, which may come from a stranger."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from pydantic import Field, TypeAdapter, ValidationError

from pipelines.reports.training_run import Count, Text, TrainingRun
from pipelines.sources.labelled import LabelledReader
from pipelines.sources.labels import LabelMap
from pipelines.sources.options import ReadOptions
from pipelines.sources.split import Split
from sentiment.checkpoint import Checkpoint
from sentiment.classes import Classes
from sentiment.errors import InputError


@dataclass(frozen=True)
class _Flags:
    data_dir: Text
    text_column: Text
    label_column: Text
    encoding: Text
    random_state: Annotated[int, Field(strict=True, ge=0, lt=2**31)]
    test_size: Annotated[float, Field(strict=True, gt=0, lt=1)]
    labels: tuple[Text, ...] = ()
    soft_labels: Annotated[bool, Field(strict=True)] = False
    # Older versions lack these.
    where: tuple[Text, ...] = ()
    delimiter: Text | None = None
    quote: Text = '"'
    escape: Text | None = None
    columns: tuple[Text, ...] = ()
    format: Text | None = None


@dataclass(frozen=True)
class _Reading:
    """The part of training.json that says which rows were held out."""

    flags: _Flags
    sample_below: Annotated[int, Field(strict=True, ge=0, lt=2**64)] | None
    # Older versions lack it.
    label_values: tuple[tuple[Text, ...], ...] = ()


@dataclass(frozen=True)
class _RowCounts:
    train: Count
    validation: Count
    test: Count


@dataclass(frozen=True)
class _PositiveRows:
    """How older versions counted labels: rows, and how many of them are positive."""

    rows: _RowCounts
    positive: _RowCounts


@dataclass(frozen=True)
class TrainingRecord:
    """How a model was trained, and how to read its corpus and split again."""

    run: TrainingRun
    data_dir: str
    """Directory or URI of the corpus."""
    where: tuple[str, ...]
    """Conditions on its `key=value` directories: which shards training read."""
    reader: LabelledReader
    split: Split
    learnt: LabelMap | None = None
    """The labels of each class in the rows of training; None: it is not known."""

    @property
    def shares(self) -> npt.NDArray[np.float64]:
        """float64[K]: share of each class in the rows that training used (train and validation)."""
        labels = self.run.labels
        rows = np.add(labels.train, labels.validation, dtype=np.float64)
        return rows / float(rows.sum())


def read_training_record(checkpoint: Checkpoint) -> TrainingRecord:
    """Check the content of a checkpoint's training.json and give it types.

    Raises InputError, naming the entry, where one is missing or has an impossible value.
    """
    training = checkpoint.training
    try:
        if "positive" in training and "labels" not in training:
            training = {**training, **_labels(training)}
        run = TypeAdapter(TrainingRun).validate_python(training)
        reading = TypeAdapter(_Reading).validate_python(training)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        entry = ".".join(map(str, first["loc"]))
        raise _impossible(entry, first["msg"]) from error
    _require_classes(run, checkpoint.classes)
    flags = reading.flags
    labels = LabelMap.parse(flags.labels)
    if labels is not None and labels.names != checkpoint.classes.names:
        raise _impossible("flags.labels", "these are not the classes of the model")
    options = ReadOptions(
        flags.encoding, flags.delimiter, flags.quote, flags.escape, flags.columns, flags.format
    )
    return TrainingRecord(
        run,
        flags.data_dir,
        flags.where,
        LabelledReader(flags.text_column, flags.label_column, options, labels, flags.soft_labels),
        Split(flags.random_state, flags.test_size, reading.sample_below),
        _learnt(reading.label_values, checkpoint.classes),
    )


def _labels(training: Mapping[str, Any]) -> dict[str, Any]:
    """`classes` and `labels` of a record that counts only positive rows."""
    counts = TypeAdapter(_PositiveRows).validate_python(training)
    rows, positive = vars(counts.rows), vars(counts.positive)
    labels = {part: [rows[part] - positive[part], positive[part]] for part in rows}
    return {"classes": Classes().names, "labels": labels}


def _learnt(values: tuple[tuple[str, ...], ...], classes: Classes) -> LabelMap | None:
    if not values:
        return None
    if len(values) != len(classes):
        raise _impossible("label_values", f"{len(values)} lists for {len(classes)} classes")
    return LabelMap(classes.names, values)


def _require_classes(run: TrainingRun, classes: Classes) -> None:
    if tuple(run.classes) != classes.names:
        raise _impossible("classes", "these are not the classes of the model")
    for part, rows in vars(run.labels).items():
        if len(rows) != len(classes):
            raise _impossible(f"labels.{part}", f"{len(rows)} counts for {len(classes)} classes")
    if not sum(run.labels.train) + sum(run.labels.validation):
        raise _impossible("labels", "there are no rows to train on")


def _impossible(entry: str, reason: str) -> InputError:
    return InputError(f"training.json of the checkpoint: {entry}: {reason}")
