"""Compare our model with other libraries on one core: texts per second, and accuracy.

    pip install -c constraints.txt -e '.[bench]'
    python -m benchmarks.peers --checkpoints_dir checkpoints/tweets --train TRAIN --test TEST \\
        --texts TEXTS

The others are fastText (words and bigrams, 50 dimensions, 5 epochs), TF-IDF of words and bigrams
with logistic regression, and VADER (a lexicon). TRAIN and TEST hold labelled shards, TEXTS shards
with a column `text`. Train the checkpoint on TRAIN.

All score the same texts from memory, in the form that suits them best; in turns, after one run that
is not counted.
"""

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import tyro

import sentiment
from benchmarks.tokenize import read_texts
from pipelines.evaluation.baselines import logistic_regression
from pipelines.sources.labelled import LabelledReader
from pipelines.sources.labels import LabelMap
from pipelines.sources.listing import find_labelled
from sentiment.text.tokenizer import Tokenizer

Predict = Callable[[Sequence[str] | pa.Array], np.ndarray]
"""Texts -> `probabilities: float[n, classes]`; a text is of the class with the highest one."""


@dataclass(frozen=True)
class PeersBenchmark:
    """Compare scoring with other libraries on one core."""

    checkpoints_dir: str
    """Checkpoint that was trained on --train."""
    train: str
    """Directory of labelled shards to train on."""
    test: str
    """Directory of labelled shards to measure accuracy on."""
    texts: str
    """Directory of shards with a column `text` to measure time on."""
    text_column: str = "SentimentText"
    """Column of the labelled texts."""
    label_column: str = "Sentiment"
    """Column of the labels."""
    rows: int = 50_000
    """Number of texts to measure time on."""
    repeats: int = 3
    """Measurements of each model."""


def read_labelled(
    directory: str, text_column: str, label_column: str
) -> tuple[list[str], np.ndarray]:
    """Read texts and `labels: int[n]`, the class of each, from a directory of shards."""
    reader = LabelledReader(text_column, label_column)
    tokenize = Tokenizer().tokens
    texts, labels = [], []
    for shard in find_labelled(directory, "--train, --test").shards:
        for rows in reader.read(shard, tokenize):
            texts += rows.texts.cast(pa.large_string()).to_pylist()
            labels.append(np.array(rows.values)[rows.labels])
    values, places = np.unique(np.concatenate(labels), return_inverse=True)
    return texts, LabelMap.recognized(values.tolist()).indices(values.tolist())[places]


def fasttext(texts: list[str], labels: np.ndarray) -> Predict:
    """Train fastText on one thread, so that each run gives the same model."""
    import fasttext as library

    def line(text: str) -> str:
        return " ".join(text.lower().split())

    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "train.txt")
        rows = zip(texts, labels, strict=True)
        path.write_text("".join(f"__label__{label} {line(text)}\n" for text, label in rows))
        model = library.train_supervised(
            str(path), dim=50, wordNgrams=2, epoch=5, thread=1, verbose=0
        )

    def predict(texts: Sequence[str]) -> np.ndarray:
        answers, confidence = model.predict([line(text) for text in texts])
        positive = np.array([label == "__label__1" for (label,) in answers])
        # fastText's softmax can exceed 1: it adds a small number to avoid the logarithm of 0.
        probability = np.minimum(np.concatenate(confidence), 1)
        return _both(np.where(positive, probability, 1 - probability))

    return predict


def vader() -> Predict:
    """VADER, a lexicon with rules. Neutral texts count as positive."""
    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

    score = SentimentIntensityAnalyzer().polarity_scores
    return lambda texts: _both(np.array([(1 + score(text)["compound"]) / 2 for text in texts]))


def _both(positive: np.ndarray) -> np.ndarray:
    """float[n, 2] from the probability that each text is positive, float[n]."""
    return np.stack([1 - positive, positive], axis=1)


def main(config: PeersBenchmark) -> None:
    """Train the other models, measure all, and print the table."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    columns = (config.text_column, config.label_column)
    train = read_labelled(config.train, *columns)
    test, labels = read_labelled(config.test, *columns)
    texts = read_texts(config.texts, "text", config.rows).to_pylist()
    # VADER is about ten times slower.
    few = texts[: max(len(texts) // 20, 1)]
    peers: dict[str, tuple[Predict, Sequence[str] | pa.Array, Sequence[str] | pa.Array]] = {
        "ours": (
            sentiment.load(config.checkpoints_dir).predict_proba,
            pa.array(texts),
            pa.array(test),
        ),
        "fastText": (fasttext(*train), texts, test),
        "TF-IDF + logistic regression": (logistic_regression(*train), texts, test),
        "VADER": (vader(), few, test),
    }
    accuracy = {
        name: float(np.mean((predict(those)[:, 1] >= 0.5) == labels))
        for name, (predict, _, those) in peers.items()
    }
    rates: dict[str, list[float]] = {name: [] for name in peers}
    for _ in range(config.repeats):
        for name, (predict, those, _) in peers.items():
            start = time.perf_counter()
            predict(those)
            rates[name].append(len(those) / (time.perf_counter() - start))
    print(f"{len(train[0]):,} texts to train on, {len(test):,} to test on, one core")
    print(f"{'':30}{'texts/s':>10} {'from':>9} {'to':>9}  accuracy")
    for name, measured in rates.items():
        print(
            f"{name:30}{statistics.median(measured):10,.0f} {min(measured):9,.0f}"
            f" {max(measured):9,.0f}  {accuracy[name]:8.1%}"
        )


if __name__ == "__main__":
    main(tyro.cli(PeersBenchmark, use_underscores=True))
