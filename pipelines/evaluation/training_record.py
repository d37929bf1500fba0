"""Validate a checkpoint's training.json, which may come from a stranger."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError

from pipelines.console.flags import require_encoding
from pipelines.reports.training_run import Text, TrainingRun
from pipelines.sources.labelled import LabelledReader
from pipelines.sources.labels import LabelMap
from pipelines.sources.split import Split
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


@dataclass(frozen=True)
class _Reading:
    """The part of training.json that says which rows were held out."""

    flags: _Flags
    sample_below: Annotated[int, Field(strict=True, ge=0, lt=2**64)] | None


@dataclass(frozen=True)
class TrainingRecord:
    """How a model was trained, and how to read its corpus and split again."""

    run: TrainingRun
    data_dir: str
    """Directory or URI of the corpus."""
    reader: LabelledReader
    split: Split

    @property
    def positive_share(self) -> float:
        """Share of positive rows among those that training used (train and validation)."""
        rows, positive = self.run.rows, self.run.positive
        return (positive.train + positive.validation) / max(rows.train + rows.validation, 1)


def read_training_record(training: Mapping[str, Any]) -> TrainingRecord:
    """Check the content of training.json and give it types.

    Raises InputError, naming the entry, where one is missing or has an impossible value.
    """
    try:
        run = TypeAdapter(TrainingRun).validate_python(training)
        reading = TypeAdapter(_Reading).validate_python(training)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        entry = ".".join(map(str, first["loc"]))
        raise InputError(f"training.json of the checkpoint: {entry}: {first['msg']}") from error
    flags = reading.flags
    require_encoding(flags.encoding)
    return TrainingRecord(
        run,
        flags.data_dir,
        LabelledReader(
            flags.text_column,
            flags.label_column,
            flags.encoding,
            LabelMap.parse(flags.labels),
        ),
        Split(flags.random_state, flags.test_size, reading.sample_below),
    )
