"""Train the LSTM on labelled texts, data-parallel on Ray Train workers.

    python -m pipelines.train --data_dir data/crowdflower --num_workers 2
    ray job submit -- python -m pipelines.train --data_dir s3://bucket/tweets --use_gpu

Shards -> cache of token ids (`training.cache`) -> batches (`training.batches`) -> steps
(`training.loop`) -> checkpoint (`sentiment.checkpoint`).
"""

import json
import time
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal

from pipelines.console import command
from pipelines.console.flags import require, require_encoding
from pipelines.console.terminal import say
from pipelines.sources.labelled import LabelledReader
from pipelines.sources.listing import find_labelled
from sentiment import storage
from sentiment.checkpoint import MANIFEST, save
from sentiment.errors import InputError
from sentiment.text.tokenizer import Tokenizer
from sentiment.text.vocabulary import MIN_SHARE

FLAGS = "flags.json"
"""Of a run's directory: the flags it was begun with."""

SNAPSHOT = "checkpoint_manager_snapshot.json"
"""Ray Train's list of a run's checkpoints: with it there is something to resume."""


@dataclass(frozen=True)
class TrainConfig:
    """Train an LSTM on labelled texts and save a checkpoint that scores others."""

    GROUPS: ClassVar = {
        "corpus": "data_dir",
        "files": "cache_dir",
        "model": "hidden_size",
        "training": "batch_size",
        "cluster": "num_workers",
    }
    data_dir: str = "data/crowdflower"
    """Directory or URI with data.csv, or with any mix of CSV (.csv, .csv.gz) and Parquet shards."""
    text_column: str = "SentimentText"
    """Column that holds the texts."""
    label_column: str = "Sentiment"
    """Column that holds the labels: 0, or 1 for positive."""
    encoding: str = "utf-8"
    """Encoding of CSV shards, as Python names it: utf-8, latin-1, utf-16, ..."""
    stopwords_file: str | None = "data/stopwords.txt"
    """Words to leave out, one a line; None: no stop words."""
    n_samples: int | None = None
    """Use at most so many rows, drawn by --random_state; None: all."""
    min_share: float = MIN_SHARE
    """A token found in at most this share of the training texts gets no id; 0 <= x < 1."""
    test_size: float = 0.2
    """Share of the rows held out for `pipelines.evaluate`; 0 < x < 1."""
    sequence_len: int | None = None
    """Longest text in tokens; a longer one is an error unless --truncate. None: the longest."""
    truncate: bool = False
    """Cut texts longer than --sequence_len."""
    cache_dir: str | None = None
    """Where tokenized shards are kept; None: in _prepared below --data_dir."""
    checkpoints_root: str = "checkpoints"
    """Directory or URI; the model is saved in ROOT/RUN_NAME."""
    summaries_dir: str = "logs"
    """Directory or URI of TensorBoard summaries; this run's are in DIR/RUN_NAME."""
    run_name: str | None = None
    """Name of the run; the same name again resumes it. None: the Unix time."""
    keep_checkpoints: int = 2
    """Checkpoints of the run to keep: the best, and always the last, to resume from."""
    hidden_size: int = 75
    """Units of the LSTM."""
    embedding_size: int = 75
    """Numbers a token is embedded in."""
    bidirectional: bool = False
    """Have two LSTMs, one that reads texts from their end. Scoring takes twice as long."""
    bigrams: int = 0
    """So many frequent pairs of neighbouring words, at most, are embedded, too."""
    initial_vectors: Literal["random", "cooccurrence"] = "random"
    """What words' embeddings begin as: random, or by which words stand beside which."""
    batch_size: int = 100
    """Rows a step, over all workers together."""
    train_steps: int = 300
    """Steps."""
    epochs: int | None = None
    """Passes over the training rows, instead of --train_steps."""
    learning_rate: float = 0.01
    """Learning rate of RMSProp."""
    schedule: Literal["constant", "linear"] = "constant"
    """How the learning rate goes: as it is, or falling in equal steps, to zero after the last."""
    dropout_keep_prob: float = 0.5
    """Share of the LSTM's inputs and outputs that dropout keeps; 0 < x <= 1."""
    word_keep_prob: float = 1.0
    """Share of the words that dropout keeps; the others count as unknown. 0 < x <= 1."""
    bigram_keep_prob: float = 0.7
    """Share of the bigrams that dropout keeps; 0 < x <= 1."""
    calibrate: bool = False
    """Divide the logits by what makes the probabilities of the validation texts likeliest."""
    random_state: int = 0
    """Seeds split, initialisation, order and dropout. At least 0."""
    validate_every: int = 100
    """Steps between validations; each saves a checkpoint."""
    early_stopping: int | None = None
    """Stop after so many validations in a row without a better one; None: never."""
    num_workers: int = 1
    """Ray Train workers that share each batch."""
    use_gpu: bool = False
    """Give each worker a GPU."""
    max_failures: int = 3
    """Times to go on from the last checkpoint after a worker or node died."""
    verbose: bool = False
    """Show what Ray, TensorFlow and the workers write, too."""

    def __post_init__(self) -> None:
        at_least_one = ("n_samples", "batch_size", "train_steps", "epochs", "hidden_size")
        at_least_one += ("embedding_size", "sequence_len", "validate_every", "num_workers")
        at_least_one += ("early_stopping", "keep_checkpoints")
        for name in at_least_one:
            value = getattr(self, name)
            require(value is None or value >= 1, name, value, "at least 1")
        require(self.max_failures >= 0, "max_failures", self.max_failures, "at least 0")
        require(0 <= self.random_state < 2**31, "random_state", self.random_state, "0 to 2^31")
        require(self.learning_rate > 0, "learning_rate", self.learning_rate, "above 0")
        require(0 <= self.min_share < 1, "min_share", self.min_share, "at least 0, below 1")
        require(0 < self.test_size < 1, "test_size", self.test_size, "between 0 and 1")
        require(self.bigrams >= 0, "bigrams", self.bigrams, "at least 0")
        for name in ("dropout_keep_prob", "word_keep_prob", "bigram_keep_prob"):
            value = getattr(self, name)
            require(0 < value <= 1, name, value, "above 0 and at most 1")
        require(
            self.batch_size >= self.num_workers,
            "batch_size",
            self.batch_size,
            f"at least --num_workers ({self.num_workers})",
        )
        require_encoding(self.encoding)
        if self.run_name is not None:
            plain = self.run_name.replace("-", "").replace("_", "").replace(".", "").isalnum()
            require(
                plain and not self.run_name.startswith((".", "_")),
                "run_name",
                self.run_name,
                "letters, digits, - . and _, and not begin with . or _",
            )
        if self.truncate and self.sequence_len is None:
            raise InputError("--truncate needs --sequence_len: the length to cut texts to")


