"""Runs to evaluate: their checkpoints, the rows they are measured on, and a baseline for them."""

import posixpath
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property, partial

import pyarrow as pa

from pipelines.console.terminal import printable
from pipelines.evaluation.baselines import logistic_regression
from pipelines.evaluation.config import EvaluateConfig
from pipelines.evaluation.held_out import LabelledCorpus, LabelledTexts, find_rows
from pipelines.evaluation.piece_tasks import PieceTasks
from pipelines.evaluation.sample import SAMPLE_ROWS, Sample
from pipelines.evaluation.scored_rows import Model
from pipelines.evaluation.training_record import TrainingRecord, read_training_record
from pipelines.reports.evaluation_results import REGRESSION
from pipelines.sources.labels import LabelMap
from pipelines.sources.split import TEST, TRAIN, VALIDATION
from sentiment import storage
from sentiment.checkpoint import Checkpoint, load
from sentiment.errors import InputError
from sentiment.predictor import Predictor


@dataclass(frozen=True)
class Run:
    """A trained model, and how it was trained."""

    directory: str
    """Path or URI."""
    checkpoint: Checkpoint
    record: TrainingRecord

    @property
    def name(self) -> str:
        """The name of the directory."""
        return posixpath.basename(storage.absolute(self.directory).rstrip("/"))

    @property
    def label_map(self) -> LabelMap:
        """The labels of each class, by `--labels` or by its name."""
        return self.record.reader.labels or LabelMap.of_names(self.checkpoint.classes.names)

    @property
    def learnt(self) -> LabelMap | None:
        """The labels of each class in training, where `label_map` lacks some, such as 0 and 1."""
        learnt = self.record.learnt
        if learnt is None:
            return None
        values = [value for own in learnt.values for value in own]
        return None if (self.label_map.indices(values) >= 0).all() else learnt

    @cached_property
    def model(self) -> Model:
        """The model to score rows with."""
        return Model(Predictor(self.checkpoint).predict_proba, self.checkpoint.classes)


def load_run(directory: str) -> Run:
    """Load the checkpoint in a directory. Raises InputError if it cannot be used."""
    checkpoint = load(directory)
    return Run(directory, checkpoint, read_training_record(checkpoint))


def rows_to_score(config: EvaluateConfig, run: Run, tasks: PieceTasks) -> LabelledCorpus:
    """Find, and say on the terminal, what to evaluate on: the rows held out, or all of --data_dir.

    Raises InputError if there are none.
    """
    record, labels = run.record, LabelMap.parse(config.labels)
    reader = replace(
        record.reader,
        text_column=config.text_column or record.reader.text_column,
        label_column=config.label_column or record.reader.label_column,
        options=config.read_options(record.reader.options),
        soft_labels=record.reader.soft_labels and config.label_column is None,
        probabilities_of=run.checkpoint.classes.names,
    )
    if labels is not None:
        reader = replace(reader, labels=labels.spelled_as(run.label_map.names))
    elif config.data_dir is not None:
        # Other labels than those of training: they are recognized.
        reader = replace(reader, labels=None)
    data_dir = config.data_dir or record.data_dir
    split, parts = (record.split, (TEST,)) if config.held_out else (None, ())
    where = record.where if config.held_out else config.where
    # In the rows of training, labels mean what they meant there, whichever others came since.
    known = (run.learnt if config.held_out else None) or run.label_map
    rows = find_rows(
        data_dir, reader, run.checkpoint, known, tasks, split, parts, where, run.learnt
    )
    kind = "held-out rows" if config.held_out else "rows"
    if not rows.rows:
        raise InputError(f"{data_dir} has no {kind} to evaluate on")
    print(f"{rows.rows:,} {kind} of {printable(source_of(config, run))}\n", flush=True)
    for line in rows.detected:
        print(f"{printable(line)}\n", flush=True)
    if labels is not None and not labels.has_labels:
        # As they were given: probabilities of a list are in that order.
        print(f"Labels: {printable(' '.join(labels.names))}\n", flush=True)
    elif rows.label_map != run.label_map:
        print(f"Labels: {printable(str(rows.label_map))}\n", flush=True)
    if str(rows.left_out):
        print(f"{printable(str(rows.left_out))}\n", flush=True)
    return rows


def source_of(config: EvaluateConfig, run: Run) -> str:
    """`DIR`, `DIR where year=2024 and month=11`, or `DIR, read with --label_column stars`."""
    data_dir, where = config.data_dir, config.where
    if data_dir is None:
        data_dir, where = run.record.data_dir, run.record.where
    source = f"{data_dir} where {' and '.join(where)}" if where else data_dir
    return f"{source}, read with {config.read_with}" if config.read_with else source


def regression(run: Run, tasks: PieceTasks) -> Model:
    """Train TF-IDF + logistic regression on a run's training texts, or a random sample of them.

    Raises InputError if nothing can be learnt from them.
    """
    record = run.record
    learnt = find_rows(
        record.data_dir,
        record.reader,
        run.checkpoint,
        run.learnt or run.label_map,
        tasks,
        record.split,
        (TRAIN, VALIDATION),
        record.where,
    )
    sample = Sample(SAMPLE_ROWS, learnt.rows)
    for rows in learnt.each_piece("Reading", partial(_sampled, learnt.rows)):
        sample.extend(rows)
    table = sample.table()
    if len(table) < learnt.rows:
        print(f"{REGRESSION} learns a random sample of {len(table):,} rows\n", flush=True)
    # The model's threshold is one for the model's probabilities.
    classes = replace(run.checkpoint.classes, threshold=None)
    try:
        predict = logistic_regression(
            table["text"].to_pylist(), table["label"].to_numpy(), len(classes)
        )
    except ValueError as error:  # It says why: no texts, no words or one label.
        raise InputError(f"--baseline: {record.data_dir}: {error}") from error
    return Model(lambda texts: predict(texts.to_pylist()), classes)


def _sampled(of: int, blocks: Iterator[LabelledTexts]) -> Sample:
    """A sample of a piece's rows; `of`: the rows of all pieces."""
    sample = Sample(SAMPLE_ROWS, of)
    for block in blocks:
        sample.add(pa.table({"text": block.texts, "label": block.labels}), block.keys)
    return sample
