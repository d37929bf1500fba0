"""The checkpoint: what training leaves and scoring loads, as a directory of plain files.

    weights.safetensors   float32 matrices, named as in `Checkpoint.weights`
    vocabulary.txt        one token a line, then bigrams, two tokens with a blank between; the
                          line's number, from 0, is the id
    stopwords.txt         one token a line
    training.json         how it was trained: flags, split, metrics. No answer follows from it
    checkpoint.json       format, sizes, and the SHA-256 of each file above; written last

Loading runs no code from any of them and needs no TensorFlow.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from sentiment import storage
from sentiment.errors import UNREADABLE, InputError, on_one_line
from sentiment.text.bigrams import Bigrams
from sentiment.text.tokenizer import SPECIALS

FORMAT = 2
MANIFEST = "checkpoint.json"
_WEIGHTS, _VOCABULARY, _STOP_WORDS = "weights.safetensors", "vocabulary.txt", "stopwords.txt"
_TRAINING = "training.json"
_MOST = {_WEIGHTS: 4 * 2**30, _VOCABULARY: 64 * 2**20}
_MOST_ELSE = 16 * 2**20
"""Bytes of a file: what is read is taken apart in memory, into many times as much for JSON."""

_LONGEST_HEADER = 2**16
"""Bytes of what the weights' file says of its matrices."""

LARGEST_TABLE = 16 * 2**30
"""Bytes of float32 that the kernel folds a model into: LSTMs x vocabulary x 4 x hidden, with hidden
rounded up to whole vectors. A file may be small and its table not."""

_LANES = 16
"""float32 in a vector, on the machines where it has most."""

_ANSWER_FILES = (_WEIGHTS, _VOCABULARY, _STOP_WORDS)


FORWARD, BACKWARD = "lstm", "backward"
"""The LSTM that reads a text as it stands, and that which reads it from its end."""


def lstms(weights: Iterable[str]) -> tuple[str, ...]:
    """The LSTMs that weights of these names make: one, or two for a model that reads both ways."""
    backward = any(name.startswith(f"{BACKWARD}/") for name in weights)
    return (FORWARD, BACKWARD) if backward else (FORWARD,)


def weight_shapes(
    vocabulary: int, embedding: int, hidden: int, names: tuple[str, ...] = (FORWARD,)
) -> dict[str, tuple[int, ...]]:
    """The weights of a model with these LSTMs by name, with their shapes."""
    of_lstms = {
        f"{name}/{weight}": shape
        for name in names
        for weight, shape in (
            ("kernel", (embedding, 4 * hidden)),
            ("recurrent_kernel", (hidden, 4 * hidden)),
            ("bias", (4 * hidden,)),
        )
    }
    dense = {"dense/kernel": (len(names) * hidden, 2), "dense/bias": (2,)}
    return {"embedding": (vocabulary, embedding), **of_lstms, **dense}