def main(config: TrainConfig) -> None:
    """Check what can be checked at once, then prepare, train, and save the best checkpoint."""
    stop_words = read_stop_words(config.stopwords_file)
    shards = find_labelled(config.data_dir, "--data_dir")
    source = LabelledReader(config.text_column, config.label_column, config.encoding)
    source.require_columns(shards[0])
    name = config.run_name or str(int(time.time()))
    model = storage.join(config.checkpoints_root, name)
    cache = config.cache_dir or storage.join(config.data_dir, "_prepared")
    storage.require_writable(config.checkpoints_root, "--checkpoints_root")
    storage.require_writable(cache, "--cache_dir")
    storage.require_writable(config.summaries_dir, "--summaries_dir")
    runs = storage.join(storage.absolute(config.checkpoints_root), "_runs")
    _require_same_flags(config, storage.join(runs, name))
    if storage.exists(storage.join(model, MANIFEST)):
        say(f"Run {name} is finished: nothing to do.")
    else:
        # Ray and TensorFlow take seconds to load: only where there is work.
        from pipelines.training.job import run

        checkpoint = run(config, shards, source, stop_words, storage.absolute(cache), runs, name)
        save(checkpoint, model)
        best = checkpoint.training["best"]
        say(
            f"Best validation: after step {best['step']:,}, loss {best['validation_loss']:.4f}, "
            f"accuracy {best['validation_accuracy']:.1%}\n"
            f"Next: python -m pipelines.evaluate --checkpoints_dir {model} --baseline"
        )
    say(f"Model saved in: {model}")


def read_stop_words(path: str | None) -> tuple[str, ...]:
    """The stop words of a file, one a line; of no file, none."""
    if path is None:
        return ()
    try:
        lines = storage.read(path).decode().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--stopwords_file {path} cannot be read: {error}") from None
    words = tuple(dict.fromkeys(line.strip() for line in lines if line.strip()))
    Tokenizer(words)
    return words


def run_flags(config: TrainConfig) -> dict[str, Any]:
    """The flags that a run must be resumed with."""
    free = ("run_name", "use_gpu", "verbose")
    return {name: value for name, value in asdict(config).items() if name not in free}


def _require_same_flags(config: TrainConfig, run: str) -> None:
    """Raise an InputError if the run has a checkpoint that other flags led to."""
    if not storage.exists(storage.join(run, SNAPSHOT)):
        return
    begun, flags = json.loads(storage.read(storage.join(run, FLAGS))), run_flags(config)
    for name in flags:
        if begun.get(name) != flags[name]:
            raise InputError(
                f"--{name} is {flags[name]}, but run {config.run_name} was begun with "
                f"{begun.get(name)}: resume it with the same flags, or choose another --run_name"
            )


if __name__ == "__main__":
    command.run(main, TrainConfig)
