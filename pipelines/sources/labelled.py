"""Labelled rows: texts, labels and tokens of a shard, or an error that names the first bad row."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import pyarrow as pa

from pipelines.errors import BadShard
from pipelines.sources.arrow_types import is_text
from pipelines.sources.options import ReadOptions
from pipelines.sources.rows import Rows, choose_columns
from pipelines.sources.shard import Counted, Shard
from sentiment.text.tokenizer import TokenIds, Tokens

TokensT = TypeVar("TokensT", Tokens, TokenIds)


@dataclass(frozen=True)
class LabelledRows(Generic[TokensT]):
    """A batch of labelled rows of a shard."""

    numbers: np.ndarray
    """int64[rows]: the row number of each row in its shard, from 1."""
    texts: pa.ChunkedArray
    """The text column: string or binary, no nulls, valid UTF-8."""
    labels: np.ndarray
    """int8[rows]: 0 (negative) or 1 (positive)."""
    tokens: TokensT
    """The tokens or token ids of each text."""


@dataclass(frozen=True)
class LabelledReader:
    """Reads labelled rows from shards: which columns, in which encoding."""

    text_column: str
    label_column: str
    encoding: str

    @property
    def _options(self) -> ReadOptions:
        return ReadOptions(encoding=self.encoding, fields=(self.text_column, self.label_column))

    def require_columns(self, shard: Shard) -> None:
        """Raise BadShard if the shard lacks a column; also what `Shard.rows` raises."""
        names = shard.schema(self._options).names
        choose_columns(shard.path, names, [self.text_column, self.label_column], ())

    def read(
        self, shard: Shard, tokenize: Callable[[pa.Array], TokensT]
    ) -> Iterator[LabelledRows[TokensT]]:
        """Read and tokenize a shard, a batch at a time.

        Raises BadShard if a column has an unsuitable type, and for the first row that is
        malformed, whose label is not 0 or 1, or whose text is null or not valid UTF-8. The message
        names the file and the row.
        """
        for rows in shard.rows([self.text_column, self.label_column], self._options):
            for bad in rows.bad[:1]:
                raise BadShard(f"{shard.path}, row {bad.number}: {bad.reason}")
            Counted(len(rows.table), rows.table.schema).require_text(shard.path, self.text_column)
            texts = rows.table[self.text_column]
            labels = _labels(rows, self.label_column, shard.path)
            tokens = tokenize(texts)
            for index in tokens.invalid[:1]:
                where = f"{shard.path}, row {rows.numbers[index]}: {self.text_column}"
                if not texts[int(index)].is_valid:
                    raise BadShard(f"{where} is null")
                is_utf8 = shard.is_parquet or self._options.is_utf8
                encoding = "UTF-8" if is_utf8 else self.encoding
                other = "latin-1, cp1252, ..." if is_utf8 else "latin-1 takes any byte"
                raise BadShard(f"{where} is not valid {encoding}: pass --encoding ({other})")
            yield LabelledRows(rows.numbers, texts, labels, tokens)


_LABELS = {"0": 0, "0.0": 0, "False": 0, "false": 0, "1": 1, "1.0": 1, "True": 1, "true": 1}


def _labels(rows: Rows, column: str, path: str) -> np.ndarray:
    """The labels of a column of any type, int8[rows]; BadShard for the first that is invalid."""
    values = rows.table[column].combine_chunks()
    try:
        values = values.dictionary_encode()
    except pa.ArrowNotImplementedError:
        raise BadShard(f"{path}: column {column!r} is {values.type}, not labels 0 and 1") from None
    invalid = -1
    distinct = [_LABELS.get(_shown(value).strip(), invalid) for value in _values(values.dictionary)]
    null_index = len(distinct)
    indices = values.indices.cast(pa.int64()).fill_null(null_index)
    labels: np.ndarray = np.array([*distinct, invalid], np.int8)[indices]
    for index in np.flatnonzero(labels == invalid)[:1]:
        (value,) = _values(rows.table[column][int(index) : int(index) + 1])
        shown = "null" if value is None else repr(_shown(value)[:80])
        raise BadShard(f"{path}, row {rows.numbers[index]}: {column} is {shown}, not 0 or 1")
    return labels


def _values(column: pa.Array | pa.ChunkedArray) -> list[object]:
    """The values of a column; texts as bytes, since Arrow does not check that they are UTF-8."""
    plain = column.cast(pa.large_binary()) if is_text(column.type) else column
    values: list[object] = plain.to_pylist()
    return values


def _shown(value: object) -> str:
    if not isinstance(value, bytes):
        return str(value)
    try:
        return value.decode()
    except UnicodeDecodeError:
        # Latin-1 decodes any byte, so an invalid label can be shown in a message.
        return value.decode("latin-1")
