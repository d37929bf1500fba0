"""Score the labelled rows by several models, a block at a time: counts of all, a sample in memory.

Memory does not grow with the rows beyond `SAMPLE_ROWS`.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow as pa

from pipelines.evaluation.held_out import LabelledCorpus, LabelledTexts
from pipelines.evaluation.sample import SAMPLE_ROWS, Sample
from pipelines.reports.evaluation_results import Totals
from sentiment.classes import Classes
from sentiment.metrics import Counts, count, only_right


@dataclass(frozen=True)
class Model:
    """A model to measure."""

    predict: Callable[[pa.ChunkedArray], np.ndarray]
    """From m texts to float[m, K], the probabilities of each class."""
    classes: Classes


@dataclass(frozen=True)
class ScoredRows:
    """n sampled rows with what each model predicts for them, and the totals of all rows."""

    texts: list[str]
    labels: np.ndarray
    """int16[n]: the class."""
    lengths: np.ndarray
    """int64[n]: tokens of each text."""
    probabilities: dict[str, np.ndarray]
    """float32[n, K], by the model's name."""
    totals: Totals


@dataclass(frozen=True)
class _Scores:
    """What models predict for a piece's rows."""

    counts: dict[str, Counts]
    """By the model's name; {}: there are no rows."""
    only_right: dict[str, tuple[int, int]]
    """For each other model, the rows that only the first is right about, and only the other."""
    sample: Sample


def score_rows(
    corpus: LabelledCorpus, models: Mapping[str, Model], sample_rows: int = SAMPLE_ROWS
) -> ScoredRows:
    """Score all rows of the corpus; the first model is the one that the others are compared with.

    Args:
        corpus: with at least one row.
        models: by name, of the same K classes.
        sample_rows: rows that are kept, at most.
    """
    counts: dict[str, Counts] = {}
    pairs = dict.fromkeys(list(models)[1:], (0, 0))
    sample = Sample(sample_rows, corpus.rows)
    score = partial(_score_piece, models, sample_rows, corpus.rows)
    for scores in corpus.each_piece("Scoring", score):
        for name, found in scores.counts.items():
            counts[name] = counts[name] + found if name in counts else found
        for name, new in scores.only_right.items():
            pairs[name] = (pairs[name][0] + new[0], pairs[name][1] + new[1])
        sample.extend(scores.sample)
    texts, labels, lengths, *predictions = sample.table().columns
    return ScoredRows(
        texts.to_pylist(),
        labels.to_numpy(),
        lengths.to_numpy(),
        {
            name: column.combine_chunks().flatten().to_numpy().reshape(len(labels), -1)
            for name, column in zip(models, predictions, strict=True)
        },
        Totals(counts, pairs),
    )


def _score_piece(
    models: Mapping[str, Model],
    sample_rows: int,
    of: int,
    blocks: Iterator[LabelledTexts],
) -> _Scores:
    """Score the rows of one piece; `of`: the rows of all pieces."""
    first, *others = models
    counts: dict[str, Counts] = {}
    pairs = dict.fromkeys(others, (0, 0))
    sample = Sample(sample_rows, of)
    for block in blocks:
        if not len(block.labels):
            continue
        columns = {"text": block.texts, "label": block.labels, "length": block.lengths}
        answers = {}
        for name, model in models.items():
            predicted = model.predict(block.texts).astype(np.float32)
            found = count(block.labels, predicted, model.classes)
            counts[name] = counts[name] + found if name in counts else found
            answers[name] = model.classes.winners(predicted)
            flat = pa.array(predicted.ravel())
            columns[name] = pa.FixedSizeListArray.from_arrays(flat, predicted.shape[1])
        for name in others:
            new = only_right(block.labels, answers[first], answers[name])
            pairs[name] = (pairs[name][0] + new[0], pairs[name][1] + new[1])
        # By their places: a model may have any name.
        names = list(map(str, range(len(columns))))
        sample.add(pa.table(list(columns.values()), names=names), block.keys)
    return _Scores(counts, pairs, sample)
