"""What the records of an output's finished parts tell, without reading a part."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.scoring.manifest import Manifest
from pipelines.scoring.plans import Plans
from pipelines.scoring.totals import Totals


@dataclass(frozen=True)
class Records:
    """The records of the parts of some plans, and of no others."""

    plans: Plans
    manifest: Manifest

    def totals(self) -> Totals:
        """Sums over the parts that are recorded."""
        return self._totals(range(len(self.plans)))

    def totals_of(self, number: int) -> Totals:
        """Those of one plan."""
        return self._totals(range(number, number + 1))

    def _totals(self, numbers: range) -> Totals:
        names = [self.plans.names_of(number) for number in numbers]
        plans = self.plans[numbers.start : numbers.stop]
        return Totals.of(plans, names, self.manifest, len(self.plans.classes))

    def scored_rows(self) -> tuple[list[str], npt.NDArray[np.int64]]:
        """The names of the planned parts, and int64[parts]: rows scored in each; 0: no record."""
        rows = self.manifest.table["rows"].to_numpy(zero_copy_only=False)
        names = self.plans.names
        return names.to_pylist(), np.append(rows, 0)[self.manifest.find(names)]

    def counted_by(self) -> tuple[list[str | None], npt.NDArray[np.int64]]:
        """For each recorded part, its rows by the values of columns as JSON, or None if they were
        not counted; and int64[parts]: its rows scored."""
        table = self._table
        return table["by"].to_pylist(), table["rows"].to_numpy(zero_copy_only=False)

    def with_rejected(self) -> list[str]:
        """The names of the parts that have rejected rows."""
        table = self._table
        names: list[str] = table["name"].filter(pc.greater(table["rejected"], 0)).to_pylist()
        return names

    @property
    def _table(self) -> pa.Table:
        table = self.manifest.table
        return table.filter(pc.is_in(table["name"], self.plans.names))
