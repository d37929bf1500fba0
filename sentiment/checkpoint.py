"""Checkpoints: a trained model as a directory of plain files, saved by training, loaded by scoring.

    weights.safetensors   float32 matrices, named as in `sentiment.network.Network`
    vocabulary.txt        one token per line, then bigrams: two tokens with a blank in between. A
                          line's number, from 0, is the id
    stopwords.txt         one token per line
    model.json            names of the classes, threshold, version of the tokenizer's rules. Models
                          of the classes negative and positive and of rules 1 have no such file
    training.json         how the model was trained: flags, split, metrics. Predictions do not
                          depend on it
    checkpoint.json       format, model hash, and the SHA-256 of each file above; written last

Loading runs no code from these files and needs no TensorFlow.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from sentiment import hub, storage
from sentiment.classes import BINARY, Classes
from sentiment.errors import UNREADABLE, InputError, on_one_line
from sentiment.network import Network, weight_shapes
from sentiment.text.bigrams import Bigrams
from sentiment.text.tokenizer import FIRST_RULES, RULES, SPECIALS, Encoder, Tokenizer

FIRST_FORMAT, FORMAT = 2, 3
"""Formats: checkpoints of the first have no model.json, but the classes negative and positive and
rules 1."""

MANIFEST = "checkpoint.json"
_WEIGHTS, _VOCABULARY, _STOP_WORDS = "weights.safetensors", "vocabulary.txt", "stopwords.txt"
_TRAINING, _MODEL = "training.json", "model.json"
_MAX_FILE_BYTES = {_WEIGHTS: 4 * 2**30, _VOCABULARY: 64 * 2**20}
_MAX_OTHER_FILE_BYTES = 16 * 2**20
"""Files are parsed in memory. JSON takes many times its size there."""

_MAX_HEADER_BYTES = 2**16
"""Largest header of weights.safetensors, which lists its matrices."""

MAX_TABLE_BYTES = 16 * 2**30
"""Largest table that the kernel folds a model into: LSTMs x vocabulary x 4 x hidden float32
numbers, with hidden rounded up to whole vectors. A small file can make a large table."""

_MAX_LANES = 16
"""float32 numbers in the longest vector of any machine."""

_HASHED_FILES = {
    FIRST_FORMAT: (_WEIGHTS, _VOCABULARY, _STOP_WORDS),
    FORMAT: (_WEIGHTS, _VOCABULARY, _STOP_WORDS, _MODEL),
}
"""Files that predictions depend on, by format."""


def require_size(vocabulary: int, embedding: int, hidden: int, names: tuple[str, ...]) -> None:
    """Raise InputError for a model that is too large to load. Arguments as for `weight_shapes`."""
    table = len(names) * vocabulary * 4 * -(-hidden // _MAX_LANES) * _MAX_LANES * 4
    if table > MAX_TABLE_BYTES:
        raise InputError(
            f"{vocabulary:,} words and bigrams and {hidden:,} units make a table of more than "
            f"{MAX_TABLE_BYTES >> 30} GiB"
        )
    if vocabulary * embedding * 4 > _MAX_FILE_BYTES[_WEIGHTS] - 2**30:
        raise InputError(
            f"{vocabulary:,} words and bigrams of {embedding:,} numbers make an embedding of more "
            f"than {(_MAX_FILE_BYTES[_WEIGHTS] >> 30) - 1} GiB"
        )


@dataclass(frozen=True)
class Checkpoint:
    """A trained model, with all that is needed to turn texts into probabilities."""

    weights: Mapping[str, np.ndarray]
    """float32 arrays by name: see `sentiment.network.Network.weights`."""
    vocabulary: tuple[str, ...]
    """Words, then bigrams: see `sentiment.text.bigrams`."""
    stop_words: tuple[str, ...] = ()
    training: Mapping[str, Any] = field(default_factory=dict)
    classes: Classes = BINARY
    rules: int = RULES
    """Version of the rules by which texts are tokenized."""
    network: Network = field(init=False, repr=False, compare=False)
    """What turns the ids of words into probabilities: the weights, and the vocabulary's bigrams."""

    def __post_init__(self) -> None:
        if self.vocabulary[: len(SPECIALS)] != SPECIALS:
            raise InputError(f"{_VOCABULARY} does not begin with {', '.join(SPECIALS)}")
        if len(set(self.vocabulary)) != len(self.vocabulary):
            raise InputError(f"{_VOCABULARY} holds a token twice")
        try:
            network = Network(self.weights, Bigrams(self.vocabulary))
        except InputError as error:
            raise InputError(f"{_VOCABULARY}: {error}") from error
        object.__setattr__(self, "network", network)
        shapes = {name: value.shape for name, value in self.weights.items()}
        embedding, hidden = self._size("embedding", 1), self._size("lstm/recurrent_kernel", 0)
        names = network.lstms
        expected = weight_shapes(len(self.vocabulary), embedding, hidden, names, len(self.classes))
        for name in sorted(expected.keys() | shapes.keys()):
            if shapes.get(name) != expected.get(name):
                raise InputError(
                    f"{_WEIGHTS}: {name!r:.80} has shape {shapes.get(name)}; "
                    f"in this model it is {expected.get(name)}"
                )
        require_size(len(self.vocabulary), embedding, hidden, names)
        for name, value in self.weights.items():
            if value.dtype != np.float32 or not np.isfinite(value).all():
                raise InputError(f"{_WEIGHTS}: {name!r} is not all finite float32 numbers")
        if not isinstance(self.training, Mapping):
            raise InputError(f"{_TRAINING} is not a JSON object")

    def _size(self, name: str, axis: int) -> int:
        shape = self.weights[name].shape if name in self.weights else ()
        return max(shape[axis], 1) if len(shape) == 2 else 1

    def files(self) -> dict[str, bytes]:
        """The content of each file by name, checkpoint.json last.

        The same model gives the same bytes. Raises InputError for a token that does not fit on a
        line of text.
        """
        weights = {name: np.ascontiguousarray(self.weights[name]) for name in sorted(self.weights)}
        contents = {
            _WEIGHTS: safetensors.numpy.save(weights),
            _VOCABULARY: _lines(self.vocabulary),
            _STOP_WORDS: _lines(self.stop_words),
            _TRAINING: _json(self.training),
        }
        if (self.classes, self.rules) != (BINARY, FIRST_RULES):
            fields = {"classes": self.classes.names, "threshold": self.classes.threshold}
            contents[_MODEL] = _json(fields | {"tokenizer": self.rules})
        digests = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
        version = FORMAT if _MODEL in contents else FIRST_FORMAT
        manifest = {
            "format": version,
            "model_hash": _model_hash(version, digests),
            "files": digests,
        }
        return contents | {MANIFEST: _json(manifest)}

    def encoder(self) -> Encoder:
        """The tokenizer of this model: texts -> ids of its words."""
        return Tokenizer(self.stop_words, self.rules).encoder(self.words)

    @property
    def words(self) -> tuple[str, ...]:
        """The vocabulary without its bigrams."""
        return self.vocabulary[: self.network.words]

    @cached_property
    def model_hash(self) -> str:
        """SHA-256 in hex of all that predictions depend on: weights, vocabulary, stop words and
        classes."""
        return str(json.loads(self.files()[MANIFEST])["model_hash"])


