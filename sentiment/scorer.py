"""Scorer: adds classes and probabilities to batches of rows, inside other programs' pipelines."""

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, TypeAlias, TypeVar, overload

import numpy as np
import pyarrow as pa

from sentiment.answers import answer_schema, winner_column
from sentiment.errors import InputError
from sentiment.predictor import MAX_TOKENS, load

if TYPE_CHECKING:
    import pandas as pd

    Arrays: TypeAlias = dict[str, np.ndarray]
    Batch: TypeAlias = pa.Table | pa.RecordBatch | pd.DataFrame | Arrays

Frame = TypeVar("Frame", "pa.Table", "pa.RecordBatch", "pd.DataFrame")


class Scorer:
    """Adds each text's class and probabilities to a batch, with the bits of `pipelines.score`.

        dataset.map_batches(sentiment.Scorer, fn_constructor_args=["checkpoints/reviews"])

    A batch comes out as what it goes in: an Arrow table or record batch, a pandas DataFrame, or a
    dict of NumPy arrays. The added columns stand last, and have the names and types of those that
    `pipelines.score` writes. A null text (None, NaN, NaT, pd.NA) has null answers, which in pandas
    and NumPy are NaN and None.

    Make one for each process, because loading takes a second. A pickle has the size of the
    checkpoint.

    Args:
        checkpoint: directory or URI, as for `sentiment.load`.
        text_column: name of the column of texts.
        output_column: name of the column of classes; None: `sentiment` if negative and positive
            are among the classes, else `label`.
        max_tokens: longer texts are truncated to this many tokens.

    Raises InputError if the checkpoint cannot be used, or if two added columns would have one name.
    """

    def __init__(
        self,
        checkpoint: str,
        text_column: str = "text",
        output_column: str | None = None,
        max_tokens: int = MAX_TOKENS,
    ) -> None:
        self._model = load(checkpoint)
        self._text_column = text_column
        self._max_tokens = max_tokens
        winner = winner_column(self._model.classes)
        self._schema = pa.schema(
            field.with_name(output_column or winner) if field.name == winner else field
            for field in answer_schema(self._model.classes)
        )
        if len({name.lower() for name in self._schema.names}) < len(self._schema):
            raise InputError(f"output_column is {output_column!r}, as a column of probabilities is")

    @property
    def schema(self) -> pa.Schema:
        """Names and types of the added columns."""
        return self._schema

    @overload
    def __call__(self, batch: "Arrays") -> "Arrays": ...
    @overload
    def __call__(self, batch: Frame) -> Frame: ...
    def __call__(self, batch: "Batch") -> "Batch":
        """The batch with the added columns.

        Raises InputError (a ValueError) if the batch lacks the column of texts or has one of the
        added columns, and for a text that is neither null nor a str; TypeError for what is no
        batch.
        """
        pandas = sys.modules.get("pandas")  # Whoever has a DataFrame has imported it.
        if isinstance(batch, pa.Table | pa.RecordBatch):
            self._require_columns(batch.schema.names)
            columns = self._answers(batch.column(self._text_column))
            for field in self._schema:
                column = columns[field.name]
                is_table = isinstance(batch, pa.Table)
                batch = batch.append_column(field, column if is_table else column.combine_chunks())
            return batch
        if isinstance(batch, dict):
            self._require_columns(batch)
            return batch | self._arrays(batch[self._text_column])
        if pandas and isinstance(batch, pandas.DataFrame):
            self._require_columns(batch.columns)
            return batch.assign(**self._arrays(batch[self._text_column]))
        raise TypeError(
            f"the batch is a {type(batch).__name__}; give an Arrow table or record batch, a pandas "
            "DataFrame, or a dict of NumPy arrays"
        )

    def _answers(self, texts: "pa.Array | pa.ChunkedArray | pd.Series | np.ndarray") -> pa.Table:
        """The added columns of n texts."""
        table = self._model.predict_table(texts, self._max_tokens, null="nan")
        return table.rename_columns(self._schema.names)

    def _arrays(self, texts: "pd.Series | np.ndarray") -> "Arrays":
        """The added columns of n texts, as NumPy arrays."""
        table = self._answers(texts)
        return {name: _array(table[name]) for name in table.column_names}

    def _require_columns(self, names: Iterable[str]) -> None:
        given = {str(name).lower(): name for name in names}
        if self._text_column not in given.values():
            raise InputError(
                f"the batch has no column {self._text_column!r}: set text_column to one of "
                f"{', '.join(map(repr, given.values()))}"
            )
        for name in self._schema.names:
            if name.lower() in given:
                raise InputError(
                    f"the batch has a column {given[name.lower()]!r}, and {name!r} is to be added: "
                    "rename it, or set output_column"
                )


def _array(column: pa.ChunkedArray) -> np.ndarray:
    """The column as one array: float32[n], or object[n] of str or of lists of str or float32."""
    array: np.ndarray = column.to_numpy()
    if pa.types.is_list(column.type):
        # Arrays of one length Ray would take for tensors, which do not go with nulls.
        for row, values in enumerate(array):
            array[row] = None if values is None else list(values)
    return array
