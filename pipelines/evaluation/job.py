"""Evaluate a checkpoint on labelled texts: read, predict, measure, print, write the report.

Loads neither Ray nor TensorFlow.
"""

import hashlib
import posixpath
import re
from dataclasses import replace

import numpy as np

from pipelines.console.terminal import printable
from pipelines.evaluation.baselines import logistic_regression
from pipelines.evaluation.config import EvaluateConfig
from pipelines.evaluation.held_out import LabelledTexts, read_labelled
from pipelines.evaluation.results import print_classes, print_metrics, print_samples
from pipelines.evaluation.training_record import TrainingRecord, read_training_record
from pipelines.reports.evaluation_results import MAJORITY, MODEL, REGRESSION, EvaluationResults
from pipelines.reports.model_card import CARD, MARK, model_card
from pipelines.reports.training_report import training_report
from pipelines.reports.verdict import majority_warning, verdict
from pipelines.sources.labels import LabelMap
from pipelines.sources.split import TEST, TRAIN, VALIDATION
from sentiment import storage
from sentiment.checkpoint import Checkpoint, load
from sentiment.errors import InputError, on_one_line
from sentiment.predictor import Predictor


def evaluate(config: EvaluateConfig) -> None:
    """Measure a checkpoint, print the results, and write the report and the model card.

    Raises InputError for a checkpoint, corpus or row that cannot be used, and for no rows at all.
    """
    checkpoint = load(config.checkpoints_dir)
    record = read_training_record(checkpoint)
    data_dir = record.data_dir if config.data_dir is None else config.data_dir
    known = record.reader.labels or LabelMap.of_names(checkpoint.classes.names)
    rows = _read_rows(config, checkpoint, record, known)
    kind = "held-out rows" if config.data_dir is None else "rows"
    if not rows.texts:
        raise InputError(f"{data_dir} has no {kind} to evaluate on")
    print(f"{len(rows.texts):,} {kind} of {printable(data_dir)}\n", flush=True)
    if rows.label_map != known:
        print(f"Labels: {printable(str(rows.label_map))}\n", flush=True)
    if str(rows.left_out):
        print(f"{printable(str(rows.left_out))}\n", flush=True)

    probabilities = {MODEL: Predictor(checkpoint).predict_proba(rows.texts)}
    if config.baseline:
        learnt = read_labelled(
            record.data_dir, record.reader, checkpoint, known, record.split, (TRAIN, VALIDATION)
        )
        try:
            predict = logistic_regression(learnt.texts, learnt.labels, len(checkpoint.classes))
        except ValueError as error:  # It says why: no texts, no words or one label.
            raise InputError(f"--baseline: {record.data_dir}: {error}") from error
        probabilities[REGRESSION] = predict(rows.texts)
    probabilities[MAJORITY] = np.tile(record.shares, (len(rows.texts), 1))

    results = EvaluationResults(
        name=posixpath.basename(storage.absolute(config.checkpoints_dir).rstrip("/")),
        checkpoint=checkpoint,
        run=record.run,
        data_dir=data_dir,
        held_out=config.data_dir is None,
        texts=rows.texts,
        labels=rows.labels,
        lengths=rows.lengths,
        probabilities_by_model=probabilities,
    )
    print_metrics(results.metrics)
    print(f"\n{verdict(results)}")
    if warning := majority_warning(results):
        print(warning)
    print_classes(results.metrics[MODEL], checkpoint.classes.names)
    print_samples(results, config.samples)
    print(f"\n{_write_files(results, config.checkpoints_dir)}")


def _read_rows(
    config: EvaluateConfig, checkpoint: Checkpoint, record: TrainingRecord, known: LabelMap
) -> LabelledTexts:
    """The rows to evaluate on: those held out, or all of --data_dir."""
    labels = LabelMap.parse(config.labels)
    reader = replace(
        record.reader,
        text_column=config.text_column or record.reader.text_column,
        label_column=config.label_column or record.reader.label_column,
        encoding=config.encoding or record.reader.encoding,
    )
    if labels is not None:
        reader = replace(reader, labels=labels.of_classes(known.names))
    elif config.data_dir is not None or config.label_column is not None:
        # Other labels than those of training: they are recognized.
        reader = replace(reader, labels=None)
    if config.data_dir is None:
        return read_labelled(record.data_dir, reader, checkpoint, known, record.split, (TEST,))
    return read_labelled(config.data_dir, reader, checkpoint, known)


def _write_files(results: EvaluationResults, directory: str) -> str:
    """Write the report and, for held-out rows, the model card.

    Returns:
        One line that names what was written, or says why not.
    """
    page, card = storage.join(directory, _report_name(results)), storage.join(directory, CARD)
    try:
        storage.write(page, training_report(results))
    except OSError as error:
        return f"No report: {page} cannot be written: {on_one_line(error)}"
    if not results.held_out:
        return f"Report: {page}"
    try:
        if storage.exists(card) and MARK.encode() not in storage.read(card):
            return f"Report: {page}; {card} was not written by pipelines.evaluate and is kept"
        storage.write(card, model_card(results))
    except OSError as error:
        return f"Report: {page}; no model card: {card} cannot be written: {on_one_line(error)}"
    return f"Report: {page}; model card: {card}"


def _report_name(results: EvaluationResults) -> str:
    if results.held_out:
        return "report.html"
    path = storage.absolute(results.data_dir).rstrip("/")
    name = re.sub(r"[^A-Za-z0-9.-]+", "-", posixpath.basename(path))[:60]
    return f"report-{name}-{hashlib.sha256(path.encode(errors='replace')).hexdigest()[:6]}.html"
