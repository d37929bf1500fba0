"""Labelled texts to evaluate on, all of a corpus or some parts of its split, a block at a time."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from pipelines.sources.labelled import LabelledReader, LabelledRows
from pipelines.sources.labels import LabelMap
from pipelines.sources.left_out import LeftOut
from pipelines.sources.listing import find_labelled
from pipelines.sources.shard import Shard
from pipelines.sources.split import Split
from sentiment.checkpoint import Checkpoint
from sentiment.errors import InputError
from sentiment.text.tokenizer import TokenIds


@dataclass(frozen=True)
class LabelledTexts:
    """n texts with their labels."""

    texts: pa.ChunkedArray
    """large_string[n]."""
    labels: np.ndarray
    """int16[n]: the class."""
    lengths: np.ndarray
    """int64[n]: tokens of each text, without stop words."""


@dataclass(frozen=True)
class LabelledCorpus:
    """The rows of some parts of a corpus, as often as they are read, a block at a time."""

    rows: int
    """The rows that `blocks` yields."""
    label_map: LabelMap
    """The labels of each class."""
    left_out: LeftOut
    """The rows of the corpus, of any part, that have no class or cannot be used."""
    detected: list[str]
    """What the shards themselves told of how to read them, in lines."""
    _shards: tuple[Shard, ...]
    _reader: LabelledReader
    _checkpoint: Checkpoint
    _split: Split | None
    _parts: tuple[int, ...]

    def blocks(self) -> Iterator[LabelledTexts]:
        """The rows in order, blocks of any size. Raises InputError if a file has changed."""
        found = 0
        for rows in _read(self._shards, self._reader, self._checkpoint):
            classes = self._classes(rows)[rows.labels]
            is_chosen = _is_chosen(rows, self._split, self._parts) & (classes >= 0)
            found += int(np.count_nonzero(is_chosen))
            yield LabelledTexts(
                rows.texts.filter(pa.array(is_chosen)).cast(pa.large_string()),
                classes[is_chosen].astype(np.int16),
                np.diff(rows.tokens.offsets)[is_chosen],
            )
        if found != self.rows:
            raise InputError(
                f"the labelled files changed while they were read: they had {self.rows:,} rows to "
                f"evaluate on, and then {found:,}; evaluate again"
            )

    def _classes(self, rows: LabelledRows[TokenIds]) -> np.ndarray:
        """int64[values]: the class of each of the rows' values; negative: it has none."""
        return _classes(rows.values, self._reader, self.label_map)


def find_rows(
    data_dir: str,
    reader: LabelledReader,
    checkpoint: Checkpoint,
    known: LabelMap,
    split: Split | None = None,
    parts: tuple[int, ...] = (),
    where: tuple[str, ...] = (),
) -> LabelledCorpus:
    """Find the rows of `data_dir` that `split` puts into `parts`; without a split, all rows.

    Reads all rows once, because what labels mean shows in all of them.

    Args:
        reader: if it has a LabelMap, that of the model's classes; else labels are recognized.
        checkpoint: its stop words and vocabulary tokenize the texts.
        known: the model's classes and the labels they may have (`LabelMap.fitting`).
        parts: any of `TRAIN`, `VALIDATION`, `TEST`.
        where: conditions on `key=value` directories: which shards to read.

    Raises InputError as `LabelledReader.read` does, and if no label is that of a class.
    """
    has_format = reader.options.format is not None
    shards = tuple(find_labelled(data_dir, "--data_dir", where, has_format).shards)
    rows_of: Counter[str] = Counter()
    chosen: Counter[str] = Counter()
    left_out = LeftOut()
    for rows in _read(shards, reader, checkpoint):
        for counter, labels in (
            (rows_of, rows.labels),
            (chosen, rows.labels[_is_chosen(rows, split, parts)]),
        ):
            counts = np.bincount(labels, minlength=len(rows.values)).tolist()
            counter.update(dict(zip(rows.values, counts, strict=True)))
        left_out = LeftOut.merged([left_out, rows.left_out])
    label_map = reader.labels or known.fitting(rows_of, reader.label_column)
    values = tuple(rows_of)
    has_class = dict(zip(values, _classes(values, reader, label_map) >= 0, strict=True))
    unnamed = {value: rows for value, rows in rows_of.items() if not has_class[value]}
    return LabelledCorpus(
        sum(rows for value, rows in chosen.items() if has_class[value]),
        label_map,
        LeftOut.merged([left_out, LeftOut(unnamed=unnamed)]),
        reader.detected(shards),
        shards,
        reader,
        checkpoint,
        split,
        parts,
    )


def _read(
    shards: tuple[Shard, ...], reader: LabelledReader, checkpoint: Checkpoint
) -> Iterator[LabelledRows[TokenIds]]:
    tokenize = checkpoint.encoder()
    for shard in shards:
        yield from reader.read(shard, tokenize)


def _is_chosen(
    rows: LabelledRows[TokenIds], split: Split | None, parts: tuple[int, ...]
) -> np.ndarray:
    """bool[rows]."""
    if split is None:
        return np.ones(len(rows.labels), bool)
    return np.isin(split(rows.tokens.hashes), parts)


def _classes(values: tuple[str, ...], reader: LabelledReader, label_map: LabelMap) -> np.ndarray:
    """int64[values]: the class of each value; negative: it has none."""
    if reader.labels is None:
        return label_map.indices(list(values))
    return np.array([label_map.names.index(name) for name in values], np.int64)
