"""How good is a checkpoint? Metrics on labelled texts, printed, and a report beside the model.

    python -m pipelines.evaluate --checkpoints_dir checkpoints/demo --baseline

By default on the rows that its training run held out. One process, without Ray and TensorFlow.
"""

import hashlib
import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from pipelines.console import command
from pipelines.console.flags import require, require_encoding
from pipelines.console.terminal import printable
from pipelines.evaluation.baselines import logistic_regression
from pipelines.reports.model_card import CARD, MARK, model_card
from pipelines.reports.training_report import MODEL, Evaluation, report
from pipelines.sources.labelled import LabelledReader
from pipelines.sources.listing import find_labelled
from pipelines.sources.split import TEST, TRAIN, VALIDATION, Split
from sentiment import storage
from sentiment.checkpoint import Checkpoint, load
from sentiment.errors import InputError, on_one_line
from sentiment.metrics import Metrics
from sentiment.predictor import Predictor
from sentiment.text.tokenizer import Tokenizer

REGRESSION, MAJORITY = "TF-IDF + logistic regression", "majority class"

_FLAGS = {"data_dir": str, "text_column": str, "label_column": str, "encoding": str}
_FLAGS |= {"random_state": int, "test_size": float}
_SPLIT = {"train": 1, "validation": 1, "test": 1}
_LOSS = {"step": 1, "loss": 1.0}
_VALIDATION = {"step": 1, "validation_loss": 1.0, "validation_accuracy": 1.0}
_SAID = {"rows": _SPLIT, "positive": _SPLIT, "best": _VALIDATION, "losses": [_LOSS]}
_SAID |= {"validations": [_VALIDATION], "versions": {"*": ""}}
"""What else training.json says, by examples; `*` stands for any name."""


@dataclass(frozen=True)
class EvaluateConfig:
    """Measure a checkpoint on its run's held-out texts, or on other labelled ones.

    Prints the metrics, and writes a report into the checkpoint's directory."""

    checkpoints_dir: str
    """Directory or URI of a checkpoint, as `pipelines.train` printed it. report.html is written
    there, and a model card, README.md, unless there is one of other origin."""
    data_dir: str | None = None
    """Labelled texts, all of which are used; None: the training data's held-out part. Their report
    is report-NAME-HASH.html, of the directory's name and the hash of its path: what is there of
    held-out texts stays, and the model card too."""
    text_column: str | None = None
    """Column that holds the texts; None: as in training."""
    label_column: str | None = None
    """Column that holds the labels; None: as in training."""
    encoding: str | None = None
    """Encoding of CSV shards; None: as in training."""
    baseline: bool = False
    """Also train TF-IDF and logistic regression on the run's training texts (in memory), and show
    how they do on the same rows."""
    samples: int = 10
    """Sample predictions to show."""

    def __post_init__(self) -> None:
        require(self.samples >= 0, "samples", self.samples, "at least 0")
        if self.encoding is not None:
            require_encoding(self.encoding)


def main(config: EvaluateConfig) -> None:
    """Measure, print, and write the report."""
    checkpoint = load(config.checkpoints_dir)
    require_flags(checkpoint.training)
    try:
        flags, sample_below = checkpoint.training["flags"], checkpoint.training["sample_below"]
        rows, positive = checkpoint.training["rows"], checkpoint.training["positive"]
        learnt_on = rows["train"] + rows["validation"]
        share = (positive["train"] + positive["validation"]) / max(learnt_on, 1)
        source = LabelledReader(flags["text_column"], flags["label_column"], flags["encoding"])
        split = Split(flags["random_state"], flags["test_size"], sample_below)
    except KeyError as error:
        raise InputError(
            f"checkpoint {config.checkpoints_dir} does not say how it was trained: "
            f"no {error} in its training.json"
        ) from error
    if config.data_dir is None:
        data_dir, kind = flags["data_dir"], "held-out rows"
        texts, labels, lengths = _read(data_dir, source, checkpoint, split, (TEST,))
    else:
        data_dir, kind = config.data_dir, "rows"
        other = LabelledReader(
            config.text_column or source.text_column,
            config.label_column or source.label_column,
            config.encoding or source.encoding,
        )
        texts, labels, lengths = _read(data_dir, other, checkpoint)
    if not texts:
        raise InputError(f"{data_dir} has no {kind} to evaluate on")
    print(f"{len(texts):,} {kind} of {printable(data_dir)}\n", flush=True)

    probabilities = Predictor(checkpoint).predict(texts)
    answers = {MODEL: probabilities}
    if config.baseline:
        learnt, known, _ = _read(flags["data_dir"], source, checkpoint, split, (TRAIN, VALIDATION))
        try:
            answers[REGRESSION] = logistic_regression(learnt, known)(texts)
        except ValueError as error:  # No texts, no words, or one label: it has words for each.
            raise InputError(f"--baseline: {flags['data_dir']}: {error}") from error
    answers[MAJORITY] = np.full(len(texts), share)
    evaluation = Evaluation(
        name=posixpath.basename(storage.absolute(config.checkpoints_dir).rstrip("/")),
        checkpoint=checkpoint,
        data_dir=data_dir,
        held_out=config.data_dir is None,
        texts=texts,
        labels=labels,
        tokens=lengths,
        answers=answers,
    )
    _print_results(evaluation.metrics)
    _print_confusion(evaluation.metrics[MODEL])
    _print_samples(texts, labels, probabilities, config.samples)
    print(f"\n{_write(evaluation, config.checkpoints_dir)}")