def save(checkpoint: Checkpoint, directory: str) -> None:
    """Write the checkpoint into `directory`, a path or URI, which is created if it is missing.

    The file that makes the checkpoint complete is written last.
    """
    for name, content in checkpoint.files().items():
        storage.write(storage.join(directory, name), content)


def pinned(directory: str) -> str:
    """The path or URI of a checkpoint; of hf:// with the commit that its revision names now.

    Raises InputError for a URI that cannot be used. It may hold secrets, so no message names it.
    """
    if not directory.startswith(hub.SCHEME):
        storage.resolve(directory)
        return directory
    try:
        return hub.pinned(directory, MANIFEST)
    except FileNotFoundError:
        return directory


def load(directory: str) -> Checkpoint:
    """Load the checkpoint in `directory`, a path or URI (`s3://`, `gs://`, `hf://OWNER/NAME`).

    An InputError says what is wrong with it, an OSError that a disk or server failed.
    """
    directory = pinned(directory)
    manifest = _manifest(directory)
    parts: list[Any] = []
    for name, parse in _PARSERS.items():
        if name == _MODEL and manifest["format"] == FIRST_FORMAT:
            parts.append((BINARY, FIRST_RULES))
            continue
        content = _read(directory, name)
        if content is None:
            raise InputError(f"checkpoint {directory} is incomplete: {name} is missing; {_AGAIN}")
        if hashlib.sha256(content).hexdigest() != manifest["files"].get(name):
            raise InputError(
                f"checkpoint {directory} is damaged: {name} is not the file that was saved "
                f"(truncated or edited); {_AGAIN}"
            )
        try:
            parts.append(parse(content))
        except (*UNREADABLE, safetensors.SafetensorError) as error:
            reason = on_one_line(error)
            raise InputError(f"checkpoint {directory} cannot be used: {name}: {reason}") from error
    try:
        weights, vocabulary, stop_words, training, (classes, rules) = parts
        return Checkpoint(weights, vocabulary, stop_words, training, classes, rules)
    except InputError as error:
        raise InputError(f"checkpoint {directory} cannot be used: {error}") from error


