"""Compares the plans and records of an output with a listing of its files.

A part is damaged if a file of it is gone or has another content than when it was written. A listing
tells sizes and times; what it cannot tell has to be read (`pipelines.scoring.verify`).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.scoring.file_listing import Listing
from pipelines.scoring.manifest import Manifest, positions
from pipelines.scoring.plans import Plans

UNREADABLE_SHARDS = "_rejected/shards.parquet"
"""The list of the shards that could not be opened, below the output."""


@dataclass(frozen=True)
class Comparison:
    """The parts of an output: what a listing and the manifest say of them.

    Arrays have an element for each planned part.
    """

    plans: Plans
    parts: Listing
    """The files of the output."""
    rejected: Listing
    """The files of its `_rejected/`."""
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

    @property
    def damaged(self) -> dict[str, str]:
        """The damaged parts by name, each with what is wrong."""
        return {self.plans.names[i].as_py(): reason for i, reason in self.damage.items()}

    def retired_files(self) -> list[str]:
        """The files of retired parts that are there, as paths below the output."""
        retired = _file_names(self.plans.retired)
        return self._files(lambda names: pc.is_in(names, retired))

    def foreign_files(self) -> list[str]:
        """Files that no job wrote, and that readers would take for parts, as paths below the
        output."""
        # Files of retired parts are removed.
        ours = _file_names(pa.concat_arrays([self.plans.names, self.plans.retired]))
        foreign = self._files(
            lambda names: pc.and_not(pc.ends_with(names, ".parquet"), pc.is_in(names, ours))
        )
        return [path for path in foreign if path != UNREADABLE_SHARDS]

    def directories_for_files(self) -> list[str]:
        """Directories in the places of parts' files, as paths below the output."""
        ours = _file_names(self.plans.names)
        return [
            f"{below}{name}"
            for below, there in (
                ("", self.parts.directories),
                ("_rejected/", self.rejected.directories),
            )
            for name in there.filter(pc.is_in(there, ours)).to_pylist()
        ]

    def _files(self, is_one: Callable[[pa.Array], pa.Array]) -> list[str]:
        """The files of which `is_one` is true, given names, as paths below the output."""
        return [
            f"{below}{name}"
            for below, listing in (("", self.parts), ("_rejected/", self.rejected))
            for name in listing.names.filter(is_one(listing.names)).to_pylist()
        ]


def compare(plans: Plans, manifest: Manifest, parts: Listing, rejected: Listing) -> Comparison:
    """Compare planned parts with the files that are there.

    Args:
        plans: of the output.
        manifest: the records of the parts that are done. Times that are not known are set.
        parts: the files of the output.
        rejected: the files of its `_rejected/`.
    """
    table, names = manifest.table, plans.names
    record = manifest.find(names)
    files = _file_names(names)
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
        plans=plans,
        parts=parts,
        rejected=rejected,
        is_there=is_there,
        damage=damage,
        suspects=np.flatnonzero(is_suspect),
        record=record,
        modified=modified,
        rejected_modified=rejected_modified,
        dated=dated,
    )


def _file_names(parts: pa.StringArray) -> pa.StringArray:
    """string[parts]: the names of the parts' files."""
    return pc.binary_join_element_wise(parts, ".parquet", "")


def _at(values: npt.NDArray[np.int64], index: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The values at some indices; 0 where the index is -1."""
    return np.append(values, 0)[index]
