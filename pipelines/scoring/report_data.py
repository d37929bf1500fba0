"""Results for the scoring report: `ScoringResults` from a scored output.

Whatever the corpus, little is read: sums come from the totals that the job has already, and
samples from a few run records and the first rows of a few files in `_rejected/`, which may hold as
many rows as the corpus.
"""

import itertools
import posixpath
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipelines.console.terminal import quantity
from pipelines.reports.scoring_results import (
    Breakdown,
    Night,
    RejectedRow,
    SampledRows,
    ScoringResults,
    ScoringRun,
)
from pipelines.scoring.by_value import sum_by
from pipelines.scoring.config import ScoreConfig
from pipelines.scoring.file_listing import Listing
from pipelines.scoring.output import Output
from pipelines.scoring.run_log import read_runs, run_names
from pipelines.scoring.sample import sample
from pipelines.scoring.totals import OTHER, Totals, kind_of
from pipelines.sources.names import partitions
from pipelines.sources.parquet import COLUMN_BUFFER_BYTES
from sentiment import storage
from sentiment.answers import answer_schema, winner_column
from sentiment.checkpoint import Checkpoint

MAX_RUNS = 10
"""Records read, the latest."""

SAMPLED_ROWS = 300
"""Random rows, of which the most and least sure are shown."""

SAMPLED_COLUMNS = 6
"""Kept columns that are shown of them, first the text."""

MAX_NIGHTS = 31
"""Plans whose totals are added up, the latest."""

MAX_PARTITION_COLUMNS, MAX_PARTITIONS = 4, 4000
"""Keys of `key=value` directories by which rows are added up, and the most values of each."""

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
    paths = [shard.path for plan in output.plans for shard in plan.shards]
    by_class = _rows_of_classes(shards, len(totals.classes))
    names = run_names(output.directory)[: -MAX_RUNS - 1 : -1]
    records = list(read_runs(output.directory, names))
    return ScoringResults(
        directory=output.directory,
        flags=asdict(config),
        max_tokens=config.max_tokens,
        checkpoint=checkpoint,
        stopped=stopped,
        planned_parts=len(output.plans.names),
        parts=totals.parts,
        counts=totals.counts,
        wordless=totals.wordless,
        wordless_of=totals.wordless_of,
        mean_probabilities=totals.mean_probabilities,
        mean_of=totals.mean_of,
        histogram=totals.histogram,
        class_rows=totals.classes,
        shards_read=int(np.count_nonzero(output.plans.known.is_read)),
        shards=paths,
        shard_rows=shards[:, 0],
        shard_class_rows=by_class,
        winner_column=winner_column(checkpoint.classes.names),
        reasons=reasons,
        rejected_for_other_reasons=other,
        unreadable_shards=[
            (row["shard"], row["reason"]) for row in output.plans.unreadable().to_pylist()
        ],
        runs=[run for run in map(_run, records) if run is not None and run.rows],
        nights=list(_nights(output)),
        breakdowns=_breakdowns(
            output, config.by or (), _by_partition(paths, shards[:, 0], by_class, config.by or ())
        ),
        left_aside=_left_aside(records),
        rejected_rows=list(itertools.islice(_rejected_rows(output.directory), MAX_SAMPLES)),
        sample=_sample(output, checkpoint, config.text_column) if config.show_samples else None,
        column_notes=_column_notes(output),
    )


def _sample(output: Output, checkpoint: Checkpoint, text_column: str) -> SampledRows | None:
    """Random rows, the same ones each time; None: there are none."""
    table = sample(output.directory, *output.records.scored_rows(), SAMPLED_ROWS, output.plans.seed)
    if table is None:
        return None
    names = checkpoint.classes.names
    winner = winner_column(names)
    winners = pc.index_in(table[winner], pa.array(names)).to_numpy().astype(np.int64)
    probabilities = np.zeros((len(table), len(names)))
    for k, name in enumerate(names):
        if f"{name}_probability" in table.column_names:
            probabilities[:, k] = table[f"{name}_probability"].to_numpy()
    if "probability" in table.column_names:
        probabilities[np.arange(len(table)), winners] = table["probability"].to_numpy()
    elif len(names) == 2:
        probabilities[:, 0] = 1 - probabilities[:, 1]
    answers = answer_schema(names).names
    kept = [name for name in table.column_names if name not in answers]
    kept.sort(key=lambda name: name != text_column)
    shown = table.select(kept[:SAMPLED_COLUMNS])
    cells = list(zip(*(column.to_pylist() for column in shown.columns), strict=True))
    return SampledRows(shown.column_names, cells or [()] * len(table), winners, probabilities)


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