def _is_like(value: object, like: object) -> bool:
    """Whether JSON has the shape of an example: of lists, of mappings, and of what is in them."""
    match like:
        case {"*": its}:
            return isinstance(value, Mapping) and all(_is_like(v, its) for v in value.values())
        case dict():
            return isinstance(value, Mapping) and all(
                name in value and _is_like(value[name], its) for name, its in like.items()
            )
        case list():
            return isinstance(value, list) and all(_is_like(each, like[0]) for each in value)
        case float():
            return isinstance(value, int | float) and abs(value) < 1e300
        case int():
            return isinstance(value, int) and 0 <= value < 2**53
    return isinstance(value, str)


def require_flags(training: Mapping[str, Any]) -> None:
    """Raise an InputError where a checkpoint says of its training what cannot be.

    What it does not say at all, whoever asks for it misses. Checkpoints come from strangers.
    """
    flags, below = training.get("flags", {}), training.get("sample_below")
    if not all(_is_like(training[name], like) for name, like in _SAID.items() if name in training):
        raise InputError("training.json of the checkpoint says what no training run does")
    known = flags if isinstance(flags, Mapping) else {"data_dir": None}
    right = all(isinstance(known[name], kind) for name, kind in _FLAGS.items() if name in known)
    below = 0 if below is None else below
    if not right or not isinstance(below, int) or not 0 <= below < 2**64:
        raise InputError("training.json of the checkpoint has flags that no training run has")
    require_encoding(known.get("encoding", "utf-8"))


def _read(
    data_dir: str,
    source: LabelledReader,
    checkpoint: Checkpoint,
    split: Split | None = None,
    parts: tuple[int, ...] = (),
) -> tuple[list[str], np.ndarray, np.ndarray]:
    """The texts of some parts of the split, their labels, and their lengths in tokens; without a
    split, all there are."""
    tokenize = Tokenizer(checkpoint.stop_words).encoder(checkpoint.words)
    texts, labels, lengths = [], [np.empty(0, np.int8)], [np.empty(0, np.int64)]
    for shard in find_labelled(data_dir, "--data_dir"):
        for rows in source.read(shard, tokenize):
            here = np.ones(len(rows.labels), bool)
            if split is not None:
                here = np.isin(split(rows.tokens.hashes), parts)
            texts += rows.texts.filter(pa.array(here)).cast(pa.large_string()).to_pylist()
            labels.append(rows.labels[here])
            lengths.append(np.diff(rows.tokens.offsets)[here])
    return texts, np.concatenate(labels), np.concatenate(lengths)


def _write(evaluation: Evaluation, directory: str) -> str:
    """Write the report and, of held-out texts, the model card; a line that says so, or why not."""
    page, card = storage.join(directory, _report_name(evaluation)), storage.join(directory, CARD)
    try:
        storage.write(page, report(evaluation))
    except OSError as error:
        return f"No report: {page} cannot be written: {on_one_line(error)}"
    if not evaluation.held_out:
        return f"Report: {page}"
    try:
        if storage.exists(card) and MARK.encode() not in storage.read(card):
            return f"Report: {page}; {card} is not of evaluate's making and was left as it is"
        storage.write(card, model_card(evaluation))
    except OSError as error:
        return f"Report: {page}; no model card: {card} cannot be written: {on_one_line(error)}"
    return f"Report: {page}; model card: {card}"


def _report_name(evaluation: Evaluation) -> str:
    if evaluation.held_out:
        return "report.html"
    path = storage.absolute(evaluation.data_dir).rstrip("/")
    name = re.sub(r"[^A-Za-z0-9.-]+", "-", posixpath.basename(path))[:60]
    return f"report-{name}-{hashlib.sha256(path.encode(errors='replace')).hexdigest()[:6]}.html"


def _print_results(results: dict[str, Metrics]) -> None:
    print(f"{'':30} accuracy     AUC  log loss  calibration error")
    for name, metrics in results.items():
        print(
            f"{name:30} {metrics.accuracy:8.1%}  {metrics.auc:6.3f}  {metrics.log_loss:8.3f}  "
            f"{metrics.calibration_error:17.3f}"
        )


def _print_confusion(metrics: Metrics) -> None:
    print("\nConfusion matrix    answered negative  answered positive")
    for name, row in zip(("negative", "positive"), metrics.confusion, strict=True):
        print(f"  labelled {name} {row[0]:16,} {row[1]:18,}")


def _print_samples(
    texts: list[str], labels: np.ndarray, probabilities: np.ndarray, samples: int
) -> None:
    if not samples:
        return
    print("\nlabel  probability  text")
    random = np.random.default_rng(0)
    for i in np.sort(random.permutation(len(texts))[:samples]):
        shown = printable(on_one_line(texts[i])[:100])
        print(f"{labels[i]:5}  {probabilities[i]:11.3f}  {shown}")


if __name__ == "__main__":
    command.run(main, EvaluateConfig)