def require_size(vocabulary: int, embedding: int, hidden: int, names: tuple[str, ...]) -> None:
    """Raise InputError for a model that is too large to be loaded."""
    table = len(names) * vocabulary * 4 * -(-hidden // _LANES) * _LANES * 4
    if table > LARGEST_TABLE:
        raise InputError(
            f"{vocabulary:,} words and bigrams and {hidden:,} units make a table of more than "
            f"{LARGEST_TABLE >> 30} GiB"
        )
    if vocabulary * embedding * 4 > _MOST[_WEIGHTS] - 2**30:
        raise InputError(
            f"{vocabulary:,} words and bigrams of {embedding:,} numbers make an embedding of more "
            f"than {(_MOST[_WEIGHTS] >> 30) - 1} GiB"
        )


@dataclass(frozen=True)
class Checkpoint:
    """A trained model, whole: nothing else is needed to turn texts into probabilities."""

    weights: Mapping[str, np.ndarray]
    """float32: embedding (V, E), lstm/kernel (E, 4H), lstm/recurrent_kernel (H, 4H),
    lstm/bias (4H,), dense/kernel (H, 2), dense/bias (2,); the gates in Keras's order i, f, c, o.
    Of a model that reads both ways also backward/kernel and so on; then dense/kernel is (2H, 2)."""
    vocabulary: tuple[str, ...]
    """Words, then bigrams: see `sentiment.text.bigrams`."""
    stop_words: tuple[str, ...] = ()
    training: Mapping[str, Any] = field(default_factory=dict)
    bigrams: Bigrams = field(init=False, repr=False, compare=False)
    """What finds the vocabulary's bigrams in texts."""

    def __post_init__(self) -> None:
        if self.vocabulary[: len(SPECIALS)] != SPECIALS:
            raise InputError(f"{_VOCABULARY} does not begin with {', '.join(SPECIALS)}")
        if len(set(self.vocabulary)) != len(self.vocabulary):
            raise InputError(f"{_VOCABULARY} holds a token twice")
        shapes = {name: value.shape for name, value in self.weights.items()}
        embedding, hidden = self._size("embedding", 1), self._size("lstm/recurrent_kernel", 0)
        names = lstms(shapes)
        wanted = weight_shapes(len(self.vocabulary), embedding, hidden, names)
        for name in sorted(wanted.keys() | shapes.keys()):
            if shapes.get(name) != wanted.get(name):
                raise InputError(
                    f"{_WEIGHTS}: {name!r:.80} has shape {shapes.get(name)}; "
                    f"in this model it is {wanted.get(name)}"
                )
        require_size(len(self.vocabulary), embedding, hidden, names)
        for name, value in self.weights.items():
            if value.dtype != np.float32 or not np.isfinite(value).all():
                raise InputError(f"{_WEIGHTS}: {name!r} is not all finite float32 numbers")
        try:
            object.__setattr__(self, "bigrams", Bigrams(self.vocabulary))
        except InputError as error:
            raise InputError(f"{_VOCABULARY}: {error}") from error
        if not isinstance(self.training, Mapping):
            raise InputError(f"{_TRAINING} is no JSON object")

    def _size(self, name: str, axis: int) -> int:
        shape = self.weights[name].shape if name in self.weights else ()
        return max(shape[axis], 1) if len(shape) == 2 else 1

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

    @property
    def words(self) -> tuple[str, ...]:
        """The vocabulary without its bigrams."""
        return self.vocabulary[: self.bigrams.words]

    @cached_property
    def model_hash(self) -> str:
        """Identifies what the model answers: weights, vocabulary and stop words, as hex SHA-256."""
        return str(json.loads(self.files()[MANIFEST])["model_hash"])


def save(checkpoint: Checkpoint, directory: str) -> None:
    """Write the checkpoint into `directory` (a path or URI, made if need be), complete last."""
    for name, content in checkpoint.files().items():
        storage.write(storage.join(directory, name), content)


def load(directory: str) -> Checkpoint:
    """The checkpoint in `directory` (a path or URI), or an InputError that says what is wrong."""
    manifest = _manifest(directory)
    parts = []
    for name, parse in _PARSERS.items():
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
            said = on_one_line(error)
            raise InputError(f"checkpoint {directory} cannot be used: {name}: {said}") from error
    try:
        return Checkpoint(*parts)
    except InputError as error:
        raise InputError(f"checkpoint {directory} cannot be used: {error}") from error


def _read(directory: str, name: str) -> bytes | None:
    """A file's content; None: there is none."""
    try:
        return storage.read(storage.join(directory, name), _MOST.get(name, _MOST_ELSE))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        said = on_one_line(error)
        raise InputError(f"checkpoint {directory}: {name} cannot be read: {said}") from error


def _manifest(directory: str) -> dict[str, Any]:
    content = _read(directory, MANIFEST)
    if content is None:
        raise InputError(
            f"{directory} is no checkpoint: it has no {MANIFEST}; "
            "name a directory that `python -m pipelines.train` printed"
        )
    damaged = InputError(f"checkpoint {directory} is damaged: {MANIFEST} does not read; {_AGAIN}")
    try:
        manifest: dict[str, Any] = json.loads(content)
        version = manifest["format"]
        written = content == _json(manifest)
        whole = written and manifest["model_hash"] == _model_hash(manifest["files"])
    except UNREADABLE as error:
        raise damaged from error
    if isinstance(version, int) and version != FORMAT:
        raise InputError(
            f"checkpoint {directory} has format {version}; this version reads format {FORMAT}: "
            "update the package, or train again"
        )
    if version != FORMAT or not whole:
        raise damaged
    return manifest


def _model_hash(digests: Mapping[str, str]) -> str:
    answer = "".join(f"{name} {digests[name]}\n" for name in _ANSWER_FILES)
    return hashlib.sha256(f"format {FORMAT}\n{answer}".encode()).hexdigest()


def _lines(tokens: tuple[str, ...]) -> bytes:
    for token in tokens:
        if not token or "\n" in token:
            raise InputError(f"token {token!r} does not fit on a line")
    try:
        return "".join(f"{token}\n" for token in tokens).encode()
    except UnicodeEncodeError as error:
        raise InputError(f"a token is no Unicode text: {error}") from error


def _tokens(content: bytes) -> tuple[str, ...]:
    # Not splitlines(): a token may hold U+2028 and its like.
    *tokens, rest = content.decode().split("\n")
    if rest or "" in tokens:
        raise InputError("a line is empty, or the last one has no end")
    return tuple(tokens)


def _matrices(content: bytes) -> dict[str, np.ndarray]:
    if int.from_bytes(content[:8], "little") > _LONGEST_HEADER:
        raise InputError(f"its header is longer than {_LONGEST_HEADER:,} bytes")
    return safetensors.numpy.load(content)


def _json(value: Mapping[str, Any]) -> bytes:
    return (json.dumps(value, indent=1, sort_keys=True) + "\n").encode()


_PARSERS: dict[str, Callable[[bytes], Any]] = {
    _WEIGHTS: _matrices,
    _VOCABULARY: _tokens,
    _STOP_WORDS: _tokens,
    _TRAINING: json.loads,
}
"""What reads each file, in the order in which `Checkpoint` takes them."""

_AGAIN = "copy it again"
