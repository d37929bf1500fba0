"""Predictor: texts -> classes and probabilities with a loaded checkpoint, on one CPU core."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sentiment.answers import answers
from sentiment.checkpoint import Checkpoint
from sentiment.checkpoint import load as load_checkpoint
from sentiment.errors import InputError
from sentiment.model.inference import inference

if TYPE_CHECKING:
    import pandas as pd

    Texts: TypeAlias = Sequence[str] | np.ndarray | pd.Series | pa.Array | pa.ChunkedArray

Null: TypeAlias = Literal["raise", "nan"]

MAX_TOKENS = 512
"""Default of `max_tokens`: longer texts are truncated to their first tokens."""


class Predictor:
    """A trained model for texts in memory. It can be pickled, and threads can share it.

    A pickle has the size of the checkpoint; unpickling loads the model again.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._checkpoint = checkpoint
        self._encode = checkpoint.encoder()
        self._infer = inference(checkpoint.network)

    def __reduce__(self) -> "tuple[type[Predictor], tuple[Checkpoint]]":
        return Predictor, (self._checkpoint,)

    def __repr__(self) -> str:
        """Classes, words, how it was trained, and the first digits of its hash."""
        checkpoint = self._checkpoint
        names = ", ".join(self.classes[:5]) + (", ..." if len(self.classes) > 5 else "")
        facts = [f"{len(self.classes)} classes: {names}", f"{len(checkpoint.words):,} words"]
        if bigrams := len(checkpoint.network.bigrams):
            facts.append(f"{bigrams:,} bigrams")
        # What a stranger's training.json holds may be anything.
        rows = checkpoint.training.get("rows")
        if isinstance(rows, dict) and isinstance(rows.get("train"), int):
            facts.append(f"trained on {rows['train']:,} rows")
        return f"<Predictor {self.model_hash[:12]}; {'; '.join(facts)}>"

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

    def predict(
        self, texts: "Texts", max_tokens: int = MAX_TOKENS, null: "Null" = "raise"
    ) -> npt.NDArray[np.object_]:
        """The name of each text's class: str[n], as objects; None for a null text with null="nan".

        Arguments and errors as for `predict_proba`.
        """
        probabilities = self.predict_proba(texts, max_tokens, null)
        names = np.array(self.classes, object)[self.winners(probabilities)]
        names[np.isnan(probabilities[:, 0])] = None
        return names

    def winners(self, probabilities: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
        """Which class wins each text, as an index into `classes`: float32[n, classes] to int64[n].

        The most probable class wins; of two classes the second one from the model's threshold on.
        """
        return self._checkpoint.classes.winners(probabilities)

    def predict_proba(
        self, texts: "Texts", max_tokens: int = MAX_TOKENS, null: "Null" = "raise"
    ) -> npt.NDArray[np.float32]:
        """The probability of each class for each text.

        A text's probabilities have the same bits as in `pipelines.score`, whatever the other texts.

        Args:
            texts: n str in one dimension; or an Arrow array of n strings, or of UTF-8 bytes.
            max_tokens: longer texts are truncated to this many tokens.
            null: what to do with null texts (None, NaN, NaT, pd.NA): "raise" an InputError, or
                give "nan" for them.

        Returns:
            float32[n, classes], in the order of the texts and of `classes`.

        Raises InputError (a ValueError) that names a text that is null (None, NaN), not a str or
        not valid Unicode; TypeError if `texts` is one string or does not have one dimension.
        """
        ids, offsets, nulls = self._token_ids(texts, max_tokens, null)
        probabilities = self._infer(ids, offsets)
        probabilities[nulls] = np.nan
        return probabilities

    def predict_table(
        self, texts: "Texts", max_tokens: int = MAX_TOKENS, null: "Null" = "raise"
    ) -> pa.Table:
        """The columns that `pipelines.score` adds, for each text: its class and probabilities.

        Arguments and errors as for `predict_proba`; with null="nan" a null text has nulls.

        Returns:
            n rows, with the schema `sentiment.answers.answer_schema`.
        """
        ids, offsets, nulls = self._token_ids(texts, max_tokens, null)
        table = answers(self._infer, ids, offsets, self._checkpoint.classes).columns
        if not len(nulls):
            return table
        # To take a row without a number is to take nulls.
        is_null = np.zeros(len(table), bool)
        is_null[nulls] = True
        return table.take(pa.array(np.arange(len(table)), mask=is_null))

    def _token_ids(
        self, texts: "Texts", max_tokens: int, null: "Null"
    ) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """The first token ids of each text.

        Arguments and errors as for `predict_proba`.

        Returns:
            int32[tokens], the ids; int64[n + 1], where each text begins; int64[nulls], which texts
            are null.
        """
        if max_tokens < 1:
            raise InputError(f"max_tokens is {max_tokens}; it must be at least 1")
        if null not in ("raise", "nan"):
            raise InputError(f"null is {null!r}; it must be 'raise' or 'nan'")
        is_arrow = isinstance(texts, pa.Array | pa.ChunkedArray)
        column = texts if is_arrow else _column(texts, null == "nan")
        tokens = self._encode(column)
        for position in tokens.invalid.tolist():
            if column[position].is_valid:
                raise _unusable(position, "not valid UTF-8")
            if null == "raise":
                raise _unusable(position, "null", is_null=True)
        lengths = np.minimum(np.diff(tokens.offsets), max_tokens)
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        # All invalid texts that are left are null.
        return tokens.heads(lengths), offsets, tokens.invalid


def load(directory: str) -> Predictor:
    """Load the checkpoint in `directory` (a path or URI).

    Raises InputError if there is no checkpoint, or a damaged one. Imports neither Ray nor
    TensorFlow. Importing, loading and the first prediction take a second of one core, mostly for
    Numba. The first process on a machine compiles, for about 20 s, and caches the result.
    """
    return Predictor(load_checkpoint(directory))


def _column(texts: "Sequence[str] | np.ndarray | pd.Series", nulls: bool) -> pa.Array:
    """The texts as an Arrow array. `pa.array` would import pandas, and name no position.

    `nulls`: whether a text may be null.
    """
    if isinstance(texts, str | bytes):
        raise TypeError("texts is one string; give a list: [text]")
    array = np.asarray(texts, object)
    if array.ndim != 1:
        raise TypeError(
            f"texts are a {type(texts).__name__} of {array.ndim} dimensions, not one; give a list "
            "of str, a pandas Series, or an Arrow array"
        )
    encoded, valid = [], np.ones(len(array), bool)
    for position, text in enumerate(array):
        if nulls and _is_null(text):
            encoded.append(b"")
            valid[position] = False
            continue
        if not isinstance(text, str):
            raise _unusable(position, f"{text!r:.60}", _is_null(text))
        try:
            encoded.append(text.encode())
        except UnicodeEncodeError as error:
            raise _unusable(position, f"not valid Unicode ({error.reason})") from None
    offsets = np.cumsum([0, *map(len, encoded)], dtype=np.int64)
    bits = pa.py_buffer(np.packbits(valid, bitorder="little").tobytes())
    buffers = [bits, pa.py_buffer(offsets), pa.py_buffer(b"".join(encoded))]
    return pa.Array.from_buffers(pa.large_string(), len(encoded), buffers)


def _is_null(text: object) -> bool:
    """Whether it is None, or one of the values that pandas and NumPy have for nothing."""
    if text is None or type(text).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(text, float) and text != text


def _unusable(position: int, what: str, is_null: bool = False) -> InputError:
    remedy = '; null="nan" gives null texts no answer' if is_null else ", which may be empty"
    return InputError(f"texts[{position}] is {what}; give a str{remedy}")
