"""Labelled texts to evaluate on, all of a corpus or some parts of its split, a block at a time."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy as np
import pyarrow as pa

from pipelines.evaluation.piece_tasks import PieceTasks
from pipelines.sources.labelled import LabelledReader, LabelledRows
from pipelines.sources.labels import LabelMap
from pipelines.sources.left_out import LeftOut
from pipelines.sources.listing import find_labelled
from pipelines.sources.pieces import ShardPiece
from pipelines.sources.split import Split
from sentiment.checkpoint import Checkpoint
from sentiment.text.tokenizer import Encoder, TokenIds, mix

Result = TypeVar("Result")

KEY_SEED = 8
"""Of the hash that gives a row its key. `Split` uses no seed that is 2 modulo 3."""


@dataclass(frozen=True)
class LabelledTexts:
    """n texts with their labels."""

    texts: pa.ChunkedArray
    """large_string[n]."""
    labels: np.ndarray
    """int16[n]: the class."""
    lengths: np.ndarray
    """int64[n]: tokens of each text, without stop words."""
    keys: np.ndarray
    """float64[n]: a random number from [0, 1) for each row, the same in every run."""


@dataclass(frozen=True)
class _ChosenRows:
    """Which rows of a piece are read, and how."""

    reader: LabelledReader
    encoder: Encoder
    split: Split | None
    parts: tuple[int, ...]

    def of(self, piece: ShardPiece) -> Iterator[tuple[LabelledRows[TokenIds], np.ndarray]]:
        """The rows of a piece, a batch at a time, and bool[rows]: which of them are chosen."""
        for rows in self.reader.read(piece.shard, self.encoder, piece.span):
            is_chosen = np.ones(len(rows.labels), bool)
            if self.split is not None:
                is_chosen = np.isin(self.split(rows.tokens.hashes), self.parts)
            yield rows, is_chosen

    def classes(self, values: tuple[str, ...], label_map: LabelMap) -> np.ndarray:
        """int64[values]: the class of each value; negative: it has none."""
        if self.reader.labels is None:
            return label_map.indices(list(values))
        return np.array([label_map.names.index(name) for name in values], np.int64)


@dataclass(frozen=True)
class LabelledCorpus:
    """The rows of some parts of a corpus, as often as they are read, a block at a time."""

    rows: int
    """Number of the chosen rows that have a class."""
    label_map: LabelMap
    """The labels of each class."""
    left_out: LeftOut
    """The rows of the corpus, of any part, that have no class or cannot be used."""
    detected: list[str]
    """What the shards themselves told of how to read them, in lines."""
    _pieces: tuple[ShardPiece, ...]
    _chosen: _ChosenRows
    _tasks: PieceTasks

    def each_piece(
        self, label: str, work: Callable[[Iterator[LabelledTexts]], Result]
    ) -> Iterator[Result]:
        """Call `work`, which pickles, with the rows of each piece, blocks of any size; the results
        in the order of pieces. Lines that begin with `label` say how far it is.

        Raises ShardChanged if a file is no longer the one that was listed.
        """
        function = partial(_work_on, work, self._chosen, self.label_map)
        return self._tasks.map(label, function, self._pieces)


def _work_on(
    work: Callable[[Iterator[LabelledTexts]], Result],
    chosen: _ChosenRows,
    label_map: LabelMap,
    piece: ShardPiece,
) -> Result:
    """What `work` makes of the chosen rows of a piece."""

    def blocks() -> Iterator[LabelledTexts]:
        for rows, is_chosen in chosen.of(piece):
            classes = chosen.classes(rows.values, label_map)[rows.labels]
            is_chosen &= classes >= 0
            yield LabelledTexts(
                rows.texts.filter(pa.array(is_chosen)).cast(pa.large_string()),
                classes[is_chosen].astype(np.int16),
                np.diff(rows.tokens.offsets)[is_chosen],
                _keys(rows.tokens.hashes, rows.numbers)[is_chosen],
            )

    return work(blocks())


def _keys(hashes: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """float64[n] by the texts' hashes, uint64[n], and their row numbers: copies have others."""
    return mix(hashes ^ mix(numbers.astype(np.uint64), KEY_SEED), KEY_SEED) / 2.0**64


@dataclass(frozen=True)
class _Labels:
    """The labels of a piece."""

    rows: dict[str, int]
    """Rows by label."""
    chosen: dict[str, int]
    """Chosen rows by label."""
    left_out: LeftOut


def _labels(chosen_rows: _ChosenRows, piece: ShardPiece) -> _Labels:
    all_rows: Counter[str] = Counter()
    chosen: Counter[str] = Counter()
    left_out = []
    for rows, is_chosen in chosen_rows.of(piece):
        for counter, labels in ((all_rows, rows.labels), (chosen, rows.labels[is_chosen])):
            counts = np.bincount(labels, minlength=len(rows.values)).tolist()
            counter.update(dict(zip(rows.values, counts, strict=True)))
        left_out.append(rows.left_out)
    return _Labels(dict(all_rows), dict(chosen), LeftOut.merged(left_out))


def find_rows(
    data_dir: str,
    reader: LabelledReader,
    checkpoint: Checkpoint,
    known: LabelMap,
    tasks: PieceTasks,
    split: Split | None = None,
    parts: tuple[int, ...] = (),
    where: tuple[str, ...] = (),
    learnt: LabelMap | None = None,
) -> LabelledCorpus:
    """Find the rows of `data_dir` that `split` puts into `parts`; without a split, all rows.

    Reads all rows once, because what labels mean shows in all of them.

    Args:
        reader: if it has a LabelMap, of classes of the model, in any order; else labels are
            recognized.
        checkpoint: its stop words and vocabulary tokenize the texts.
        known: the model's classes and the labels they may have (`LabelMap.fitting`).
        tasks: where shards are read.
        parts: any of `TRAIN`, `VALIDATION`, `TEST`.
        where: conditions on `key=value` directories: which shards to read.
        learnt: the labels that training read, where `known` does not name them.

    Raises InputError as `LabelledReader.read` does, and if no label is that of a class.
    """
    given = reader.labels.of_classes(known.names) if reader.labels else None
    has_format = reader.options.format is not None
    shards = tuple(find_labelled(data_dir, "--data_dir", where, has_format).shards)
    pieces = tuple(tasks.pieces(shards, reader.count))
    rows = _ChosenRows(reader, checkpoint.encoder(), split, parts)
    rows_of: Counter[str] = Counter()
    chosen: Counter[str] = Counter()
    left_out = LeftOut()
    for labels in tasks.map("Reading", partial(_labels, rows), pieces):
        rows_of.update(labels.rows)
        chosen.update(labels.chosen)
        left_out = LeftOut.merged([left_out, labels.left_out])
    label_map = given or known.fitting(rows_of, reader.label_column, learnt)
    values = tuple(rows_of)
    has_class = dict(zip(values, rows.classes(values, label_map) >= 0, strict=True))
    unnamed = {value: count for value, count in rows_of.items() if not has_class[value]}
    return LabelledCorpus(
        sum(count for value, count in chosen.items() if has_class[value]),
        label_map,
        LeftOut.merged([left_out, LeftOut(unnamed=unnamed)]),
        reader.detected(shards),
        pieces,
        rows,
        tasks,
    )
