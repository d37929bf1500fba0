"""Compare runs on the same rows: print them side by side, and write a page."""

import hashlib
import re
from collections.abc import Sequence

from pipelines.console.terminal import printable
from pipelines.evaluation.config import EvaluateConfig
from pipelines.evaluation.piece_tasks import PieceTasks
from pipelines.evaluation.results import print_metrics, print_table
from pipelines.evaluation.runs import Run, regression, rows_to_score, source_of
from pipelines.evaluation.scored_rows import score_rows
from pipelines.reports.comparison_report import (
    PAIRED_COLUMNS,
    ComparedModel,
    ComparisonResults,
    comparison_report,
)
from pipelines.reports.evaluation_results import REGRESSION
from pipelines.reports.verdict import paired_verdict
from pipelines.sources.labels import listed
from sentiment import storage
from sentiment.errors import InputError, on_one_line
from sentiment.metrics import Metrics


def compare(
    config: EvaluateConfig, first: Run, others: Sequence[Run], tasks: PieceTasks
) -> dict[str, Metrics]:
    """Measure runs on the rows that the first one holds out, or on --data_dir; the metrics by name.

    Raises InputError for runs of other classes, for a run that may have learnt these rows, and for
    rows that cannot be used.
    """
    runs = (first, *others)
    names = _names(runs)
    for other in others:
        _require_same_classes(first, other)
        if config.held_out:
            _require_same_split(first, other)
    corpus = rows_to_score(config, first, tasks)
    to_score = {name: run.model for name, run in zip(names, runs, strict=True)}
    if config.baseline:
        to_score[REGRESSION] = regression(first, tasks)
    rows = score_rows(corpus, to_score)
    models = {
        name: ComparedModel(
            rows.probabilities[name], run.checkpoint.classes, run.record.run, run.checkpoint
        )
        for name, run in zip(names, runs, strict=True)
    }
    if config.baseline:
        classes = to_score[REGRESSION].classes
        models[REGRESSION] = ComparedModel(rows.probabilities[REGRESSION], classes)
    results = ComparisonResults(
        models,
        config.data_dir or first.record.data_dir,
        config.held_out,
        rows.texts,
        rows.labels,
        rows.totals,
        source_of(config, first),
    )
    print_metrics(results.metrics)
    print(f"\nDifferences from {printable(results.first)} in points, with 95% intervals")
    rows_of_names = [(printable(name), *cells) for name, *cells in results.paired_rows]
    print_table(PAIRED_COLUMNS, rows_of_names, "l" + "r" * (len(PAIRED_COLUMNS) - 1))
    print()
    for name, paired in results.paired.items():
        print(printable(paired_verdict(name, results.first, paired)))
    for warning in results.warnings:
        print(printable(warning))
    print(f"\n{_write_page(results, runs, config.choice)}")
    return results.metrics


def _names(runs: Sequence[Run]) -> list[str]:
    """Names that tell the runs apart: of their directories, or else the whole paths."""
    paths = [storage.absolute(run.directory).rstrip("/") for run in runs]
    for path in paths:
        if paths.count(path) > 1:
            raise InputError(f"{path} is named twice: a run can be compared with others only")
    names = [run.name for run in runs]
    return names if len(set(names)) == len(names) else paths


def _require_same_classes(first: Run, other: Run) -> None:
    ours, theirs = first.checkpoint.classes.names, other.checkpoint.classes.names
    if ours != theirs:
        raise InputError(
            f"{other.directory} has the classes {listed(theirs)}, and {first.directory} has "
            f"{listed(ours)}: only runs of the same classes, in the same order, can be compared"
        )


def _require_same_split(first: Run, other: Run) -> None:
    """Refuse a run that may have learnt rows that the first one holds out.

    Texts are split by their hash, so equal texts of any corpus are on the same side. What is held
    out with a smaller --test_size is held out with a larger one.
    """
    ours, theirs = first.record.split, other.record.split
    if ours.random_state != theirs.random_state or ours.test_size > theirs.test_size:
        raise InputError(
            f"{other.directory} was trained on rows that {first.directory} holds out: its flags "
            f"were --random_state {theirs.random_state} --test_size {theirs.test_size}, those of "
            f"the first {ours.random_state} and {ours.test_size}; name other texts by --data_dir"
        )


def _write_page(results: ComparisonResults, runs: Sequence[Run], choice: Sequence[str]) -> str:
    """Write the page beside the first run's report; one line that names it, or says why not.

    `choice`: flags that say which rows of the directory are read.
    """
    first, *others = runs
    name = "-".join(re.sub(r"[^A-Za-z0-9.-]+", "-", run.name) for run in others)[:60]
    compared = [storage.absolute(run.directory) for run in runs]
    if not results.held_out:
        compared += [storage.absolute(results.data_dir), *choice]
    digest = hashlib.sha256("\n".join(compared).encode(errors="replace")).hexdigest()[:6]
    page = storage.join(first.directory, f"comparison-{name}-{digest}.html")
    try:
        storage.write(page, comparison_report(results))
    except OSError as error:
        return f"No report: {page} cannot be written: {on_one_line(error)}"
    return f"Report: {page}"
