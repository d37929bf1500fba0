"""Read labelled texts, all of a corpus or some parts of its split, into memory."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from pipelines.sources.labelled import LabelledReader
from pipelines.sources.left_out import LeftOut
from pipelines.sources.listing import find_labelled
from pipelines.sources.split import Split
from sentiment.checkpoint import Checkpoint
from sentiment.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class LabelledTexts:
    """n texts with their labels."""

    texts: list[str]
    labels: np.ndarray
    """int16[n]: the class."""
    lengths: np.ndarray
    """int64[n]: tokens of each text, without stop words."""
    left_out: LeftOut
    """The rows of the corpus, of any part, that cannot be used."""


def read_labelled(
    data_dir: str,
    reader: LabelledReader,
    checkpoint: Checkpoint,
    split: Split | None = None,
    parts: tuple[int, ...] = (),
) -> LabelledTexts:
    """Read the rows of `data_dir` that `split` puts into `parts`; without a split, all rows.

    Args:
        checkpoint: Its stop words and vocabulary tokenize the texts.
        parts: Any of `TRAIN`, `VALIDATION`, `TEST`.

    Raises InputError as `LabelledReader.read` does.
    """
    tokenize = Tokenizer(checkpoint.stop_words).encoder(checkpoint.words)
    texts: list[str] = []
    labels, lengths = [np.empty(0, np.int16)], [np.empty(0, np.int64)]
    left_out: list[LeftOut] = []
    for shard in find_labelled(data_dir, "--data_dir"):
        for rows in reader.read(shard, tokenize):
            chosen = np.ones(len(rows.labels), bool)
            if split is not None:
                chosen = np.isin(split(rows.tokens.hashes), parts)
            texts += rows.texts.filter(pa.array(chosen)).cast(pa.large_string()).to_pylist()
            labels.append(rows.labels[chosen].astype(np.int16))
            left_out.append(rows.left_out)
            lengths.append(np.diff(rows.tokens.offsets)[chosen])
    return LabelledTexts(
        texts, np.concatenate(labels), np.concatenate(lengths), LeftOut.merged(left_out)
    )
