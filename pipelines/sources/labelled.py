"""Shards -> texts with labels, refused by row number where they cannot be learnt from; splits."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from pipelines.sources.listing import Counted, Shard
from pipelines.sources.parquet import Rows
from sentiment.errors import InputError
from sentiment.text.tokenizer import TokenIds, Tokens, mix

TRAIN, VALIDATION, TEST, LEFT_OUT = 0, 1, 2, 3

VALIDATION_SHARE = 0.05
"""Share of the rows not held out for testing that validates instead of training."""


Tokenize = Callable[[pa.Array], Tokens | TokenIds]


@dataclass(frozen=True)
class Split:
    """Which rows train, validate and test: decided by the normalised text, so that equal texts
    never land on both sides, and the same whatever shards the rows came in."""

    random_state: int
    test_size: float
    sample_below: int | None = None
    """Rows whose sampling hash is at or above this are left out; None: every row takes part."""

    def __call__(self, hashes: np.ndarray) -> np.ndarray:
        """int8 (n,): TRAIN, VALIDATION, TEST or LEFT_OUT for each text's hash, uint64 (n,)."""
        uniform = mix(hashes, 3 * self.random_state) / 2.0**64
        limit = self.test_size + (1 - self.test_size) * VALIDATION_SHARE
        parts = np.where(
            uniform < self.test_size, TEST, np.where(uniform < limit, VALIDATION, TRAIN)
        )
        if self.sample_below is not None:
            parts[self.sampling_hashes(hashes) >= np.uint64(self.sample_below)] = LEFT_OUT
        return parts.astype(np.int8)

    def sampling_hashes(self, hashes: np.ndarray) -> np.ndarray:
        """uint64 (n,): the smaller, the sooner a text is among `--n_samples`."""
        return mix(hashes, 3 * self.random_state + 1)


@dataclass(frozen=True)
class Source:
    """How labelled rows are read from a shard."""

    text_column: str
    label_column: str
    encoding: str

    def require_columns(self, shard: Shard) -> None:
        """Raise an InputError if a shard does not read or lacks a column."""
        next(shard.rows([self.text_column, self.label_column], self.encoding), None)

    def read(
        self, shard: Shard, tokenize: Tokenize
    ) -> Iterator[tuple[Rows, pa.ChunkedArray, np.ndarray, Tokens | TokenIds]]:
        """Some rows at a time: the rows, their texts, labels (int8 0/1), and tokens.

        Raises InputError, naming file and row, for a row that is malformed, a label that is not
        0 or 1, and a text that is null or not valid UTF-8; and for columns of other types.
        """
        for rows in shard.rows([self.text_column, self.label_column], self.encoding):
            for bad in rows.bad[:1]:
                raise InputError(f"{shard.path}, row {bad.number}: {bad.reason}")
            Counted(len(rows.table), rows.table.schema).require_text(shard.path, self.text_column)
            texts = rows.table[self.text_column]
            labels = _labels(rows, self.label_column, shard.path)
            tokens = tokenize(texts)
            for index in tokens.invalid[:1]:
                where = f"{shard.path}, row {rows.numbers[index]}: {self.text_column}"
                if not texts[int(index)].is_valid:
                    raise InputError(f"{where} is null")
                raise InputError(
                    f"{where} is not valid UTF-8: pass --encoding (latin-1, cp1252, ...)"
                )
            yield rows, texts, labels, tokens


_LABELS = {"0": 0, "0.0": 0, "False": 0, "1": 1, "1.0": 1, "True": 1}


def _labels(rows: Rows, column: str, path: str) -> np.ndarray:
    values = rows.table[column].combine_chunks()
    try:
        values = values.dictionary_encode()
    except pa.ArrowNotImplementedError:
        raise InputError(
            f"{path}: column {column!r} is {values.type}, not labels 0 and 1"
        ) from None
    distinct = [_LABELS.get(_shown(value).strip(), -1) for value in values.dictionary.to_pylist()]
    indices = values.indices.cast(pa.int64()).fill_null(len(distinct))
    labels = np.array([*distinct, -1], np.int8)[indices]
    for index in np.flatnonzero(labels < 0)[:1]:
        value = rows.table[column][int(index)].as_py()
        shown = "null" if value is None else repr(_shown(value)[:80])
        raise InputError(f"{path}, row {rows.numbers[index]}: {column} is {shown}, not 0 or 1")
    return labels


def _shown(value: object) -> str:
    # Latin-1 decodes any byte, so that a label that is none can be shown.
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)
