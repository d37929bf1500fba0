"""A part's Parquet file: its content with a footer that says what it is, and back."""

import hashlib
import json
from dataclasses import asdict, replace
from typing import Any

import pyarrow as pa

from pipelines.scoring.class_rows import ClassRows
from pipelines.scoring.part_data import BINS, PartCounts, PartResult, PartTask, WrittenFile
from pipelines.scoring.sealed_parquet import parquet_content, read_parquet

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


def read_part(
    content: bytes, name: str, plan: str, rows: int, pieces: int, classes: int
) -> PartResult:
    """What the content of a part's file says of itself. Its checksum is verified.

    Args:
        content: of the file.
        name: the part's.
        plan: SHA-256 of the plan's file, in hex.
        rows: input rows of the part, as planned.
        pieces: of the part.
        classes: of the model.

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
    if len(result.histogram) != BINS or len(result.answers) != ClassRows(classes).length(pieces):
        raise ValueError("its footer is incomplete")
    if bool(counts.rejected) != bool(rejected):
        raise ValueError("its footer contradicts itself")
    return result


def with_times(result: PartResult, modified: int, rejected_modified: int) -> PartResult:
    """The result with the times of its files, in ns since 1970."""
    file, rejected = result.file, result.rejected_file
    return replace(
        result,
        file=file and replace(file, modified=modified),
        rejected_file=rejected and replace(rejected, modified=rejected_modified),
    )
