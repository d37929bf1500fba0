"""TrainConfig: the flags of `pipelines.train`, checked one by one."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

from pipelines.console.flag_values import rejected_limit, require
from pipelines.sources.labels import LabelMap
from pipelines.sources.options import ReadOptions
from pipelines.training.threshold_rule import ThresholdRule
from sentiment.errors import InputError
from sentiment.text.vocabulary import MIN_SHARE

MAX_RUN_NAME = 100
"""Characters. File systems take 255 bytes, and some files' names are longer than their run's."""

RUN_NAME = rf"[A-Za-z0-9-][A-Za-z0-9_.-]{{0,{MAX_RUN_NAME - 1}}}"

ENGLISH = "english"
"""Value of `--stopwords_file` for the list that is installed with this package."""


@dataclass(frozen=True)
class TrainConfig:
    """Train an LSTM on labelled texts and save a checkpoint that scores others."""

    GROUPS: ClassVar = {
        "settings": "preset",
        "corpus": "data_dir",
        "files": "cache_dir",
        "model": "hidden_size",
        "training": "batch_size",
        "cluster": "num_workers",
    }
    preset: str | None = None
    """Set many flags at once: best, small (for fewer than 3,000 labelled texts) or quick. Flags
    and --config override what it sets."""
    config: str | None = None
    """YAML file of flags (`epochs: 3`); flags override it. A finished run leaves such a file:
    CHECKPOINTS_ROOT/RUN_NAME/config.yaml."""
    data_dir: str = "data/crowdflower"
    """Directory or URI of labelled CSV, JSON lines and Parquet shards, in any mix."""
    text_column: str = "SentimentText"
    """Name of the text column. By default this and the next are those of the corpora that
    `pipelines.fetch` labels; `pipelines.score` reads `text` by default."""
    label_column: str = "Sentiment"
    """Name of the label column: numbers, words or booleans, two or more classes."""
    labels: tuple[str, ...] = ()
    """Labels of each class, such as negative=1,2 positive=4,5; rows with other labels are left out.
    Without it 0/1, false/true, no/yes, neg/pos, -1/1 and 0/4 are negative/positive; else each label
    is a class."""
    soft_labels: bool = False
    """The label column holds probabilities of the second class, to be learnt as such. A struct of
    numbers (classes by name) or a list (in the order of --labels) needs no flag."""
    where: tuple[str, ...] = ()
    """Conditions on key=value directories, such as "year=2024" "month>=3": which shards to read."""
    encoding: str = "utf-8"
    """Encoding of text files, by its Python name: utf-8, latin-1, utf-16, ..."""
    delimiter: str | None = None
    """CSV: what separates fields, such as ';' or '\\t'; None: as the name or the header says."""
    quote: str = '"'
    """CSV: what begins and ends a field that may hold delimiters and line breaks, or none."""
    escape: str | None = None
    """CSV: what makes a quote a part of the text in a quoted field, such as '\\' in files of Spark,
    or none. Doubled quotes always do; None: none, and files that this may be wrong for are
    refused."""
    columns: tuple[str, ...] = ()
    """CSV: names of the columns of files without a header."""
    format: Literal["csv", "tsv", "json", "text", "parquet"] | None = None
    """Format of files whose names do not tell it (part-00000, 000000_0; Parquet needs no flag), and
    of .txt files."""
    max_rejected: str = "1%"
    """Stop if more of the labelled rows cannot be used (null or malformed): a number, or a share.
    Those are left out."""
    stopwords_file: str | None = ENGLISH
    """File of words to ignore, one per line; english: the list of this package; None: no words."""
    unlabelled: str | None = None
    """Directory or URI of more texts (column --text_column) without labels, such as those to score:
    --initial_vectors cooccurrence also learns words from them, from 500,000 at most."""
    n_samples: int | None = None
    """Train on a random sample of at most this many rows; None: all rows."""
    min_share: float = MIN_SHARE
    """Drop tokens that occur in at most this share of the training texts; 0 <= x < 1."""
    test_size: float = 0.2
    """Share of the rows held out for `pipelines.evaluate`; 0 < x < 1."""
    sequence_len: int | None = None
    """Longest text, in tokens; a longer text is an error unless --truncate. None: no limit."""
    truncate: bool = False
    """Truncate texts longer than --sequence_len."""
    cache_dir: str | None = None
    """Directory or URI of the cache of tokenized texts; None: DATA_DIR/_prepared."""
    checkpoints_root: str = "checkpoints"
    """Directory or URI; the model is saved in CHECKPOINTS_ROOT/RUN_NAME."""
    summaries_dir: str = "logs"
    """Directory or URI of TensorBoard logs; this run writes to SUMMARIES_DIR/RUN_NAME."""
    mlflow_experiment: str | None = None
    """Name of an experiment in MLflow that also gets flags, metrics and the checkpoint; the server
    is the one that MLFLOW_TRACKING_URI names. None: no MLflow."""
    run_name: str | None = None
    """Name of the run; the same name resumes an interrupted run. None: the Unix time."""
    keep_checkpoints: int = 2
    """Number of training checkpoints to keep: the best, and always the last one to resume from."""
    hidden_size: int = 75
    """Units of the LSTM."""
    embedding_size: int = 75
    """Size of a token's embedding vector."""
    bidirectional: bool = False
    """Add a second LSTM that reads the text backwards. Scoring takes twice as long."""
    bigrams: int = 0
    """Number of frequent word pairs (bigrams), at most, that also get an embedding; 0: none."""
    initial_checkpoint: str | None = None
    """Directory or URI (also hf://OWNER/NAME) of a model to start from, with its words and bigrams;
    words of the corpus are added. If the classes are the same, so is the last layer."""
    initial_vectors: str = "random"
    """Initial word embeddings: random; cooccurrence, computed from which words occur together; or a
    text file of vectors, as GloVe and fastText publish them, whose numbers are --embedding_size."""
    batch_size: int = 100
    """Rows per step, over all workers together."""
    train_steps: int = 300
    """Number of training steps."""
    epochs: int | None = None
    """Number of passes over the training rows; replaces --train_steps."""
    learning_rate: float = 0.01
    """Learning rate of RMSProp."""
    schedule: Literal["constant", "linear"] = "constant"
    """Learning rate schedule: constant, or linear decay to zero."""
    dropout_keep_prob: float = 0.5
    """Share of the LSTM's inputs and outputs that dropout keeps; 0 < x <= 1."""
    word_keep_prob: float = 1.0
    """Share of the words that training keeps; the others become unknown words. 0 < x <= 1."""
    bigram_keep_prob: float = 0.7
    """Share of the bigrams that training keeps; 0 < x <= 1."""
    class_weight: Literal["balanced"] | None = None
    """balanced: rows count by how rare their class is, so that all classes count the same; None:
    all rows count the same."""
    calibrate: bool = False
    """Calibrate the probabilities on the validation texts (temperature scaling); if they are few,
    also on training texts, which five more models answer that did not learn them."""
    threshold: float | None = None
    """For two classes: score a text as the second one from this probability on; None: from 0.5."""
    threshold_for: str | None = None
    """For two classes: choose the threshold on the validation texts, such as precision=0.9 (of the
    second class, with the highest recall) or recall=0.9 (with the highest precision)."""
    random_state: int = 0
    """Seed of the split, initial weights, row order and dropout; at least 0."""
    validate_every: int = 100
    """Steps between validations; each validation saves a training checkpoint."""
    early_stopping: int | None = None
    """Stop after this many validations in a row without improvement; None: never."""
    num_workers: int | tuple[int, int] = 1
    """Number of Ray Train workers; they share each batch. Two numbers, such as 2 8: from 2 to 8
    workers, as many as the cluster carries; with each change training resumes from the last
    checkpoint."""
    cpus_per_worker: int | None = None
    """CPUs that Ray reserves for each worker, and its threads; None: Ray reserves one, and the
    workers of a node share its CPUs."""
    use_gpu: bool = False
    """Give each worker a GPU."""
    max_failures: int = 3
    """How often to resume from the last checkpoint after a worker or node died."""
    verbose: bool = False
    """Also show the output of Ray, TensorFlow and the workers."""

    @staticmethod
    def from_files(given: Mapping[str, str]) -> dict[str, Any]:
        """The flags that `--preset` and `--config` set; see `pipelines.console.flags`."""
        if not given.keys() & {"preset", "config"}:
            return {}
        from pipelines.training.settings_files import values_of_files

        values = values_of_files(TrainConfig, given.get("preset"), given.get("config"))
        if "train_steps" in given and "epochs" not in given:
            values["epochs"] = None  # Or the epochs of the file would replace the steps.
        return values

    @classmethod
    def of(cls, preset: str | None = None, config: str | None = None, **flags: Any) -> Self:
        """The flags of a preset or a YAML file, which `flags` override, for Python programs."""
        named = {"preset": preset, "config": config}
        given = {name: value for name, value in named.items() if value is not None}
        return cls(**cls.from_files({**dict.fromkeys(flags, ""), **given}) | flags)

    def read_options(self) -> ReadOptions:
        """How shards are read. Raises InputError for a flag that has an impossible value."""
        return ReadOptions(
            self.encoding, self.delimiter, self.quote, self.escape, self.columns, self.format
        )

    @property
    def workers(self) -> tuple[int, int]:
        """The least and the greatest number of workers."""
        number = self.num_workers
        return (number, number) if isinstance(number, int) else number

    def steps(self, rows: int) -> int:
        """The number of training steps, with so many rows to train on."""
        return self.train_steps if self.epochs is None else self.epochs * (rows // self.batch_size)

    def require_applied(self) -> None:
        """Raise InputError if a preset or file is only named: its flags are not set."""
        for name in ("preset", "config"):
            if (value := getattr(self, name)) is not None:
                raise InputError(
                    f"{name} is {value!r}, but its flags are not set: make the config with "
                    f"TrainConfig.of({name}={value!r}, ...)"
                )

    @staticmethod
    def more_help(width: int) -> str:
        """What the presets set, in lines of that width."""
        from pipelines.training.settings_files import presets_help

        return presets_help(width)

    def __post_init__(self) -> None:
        at_least_one = ["n_samples", "batch_size", "train_steps", "epochs", "hidden_size"]
        at_least_one += ["embedding_size", "sequence_len", "validate_every"]
        at_least_one += ["early_stopping", "keep_checkpoints", "cpus_per_worker"]
        for name in at_least_one:
            value = getattr(self, name)
            require(value is None or value >= 1, name, value, "at least 1")
        require(self.max_failures >= 0, "max_failures", self.max_failures, "at least 0")
        require(0 <= self.random_state < 2**31, "random_state", self.random_state, "0 to 2^31")
        rate = self.learning_rate
        require(0 < rate < math.inf, "learning_rate", rate, "above 0, and finite")
        require(0 <= self.min_share < 1, "min_share", self.min_share, "at least 0, below 1")
        require(0 < self.test_size < 1, "test_size", self.test_size, "between 0 and 1")
        require(self.bigrams >= 0, "bigrams", self.bigrams, "at least 0")
        for name in ("dropout_keep_prob", "word_keep_prob", "bigram_keep_prob"):
            value = getattr(self, name)
            require(0 < value <= 1, name, value, "above 0 and at most 1")
        least, most = self.workers
        shown = " ".join(map(str, dict.fromkeys(self.workers)))
        require(1 <= least <= most, "num_workers", shown, "at least 1; of two, the second not less")
        require(
            self.batch_size >= most,
            "batch_size",
            self.batch_size,
            f"at least --num_workers ({most})",
        )
        self.read_options()
        if self.threshold is not None:
            require(0 < self.threshold < 1, "threshold", self.threshold, "between 0 and 1")
        if self.threshold_for is not None:
            ThresholdRule.parse(self.threshold_for)
            if self.threshold is not None:
                raise InputError("--threshold_for chooses the threshold: leave out --threshold")
        LabelMap.parse(self.labels)
        rejected_limit(self.max_rejected, 0)
        if self.run_name is not None:
            require(
                re.fullmatch(RUN_NAME, self.run_name) is not None,
                "run_name",
                self.run_name,
                f"letters a to z, digits, - . and _, {MAX_RUN_NAME} at most, and not begin with "
                ". or _",
            )
        if self.initial_checkpoint is not None and self.initial_vectors != "random":
            raise InputError(
                f"--initial_vectors {self.initial_vectors}: the words of --initial_checkpoint have "
                "vectors: leave out one of the two"
            )
        if self.unlabelled is not None and self.initial_vectors != "cooccurrence":
            raise InputError("--unlabelled needs --initial_vectors cooccurrence, which reads it")
        if self.truncate and self.sequence_len is None:
            raise InputError("--truncate needs --sequence_len: the length to cut texts to")
