"""Texts -> probabilities, whole: a checkpoint that is ready to answer, on one CPU core."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sentiment.checkpoint import Checkpoint
from sentiment.checkpoint import load as load_checkpoint
from sentiment.errors import InputError
from sentiment.model.inference import inference
from sentiment.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    import pandas as pd

MAX_TOKENS = 512
"""Longer texts are scored on so many tokens from their beginning, unless told otherwise."""


class Predictor:
    """A trained model, for texts in memory. It can be pickled, and shared among threads."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._checkpoint = checkpoint
        self._encode = Tokenizer(checkpoint.stop_words).encoder(checkpoint.words)
        self._infer = inference(checkpoint.weights, checkpoint.bigrams)

    @property
    def model_hash(self) -> str:
        """Names the model: equal hashes, equal answers. Scored parts carry the same."""
        return self._checkpoint.model_hash

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """What has an id, at its place: two markers, tokens, and bigrams as `not good`."""
        return self._checkpoint.vocabulary

    def predict(
        self,
        texts: "Sequence[str] | np.ndarray | pd.Series | pa.Array | pa.ChunkedArray",
        max_tokens: int = MAX_TOKENS,
    ) -> npt.NDArray[np.float32]:
        """The probability that each text is positive.

        It is that of `pipelines.score`, to the last bit, whatever texts it comes with.

        Args:
            texts: one dimension of str; or an Arrow array of strings, or of bytes in UTF-8.
            max_tokens: so many tokens from its beginning count of a longer text.

        Returns:
            float32 (n,), in the order of the texts.

        Raises InputError (a ValueError) that says which text is null (None, NaN), no str or no
        valid Unicode; TypeError where `texts` is one string, or has not one dimension.
        """
        if max_tokens < 1:
            raise InputError(f"max_tokens is {max_tokens}; it must be at least 1")
        column = texts if isinstance(texts, pa.Array | pa.ChunkedArray) else _column(texts)
        tokens = self._encode(column)
        if len(tokens.invalid):
            position = int(tokens.invalid[0])
            raise _unusable(position, "no valid UTF-8" if column[position].is_valid else "null")
        lengths = np.minimum(np.diff(tokens.offsets), max_tokens)
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        return self._infer(tokens.heads(lengths), offsets)


def load(directory: str) -> Predictor:
    """The model in the checkpoint `directory` (a path or URI).

    Raises InputError for a directory that is no checkpoint, or a damaged one. Loads neither Ray nor
    TensorFlow. A process takes a second of one core to import, load and predict, most of it for
    Numba; the first one on a machine compiles, for some 20 s, and keeps what it compiled.
    """
    return Predictor(load_checkpoint(directory))


def _column(texts: "Sequence[str] | np.ndarray | pd.Series") -> pa.Array:
    """The texts as an Arrow array. Arrow's own way loads pandas first, and names no position."""
    if isinstance(texts, str | bytes):
        raise TypeError("texts are one string; for a single text give a list of it: [text]")
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
            raise _unusable(position, f"no valid Unicode ({error.reason})") from None
    offsets = np.cumsum([0, *map(len, encoded)], dtype=np.int64)
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(b"".join(encoded))]
    return pa.Array.from_buffers(pa.large_string(), len(encoded), buffers)


def _unusable(position: int, what: str) -> InputError:
    return InputError(f"texts[{position}] is {what}; a text is a str, an empty one if need be")
