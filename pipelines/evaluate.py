"""How good is a checkpoint? Accuracy, AUC, log loss and confusion matrix on labelled texts.

    python -m pipelines.evaluate --checkpoints_dir checkpoints/demo --baseline

By default on the rows that its training run held out. One process, without Ray and TensorFlow.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from pipelines import cli
from pipelines.baselines import logistic_regression, majority
from pipelines.labelled import TEST, TRAIN, VALIDATION, Source, Split, require_flags
from pipelines.shards import find_labelled
from sentiment.checkpoint import Checkpoint, load
from sentiment.errors import InputError
from sentiment.inference import inference
from sentiment.metrics import Metrics, measure
from sentiment.tokenizer import Tokenizer


@dataclass(frozen=True)
class EvaluateConfig:
    """Measure a checkpoint on its run's held-out texts, or on other labelled ones."""

    checkpoints_dir: str
    """Directory or URI of a checkpoint, as `pipelines.train` printed it."""
    data_dir: str | None = None
    """Labelled texts, all of which are used; None: the training data's held-out part."""
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
        cli.require(self.samples >= 0, "samples", self.samples, "at least 0")
        if self.encoding is not None:
            cli.require_encoding(self.encoding)


def main(config: EvaluateConfig) -> None:
    """Measure and print."""
    checkpoint = load(config.checkpoints_dir)
    require_flags(checkpoint.training)
    try:
        flags, sample_below = checkpoint.training["flags"], checkpoint.training["sample_below"]
        source = Source(flags["text_column"], flags["label_column"], flags["encoding"])
        split = Split(flags["random_state"], flags["test_size"], sample_below)
    except KeyError as error:
        raise InputError(
            f"checkpoint {config.checkpoints_dir} does not say how it was trained: "
            f"no {error} in its training.json"
        ) from error
    if config.data_dir is None:
        data_dir, kind = flags["data_dir"], "held-out rows"
        texts, labels = _read(data_dir, source, checkpoint, split, (TEST,))
    else:
        data_dir, kind = config.data_dir, "rows"
        other = Source(
            config.text_column or source.text_column,
            config.label_column or source.label_column,
            config.encoding or source.encoding,
        )
        texts, labels = _read(data_dir, other, checkpoint)
    if not texts:
        raise InputError(f"{data_dir} has no {kind} to evaluate on")
    print(f"{len(texts):,} {kind} of {cli.printable(data_dir)}\n", flush=True)

    encode = Tokenizer(checkpoint.stop_words).encoder(checkpoint.vocabulary)
    tokens = encode(pa.array(texts, pa.large_string()))
    probabilities = inference(checkpoint.weights)(tokens.ids, tokens.offsets)
    results = {"this model": measure(labels, probabilities)}
    if config.baseline:
        learnt = _read(flags["data_dir"], source, checkpoint, split, (TRAIN, VALIDATION))
        try:
            regression = logistic_regression(*learnt)
        except ValueError as error:  # No texts, no words, or one label: it has words for each.
            raise InputError(f"--baseline: {flags['data_dir']}: {error}") from error
        results["TF-IDF + logistic regression"] = measure(labels, regression(texts))
        results["majority class"] = measure(labels, majority(learnt[1], len(texts)))
    _print_results(results)
    _print_confusion(results["this model"])
    _print_samples(texts, labels, probabilities, config.samples)


def _read(
    data_dir: str,
    source: Source,
    checkpoint: Checkpoint,
    split: Split | None = None,
    parts: tuple[int, ...] = (),
) -> tuple[list[str], np.ndarray]:
    """The texts and labels of some parts of the split; without a split, all there are."""
    tokenize = Tokenizer(checkpoint.stop_words).encoder(checkpoint.vocabulary)
    texts, labels = [], [np.empty(0, np.int8)]
    for shard in find_labelled(data_dir, "--data_dir"):
        for _, column, row_labels, tokens in source.read(shard, tokenize):
            here = np.ones(len(row_labels), bool)
            if split is not None:
                here = np.isin(split(tokens.hashes), parts)
            texts += column.filter(pa.array(here)).cast(pa.large_string()).to_pylist()
            labels.append(row_labels[here])
    return texts, np.concatenate(labels)


def _print_results(results: dict[str, Metrics]) -> None:
    print(f"{'':30} accuracy     AUC  log loss")
    for name, metrics in results.items():
        print(f"{name:30} {metrics.accuracy:8.1%}  {metrics.auc:6.3f}  {metrics.log_loss:8.3f}")


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
        shown = cli.printable(" ".join(texts[i].split())[:100])
        print(f"{labels[i]:5}  {probabilities[i]:11.3f}  {shown}")


if __name__ == "__main__":
    cli.run(main, EvaluateConfig)
