"""Read labelled texts, all of a corpus or some parts of its split, into memory."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from pipelines.sources.labelled import LabelledReader
from pipelines.sources.labels import LabelMap
from pipelines.sources.left_out import LeftOut
from pipelines.sources.listing import find_labelled
from pipelines.sources.split import Split
from sentiment.checkpoint import Checkpoint


@dataclass(frozen=True)
class LabelledTexts:
    """n texts with their labels."""

    texts: list[str]
    labels: np.ndarray
    """int16[n]: the class."""
    lengths: np.ndarray
    """int64[n]: tokens of each text, without stop words."""
    label_map: LabelMap
    """The labels of each class."""
    left_out: LeftOut
    """The rows of the corpus, of any part, that have no class or cannot be used."""
    detected: list[str]
    """What the shards themselves told of how to read them, in lines."""


def read_labelled(
    data_dir: str,
    reader: LabelledReader,
    checkpoint: Checkpoint,
    known: LabelMap,
    split: Split | None = None,
    parts: tuple[int, ...] = (),
    where: tuple[str, ...] = (),
) -> LabelledTexts:
    """Read the rows of `data_dir` that `split` puts into `parts`; without a split, all rows.

    Args:
        reader: if it has a LabelMap, that of the model's classes; else labels are recognized.
        checkpoint: its stop words and vocabulary tokenize the texts.
        known: the model's classes and the labels they may have (`LabelMap.fitting`).
        parts: any of `TRAIN`, `VALIDATION`, `TEST`.
        where: conditions on `key=value` directories: which shards to read.

    Raises InputError as `LabelledReader.read` does, and if no label is that of a class.
    """
    tokenize = checkpoint.encoder()
    values: dict[str, int] = {}
    labels, lengths, chosen = [np.empty(0, np.int64)], [np.empty(0, np.int64)], [np.empty(0, bool)]
    texts: list[str] = []
    left_out: list[LeftOut] = []
    has_format = reader.options.format is not None
    shards = find_labelled(data_dir, "--data_dir", where, has_format).shards
    for shard in shards:
        for rows in reader.read(shard, tokenize):
            is_chosen = np.ones(len(rows.labels), bool)
            if split is not None:
                is_chosen = np.isin(split(rows.tokens.hashes), parts)
            places = [values.setdefault(value, len(values)) for value in rows.values]
            labels.append(np.array(places, np.int64)[rows.labels])
            chosen.append(is_chosen)
            lengths.append(np.diff(rows.tokens.offsets)[is_chosen])
            texts += rows.texts.filter(pa.array(is_chosen)).cast(pa.large_string()).to_pylist()
            left_out.append(rows.left_out)
    every = np.concatenate(labels)
    counted = np.bincount(every, minlength=len(values)).tolist()
    rows_of = dict(zip(values, counted, strict=True))
    if reader.labels is None:
        label_map = known.fitting(rows_of, reader.label_column)
        class_of = label_map.indices(list(values))
    else:
        label_map = reader.labels
        class_of = np.array([label_map.names.index(name) for name in values], np.int64)
    unnamed = {value: rows_of[value] for value, c in zip(values, class_of, strict=True) if c < 0}
    left_out.append(LeftOut(unnamed=unnamed))
    classes = class_of[every[np.concatenate(chosen)]]
    has_class = classes >= 0
    return LabelledTexts(
        [text for text, has in zip(texts, has_class, strict=True) if has],
        classes[has_class].astype(np.int16),
        np.concatenate(lengths)[has_class],
        label_map,
        LeftOut.merged(left_out),
        reader.detected(shards),
    )
