"""Settings: what every training worker needs to know of the run."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from pipelines.sources.split import is_cross_fitted
from pipelines.training.batches import CachedRows, TrainingBatches
from pipelines.training.config import TrainConfig
from pipelines.training.prepared_corpus import Corpus
from pipelines.training.run_directory import run_flags
from sentiment import storage
from sentiment.errors import InputError
from sentiment.text.bigrams import Bigrams


@dataclass(frozen=True)
class Settings:
    """The settings of a run, the same for every worker."""

    corpus: Corpus
    vocabulary: tuple[str, ...]
    """Words, then bigrams; a token's id is its index."""
    initial: str | None
    """Path or URI of the `InitialWeights`; None: all weights are random."""
    batch_size: int
    """Rows of a batch, over all workers."""
    steps: int
    """Steps of the whole run."""
    hidden_size: int
    embedding_size: int
    bidirectional: bool
    random_state: int
    learning_rate: float
    schedule: str
    """`constant` or `linear`."""
    dropout_keep_prob: float
    word_keep_prob: float
    bigram_keep_prob: float
    sequence_len: int
    """Tokens kept of a text."""
    validate_every: int
    """Steps between validations."""
    calibrate: bool
    """Whether the best weights will be calibrated."""
    class_weights: tuple[float, ...]
    """What a row of each class counts in the loss."""
    early_stopping: int | None
    """Validations in a row without improvement that end the run."""
    summaries: str
    """Directory or URI of this run's TensorBoard logs."""
    flags: dict[str, Any]
    """The run's flags, for its TensorBoard logs."""
    use_gpu: bool
    cpus_per_worker: int | None
    """Threads of each worker; None: an equal share of its node's CPUs."""

    def rows(self, split: str, per_node: bool = False) -> CachedRows:
        """The rows of `train` or `validation`; `per_node` as for `CachedRows`."""
        corpus = self.corpus
        return CachedRows(
            corpus.directory, corpus.files[split], self.sequence_len, self.class_weights, per_node
        )

    def training_batches(self, rows: CachedRows, bigrams: Bigrams | None) -> TrainingBatches:
        """Batches of training rows; `bigrams` finds those of the vocabulary, None: it has none."""
        return TrainingBatches(
            rows,
            self.batch_size,
            self.random_state,
            bigrams,
            self.word_keep_prob,
            self.bigram_keep_prob,
        )

    @property
    def cross_fits(self) -> bool:
        """Whether training rows validate as well; see `is_cross_fitted`."""
        rows = self.corpus.rows
        return is_cross_fitted(self.calibrate, rows["train"], rows["validation"], self.batch_size)

    def learning_rate_at(self, step: int) -> float:
        """The learning rate of a step, counted from 1."""
        if self.schedule == "constant":
            return self.learning_rate
        return self.learning_rate * (self.steps - step + 1) / self.steps


def require_threshold_fits(config: TrainConfig, classes: tuple[str, ...]) -> None:
    """Raise an InputError if the flags want a threshold and there are not two classes."""
    if (config.threshold or config.threshold_for) and len(classes) != 2:
        flag = "threshold" if config.threshold else "threshold_for"
        raise InputError(
            f"--{flag} is for two classes; the labels have {len(classes)}: "
            f"{', '.join(classes)[:200]}"
        )


def make_settings(config: TrainConfig, corpus: Corpus, summaries: str) -> Settings:
    """Settings from the flags and the prepared corpus, as yet without bigrams and initial weights.

    Raises InputError where the corpus is too small, has one label only, or a text is too long.
    """
    train, validation = corpus.rows["train"], corpus.rows["validation"]
    if not validation:
        raise InputError(
            f"--data_dir {config.data_dir} has {train:,} rows to train and none to validate, which "
            "are drawn by their texts: it needs more rows, or more different texts"
        )
    if train < config.batch_size:
        raise InputError(
            f"--batch_size {config.batch_size}: {config.data_dir} has {train:,} rows to train; use "
            "a smaller --batch_size or more rows"
        )
    if not corpus.soft_labels and np.count_nonzero(corpus.labels["train"]) < 2:
        only = corpus.classes[int(np.argmax(corpus.labels["train"]))]
        raise InputError(
            f"--label_column {config.label_column}: every training row of {config.data_dir} "
            f"is labelled {only}; a classifier needs rows of two classes"
        )
    longest = config.sequence_len or max(corpus.longest, 1)
    if longest < corpus.longest and not config.truncate:
        raise InputError(
            f"--sequence_len {longest}: {corpus.longest_row} has {corpus.longest} tokens; "
            f"pass --sequence_len {corpus.longest}, or --truncate to cut longer texts"
        )
    require_threshold_fits(config, corpus.classes)
    return Settings(
        corpus=corpus,
        vocabulary=corpus.vocabulary,
        initial=None,
        batch_size=config.batch_size,
        steps=config.steps(train),
        hidden_size=config.hidden_size,
        embedding_size=config.embedding_size,
        bidirectional=config.bidirectional,
        random_state=config.random_state,
        learning_rate=config.learning_rate,
        schedule=config.schedule,
        dropout_keep_prob=config.dropout_keep_prob,
        word_keep_prob=config.word_keep_prob,
        bigram_keep_prob=config.bigram_keep_prob,
        sequence_len=longest,
        calibrate=config.calibrate,
        class_weights=_class_weights(config, corpus),
        validate_every=config.validate_every,
        early_stopping=config.early_stopping,
        summaries=storage.absolute(summaries),
        flags=run_flags(config),
        use_gpu=config.use_gpu,
        cpus_per_worker=config.cpus_per_worker,
    )


def _class_weights(config: TrainConfig, corpus: Corpus) -> tuple[float, ...]:
    """What a row of each class counts: 1, or by how rare the class is."""
    if config.class_weight is None:
        return (1.0,) * len(corpus.classes)
    # As in scikit-learn: all classes together count the same, and the mean row counts 1.
    rows = np.array(corpus.labels["train"])
    weights = rows.sum() / (len(rows) * np.maximum(rows, 1))
    return tuple(weights.tolist())
