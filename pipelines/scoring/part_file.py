"""A part's Parquet file: its content with a footer that says what it is, and back."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pyarrow as pa

from pipelines.scoring.class_rows import ClassRows
from pipelines.scoring.part_data import BINS, PartCounts, PartResult, PartTask, WrittenFile
from pipelines.scoring.sealed_parquet import parquet_content, read_parquet
from sentiment.answers import MAX_PROBABILITY_COLUMNS, answer_schema

METADATA = b"sentiment.part"
"""Key of a part's provenance and counts, JSON, in its Parquet footer."""


def part_content(
    table: pa.Table, task: PartTask, result: PartResult, plan: str, model_hash: str
) -> pa.Buffer:
    """The content of a part's file.

    Args:
        table: the scored rows.
        task: the part's task.
        result: what the part has; its `rejected_file` is named in the footer.
        plan: SHA-256 of the plan's file, in hex.
        model_hash: of the checkpoint.
    """
    rejected = result.rejected_file
    footer = {
        "part": task.name,
        "plan": plan,
        "model_hash": model_hash,
        "pieces": [[shard.path, span.first, span.rows] for shard, span in task.pieces],
        "counts": asdict(result.counts),
        "histogram": list(result.histogram),
        "answers": list(result.answers),
        "reasons": dict(result.reasons),
        "rejected": rejected and [rejected.size, rejected.sha256],
    }
    return parquet_content(table, {METADATA: json.dumps(footer, sort_keys=True)})


def fingerprint(content: pa.Buffer | bytes) -> WrittenFile:
    """Size and hash of a file's content."""
    return WrittenFile(len(content), hashlib.sha256(content).hexdigest())


def probability_sums(rows: pa.Table, classes: Sequence[str]) -> list[float] | None:
    """The sum of each class's probabilities over scored rows; None: of so many classes they have no
    column each."""
    if len(classes) > MAX_PROBABILITY_COLUMNS:
        return None
    # Not Arrow's sum: it depends on how the values are cut into chunks.
    sums = [
        float(rows[name].to_numpy().sum(dtype=np.float64)) for name in _probability_columns(classes)
    ]
    return sums if len(classes) > 2 else [len(rows) - sums[0], *sums]


def _probability_columns(classes: Sequence[str]) -> list[str]:
    """Of two classes that of the second, else those of all."""
    names: list[str] = answer_schema(classes).names
    return names[:1] if len(classes) == 2 else names[: len(classes)]


def read_part(
    content: bytes, name: str, plan: str, rows: int, pieces: int, classes: Sequence[str]
) -> PartResult:
    """What the content of a part's file says of itself. Its checksum is verified.

    Args:
        content: of the file.
        name: the part's.
        plan: SHA-256 of the plan's file, in hex.
        rows: input rows of the part, as planned.
        pieces: of the part.
        classes: names of the model's classes.

    Raises ValueError, TypeError, KeyError, OSError or an Arrow error if it is not that part.
    """
    file = read_parquet(content)
    footer: dict[str, Any] = json.loads((file.metadata.metadata or {})[METADATA])
    counts = PartCounts(**{key: int(number) for key, number in footer["counts"].items()})
    if footer["part"] != name:
        raise ValueError(f"it is {footer['part']}")
    if footer["plan"] != plan:
        raise ValueError("it was made by another plan")
    if counts.rows + counts.rejected != rows or file.metadata.num_rows != counts.rows:
        raise ValueError("it has other rows than planned")
    rejected = footer["rejected"]
    result = PartResult(
        name,
        counts,
        histogram=[int(number) for number in footer["histogram"]],
        answers=[int(number) for number in footer["answers"]],
        reasons={str(reason): int(number) for reason, number in footer["reasons"].items()},
        file=fingerprint(content),
        rejected_file=rejected and WrittenFile(int(rejected[0]), str(rejected[1])),
    )
    layout = ClassRows(len(classes))
    if len(result.histogram) != BINS or len(result.answers) != layout.length(pieces):
        raise ValueError("its footer is incomplete")
    if bool(counts.rejected) != bool(rejected):
        raise ValueError("its footer contradicts itself")
    if len(classes) > MAX_PROBABILITY_COLUMNS:
        return result
    answers = file.read(_probability_columns(classes), use_threads=False)
    return replace(result, probability_sums=probability_sums(answers, classes))


def with_times(result: PartResult, modified: int, rejected_modified: int) -> PartResult:
    """The result with the times of its files, in ns since 1970."""
    file, rejected = result.file, result.rejected_file
    return replace(
        result,
        file=file and replace(file, modified=modified),
        rejected_file=rejected and replace(rejected, modified=rejected_modified),
    )
