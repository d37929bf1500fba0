"""The checkpoint: what training leaves and scoring loads, as a directory of plain files.

    weights.safetensors   float32 matrices, named as in `Checkpoint.weights`
    vocabulary.txt        one token a line; the line's number, from 0, is the token's id
    stopwords.txt         one token a line
    training.json         how it was trained: flags, split, metrics. Scoring does not read it
    checkpoint.json       format, sizes, and the SHA-256 of each file above; written last

Loading runs no code from any of them and needs no TensorFlow.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from sentiment import storage
from sentiment.errors import InputError
from sentiment.tokenizer import SPECIALS

FORMAT = 1
MANIFEST = "checkpoint.json"
_WEIGHTS, _VOCABULARY, _STOP_WORDS = "weights.safetensors", "vocabulary.txt", "stopwords.txt"
_TRAINING = "training.json"
_FILES = (_WEIGHTS, _VOCABULARY, _STOP_WORDS, _TRAINING)
_ANSWER_FILES = (_WEIGHTS, _VOCABULARY, _STOP_WORDS)


@dataclass(frozen=True)
class Checkpoint:
    """A trained model, whole: nothing else is needed to turn texts into probabilities."""

    weights: Mapping[str, np.ndarray]
    """float32: embedding (V, E), lstm/kernel (E, 4H), lstm/recurrent_kernel (H, 4H),
    lstm/bias (4H,), dense/kernel (H, 2), dense/bias (2,); the gates in Keras's order i, f, c, o."""
    vocabulary: tuple[str, ...]
    stop_words: tuple[str, ...] = ()
    training: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        shapes = {name: value.shape for name, value in self.weights.items()}
        if shapes != self._shapes():
            raise InputError(f"weights of shapes {shapes} do not make a model: {self._shapes()}")
        for name, value in self.weights.items():
            if value.dtype != np.float32 or not np.isfinite(value).all():
                raise InputError(f"weights {name!r} are not all finite float32 numbers")
        if self.vocabulary[: len(SPECIALS)] != SPECIALS:
            raise InputError(f"the vocabulary does not begin with {', '.join(SPECIALS)}")
        if len(set(self.vocabulary)) != len(self.vocabulary):
            raise InputError("the vocabulary holds a token twice")

    def _shapes(self) -> dict[str, tuple[int, ...]]:
        embedding = self.weights.get("embedding", np.empty((0, 0))).shape[-1]
        hidden = self.weights.get("lstm/recurrent_kernel", np.empty((0, 0))).shape[0]
        return {
            "embedding": (len(self.vocabulary), embedding),
            "lstm/kernel": (embedding, 4 * hidden),
            "lstm/recurrent_kernel": (hidden, 4 * hidden),
            "lstm/bias": (4 * hidden,),
            "dense/kernel": (hidden, 2),
            "dense/bias": (2,),
        }

    def files(self) -> dict[str, bytes]:
        """The directory's files by name, the one that makes it complete last.

        The same model gives the same bytes. Raises InputError for a token that a line of text
        cannot hold.
        """
        weights = {name: np.ascontiguousarray(self.weights[name]) for name in sorted(self.weights)}
        contents = {
            _WEIGHTS: safetensors.numpy.save(weights),
            _VOCABULARY: _lines(self.vocabulary),
            _STOP_WORDS: _lines(self.stop_words),
            _TRAINING: _json(self.training),
        }
        digests = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
        manifest = {"format": FORMAT, "model_hash": _model_hash(digests), "files": digests}
        return contents | {MANIFEST: _json(manifest)}

    @cached_property
    def model_hash(self) -> str:
        """Identifies what the model answers: weights, vocabulary and stop words, as hex SHA-256."""
        return json.loads(self.files()[MANIFEST])["model_hash"]


def save(checkpoint: Checkpoint, directory: str) -> None:
    """Write the checkpoint into `directory` (a path or URI, made if need be), complete last."""
    for name, content in checkpoint.files().items():
        storage.write(storage.join(directory, name), content)


def load(directory: str) -> Checkpoint:
    """The checkpoint in `directory` (a path or URI), or an InputError that says what is wrong."""
    try:
        manifest = _manifest(storage.read(storage.join(directory, MANIFEST)), directory)
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(
            f"{directory} is no checkpoint: it has no {MANIFEST}; "
            "name a directory that `python -m pipelines.train` printed"
        ) from None
    files = {}
    for name in _FILES:
        try:
            files[name] = storage.read(storage.join(directory, name))
        except FileNotFoundError:
            raise InputError(
                f"checkpoint {directory} is incomplete: {name} is missing; copy it again"
            ) from None
        if hashlib.sha256(files[name]).hexdigest() != manifest["files"][name]:
            raise InputError(
                f"checkpoint {directory} is damaged: {name} is not the file that was saved "
                "(truncated or edited); copy it again"
            )
    try:
        return Checkpoint(
            weights=safetensors.numpy.load(files[_WEIGHTS]),
            vocabulary=tuple(files[_VOCABULARY].decode().split("\n")[:-1]),
            stop_words=tuple(files[_STOP_WORDS].decode().split("\n")[:-1]),
            training=json.loads(files[_TRAINING]),
        )
    except (safetensors.SafetensorError, ValueError, KeyError) as error:
        raise InputError(f"checkpoint {directory} cannot be used: {error}") from error


def _manifest(content: bytes, where: str) -> dict[str, Any]:
    damaged = InputError(f"checkpoint {where} is damaged: {MANIFEST} does not read; copy it again")
    try:
        manifest = json.loads(content)
        version = manifest["format"]
    except (ValueError, TypeError, KeyError) as error:
        raise damaged from error
    if version != FORMAT:
        raise InputError(
            f"checkpoint {where} has format {version!r}; this version reads format {FORMAT}: "
            "update the package, or train again"
        )
    files = manifest.get("files")
    if not isinstance(files, dict) or set(files) != set(_FILES):
        raise damaged
    if manifest.get("model_hash") != _model_hash(files):
        raise damaged
    return manifest


def _model_hash(digests: Mapping[str, str]) -> str:
    answer = "".join(f"{name} {digests[name]}\n" for name in _ANSWER_FILES)
    return hashlib.sha256(f"format {FORMAT}\n{answer}".encode()).hexdigest()


def _lines(tokens: tuple[str, ...]) -> bytes:
    for token in tokens:
        if not token or "\n" in token:
            raise InputError(f"token {token!r} does not fit on a line")
    return "".join(f"{token}\n" for token in tokens).encode()


def _json(value: Mapping[str, Any]) -> bytes:
    return (json.dumps(value, indent=1, sort_keys=True) + "\n").encode()
