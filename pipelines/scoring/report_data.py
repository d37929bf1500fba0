"""Results for the scoring report: `ScoringResults` from a scored output.

Whatever the corpus, little is read: sums come from the totals that the job has already, and
samples from a few run records and the first rows of a few files in `_rejected/`, which may hold as
many rows as the corpus.
"""

import itertools
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from pipelines.reports.scoring_results import RejectedRow, ScoringResults, ScoringRun
from pipelines.scoring.config import ScoreConfig
from pipelines.scoring.output import Output
from pipelines.scoring.totals import OTHER, Totals, kind_of
from pipelines.sources.parquet import COLUMN_BUFFER_BYTES
from sentiment import storage
from sentiment.answers import winner_column
from sentiment.checkpoint import Checkpoint

MAX_RUNS = 10
"""Records read, the latest."""

MAX_REJECTED_FILES, MAX_ROWS_PER_FILE = 5, 100
"""Files in `_rejected/` that are read, and the first rows of each."""

MAX_SAMPLES, MAX_SAMPLES_PER_REASON = 20, 3
"""Rejected rows in the sample."""

MAX_NOTES = 50
"""Notes on columns."""

MAX_RAW_BYTES = 64 * 2**20
"""Raw bytes of a file's rows. Of a larger file they are not read: one row may be most of it."""


def collect(
    config: ScoreConfig, checkpoint: Checkpoint, output: Output, totals: Totals, stopped: str
) -> ScoringResults:
    """The results that `totals` sums up; `stopped`: why the job ended before all was done."""
    reasons = Counter(totals.reasons)
    other = reasons.pop(OTHER, 0)
    shards = np.concatenate(totals.shards)
    return ScoringResults(
        directory=output.directory,
        flags=asdict(config),
        max_tokens=config.max_tokens,
        checkpoint=checkpoint,
        stopped=stopped,
        planned_parts=output.planned_parts,
        parts=totals.parts,
        counts=totals.counts,
        histogram=totals.histogram,
        class_rows=totals.classes,
        shards=[shard.path for plan in output.plans for shard in plan.shards],
        shard_rows=shards[:, 0],
        shard_class_rows=_rows_of_classes(shards, len(totals.classes)),
        winner_column=winner_column(checkpoint.classes.names),
        reasons=reasons,
        rejected_for_other_reasons=other,
        unreadable_shards=[
            (row["shard"], row["reason"]) for row in output.unreadable().to_pylist()
        ],
        runs=list(_last_runs(output.directory)),
        rejected_rows=list(itertools.islice(_rejected_rows(output.directory), MAX_SAMPLES)),
        column_notes=_column_notes(output),
    )


def _rows_of_classes(shards: np.ndarray, classes: int) -> np.ndarray | None:
    """int64[shards, classes], given `Totals.shards`; None: it has the shards' rows only."""
    if shards.shape[1] < classes:
        return None
    others = shards[:, 1:]
    first = shards[:, :1] - others.sum(axis=1, keepdims=True)
    return np.concatenate([first, others], axis=1)


def _column_notes(output: Output) -> list[str]:
    """The notes of the plans, each once, the latest first."""
    notes = dict.fromkeys(note for plan in reversed(output.plans) for note in plan.notes)
    return list(notes)[:MAX_NOTES]


def _last_runs(directory: str) -> Iterator[ScoringRun]:
    """The last runs that scored any rows, the latest first. Damaged records are left out."""
    manifest = storage.join(directory, "_manifest")
    names = [name for name in storage.names(manifest) if name.startswith("run-")]
    names.sort(key=lambda name: (len(name), name), reverse=True)
    for name in names[:MAX_RUNS]:
        try:
            run = _run(json.loads(storage.read(storage.join(manifest, name))))
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if run.rows:
            yield run


def _run(record: dict[str, Any]) -> ScoringRun:
    return ScoringRun(
        began=float(record["began"]),
        seconds=float(record["seconds"]),
        parts=int(record["parts"]),
        rows=int(record["rows"]),
        rows_per_second=float(record["rows/s"]),
        rows_left=int(record["left"]["rows"]),
        course=[(float(seconds), int(rows)) for seconds, rows in record.get("course", [])],
    )


def _rejected_rows(directory: str) -> Iterator[RejectedRow]:
    """Rejected rows, a few of each kind of reason, from files spread over `_rejected/`."""
    rejected = storage.join(directory, "_rejected")
    names = sorted(name for name in storage.names(rejected) if name.startswith("part-"))
    number = min(len(names), MAX_REJECTED_FILES)
    rows_of_kind: Counter[str] = Counter()
    for index in np.linspace(0, max(len(names) - 1, 0), number).astype(int):
        for row in _first_rows(storage.join(rejected, names[index])):
            kind = kind_of(row.reason)
            rows_of_kind[kind] += 1
            if rows_of_kind[kind] <= MAX_SAMPLES_PER_REASON:
                yield row


def _first_rows(path: str) -> list[RejectedRow]:
    filesystem, inner = storage.resolve(path)
    with filesystem.open_input_file(inner) as source:
        file = pq.ParquetFile(source, buffer_size=COLUMN_BUFFER_BYTES, pre_buffer=False)
        columns = file.schema_arrow.names
        groups = [file.metadata.row_group(i) for i in range(file.num_row_groups)]
        raw = columns.index("raw")
        if sum(group.column(raw).total_uncompressed_size for group in groups) > MAX_RAW_BYTES:
            del columns[raw]
        batch = next(file.iter_batches(MAX_ROWS_PER_FILE, columns=columns), None)
    if batch is None:
        return []
    return [
        RejectedRow(row["shard"], row["row"], row["reason"], row.get("raw", b"(not shown)"))
        for row in batch.to_pylist()
    ]
