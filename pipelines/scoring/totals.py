"""Totals of a scored output: sums over the records of its parts."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.scoring.class_rows import ClassRows
from pipelines.scoring.manifest import COUNTS, Manifest
from pipelines.scoring.part_data import BINS
from pipelines.scoring.plan import Plan

MAX_REASONS_PER_PART = 20
"""Rejection reasons stored per part, the most frequent; rarer ones are summed under `OTHER`."""

MAX_REASONS = 1000
"""Rejection reasons in totals, the most frequent; rarer ones are summed under `OTHER`."""

MAX_REASON_CHARACTERS = 120
"""Rows are counted by this many first characters of their reason."""

OTHER = "other reasons"


@dataclass(frozen=True)
class Totals:
    """Sums over parts. They are exact, but rare reasons are summed under `OTHER`."""

    counts: Counter[str]
    """By the names of `pipelines.scoring.part_data.PartCounts`."""
    parts: int
    """Parts that are included."""
    histogram: npt.NDArray[np.int64]
    """int64[BINS]: rows scored, as in `PartResult`."""
    classes: npt.NDArray[np.int64]
    """int64[classes]: rows scored of each class."""
    shards: list[npt.NDArray[np.int64]]
    """For each plan, int64[shards, `ClassRows.of_piece`]: rows scored; then, unless there are too
    many classes, those of class 1, class 2, ..."""
    shard_rows: list[npt.NDArray[np.int64]]
    """For each plan, int64[shards]: rows scored and rejected."""
    reasons: Counter[str]
    """Rows rejected, by reason."""
    wordless: int
    """Texts scored without any known word, in the parts in which they were counted."""
    wordless_of: int
    """Rows scored in those parts: earlier versions did not count."""
    mean_probabilities: npt.NDArray[np.float64] | None
    """float64[classes]: over the rows of parts in which they were summed up; None: of none."""
    mean_of: int
    """Rows scored in those parts: earlier versions did not sum up."""

    @staticmethod
    def of(
        plans: Sequence[Plan], names: Sequence[pa.Array], manifest: Manifest, classes: int
    ) -> "Totals":
        """Sums over the parts of some plans that the manifest records.

        Args:
            plans: the plans.
            names: for each plan, string[parts].
            manifest: the records.
            classes: of the model.
        """
        table = manifest.table
        layout = ClassRows(classes)
        shards, shard_rows, class_rows = [], [], np.zeros(classes, np.int64)
        recorded = np.zeros(len(table), bool)
        for plan, parts in zip(plans, names, strict=True):
            rows = manifest.find(parts)
            is_recorded = rows >= 0
            rows = rows[is_recorded]
            recorded[rows] = True
            done = plan.parts.take(np.flatnonzero(is_recorded))
            answers = pc.list_flatten(table["answers"].take(pa.array(rows)))
            flat = answers.to_numpy(zero_copy_only=False).astype(np.int64)
            of_pieces, of_classes = layout.split(flat, np.diff(done.starts))
            sums = np.zeros((len(plan.shards), layout.of_piece), np.int64)
            np.add.at(sums, done.pieces[:, 0], of_pieces)
            shards.append(sums)
            rows_of = np.zeros(len(plan.shards), np.int64)
            np.add.at(rows_of, done.pieces[:, 0], done.pieces[:, 2])
            shard_rows.append(rows_of)
            class_rows += of_classes
        table = table.filter(pa.array(recorded))
        summed = table.filter(table["probability_sums"].is_valid())
        histograms = pc.list_flatten(table["histogram"]).to_numpy(zero_copy_only=False)
        return Totals(
            counts=Counter({name: pc.sum(table[name]).as_py() or 0 for name in COUNTS}),
            parts=len(table),
            histogram=histograms.astype(np.int64).reshape(-1, BINS).sum(axis=0),
            classes=class_rows,
            shards=shards,
            shard_rows=shard_rows,
            reasons=_reasons(table["reasons"]),
            wordless=pc.sum(table["wordless"]).as_py() or 0,
            wordless_of=_rows(table.filter(table["wordless"].is_valid())),
            mean_probabilities=_mean_probabilities(summed, classes),
            mean_of=_rows(summed),
        )


def _rows(records: pa.Table) -> int:
    return pc.sum(records["rows"]).as_py() or 0


def _mean_probabilities(records: pa.Table, classes: int) -> npt.NDArray[np.float64] | None:
    rows = _rows(records)
    if not rows:
        return None
    sums = pc.list_flatten(records["probability_sums"]).to_numpy(zero_copy_only=False)
    means: npt.NDArray[np.float64] = sums.reshape(-1, classes).sum(axis=0) / rows
    return means


@dataclass(frozen=True)
class Scored:
    """What a scored output holds, for Python programs; `Totals` in short."""

    output: str
    """Its directory or URI."""
    rows: int
    """Rows scored, by all runs."""
    rejected: int
    """Rows that could not be scored; they are in `_rejected/`."""
    truncated: int
    """Rows scored on their first tokens only."""
    wordless: int
    """Rows scored whose text has no word that the model knows: their answers mean nothing. As far
    as they were counted: not in parts of which only the file is left."""
    labels: dict[str, int]
    """Rows of each class, by its name."""
    new_rows: int
    """Rows that this run has scored."""
    warnings: tuple[str, ...]
    """What the program would have printed of columns and texts of this run."""


def kind_of(reason: str) -> str:
    """A reason without its details of a single value: rows are counted by this."""
    return reason.partition(": ")[0][:MAX_REASON_CHARACTERS]


def most_frequent(reasons: Counter[str], number: int) -> Counter[str]:
    """The `number` most frequent reasons; the rows of all others are summed under `OTHER`."""
    # Ties are broken by name, so that a part's footer follows from its rows alone.
    ordered = sorted(reasons.items(), key=lambda item: (item[0] == OTHER, -item[1], item[0]))
    kept = Counter(dict(ordered[:number]))
    rest = sum(rows for _, rows in ordered[number:])
    if rest:
        kept[OTHER] += rest
    return kept


def _reasons(column: pa.ChunkedArray) -> Counter[str]:
    """The sums of a column of maps from reasons to rows."""
    maps = column.combine_chunks()
    if isinstance(maps, pa.ChunkedArray):  # Without any chunk.
        return Counter()
    # `keys` and `items` are those of the whole buffers, also of a slice.
    start, stop = (maps.offsets[0].as_py(), maps.offsets[-1].as_py()) if len(maps) else (0, 0)
    table = pa.table({"reason": maps.keys[start:stop], "rows": maps.items[start:stop]})
    sums = table.group_by("reason").aggregate([("rows", "sum")])
    pairs = zip(sums["reason"].to_pylist(), sums["rows_sum"].to_pylist(), strict=True)
    return most_frequent(Counter(dict(pairs)), MAX_REASONS)
