"""The weights that training starts from, where they are not random."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError

from pipelines.training.cache_sample import word_vectors
from pipelines.training.config import TrainConfig
from pipelines.training.prepared_corpus import Corpus
from pipelines.training.vector_file import read_vectors, require_vectors
from sentiment import storage
from sentiment.checkpoint import Checkpoint, load, pinned
from sentiment.errors import UNREADABLE, InputError, on_one_line

if TYPE_CHECKING:  # Loads TensorFlow, which only the workers need.
    from sentiment.model.keras_model import SentimentLSTM


@dataclass(frozen=True)
class InitialWeights:
    """Rows of the embedding, and other weights of the model."""

    ids: np.ndarray
    """int32[m]: the words and bigrams whose embedding is given."""
    vectors: np.ndarray
    """float32[m, E]."""
    others: Mapping[str, np.ndarray] = field(default_factory=dict)
    """float32 arrays by their names in a checkpoint."""

    def to_bytes(self) -> bytes:
        """The content of a safetensors file."""
        arrays = {"ids": self.ids, "vectors": self.vectors, **self.others}
        return safetensors.numpy.save({n: np.ascontiguousarray(v) for n, v in arrays.items()})

    @staticmethod
    def from_bytes(content: bytes) -> "InitialWeights":
        """What `to_bytes` made bytes of."""
        arrays = safetensors.numpy.load(content)
        return InitialWeights(arrays.pop("ids"), arrays.pop("vectors"), arrays)

    def set_in(self, model: "SentimentLSTM") -> None:
        """Give a model these weights; the others stay."""
        weights = model.export() | dict(self.others)
        weights["embedding"][self.ids] = self.vectors
        model.restore(weights)


def damage(path: str) -> str:
    """What is wrong with a file of initial weights; "": nothing."""
    try:
        InitialWeights.from_bytes(storage.read(path))
    except (*UNREADABLE, SafetensorError) as error:
        return on_one_line(error)
    return ""


def of_words(config: TrainConfig, corpus: Corpus, longest: int) -> InitialWeights | None:
    """The vectors of words that `--initial_vectors` asks for; None: they are random.

    Args:
        config: the flags.
        corpus: prepared.
        longest: tokens to keep of a text.
    """
    if config.initial_vectors == "random":
        return None
    if config.initial_vectors == "cooccurrence":
        vectors = word_vectors(corpus, longest, config.embedding_size)
        return InitialWeights(np.arange(len(vectors), dtype=np.int32), vectors)
    ids, vectors = read_vectors(config.initial_vectors, corpus.vocabulary, config.embedding_size)
    return InitialWeights(ids, vectors)


def of_checkpoint(
    checkpoint: Checkpoint, vocabulary: tuple[str, ...], classes: tuple[str, ...]
) -> InitialWeights:
    """The weights of a model for a vocabulary that has all its words and bigrams, and more.

    Args:
        checkpoint: of the model.
        vocabulary: of the new model.
        classes: of the new model; if they are other ones, the last layer stays random.
    """
    place = {entry: index for index, entry in enumerate(vocabulary)}
    known = [(index, place[e]) for index, e in enumerate(checkpoint.vocabulary) if e in place]
    rows, ids = np.array(known, np.int32).T
    skipped = ["embedding"]
    if checkpoint.classes.names != classes:
        skipped += ["dense/kernel", "dense/bias"]
    others = {name: value for name, value in checkpoint.weights.items() if name not in skipped}
    return InitialWeights(ids, checkpoint.weights["embedding"][rows], others)


def require_initial_vectors(config: TrainConfig) -> None:
    """Raise an InputError for a file of `--initial_vectors` that cannot be used, as far as its
    first line tells."""
    if config.initial_vectors not in ("random", "cooccurrence"):
        require_vectors(config.initial_vectors, config.embedding_size)


def initial_model(path: str) -> tuple[str, Checkpoint]:
    """The model of `--initial_checkpoint`, and its path; of hf:// with the commit.

    Raises InputError that names the flag if the model cannot be loaded.
    """
    try:
        path = pinned(path)
        return path, load(path)
    except InputError as error:
        raise InputError(f"--initial_checkpoint: {error}") from error


def require_same_model(
    config: TrainConfig, stop_words: tuple[str, ...], checkpoint: Checkpoint
) -> None:
    """Raise an InputError unless the flags ask for a model of the checkpoint's sizes and words."""
    network = checkpoint.network
    needed = {
        "embedding_size": network.embedding_size,
        "hidden_size": network.units,
        "bidirectional": len(network.lstms) == 2,
    }
    flags = [
        f"--{'' if value else 'no_'}{name}" if isinstance(value, bool) else f"--{name} {value}"
        for name, value in needed.items()
        if getattr(config, name) != value
    ]
    if flags:
        raise InputError(
            f"--initial_checkpoint {config.initial_checkpoint}: that model has other sizes: pass "
            f"{' '.join(flags)}"
        )
    if stop_words != checkpoint.stop_words:
        raise InputError(
            f"--initial_checkpoint {config.initial_checkpoint}: that model has other stop words: "
            f"pass --stopwords_file as it was trained with (its {len(checkpoint.stop_words):,} are "
            "in its stopwords.txt; None for none)"
        )
