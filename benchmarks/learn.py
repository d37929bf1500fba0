"""Measure the accuracy of the recommended settings, of other models, and of each setting.

    pip install -c constraints.txt -e '.[bench]'
    python -m benchmarks.learn --train TRAIN --test TEST
    python -m benchmarks.learn --train TRAIN --test TEST --ablation

TRAIN and TEST hold labelled shards. `pipelines.train` trains on TRAIN with the flags of
`RECOMMENDED`, once for each seed, and is measured on TEST. So are fastText (words and bigrams, 50
dimensions, 5 epochs) and TF-IDF of words and bigrams with logistic regression. These train on all
rows of TRAIN; ours holds some out for validation and test.

With `--ablation` one setting at a time is replaced. Accuracy is then measured on the validation
rows of TRAIN, so that TEST plays no part in the choice of settings.

With `--root` trained models are kept there and are not trained again for the same flags and rows.
"""

import hashlib
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro

import sentiment
from benchmarks.peers import fasttext, read_labelled
from benchmarks.score import Measurements, kept_or_temporary
from pipelines.evaluation.baselines import logistic_regression
from pipelines.training.validation import MAX_ROWS as VALIDATION_ROWS
from sentiment import checkpoint
from sentiment.classes import Classes
from sentiment.metrics import BINS, Metrics, measure, share_interval
from sentiment.text.vocabulary import MIN_SHARE

Flags = dict[str, Any]
"""Flags of `pipelines.train` by name."""

RECOMMENDED: Flags = {
    "min_share": 1e-5,
    "stopwords_file": None,
    "epochs": 3,
    "batch_size": 256,
    "schedule": "linear",
    "dropout_keep_prob": 0.6,
    "word_keep_prob": 0.95,
    "bigrams": 100_000,
    "bigram_keep_prob": 0.5,
    "bidirectional": True,
    "initial_vectors": "cooccurrence",
    "calibrate": True,
    "test_size": 0.01,
    "validate_every": 100,
}

INSTEAD: tuple[Flags, ...] = (
    {"bigrams": 0},
    {"bigram_keep_prob": 1.0},
    {"bidirectional": False},
    {"initial_vectors": "random"},
    {"word_keep_prob": 1.0},
    {"schedule": "constant"},
    {"dropout_keep_prob": 0.5},
    {"min_share": MIN_SHARE},
    {"stopwords_file": "english"},
)
"""Flags that replace one recommended setting. Calibration changes no answer, so it is left out."""

METRICS = ("accuracy", "auc", "log_loss", "calibration_error")


@dataclass(frozen=True)
class LearnBenchmark:
    """Measure the accuracy of trained models."""

    train: str
    """Directory of labelled shards to train on."""
    test: str
    """Directory of labelled shards to measure on."""
    ablation: bool = False
    """Replace one setting at a time instead."""
    seeds: int | None = None
    """Number of seeds (--random_state from 0 on); None: 3, or 1 with --ablation."""
    text_column: str = "SentimentText"
    """Column of the texts."""
    label_column: str = "Sentiment"
    """Column of the labels."""
    root: Path | None = None
    """Directory for models and caches; None: a temporary one."""


class Trained:
    """Models that `pipelines.train` trains below a directory, each only once."""

    def __init__(self, root: Path, config: LearnBenchmark) -> None:
        self._root, self._seconds = root, Measurements(root / "measurements.json")
        self._common: Flags = {
            "data_dir": config.train,
            "text_column": config.text_column,
            "label_column": config.label_column,
            "cache_dir": str(root / "cache"),
            "run_name": "model",
        }

    def __call__(self, flags: Flags, seed: int) -> tuple[str, float]:
        """Train with these flags; return the checkpoint and the seconds of the command."""
        flags = self._common | flags | {"random_state": seed}
        name = hashlib.sha256(json.dumps(flags, sort_keys=True).encode()).hexdigest()[:12]
        directory = self._root / name
        if name not in self._seconds:
            # A resumed run would be faster than a whole one.
            shutil.rmtree(directory, ignore_errors=True)
            flags["checkpoints_root"] = str(directory)
            flags["summaries_dir"] = str(directory / "logs")
            began = time.perf_counter()
            _train(flags)
            self._seconds.add(name, time.perf_counter() - began)
        return str(directory / "model"), self._seconds.median(name)


def _train(flags: Flags) -> None:
    command = [sys.executable, "-m", "pipelines.train", *_arguments(flags)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}\n{done.stdout}")


