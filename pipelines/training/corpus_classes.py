"""The classes of a corpus, decided once all its labels are counted, and the rows of each."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from pipelines.sources.labelled import LabelledReader
from pipelines.sources.labels import LabelMap, require_classes, require_rows
from pipelines.sources.left_out import LeftOut, require_few_rejected
from pipelines.training.cache_steps import SIDES, SPLITS, PieceCounts
from sentiment.errors import InputError


@dataclass(frozen=True)
class CorpusClasses:
    """The classes of a corpus."""

    names: tuple[str, ...]
    reader: LabelledReader
    """Reads the corpus with the labels of each class."""
    counted: np.ndarray
    """int64[K, SIDES]: rows of each class on each side of the split."""
    left_out: LeftOut
    """The rows that are not learnt from."""
    is_soft: bool
    """Whether the labels are probabilities; then the largest counts."""

    @property
    def label_values(self) -> list[list[str]]:
        """The labels of each class; [] of soft labels."""
        labels = self.reader.labels
        return [] if self.is_soft or labels is None else [list(own) for own in labels.values]

    @property
    def labels(self) -> dict[str, list[int]]:
        """Rows of each class in each part of the split."""
        return {name: self.counted[:, side].tolist() for side, name in SPLITS.items()}

    @property
    def rows(self) -> dict[str, int]:
        """Rows of each part of the split."""
        return {name: sum(by_class) for name, by_class in self.labels.items()}


def decide_classes(
    counts: Sequence[PieceCounts], reader: LabelledReader, max_rejected: str
) -> CorpusClasses:
    """The classes that `--labels` gives, or else those that the labels tell.

    Raises InputError for labels that are no classes, and for more rejected rows than there may be.
    """
    left_out = LeftOut.merged(count.left_out for count in counts)
    labels: dict[str, np.ndarray] = {}
    for count in counts:
        for value, by_side in count.labels.items():
            labels[value] = labels.get(value, 0) + np.array(by_side)
    totals = {value: int(by_side.sum()) for value, by_side in labels.items()}
    require_few_rejected(left_out, sum(totals.values()), max_rejected)
    kinds = {count.is_soft for count in counts if np.any(list(count.labels.values()))}
    is_soft = kinds == {True}
    if len(kinds) == 2:
        raise InputError(
            f"--label_column {reader.label_column}: some shards hold probabilities and others "
            "labels; train on one kind"
        )
    if reader.labels is None:
        require_classes(totals, reader.label_column, is_soft)
        classes = LabelMap.recognized(totals)
        places = classes.indices(list(labels))
    else:
        # The reader has already put the names for the values.
        if not is_soft:
            require_rows(reader.labels, totals, left_out.unnamed)
        classes = reader.labels
        places = np.array([classes.names.index(name) for name in labels])
    counted = np.zeros((len(classes.names), SIDES), np.int64)
    np.add.at(counted, places, np.stack(list(labels.values())))
    return CorpusClasses(classes.names, replace(reader, labels=classes), counted, left_out, is_soft)