def _read(directory: str, name: str) -> bytes | None:
    """A file's content; None if it does not exist."""
    try:
        return storage.read(
            storage.join(directory, name), _MAX_FILE_BYTES.get(name, _MAX_OTHER_FILE_BYTES)
        )
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, InputError) as error:
        message = f"checkpoint {directory}: {name} cannot be read: {on_one_line(error)}"
        if isinstance(error, InputError | IsADirectoryError | PermissionError):
            raise InputError(message) from error
        raise OSError(message) from error


def _manifest(directory: str) -> dict[str, Any]:
    content = _read(directory, MANIFEST)
    if content is None:
        raise InputError(
            f"{directory} is not a checkpoint: it has no {MANIFEST}; "
            "name a directory that `python -m pipelines.train` printed"
        )
    damaged = InputError(f"checkpoint {directory} is damaged: {MANIFEST} cannot be read; {_AGAIN}")
    try:
        manifest: dict[str, Any] = json.loads(content)
        version = manifest["format"]
        is_unchanged = content == _json(manifest)
        is_known = version in _HASHED_FILES
        is_whole = (
            is_unchanged
            and is_known
            and manifest["model_hash"] == _model_hash(version, manifest["files"])
        )
    except UNREADABLE as error:
        raise damaged from error
    if isinstance(version, int) and not is_known:
        raise InputError(
            f"checkpoint {directory} has format {version}; this version reads formats "
            f"{FIRST_FORMAT} and {FORMAT}: update the package, or train again"
        )
    if not is_whole:
        raise damaged
    return manifest


def _model_hash(version: int, digests: Mapping[str, str]) -> str:
    lines = "".join(f"{name} {digests[name]}\n" for name in _HASHED_FILES[version])
    return hashlib.sha256(f"format {version}\n{lines}".encode()).hexdigest()


def _model(content: bytes) -> tuple[Classes, int]:
    """The classes, and the version of the tokenizer's rules."""
    fields = dict(json.loads(content))
    names, threshold, rules = (fields.pop(name) for name in ("classes", "threshold", "tokenizer"))
    if fields:
        raise InputError(
            f"it has {min(fields)!r:.80}, which this version does not know: update the package"
        )
    if not isinstance(names, list) or not isinstance(threshold, float | None):
        raise InputError("it is not a list of classes, a threshold and a tokenizer")
    if rules not in range(FIRST_RULES, RULES + 1) or isinstance(rules, bool | float):
        raise InputError(
            f"its tokenizer is {rules!r:.20}; this version knows {FIRST_RULES} to {RULES}: update "
            "the package"
        )
    return Classes(tuple(names), threshold), rules


def _lines(tokens: tuple[str, ...]) -> bytes:
    for token in tokens:
        if not token or "\n" in token:
            raise InputError(f"token {token!r} does not fit on a line")
    try:
        return "".join(f"{token}\n" for token in tokens).encode()
    except UnicodeEncodeError as error:
        raise InputError(f"a token is not valid Unicode: {error}") from error


def _tokens(content: bytes) -> tuple[str, ...]:
    # Not splitlines(), because a token may contain U+2028 and similar characters.
    *tokens, rest = content.decode().split("\n")
    if rest or "" in tokens:
        raise InputError("a line is empty, or the last line has no line break")
    return tuple(tokens)


def _matrices(content: bytes) -> dict[str, np.ndarray]:
    if int.from_bytes(content[:8], "little") > _MAX_HEADER_BYTES:
        raise InputError(f"its header is longer than {_MAX_HEADER_BYTES:,} bytes")
    return safetensors.numpy.load(content)


def _json(value: Mapping[str, Any]) -> bytes:
    return (json.dumps(value, indent=1, sort_keys=True) + "\n").encode()


_PARSERS: dict[str, Callable[[bytes], Any]] = {
    _WEIGHTS: _matrices,
    _VOCABULARY: _tokens,
    _STOP_WORDS: _tokens,
    _TRAINING: json.loads,
    _MODEL: _model,
}
"""Parser of each file, in the order of the arguments of `Checkpoint`; of the last, two of them."""

_AGAIN = "copy it again"
