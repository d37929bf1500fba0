"""Predictor: texts -> classes and probabilities with a loaded checkpoint, on one CPU core."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sentiment.checkpoint import Checkpoint
from sentiment.checkpoint import load as load_checkpoint
from sentiment.errors import InputError
from sentiment.model.inference import inference

if TYPE_CHECKING:
    import pandas as pd

    Texts: TypeAlias = Sequence[str] | np.ndarray | pd.Series | pa.Array | pa.ChunkedArray

MAX_TOKENS = 512
"""Default of `max_tokens`: longer texts are truncated to their first tokens."""


class Predictor:
    """A trained model for texts in memory. It can be pickled, and threads can share it."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._checkpoint = checkpoint
        self._encode = checkpoint.encoder()
        self._infer = inference(checkpoint.weights, checkpoint.bigrams)

    @property
    def model_hash(self) -> str:
        """Identifies the model, as hex SHA-256. Scored parts contain the same hash."""
        return self._checkpoint.model_hash

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the columns of `predict_proba`."""
        return self._checkpoint.classes.names

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """The entry of each id: two special tokens, words, then bigrams such as `not good`."""
        return self._checkpoint.vocabulary

    def predict(self, texts: "Texts", max_tokens: int = MAX_TOKENS) -> npt.NDArray[np.object_]:
        """The name of each text's class: str[n], as objects.

        Arguments and errors as for `predict_proba`.
        """
        winners = self.winners(self.predict_proba(texts, max_tokens))
        return np.array(self.classes, object)[winners]

    def winners(self, probabilities: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
        """Which class wins each text, as an index into `classes`: float32[n, classes] to int64[n].

        The most probable class wins; of two classes the second one from the model's threshold on.
        """
        return self._checkpoint.classes.winners(probabilities)

    def predict_proba(
        self, texts: "Texts", max_tokens: int = MAX_TOKENS
    ) -> npt.NDArray[np.float32]:
        """The probability of each class for each text.

        A text's probabilities have the same bits as in `pipelines.score`, whatever the other texts.

        Args:
            texts: n str in one dimension; or an Arrow array of n strings, or of UTF-8 bytes.
            max_tokens: longer texts are truncated to this many tokens.

        Returns:
            float32[n, classes], in the order of the texts and of `classes`.

        Raises InputError (a ValueError) that names a text that is null (None, NaN), not a str or
        not valid Unicode; TypeError if `texts` is one string or does not have one dimension.
        """
        if max_tokens < 1:
            raise InputError(f"max_tokens is {max_tokens}; it must be at least 1")
        column = texts if isinstance(texts, pa.Array | pa.ChunkedArray) else _column(texts)
        tokens = self._encode(column)
        if len(tokens.invalid):
            position = int(tokens.invalid[0])
            raise _unusable(position, "not valid UTF-8" if column[position].is_valid else "null")
        lengths = np.minimum(np.diff(tokens.offsets), max_tokens)
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        return self._infer(tokens.heads(lengths), offsets)


def load(directory: str) -> Predictor:
    """Load the checkpoint in `directory` (a path or URI).

    Raises InputError if there is no checkpoint, or a damaged one. Imports neither Ray nor
    TensorFlow. Importing, loading and the first prediction take a second of one core, mostly for
    Numba. The first process on a machine compiles, for about 20 s, and caches the result.
    """
    return Predictor(load_checkpoint(directory))


def _column(texts: "Sequence[str] | np.ndarray | pd.Series") -> pa.Array:
    """The texts as an Arrow array. `pa.array` would import pandas, and name no position."""
    if isinstance(texts, str | bytes):
        raise TypeError("texts is one string; give a list: [text]")
    array = np.asarray(texts, object)
    if array.ndim != 1:
        raise TypeError(
            f"texts are a {type(texts).__name__} of {array.ndim} dimensions, not one; give a list "
            "of str, a pandas Series, or an Arrow array"
        )
    encoded = []
    for position, text in enumerate(array):
        if not isinstance(text, str):
            raise _unusable(position, f"{text!r:.60}")
        try:
            encoded.append(text.encode())
        except UnicodeEncodeError as error:
            raise _unusable(position, f"not valid Unicode ({error.reason})") from None
    offsets = np.cumsum([0, *map(len, encoded)], dtype=np.int64)
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(b"".join(encoded))]
    return pa.Array.from_buffers(pa.large_string(), len(encoded), buffers)


def _unusable(position: int, what: str) -> InputError:
    return InputError(f"texts[{position}] is {what}; give a str, which may be empty")
