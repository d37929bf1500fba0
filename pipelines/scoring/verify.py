"""Reads parts of an output, where a listing cannot tell whether they are as they were written."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipelines.errors import Unavailable
from pipelines.scoring.by_value import count_in
from pipelines.scoring.comparison import Comparison
from pipelines.scoring.manifest import Manifest
from pipelines.scoring.part_data import PartCounts, PartResult
from pipelines.scoring.part_file import read_part, with_times
from sentiment import arrow_errors, storage
from sentiment.errors import UNREADABLE, on_one_line


@dataclass(frozen=True)
class PartCheck:
    """A part to verify."""

    output: str
    """The output directory."""
    name: str
    plan: str
    """SHA-256 of the plan's file, in hex."""
    rows: int
    """As planned."""
    pieces: int
    classes: tuple[str, ...]
    """Their names, of the model."""
    by: tuple[str, ...]
    """Kept columns by whose values rows are counted, since the part is read anyway."""
    sha256: str
    """Of the part's file, as recorded; "": it has no record."""
    modified: int
    rejected_modified: int
    """Times of its files, as they were listed; 0: there is no file."""


def checks_of(
    output: str,
    comparison: Comparison,
    manifest: Manifest,
    parts: npt.NDArray[np.int64],
    by: tuple[str, ...] = (),
) -> list[PartCheck]:
    """Checks of some parts of an output.

    Args:
        output: the directory.
        comparison: of all its parts.
        manifest: the records of those that are finished.
        parts: int64[n]: which of them to check.
        by: kept columns by whose values rows are counted.
    """
    plans, hashes = comparison.plans, manifest.table["sha256"]
    rows, classes = [plan.parts.rows for plan in plans], plans.classes
    checks = []
    for part in parts.tolist():
        number, index = int(plans.plan_of[part]), int(plans.index_in_plan[part])
        record, starts = int(comparison.record[part]), plans[number].parts.starts
        checks.append(
            PartCheck(
                output=output,
                name=plans.names[part].as_py(),
                plan=plans.digests[number],
                rows=int(rows[number][index]),
                pieces=int(starts[index + 1] - starts[index]),
                classes=classes,
                by=by,
                sha256=hashes[record].as_py().hex() if record >= 0 else "",
                modified=int(comparison.modified[part]),
                rejected_modified=int(comparison.rejected_modified[part]),
            )
        )
    return checks


def verify(checks: Sequence[PartCheck]) -> list[PartResult]:
    """Read parts and their rejected rows; what is wrong with a part is its result's `error`.

    Raises Unavailable if a file cannot be read now.
    """
    return [_verify(check) for check in checks]


def _verify(check: PartCheck) -> PartResult:
    try:
        content = _read(storage.join(check.output, f"{check.name}.parquet"))
        if check.sha256 and hashlib.sha256(content).hexdigest() != check.sha256:
            raise ValueError("has another content than when it was written")
        try:
            result = read_part(
                content, check.name, check.plan, check.rows, check.pieces, check.classes
            )
            if check.by:
                result = replace(result, by=count_in(content, check.by, check.classes))
        except (*UNREADABLE, OSError, AttributeError, pa.ArrowException) as error:
            raise ValueError(f"is not the part that was written ({on_one_line(error)})") from error
        expected = result.rejected_file
        if expected is None:
            if check.rejected_modified:
                raise ValueError("has another file in _rejected/")
        else:
            rejected = _read(storage.join(check.output, "_rejected", f"{check.name}.parquet"))
            if hashlib.sha256(rejected).hexdigest() != expected.sha256:
                raise ValueError("has another file in _rejected/")
    except FileNotFoundError:
        return PartResult(check.name, PartCounts(), "lacks a file")
    except ValueError as error:
        return PartResult(check.name, PartCounts(), str(error))
    return with_times(result, check.modified, check.rejected_modified)


def _read(path: str) -> bytes:
    """Raises FileNotFoundError, and Unavailable for any other error."""
    try:
        return storage.read(path)
    except FileNotFoundError:
        raise
    except OSError as error:
        reason = arrow_errors.without_details(on_one_line(error))
        raise Unavailable(f"{path} cannot be read: {reason}") from error