def _arguments(flags: Flags) -> Iterator[str]:
    for name, value in flags.items():
        if isinstance(value, bool):
            yield f"--{name}" if value else f"--no_{name}"
        else:
            yield from (f"--{name}", str(value))


def main(config: LearnBenchmark) -> None:
    """Train, measure and print the table."""
    seeds = range(config.seeds or (1 if config.ablation else 3))
    with kept_or_temporary(config.root) as root:
        trained = Trained(root, config)
        lines = _ablation(trained, seeds) if config.ablation else _compare(trained, seeds, config)
        for line in lines:
            print(line, flush=True)


def _compare(trained: Trained, seeds: Sequence[int], config: LearnBenchmark) -> Iterator[str]:
    """Lines of the table: our model for each seed, and the other models."""
    columns = (config.text_column, config.label_column)
    texts, labels = read_labelled(config.test, *columns)
    train = read_labelled(config.train, *columns)
    yield (
        f"{len(train[0]):,} texts to train on, {len(texts):,} to test on. Calibration error: "
        f"expected calibration error, {BINS} equally wide bins of the positive probability. "
        "Seconds of ours are of the whole command.\n"
    )
    yield "| | accuracy | AUC | log loss | calibration error | training, s |"
    yield "| --- | --- | --- | --- | --- | --- |"
    runs = []
    for seed in seeds:
        directory, seconds = trained(RECOMMENDED, seed)
        metrics = measure(labels, sentiment.load(directory).predict_proba(texts), Classes())
        runs.append(_values(metrics, seconds))
        yield _row(f"ours, seed {seed}", runs[-1])
    yield _row("ours, mean", np.mean(runs, axis=0))
    baselines: dict[str, Callable] = {
        "fastText": fasttext,
        "TF-IDF + logistic regression": logistic_regression,
    }
    for name, learn in baselines.items():
        began = time.perf_counter()
        predict = learn(*train)
        seconds = time.perf_counter() - began
        probabilities = predict(texts)
        if probabilities.ndim == 1:  # Of the second class only.
            probabilities = np.stack([1 - probabilities, probabilities], axis=1)
        yield _row(name, _values(measure(labels, probabilities, Classes()), seconds))


def _values(metrics: Metrics, seconds: float) -> list[float]:
    return [*(asdict(metrics)[name] for name in METRICS), seconds]


def _row(name: str, values: Sequence[float]) -> str:
    accuracy, auc, loss, error, seconds = values
    return f"| {name} | {accuracy:.2%} | {auc:.4f} | {loss:.4f} | {error:.4f} | {seconds:,.0f} |"


def _ablation(trained: Trained, seeds: Sequence[int]) -> Iterator[str]:
    """Lines of the table: all recommended settings, then one replaced at a time."""

    def best(flags: Flags) -> tuple[float, float, int]:
        """Accuracy and loss of the best validation, mean over the seeds; and its rows."""
        runs = [checkpoint.load(trained(flags, seed)[0]).training for seed in seeds]
        accuracy, loss = (
            float(np.mean([run["best"][f"validation_{name}"] for run in runs]))
            for name in ("accuracy", "loss")
        )
        return accuracy, loss, min(VALIDATION_ROWS, *(run["rows"]["validation"] for run in runs))

    accuracy, loss, rows = best(RECOMMENDED)
    low, high = share_interval(round(accuracy * rows), rows)
    yield (
        f"Best validation of each run, {rows:,} rows; mean of {len(seeds)} seeds. 95% interval of "
        f"the first accuracy: {low:.1%} to {high:.1%}. Runs with the same seed have the same rows. "
        "Worth: what is lost by the flag.\n"
    )
    yield "| instead of the recommended setting | accuracy | worth, points | loss | worth |"
    yield "| --- | --- | --- | --- | --- |"
    yield f"| (all recommended settings) | {accuracy:.2%} | | {loss:.4f} | |"
    for flags in INSTEAD:
        other_accuracy, other_loss, _ = best(RECOMMENDED | flags)
        points, nats = 100 * (accuracy - other_accuracy), other_loss - loss
        words = " ".join(_arguments(flags))
        yield (
            f"| `{words}` | {other_accuracy:.2%} | {points:+.2f} | {other_loss:.4f} | {nats:+.4f} |"
        )


if __name__ == "__main__":
    main(tyro.cli(LearnBenchmark, use_underscores=True))
