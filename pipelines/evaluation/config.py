"""Flags of `pipelines.evaluate`."""

import shlex
from dataclasses import dataclass, replace
from typing import Literal

from tyro.conf import Positional

from pipelines.console.flag_values import require
from pipelines.sources.labels import LabelMap
from pipelines.sources.options import ReadOptions
from sentiment.errors import InputError

READING_FLAGS = ("encoding", "delimiter", "quote", "escape", "columns", "format")
"""Flags that say how other texts are read."""


@dataclass(frozen=True)
class EvaluateConfig:
    """Measure a checkpoint on the rows its training run held out, or on other labelled texts.

    Prints the metrics, and writes a report into the checkpoint's directory. Several checkpoints are
    compared on the rows that the first held out; the report is comparison-NAMES-HASH.html."""

    checkpoints_dir: tuple[str, ...] = ()
    """Directory or URI of a checkpoint, as `pipelines.train` printed it. The report is written
    there as report.html, and a model card as README.md unless you have written one yourself.
    Several: they are compared with the first."""
    data_dir: str | None = None
    """Directory or URI of other labelled texts; all of them are used. Their report is
    report-NAME-HASH.html (the directory's name and a hash of its path); the report on the held-out
    rows and the model card stay. None: the rows that training held out."""
    text_column: str | None = None
    """Column that holds the texts; None: as in training."""
    label_column: str | None = None
    """Column that holds the labels; None: as in training."""
    labels: tuple[str, ...] = ()
    """Labels of each of the model's classes, such as negative=1,2 positive=4,5; (): those that the
    classes' names tell, and of held-out rows those of training."""
    encoding: str | None = None
    """Encoding of text files; None: as in training."""
    delimiter: str | None = None
    """CSV: what separates fields, such as ';' or '\\t'; None: as in training."""
    quote: str | None = None
    """CSV: what begins and ends a field, or none; None: as in training."""
    escape: str | None = None
    """CSV: what makes a quote a part of the text, or none; None: as in training."""
    columns: tuple[str, ...] = ()
    """CSV: names of the columns of files without a header; (): as in training."""
    format: Literal["csv", "tsv", "json", "text", "parquet"] | None = None
    """Format of files whose names do not tell it, and of .txt files; None: as in training."""
    where: tuple[str, ...] = ()
    """Conditions on key=value directories, such as "year=2024": which shards to read."""
    baseline: bool = False
    """Also train TF-IDF + logistic regression on the training texts (at most 500,000, at random),
    and compare it on the same rows."""
    mlflow_experiment: str | None = None
    """Name of an experiment in MLflow whose run of this model also gets metrics, report and card;
    the server is the one that MLFLOW_TRACKING_URI names. None: no MLflow."""
    samples: int = 10
    """Number of sample predictions to print."""
    checkpoints: Positional[tuple[str, ...]] = ()
    """Checkpoints, as by --checkpoints_dir."""

    @property
    def directories(self) -> tuple[str, ...]:
        """The checkpoints."""
        return (*self.checkpoints_dir, *self.checkpoints)

    def read_options(self, training: ReadOptions) -> ReadOptions:
        """How shards are read: as in training, where no flag says otherwise."""
        given = {name: value for name in READING_FLAGS if (value := getattr(self, name))}
        return replace(training, **given)

    @property
    def choice(self) -> list[str]:
        """The flags that say which rows of --data_dir are read, and how; [] by default."""
        names = ("text_column", "label_column", "labels", "where", *READING_FLAGS)
        return [f"{name}={value}" for name in names if (value := getattr(self, name))]

    @property
    def read_with(self) -> str:
        """Those of them that say how, as on a command line."""
        words: list[str] = []
        for name in ("text_column", "label_column", "labels", *READING_FLAGS):
            if value := getattr(self, name):
                words += [f"--{name}", *(value if isinstance(value, tuple) else (str(value),))]
        return shlex.join(words)

    @property
    def held_out(self) -> bool:
        """Whether to evaluate on the rows that training held out."""
        return self.data_dir is None

    def __post_init__(self) -> None:
        if not self.directories:
            raise InputError("--checkpoints_dir must be given")
        if self.mlflow_experiment is not None and len(self.directories) > 1:
            raise InputError("--mlflow_experiment is for one checkpoint")
        require(self.samples >= 0, "samples", self.samples, "at least 0")
        LabelMap.parse(self.labels)
        for name in ("text_column", "label_column", "labels", *READING_FLAGS, "where"):
            if self.data_dir is None and getattr(self, name):
                raise InputError(
                    f"--{name} needs --data_dir: held-out rows are read as in training"
                )
        self.read_options(ReadOptions())
