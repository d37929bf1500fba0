"""Measure the accuracy of the presets `best` and `small`, of other models, and of each setting.

    pip install -c constraints.txt -e '.[bench]'
    python -m benchmarks.learn --train TRAIN --test TEST
    python -m benchmarks.learn --train TRAIN --test TEST --labelled 2000
    python -m benchmarks.learn --train TRAIN
    python -m benchmarks.learn --train TRAIN --ablation

TRAIN and TEST hold labelled shards, of any number of classes. `pipelines.train --preset best`
trains on TRAIN, once for each seed, and is measured on TEST. So are fastText (two classes only;
words and bigrams, 50 dimensions, 5 epochs) and TF-IDF of words and bigrams with logistic
regression. These train on all rows of TRAIN; ours holds some out for validation and test. Without
TEST a fifth of the rows of TRAIN is held out, another one for each seed.

With `--labelled N` only N random rows of TRAIN keep their labels, others for each seed. Ours is
trained by `--preset small`, with all texts as `--unlabelled`.

With `--ablation` one setting at a time is replaced. A fifth of the rows of TRAIN is then held out
too, so that TEST plays no part in the choice of settings.

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
import pyarrow as pa
import pyarrow.parquet as pq
import tyro

import sentiment
from benchmarks.peers import fasttext, read_labelled
from benchmarks.score import Measurements, kept_or_temporary
from pipelines.evaluation.baselines import logistic_regression
from pipelines.sources.split import TEST, Split
from sentiment.classes import Classes
from sentiment.metrics import BINS, Metrics, measure
from sentiment.text.tokenizer import Tokenizer
from sentiment.text.vocabulary import MIN_SHARE

Flags = dict[str, Any]
"""Flags of `pipelines.train` by name."""

BEST: Flags = {"preset": "best", "test_size": 0.01}

FEW_LABELS: Flags = BEST | {"preset": "small"}
"""With `--labelled`."""

WRITTEN: Flags = {"text_column": "text", "label_column": "label"}
"""Columns of the shards that `Rows.write` writes."""

INSTEAD: tuple[Flags, ...] = (
    {"bigrams": 0},
    {"bigram_keep_prob": 1.0},
    {"bidirectional": False},
    {"initial_vectors": "random"},
    {"word_keep_prob": 1.0},
    {"schedule": "constant"},
    {"dropout_keep_prob": 0.6},
    {"batch_size": 256},
    {"embedding_size": 75},
    {"hidden_size": 32},
    {"epochs": 3},
    {"min_share": MIN_SHARE},
    {"stopwords_file": "english"},
    {"calibrate": False},
)
"""Flags that replace one of the preset."""

ABLATED = ("accuracy", "macro_f1", "log_loss", "calibration_error")
"""Fields of `Metrics` in the table of `--ablation`."""

METRICS = ("accuracy", "macro_f1", "auc", "log_loss", "calibration_error")


@dataclass(frozen=True)
class LearnBenchmark:
    """Measure the accuracy of trained models."""

    train: str
    """Directory of labelled shards to train on."""
    test: str | None = None
    """Directory of labelled shards to measure on; None: a fifth of the rows of --train."""
    labelled: int | None = None
    """Keep only this many labels of --train; None: all."""
    ablation: bool = False
    """Replace one setting at a time instead."""
    seeds: int | None = None
    """Number of seeds (--random_state from 0 on); None: 3, or 2 with --ablation."""
    text_column: str = "SentimentText"
    """Column of the texts."""
    label_column: str = "Sentiment"
    """Column of the labels."""
    root: Path | None = None
    """Directory for models and caches; None: a temporary one."""


class Trained:
    """Models that `pipelines.train` trains below a directory, each only once."""

    def __init__(self, root: Path, config: LearnBenchmark) -> None:
        self.root, self._seconds = root, Measurements(root / "measurements.json")
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
        directory = self.root / name
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
    seeds = range(config.seeds or (2 if config.ablation else 3))
    with kept_or_temporary(config.root) as root:
        trained = Trained(root, config)
        for line in (_ablation if config.ablation else _compare)(trained, seeds, config):
            print(line, flush=True)


@dataclass(frozen=True)
class Rows:
    """Texts and the class of each, int[n]."""

    texts: list[str]
    labels: np.ndarray

    def chosen(self, rows: np.ndarray) -> "Rows":
        """Those with these numbers, or where a mask is true."""
        numbers = np.arange(len(self.texts))[rows]
        return Rows([self.texts[number] for number in numbers], self.labels[rows])

    def write(self, directory: Path) -> str:
        """Write them as a shard with the columns `text` and `label`; return the directory."""
        directory.mkdir(parents=True, exist_ok=True)
        table = pa.table({"text": self.texts, "label": self.labels})
        pq.write_table(table, directory / "rows.parquet")
        return str(directory)


def _corpus(config: LearnBenchmark) -> tuple[Rows, Classes]:
    """All rows of TRAIN, and the names of their classes."""
    whole = Rows(*read_labelled(config.train, config.text_column, config.label_column))
    classes = len(np.unique(whole.labels))
    return whole, Classes() if classes == 2 else Classes(tuple(map(str, range(classes))))


def _compare(trained: Trained, seeds: Sequence[int], config: LearnBenchmark) -> Iterator[str]:
    """Lines of the table: our model for each seed, and the other models."""
    whole, names = _corpus(config)
    classes = len(names)
    apart = None
    if config.test is not None:
        apart = Rows(*read_labelled(config.test, config.text_column, config.label_column))
    models: dict[str, list[list[float]]] = {}

    def add(name: str, probabilities: np.ndarray, labels: np.ndarray, seconds: float) -> None:
        values = _values(measure(labels, probabilities, names), seconds)
        models.setdefault(name, []).append(values)

    for seed in seeds:
        train, test, flags = whole, apart, BEST
        own: Flags = WRITTEN
        if test is None:
            train, test = _held_out(whole, seed)
        if config.labelled is not None:
            unlabelled = train.write(trained.root / f"unlabelled-{seed}")
            random = np.random.default_rng(seed)
            few = random.choice(len(train.texts), config.labelled, replace=False)
            train, own = train.chosen(few), FEW_LABELS | own | {"unlabelled": unlabelled}
        if train is not whole:
            name = f"train-{config.labelled}-{seed}"
            flags = flags | own | {"data_dir": train.write(trained.root / name)}
        directory, seconds = trained(flags, seed)
        add("ours", sentiment.load(directory).predict_proba(test.texts), test.labels, seconds)
        baselines: dict[str, Callable] = {"TF-IDF + logistic regression": logistic_regression}
        if classes == 2:
            baselines["fastText"] = fasttext
        for name, learn in baselines.items():
            if train is whole and name in models:
                continue  # They have no seed.
            began = time.perf_counter()
            predict = learn(train.texts, train.labels, *([classes] if classes > 2 else []))
            seconds = time.perf_counter() - began
            add(name, predict(test.texts), test.labels, seconds)
        rows = f"{len(train.texts):,} texts to train on, {len(test.texts):,} to test on"
        yield f"Seed {seed}: {rows}."
    yield (
        f"\nCalibration error: expected calibration error, {BINS} equally wide bins. Seconds of "
        "ours are of the whole command.\n"
    )
    yield "| | accuracy | macro-F1 | AUC | log loss | calibration error | training, s |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    for name, runs in models.items():
        if len(runs) > 1:
            yield from (_row(f"{name}, seed {seed}", run) for seed, run in enumerate(runs))
        yield _row(f"{name}, mean" if len(runs) > 1 else name, np.mean(runs, axis=0))


def _held_out(rows: Rows, seed: int) -> tuple[Rows, Rows]:
    """The rows to train on and a fifth to test on. Equal texts are on the same side.

    Training splits what is left by another hash, or there would be nothing to validate.
    """
    hashes = Tokenizer().tokens(pa.array(rows.texts)).hashes
    is_held_out = Split(1000 + seed, 0.2)(hashes) == TEST
    return rows.chosen(~is_held_out), rows.chosen(is_held_out)


def _values(metrics: Metrics, seconds: float) -> list[float]:
    return [*(asdict(metrics)[name] for name in METRICS), seconds]


def _row(name: str, values: Sequence[float]) -> str:
    accuracy, f1, auc, loss, error, seconds = values
    return (
        f"| {name} | {accuracy:.2%} | {f1:.2%} | {auc:.4f} | {loss:.4f} | {error:.4f} | "
        f"{seconds:,.0f} |"
    )


def _ablation(trained: Trained, seeds: Sequence[int], config: LearnBenchmark) -> Iterator[str]:
    """Lines of the table: the whole preset, then one setting replaced at a time."""
    whole, names = _corpus(config)
    sides = [_held_out(whole, seed) for seed in seeds]
    shards = [
        train.write(trained.root / f"train-None-{seed}")
        for seed, (train, _) in zip(seeds, sides, strict=True)
    ]

    def measured(flags: Flags) -> np.ndarray:
        """`ABLATED` of the runs with these flags: float64[seeds, 4]."""
        values = []
        for seed, shard, (_, test) in zip(seeds, shards, sides, strict=True):
            directory, _ = trained(BEST | WRITTEN | {"data_dir": shard} | flags, seed)
            probabilities = sentiment.load(directory).predict_proba(test.texts)
            metrics = asdict(measure(test.labels, probabilities, names))
            values.append([metrics[name] for name in ABLATED])
        return np.array(values)

    best = measured({})
    rows = sum(len(test.texts) for _, test in sides)
    yield (
        f"Mean of {len(seeds)} seeds, {rows:,} held-out rows; runs with the same seed have the "
        "same rows. Worth: what is lost by the flag, and what by each seed.\n"
    )
    yield (
        "| instead of the preset's setting | accuracy | worth, points | macro-F1 | worth, points | "
        "log loss | worth, nats | calibration error |"
    )
    yield "| --- | --- | --- | --- | --- | --- | --- | --- |"
    accuracy, f1, loss, error = best.mean(axis=0)
    yield f"| (the whole preset) | {accuracy:.2%} | | {f1:.2%} | | {loss:.4f} | | {error:.4f} |"
    for flags in INSTEAD:
        other = measured(flags)
        accuracy, f1, loss, error = other.mean(axis=0)
        yield (
            f"| `{' '.join(_arguments(flags))}` | "
            f"{accuracy:.2%} | {_worth(100 * (best - other)[:, 0], '+.2f')} | "
            f"{f1:.2%} | {_worth(100 * (best - other)[:, 1], '+.2f')} | "
            f"{loss:.4f} | {_worth((other - best)[:, 2], '+.4f')} | {error:.4f} |"
        )


def _worth(differences: np.ndarray, spec: str) -> str:
    """The mean, and in brackets each seed's."""
    each = ", ".join(f"{difference:{spec}}" for difference in differences)
    return f"{differences.mean():{spec}} ({each})"


if __name__ == "__main__":
    main(tyro.cli(LearnBenchmark, use_underscores=True))
