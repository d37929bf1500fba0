"""Labelled rows: texts, labels and tokens of a shard; rows that cannot be used are counted."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

import numpy as np
import pyarrow as pa

from pipelines.errors import BadShard, Failure
from pipelines.sources.counted import Counted
from pipelines.sources.detected import detected_in, detected_notes
from pipelines.sources.label_column import NO_LABEL, NOT_TEXT, Labels, read_labels
from pipelines.sources.label_names import unused_names
from pipelines.sources.labels import NEGATIVE, POSITIVE, LabelMap
from pipelines.sources.left_out import MAX_FIRST, LeftOut
from pipelines.sources.options import ReadOptions
from pipelines.sources.rows import Rows, Span, choose_columns
from pipelines.sources.shard import Shard
from pipelines.sources.soft_labels import (
    NOT_PROBABILITIES,
    holds_probabilities,
    read_soft_labels,
)
from pipelines.sources.unchanged import unless_changed
from sentiment.errors import InputError
from sentiment.text.tokenizer import TokenIds, Tokens

TokensT = TypeVar("TokensT", Tokens, TokenIds)

MAX_LOOKED_AT = 256
"""Shards of which `LabelledReader.detected` tells."""

CONCURRENT_SHARDS = 16
"""Shards that are opened at the same time."""

_UNNAMED = -3
"""Code of rows whose label no class has."""


@dataclass(frozen=True)
class LabelledRows(Generic[TokensT]):
    """A batch of labelled rows of a shard, without those that are left out."""

    numbers: np.ndarray
    """int64[rows]: the row number of each row in its shard, from 1."""
    texts: pa.ChunkedArray
    """The text column: string or binary, no nulls, valid UTF-8."""
    values: tuple[str, ...]
    """The classes, if the reader has a LabelMap or the column holds probabilities; else the
    distinct labels of the rows."""
    labels: np.ndarray
    """int64[rows]: the place of each row's label in `values`; of soft labels, of the largest."""
    probabilities: np.ndarray | None
    """float32[rows, values]: soft labels, which sum to 1; None: the column holds labels."""
    tokens: TokensT
    """The tokens or token ids of each text."""
    left_out: LeftOut
    """The rows between these and after them that are left out."""


@dataclass(frozen=True)
class LabelledReader:
    """Reads labelled rows from shards: which columns, and how shards are read."""

    text_column: str
    label_column: str
    options: ReadOptions = field(default_factory=ReadOptions)
    """How shards are read; `fields` are the two columns."""
    labels: LabelMap | None = None
    """The labels of each class; None: labels stay as they are in the column, but normalized."""
    soft_labels: bool = False
    """The label column holds the probability of the second of two classes. Structs and lists of
    numbers are probabilities without it."""
    probabilities_of: tuple[str, ...] = (NEGATIVE, POSITIVE)
    """The classes of lists of numbers and of single ones, in order, where `labels` is None."""

    @property
    def _options(self) -> ReadOptions:
        return replace(self.options, fields=(self.text_column, self.label_column))

    def require_columns(self, shard: Shard) -> None:
        """Raise BadShard if the shard lacks a column; also what `Shard.rows` raises."""
        names = shard.schema(self._options).names
        try:
            choose_columns(shard.path, names, [self.text_column, self.label_column], ())
        except BadShard as error:
            raise BadShard(f"{error}; --text_column and --label_column name them") from error

    def detected(self, shards: Sequence[Shard]) -> list[str]:
        """What the first MAX_LOOKED_AT shards tell of how to read them, where no flag does, in
        lines."""

        def lines_of(shard: Shard) -> list[str]:
            # Whoever reads the shard says what is wrong with it.
            with suppress(InputError, Failure):
                schema = shard.schema(self._options)
                lines = detected_in(schema)
                if self.labels is None and not self.soft_labels:
                    lines += unused_names(schema, self.label_column)
                return lines
            return []

        found: dict[str, tuple[int, str]] = {}
        looked_at = shards[:MAX_LOOKED_AT]
        with ThreadPoolExecutor(CONCURRENT_SHARDS) as pool:
            for shard, lines in zip(looked_at, pool.map(lines_of, looked_at), strict=True):
                for line in lines:
                    number, first = found.get(line, (0, shard.path))
                    found[line] = number + 1, first
        return detected_notes(found)

    def count(self, shard: Shard) -> Counted:
        """Count a shard's rows. Raises what `Shard.count` raises."""
        return shard.count(self._options)

    def read(
        self, shard: Shard, tokenize: Callable[[pa.Array], TokensT], span: Span | None = None
    ) -> Iterator[LabelledRows[TokensT]]:
        """Read and tokenize a shard, or the rows of a span, a batch at a time.

        Rows are left out that have no label or none of a class, that are malformed, or whose text
        is null or not valid UTF-8.

        Raises BadShard if a column has an unsuitable type, or a label is too long for one, and
        ShardChanged if the shard is not the file that was listed.
        """
        with unless_changed(shard):
            for rows in shard.rows([self.text_column, self.label_column], self._options, span):
                counted = Counted(len(rows.table), rows.table.schema)
                counted.require_text(shard.path, self.text_column)
                yield self._labelled(shard, rows, tokenize)

    def _labelled(
        self, shard: Shard, rows: Rows, tokenize: Callable[[pa.Array], TokensT]
    ) -> LabelledRows[TokensT]:
        column = rows.table[self.label_column]
        labels = self._coded(column, shard)
        texts, codes = rows.table[self.text_column], labels.codes
        not_valid, remedy = shard.not_valid(self._options)
        rejected = _Rejected(rows)
        rejected.add(codes == NOT_TEXT, f"{self.label_column} {not_valid}", remedy)
        many = holds_probabilities(column.type)
        wrong = "no probabilities that sum to 1" if many else "no probability from 0 to 1"
        rejected.add(codes == NOT_PROBABILITIES, f"{self.label_column} is {wrong}")
        is_null = texts.is_null().to_numpy()
        rejected.add(is_null & (codes >= 0), f"{self.text_column} is null")
        is_used = (codes >= 0) & ~is_null
        tokens = tokenize(_chosen(texts, is_used))
        if len(tokens.invalid):
            invalid = np.flatnonzero(is_used)[tokens.invalid]
            values = _chosen(texts, is_used).take(pa.array(tokens.invalid, pa.int64()))
            problems = [
                shard.not_valid(self._options, value)
                for value in values.cast(pa.large_binary()).to_pylist()
            ]
            for not_valid, remedy in dict.fromkeys(problems):
                is_so = np.array([problem == (not_valid, remedy) for problem in problems])
                rejected.add(invalid[is_so], f"{self.text_column} {not_valid}", remedy)
            is_used[invalid] = False
            tokens = tokenize(_chosen(texts, is_used))
        values, used = labels.values, codes[is_used]
        if self.labels is None and labels.probabilities is None:
            values, used = _without_unused(values, used)
        return LabelledRows(
            numbers=rows.numbers[is_used],
            texts=_chosen(texts, is_used),
            values=values,
            labels=used,
            probabilities=(None if labels.probabilities is None else labels.probabilities[is_used]),
            tokens=tokens,
            left_out=LeftOut(
                int(np.count_nonzero(codes == NO_LABEL)),
                labels.unnamed,
                rejected.by_reason,
                rejected.first(shard.path),
            ),
        )

    def _coded(self, column: pa.ChunkedArray, shard: Shard) -> "_Coded":
        where = f"{shard.path}: column {self.label_column!r}"
        if self.soft_labels or holds_probabilities(column.type):
            soft = read_soft_labels(column, self.labels, where, self.probabilities_of)
            return _Coded(soft.names, soft.codes, soft.probabilities)
        labels = read_labels(column, where)
        if self.labels is None:
            return _Coded(labels.values, labels.codes)
        return _as_classes(labels, self.labels)


