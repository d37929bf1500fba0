"""Finds damaged parts: compares a listing with the manifest, and reads what a listing cannot tell.

A part is damaged if a file of it is gone or has another content than when it was written.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.errors import Unavailable
from pipelines.scoring.by_value import count_in
from pipelines.scoring.file_listing import Listing
from pipelines.scoring.manifest import Manifest, positions
from pipelines.scoring.part_data import PartCounts, PartResult
from pipelines.scoring.part_file import read_part, with_times
from sentiment import arrow_errors, storage
from sentiment.errors import UNREADABLE, on_one_line


@dataclass(frozen=True)
class Comparison:
    """The parts of an output: what a listing and the manifest say of them.

    Arrays have an element for each planned part.
    """

    is_there: npt.NDArray[np.bool_]
    """bool[parts]: its file exists."""
    damage: dict[int, str]
    """Parts that are damaged, and how."""
    suspects: npt.NDArray[np.int64]
    """Indices of parts that have to be read: without a record, or written after it."""
    record: npt.NDArray[np.int64]
    """int64[parts]: row of its record in the manifest; -1: it has none."""
    modified: npt.NDArray[np.int64]
    """int64[parts]: time of its file; 0: it does not exist."""
    rejected_modified: npt.NDArray[np.int64]
    """int64[parts]: time of its file in `_rejected/`; 0: it does not exist."""
    dated: list[str]
    """Names of parts whose record has got the times of their files now."""

    @property
    def is_settled(self) -> bool:
        """Whether all parts are there, recorded and unchanged since then."""
        return bool(self.is_there.all()) and not self.damage and not len(self.suspects)


def compare(names: pa.Array, manifest: Manifest, parts: Listing, rejected: Listing) -> Comparison:
    """Compare planned parts with the files that are there.

    Args:
        names: string[parts]: of the planned parts.
        manifest: the records of the parts that are done. Times that are not known are set.
        parts: the files of the output.
        rejected: the files of its `_rejected/`.
    """
    table = manifest.table
    record = manifest.find(names)
    files = pc.binary_join_element_wise(names, ".parquet", "")
    part, reject = positions(files, parts.names), positions(files, rejected.names)
    is_there, has_rejected, is_recorded = part >= 0, reject >= 0, record >= 0
    size, modified = _at(parts.sizes, part), _at(parts.modified, part)
    rejected_size, rejected_modified = _at(rejected.sizes, reject), _at(rejected.modified, reject)

    def recorded(column: str) -> npt.NDArray[np.int64]:
        values = table[column].fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
        return _at(values, record)

    wants_rejected = recorded("rejected_bytes") >= 0
    reasons = {
        "was removed": ~is_there,
        "has another size": size != recorded("bytes"),
        "has lost its file in _rejected/": wants_rejected & ~has_rejected,
        "has another file in _rejected/": has_rejected
        & (rejected_size != recorded("rejected_bytes")),
    }
    damage: dict[int, str] = {}
    for reason, is_so in reasons.items():
        for index in np.flatnonzero(is_recorded & is_so).tolist():
            damage.setdefault(index, reason)
    is_damaged = np.zeros(len(names), bool)
    is_damaged[list(damage)] = True

    is_suspect = is_there & ~is_recorded
    dated: list[str] = []
    for column, times in (("modified", modified), ("rejected_modified", rejected_modified)):
        known = recorded(column)
        is_good = is_recorded & ~is_damaged
        is_suspect |= is_good & (known > 0) & (known != times)
        is_new = is_good & (known == 0)
        if is_new.any():
            dated += names.filter(pa.array(is_new)).to_pylist()
            manifest.set_times(column, record[is_new], times[is_new])
    return Comparison(
        is_there, damage, np.flatnonzero(is_suspect), record, modified, rejected_modified, dated
    )


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
                content, check.name, check.plan, check.rows, check.pieces, len(check.classes)
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


def _at(values: npt.NDArray[np.int64], index: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The values at some indices; 0 where the index is -1."""
    return np.append(values, 0)[index]
