"""Evaluate a checkpoint on labelled texts: read, predict, measure, print, write the report.

Loads no TensorFlow, and Ray only where there is much to read (`piece_tasks`).
"""

import hashlib
import posixpath
import re
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace

import numpy as np

from pipelines.console.terminal import printable
from pipelines.console.waiting import compiling_said, waiting
from pipelines.evaluation.comparison import compare
from pipelines.evaluation.config import EvaluateConfig
from pipelines.evaluation.occlusion import weights
from pipelines.evaluation.piece_tasks import PieceTasks
from pipelines.evaluation.results import print_classes, print_metrics, print_samples
from pipelines.evaluation.runs import Run, load_run, regression, rows_to_score, source_of
from pipelines.evaluation.scored_rows import Model, score_rows
from pipelines.reports.evaluation_results import MAJORITY, MODEL, REGRESSION, EvaluationResults
from pipelines.reports.model_card import CARD, MARK, model_card
from pipelines.reports.training_report import training_report
from pipelines.reports.training_run import rows_warning
from pipelines.reports.verdict import majority_warning, verdict
from pipelines.tracking import MODEL_TAG, MlflowRun, Point
from sentiment import storage
from sentiment.errors import on_one_line
from sentiment.metrics import Metrics


@compiling_said()
def evaluate(config: EvaluateConfig) -> dict[str, Metrics]:
    """Measure a checkpoint, print the results, and write the report and the model card; or compare
    several checkpoints.

    Returns:
        The metrics, by the name that the table of results has for each model.

    Raises InputError for a checkpoint, corpus or row that cannot be used, and for no rows at all.
    """
    with waiting("Loading the model"):
        first, *others = [load_run(directory) for directory in config.directories]
    with closing(PieceTasks()) as tasks:
        return compare(config, first, others, tasks) if others else _evaluate(config, first, tasks)


def _evaluate(config: EvaluateConfig, run: Run, tasks: PieceTasks) -> dict[str, Metrics]:
    with waiting("Reading the labelled rows"):
        corpus = rows_to_score(config, run, tasks)
    models = {MODEL: run.model}
    if config.baseline:
        with waiting("Training logistic regression on the same rows"):
            models[REGRESSION] = regression(run, tasks)
    models[MAJORITY] = _majority(run)
    with waiting("Scoring the labelled rows"):
        rows = score_rows(corpus, models)
    results = EvaluationResults(
        name=run.name,
        checkpoint=run.checkpoint,
        run=run.record.run,
        data_dir=config.data_dir or run.record.data_dir,
        held_out=config.held_out,
        texts=rows.texts,
        labels=rows.labels,
        lengths=rows.lengths,
        probabilities_by_model=rows.probabilities,
        totals=rows.totals,
        source=source_of(config, run),
    )
    wrong_answers = results.answers[MODEL][results.worst]
    wrong_texts = [results.texts[i] for i in results.worst]
    results = replace(results, weights=weights(run.checkpoint, wrong_texts, wrong_answers))
    print_metrics(results.metrics)
    print(f"\n{verdict(results)}")
    if results.sample_note:
        print(results.sample_note)
    if warning := majority_warning(results):
        print(warning)
    found = results.metrics[MODEL].rows
    if warning := rows_warning(results.run, results.data_dir, results.held_out, found):
        print(printable(warning))
    print_classes(results.metrics[MODEL], results.classes.names)
    print_samples(results, config.samples)
    with waiting("Writing the report"):
        name = _report_name(results, config.choice)
        written = _write_files(results, run.directory, name)
    print(f"\n{written}")
    if config.mlflow_experiment is not None:
        _track(config.mlflow_experiment, results, run.directory, name)
    return results.metrics


def _majority(run: Run) -> Model:
    """Answers each text with the training rows' share of each class."""
    shares = run.record.shares
    # A threshold would turn the majority class into another one.
    classes = replace(run.checkpoint.classes, threshold=None)
    return Model(lambda texts: np.broadcast_to(shares, (len(texts), len(shares))), classes)


def _write_files(results: EvaluationResults, directory: str, name: str) -> str:
    """Write the report, as the file `name`, and for held-out rows the model card.

    Returns:
        One line that names what was written, or says why not.
    """
    page, card = storage.join(directory, name), storage.join(directory, CARD)
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


def _track(experiment: str, results: EvaluationResults, directory: str, name: str) -> None:
    """Add the metrics, the report `name` and the card to the model's run in MLflow."""
    tags = {MODEL_TAG: results.checkpoint.model_hash}
    run = MlflowRun(experiment, results.name, tags, continues=True)
    metrics, corpus = results.metrics[MODEL], "test"
    if not results.held_out:
        corpus = posixpath.splitext(name)[0].removeprefix("report-")
    names = ("accuracy", "macro_f1", "auc", "log_loss", "calibration_error")
    run.metrics(Point(f"{corpus}/{each}", getattr(metrics, each)) for each in names)
    files = (name, *([CARD] if results.held_out else []))
    paths = {each: storage.join(directory, each) for each in files}
    contents = {each: storage.read(path) for each, path in paths.items() if storage.exists(path)}
    run.files("evaluation", contents)
    run.close()


def _report_name(results: EvaluationResults, choice: Sequence[str]) -> str:
    """The report's file name. `choice`: flags that say which rows of the directory are read."""
    if results.held_out:
        return "report.html"
    path = storage.absolute(results.data_dir).rstrip("/")
    name = re.sub(r"[^A-Za-z0-9.-]+", "-", posixpath.basename(path))[:60]
    digest = hashlib.sha256("\n".join([path, *choice]).encode(errors="replace")).hexdigest()
    return f"report-{name}-{digest[:6]}.html"