@dataclass(frozen=True)
class _Coded:
    """The labels of n rows."""

    values: tuple[str, ...]
    codes: np.ndarray
    """int64[n]: the place in `values` of each row's label; negative: there is none."""
    probabilities: np.ndarray | None = None
    """float32[n, values], of soft labels."""
    unnamed: dict[str, int] = field(default_factory=dict)
    """Rows with each label of no class."""


def _without_unused(
    values: tuple[str, ...], codes: np.ndarray
) -> tuple[tuple[str, ...], np.ndarray]:
    """The values that have a row, and the places of the rows' values among them, int64[n].

    A label that only rejected rows have is none of the corpus.
    """
    is_there = np.bincount(codes, minlength=len(values)) > 0
    if is_there.all():
        return values, codes
    places = np.cumsum(is_there) - 1
    return tuple(np.array(values, object)[is_there]), places[codes]


def _as_classes(labels: Labels, label_map: LabelMap) -> _Coded:
    """The labels as the classes that they have."""
    classes = label_map.indices(labels.values)
    rows = np.bincount(labels.codes[labels.codes >= 0], minlength=len(labels.values)).tolist()
    unnamed = {
        value: rows[index]
        for index, value in enumerate(labels.values)
        if classes[index] < 0 and rows[index]
    }
    # The last two are picked by NOT_TEXT and NO_LABEL, which are negative.
    class_of = np.concatenate([np.where(classes < 0, _UNNAMED, classes), [NOT_TEXT, NO_LABEL]])
    return _Coded(label_map.names, class_of[labels.codes], unnamed=unnamed)


class _Rejected:
    """The rejected rows of a batch."""

    def __init__(self, rows: Rows) -> None:
        self._numbers = rows.numbers
        # By row number: the reason to count it under, and the one to show.
        self._rows = {bad.number: ("malformed", bad.reason) for bad in rows.bad}

    def add(self, bad: np.ndarray, reason: str, remedy: str = "") -> None:
        """Reject the rows where `bad: bool[n]`, or those at these places."""
        shown = f"{reason}: {remedy}" if remedy else reason
        self._rows.update((int(number), (reason, shown)) for number in self._numbers[bad])

    @property
    def by_reason(self) -> dict[str, int]:
        """Number of rows by reason."""
        return dict(Counter(reason for reason, _ in self._rows.values()))

    def first(self, path: str) -> tuple[str, ...]:
        """The first rows, with the shard's path."""
        first = sorted(self._rows.items())[:MAX_FIRST]
        return tuple(f"{path}, row {number}: {shown}" for number, (_, shown) in first)


def _chosen(texts: pa.ChunkedArray, is_used: np.ndarray) -> pa.ChunkedArray:
    return texts if is_used.all() else texts.filter(pa.array(is_used))