def _nights(output: Output) -> Iterator[Night]:
    """The totals of the last plans that have parts."""
    for number, plan in list(enumerate(output.plans))[-MAX_NIGHTS:]:
        if len(plan.parts):
            totals = output.records.totals_of(number)
            yield Night(output.planned_at(number), totals.counts, totals.classes)


def _by_partition(
    paths: Sequence[str], rows: np.ndarray, by_class: np.ndarray | None, by: Sequence[str]
) -> Iterator[Breakdown]:
    """Rows by the values of `key=value` directories, for each key that has several values.

    Args:
        paths: n shards.
        rows: int64[n].
        by_class: int64[n, classes].
        by: keys that are wanted also if they have one value.
    """
    values_of = lru_cache(maxsize=4096)(lambda directory: partitions(f"{directory}/"))
    keys: dict[str, None] = {}
    values = []
    for path in paths:
        here = values_of(posixpath.dirname(path))
        values.append(here)
        keys.update(dict.fromkeys(here))
    for key in itertools.islice(keys, MAX_PARTITION_COLUMNS):
        number_of: dict[str | None, int] = {}
        has_key = np.array([key in here for here in values])
        numbers = np.array(
            [number_of.setdefault(here[key], len(number_of)) for here in values if key in here]
        )
        if not (0 if key in by else 1) < len(number_of) <= MAX_PARTITIONS:
            continue
        sums = np.zeros(len(number_of), np.int64)
        np.add.at(sums, numbers, rows[has_key])
        of_classes = None
        if by_class is not None:
            of_classes = np.zeros((len(number_of), by_class.shape[1]), np.int64)
            np.add.at(of_classes, numbers, by_class[has_key])
        without = int(rows[~has_key].sum())
        note = f"{quantity(without, 'row')} of shards without it." if without else ""
        yield Breakdown(key, list(number_of), sums, of_classes, note)


def _breakdowns(
    output: Output, by: Sequence[str], by_partition: Iterable[Breakdown]
) -> list[Breakdown]:
    """Those by partition, then those by the columns of `--by` that are none."""
    found = list(by_partition)
    columns = [name for name in by if name not in {each.column for each in found}]
    if columns:  # Without --by, no counts of columns are read.
        found += sum_by(*output.records.counted_by(), columns, len(output.plans.classes))
    return found


def _left_aside(records: Sequence[dict[str, Any]]) -> dict[str, int]:
    """What the latest record says of files that are no shards."""
    for record in records:
        kinds = record.get("left_aside")
        if isinstance(kinds, dict):
            return {str(kind): n for kind, n in kinds.items() if isinstance(n, int)}
    return {}


def _run(record: dict[str, Any]) -> ScoringRun | None:
    """The run of a record; None: it is damaged."""
    try:
        return ScoringRun(
            began=float(record["began"]),
            seconds=float(record["seconds"]),
            parts=int(record["parts"]),
            rows=int(record["rows"]),
            rows_per_second=float(record["rows/s"]),
            rows_left=int(record["left"]["rows"]),
            course=[(float(seconds), int(rows)) for seconds, rows in record.get("course", [])],
        )
    except (ValueError, KeyError, TypeError):
        return None


def _rejected_rows(directory: str) -> Iterator[RejectedRow]:
    """Rejected rows, a few of each kind of reason, from files spread over `_rejected/`."""
    rejected = storage.join(directory, "_rejected")
    names = sorted(set(Listing.below(rejected).names.to_pylist()) - {"shards.parquet"})
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
