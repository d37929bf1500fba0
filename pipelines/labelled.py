"""Shards -> texts with labels, refused by row number where they cannot be learnt from; splits."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from pipelines import cli
from pipelines.rows import Rows
from pipelines.shards import Counted, Shard
from sentiment.errors import InputError
from sentiment.tokenizer import TokenIds, Tokens, mix

TRAIN, VALIDATION, TEST, LEFT_OUT = 0, 1, 2, 3

_FLAGS = {"data_dir": str, "text_column": str, "label_column": str, "encoding": str}
_FLAGS |= {"random_state": int, "test_size": float}

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


_SPLIT = {"train": 1, "validation": 1, "test": 1}
_STEP = {"step": 1, "loss": 1.0, "validation_loss": 1.0, "validation_accuracy": 1.0}
_SAID = {"rows": _SPLIT, "positive": _SPLIT, "best": _STEP, "losses": [_STEP]}
_SAID |= {"validations": [_STEP], "versions": {"keras": "", "ray": "", "tensorflow": ""}}
"""What else training.json says, by examples."""


def _is_like(value: object, like: object) -> bool:
    """Whether JSON has the shape of an example: of lists, of mappings, and of what is in them."""
    match like:
        case dict():
            return isinstance(value, Mapping) and all(
                _is_like(value[name], its) for name, its in like.items() if name in value
            )
        case list():
            return isinstance(value, list) and all(_is_like(each, like[0]) for each in value)
        case float():
            return isinstance(value, int | float) and abs(value) < 1e300
        case int():
            return isinstance(value, int) and 0 <= value < 2**53
    return isinstance(value, str)


def require_flags(training: Mapping[str, Any]) -> None:
    """Raise an InputError where a checkpoint says of its training what cannot be.

    What it does not say at all, whoever asks for it misses. Checkpoints come from strangers.
    """
    flags, below = training.get("flags", {}), training.get("sample_below")
    if not all(_is_like(training[name], like) for name, like in _SAID.items() if name in training):
        raise InputError("training.json of the checkpoint says what no training run does")
    known = flags if isinstance(flags, Mapping) else {"data_dir": None}
    right = all(isinstance(known[name], kind) for name, kind in _FLAGS.items() if name in known)
    below = 0 if below is None else below
    if not right or not isinstance(below, int) or not 0 <= below < 2**64:
        raise InputError("training.json of the checkpoint has flags that no training run has")
    cli.require_encoding(known.get("encoding", "utf-8"))
