"""LabelMap: which values of a label column each class has, by `--labels` or by recognition.

Values are compared in one form (`normalized`): `Positive` is `positive`, and 1.0 is `1`. Classes
that `--labels` does not name are named by that form.
"""

import re
import shlex
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

import numpy as np

from sentiment.classes import MAX_CLASSES, Classes, is_usable
from sentiment.errors import InputError

NEGATIVE, POSITIVE = "negative", "positive"

_PLAIN = (
    frozenset({"0", "false", "no", "neg", NEGATIVE}),
    frozenset({"1", "true", "yes", "pos", POSITIVE}),
)
"""Values that mean negative or positive where a column has no others."""

_PAIRS = (("-1", "1"), ("0", "4"))
"""Pairs of values that mean the same where a column has just these two."""

_FEW_VALUES, _ROWS_OF_A_CLASS = 20, 5
"""A column with more values than these, and fewer rows of each on average, holds no classes."""

_SHOWN_VALUES = 10

_WHICH_FLAG = (
    "--labels NAME=VALUE,VALUE NAME=VALUE names the classes to learn, --soft_labels takes numbers "
    "as probabilities"
)

_NUMBER = re.compile(r"[+-]?(0|[1-9][0-9]{0,14})(\.[0-9]{1,12})?")


@dataclass(frozen=True)
class LabelMap:
    """The classes, and the values that each one has in the label column."""

    names: tuple[str, ...]
    """Of the classes, 2 to MAX_CLASSES, in order."""
    values: tuple[tuple[str, ...], ...]
    """The values of each class, normalized. No value has two classes."""

    def __post_init__(self) -> None:
        # It refuses names that cannot be classes.
        Classes(self.names)

    @staticmethod
    def parse(texts: Sequence[str]) -> "LabelMap | None":
        """The map that `--labels` gives; None without texts.

        Args:
            texts: such as "negative=1,2" and "positive=4,5". A name alone is its own value. A name
                without values ("neutral=") says that there is no such class.

        Raises InputError for texts that cannot be read, and for fewer than two classes.
        """
        if not texts:
            return None
        names: list[str] = []
        values: list[tuple[str, ...]] = []
        class_of: dict[str, str] = {}
        for text in texts:
            name, equals, listed = (part.strip() for part in text.partition("="))
            if not name:
                raise InputError(f"--labels {text!r} has no name: write NAME=VALUE,VALUE")
            if equals and not listed:
                continue
            own = [normalized(value) for value in (listed if equals else name).split(",")]
            if "" in own:
                raise InputError(f"--labels {text!r}: a value is empty")
            for value in own:
                if value in class_of:
                    raise InputError(
                        f"--labels: the value {value} is named twice, for {class_of[value]} and "
                        f"for {name}"
                    )
                class_of[value] = name
            if normalized(name) in map(normalized, names):
                raise InputError(f"--labels: the class {name} is named twice")
            names.append(name)
            values.append(tuple(own))
        if not 2 <= len(names) <= MAX_CLASSES:
            raise InputError(
                f"--labels: a classifier has 2 to {MAX_CLASSES:,} classes with labels, not "
                f"{len(names):,}: write them like --labels negative=1,2 positive=4,5"
            )
        return LabelMap(tuple(names), tuple(values))

    @staticmethod
    def recognized(values: Iterable[str]) -> "LabelMap":
        """The map that these values of a column tell: two plain ones, or each its own class."""
        present = set(values)
        pair = _pair(present)
        if pair is not None:
            own = tuple(tuple(sorted(present & side, key=_place)) for side in pair)
            return LabelMap((NEGATIVE, POSITIVE), own)
        names = sorted(present, key=_place)
        return LabelMap(tuple(names), tuple((name,) for name in names))

    @staticmethod
    def of_names(names: tuple[str, ...]) -> "LabelMap":
        """The map by the names of the classes, as `recognized` gives them."""
        values: list[tuple[str, ...]] = [(normalized(name),) for name in names]
        for short, name in (("neg", NEGATIVE), ("pos", POSITIVE)):
            if name in names and short not in names:
                values[names.index(name)] = (name, short)
        return LabelMap(names, tuple(values))

    def of_classes(self, names: tuple[str, ...]) -> "LabelMap":
        """The same labels for classes that have these names, in their order.

        Raises InputError if this map has a class that is not among them.
        """
        own = {
            normalized(name): values for name, values in zip(self.names, self.values, strict=True)
        }
        for name in self.names:
            if normalized(name) not in map(normalized, names):
                raise InputError(
                    f"--labels {name}=...: the model has no such class; its classes are "
                    f"{listed(names)}"
                )
        return LabelMap(names, tuple(own.get(normalized(name), ()) for name in names))

    def spelled_as(self, names: tuple[str, ...]) -> "LabelMap":
        """This map, in its own order, with names written as they are in `names`."""
        spelled = {normalized(name): name for name in names}
        own = tuple(spelled.get(normalized(name), name) for name in self.names)
        return LabelMap(own, self.values)

    @property
    def has_labels(self) -> bool:
        """Whether some class has other labels than its own name."""
        return self.values != tuple((normalized(name),) for name in self.names)

    def fitting(
        self, rows: Mapping[str, int], column: str, learnt: "LabelMap | None" = None
    ) -> "LabelMap":
        """The map of these classes to use where a column has these values.

        It is this map if it names all values. Else the values may be a pair that is recognized.
        Else it is this map, or if it names no value, the classes' names, the labels of training,
        or the plain values, where it is clear what they mean; other values have no class.

        Args:
            rows: rows with each value.
            column: its name, for the message.
            learnt: the labels of each class in training.

        Raises InputError, which shows the values, if none has a class.
        """
        is_known = self.indices(list(rows)) >= 0
        if _pair(set(rows)) and {NEGATIVE, POSITIVE} <= set(self.names) and not is_known.all():
            return LabelMap.recognized(rows).of_classes(self.names)
        if len(rows) and not is_known.any():
            by_name = LabelMap.of_names(self.names)
            if (by_name.indices(list(rows)) >= 0).any():
                return by_name
            if learnt is not None and learnt.is_clear(rows):
                return learnt
            if plain := self._plain(rows):
                return plain
            raise InputError(
                f"--label_column {column}: no label is one of the model's classes "
                f"({listed(self.names)}): {shown(rows)}; "
                f"with --data_dir, --labels {self.names[0]}=VALUE,VALUE "
                f"{self.names[1]}=VALUE ... says which"
            )
        return self

    def is_clear(self, rows: Mapping[str, int]) -> bool:
        """Whether a column with these values has labels of this map, and means the same by them.

        Beside numbers, another number may make a scale of them: 1 is negative among 1 to 5. It does
        not where all classes are there and the number is below the largest: -1 beside 0 and 1.
        """
        values = {value for own in self.values for value in own}
        classes = {index for index in self.indices(list(rows)).tolist() if index >= 0}
        own, others = _numbers(values), _numbers(set(rows) - values)
        if not own or not others:
            return bool(classes)
        return len(classes) == len(self.names) and max(others) < max(own)

    def _plain(self, rows: Mapping[str, int]) -> "LabelMap | None":
        """The map of the plain values that are there; None if it is not clear what they mean."""
        if not {NEGATIVE, POSITIVE} <= set(self.names):
            return None
        negative, positive = (set(rows) & plain for plain in _PLAIN)
        found = negative | positive
        # Of more classes, 1 alone may be the middle one.
        is_clear = (negative and positive) or (found and len(self.names) == 2)
        if not is_clear or (_numbers(found) and _numbers(set(rows) - found)):
            return None
        own = tuple(tuple(sorted(side, key=_place)) for side in (negative, positive))
        return LabelMap((NEGATIVE, POSITIVE), own).of_classes(self.names)

    def __str__(self) -> str:
        """As `--labels` has it."""
        return " ".join(
            f"{name}={','.join(values)}"
            for name, values in zip(self.names, self.values, strict=True)
        )

    def indices(self, values: Sequence[str]) -> np.ndarray:
        """The class of each value, int64[values]; -1 for a value that no class has."""
        class_of = {value: index for index, own in enumerate(self.values) for value in own}
        return np.array([class_of.get(value, -1) for value in values], np.int64)


def normalized(text: str) -> str:
    """The form in which labels are compared: in lower case, blanks as one, numbers without `.0`,
    and a letter with its accent as one character (Unicode's NFC)."""
    text = unicodedata.normalize("NFC", " ".join(text.split()))
    if _NUMBER.fullmatch(text):
        number = Decimal(text).normalize()
        return format(number, "f") if number else "0"
    return unicodedata.normalize("NFC", text.lower())


def require_classes(rows: Mapping[str, int], column: str, is_soft: bool = False) -> None:
    """Raise InputError, which shows the values, unless they can be the classes of a corpus.

    Args:
        rows: rows with each value of the label column.
        column: its name.
        is_soft: whether the labels are probabilities, so that the values are names of classes.
    """
    flag = f"--label_column {column}"
    if len(rows) < 2:
        found = f"every label is {shown(rows)}" if rows else "no row has a label"
        raise InputError(f"{flag}: {found}; a classifier needs rows of two classes")
    if (
        not is_soft
        and len(rows) > _FEW_VALUES
        and sum(rows.values()) < _ROWS_OF_A_CLASS * len(rows)
    ):
        raise InputError(
            f"{flag}: {len(rows):,} values in {sum(rows.values()):,} rows are no classes: "
            f"{shown(rows)}; {_WHICH_FLAG}"
        )
    require_few(rows, flag)
    if not is_soft:
        _require_visible(rows, flag)


def _require_visible(rows: Mapping[str, int], flag: str) -> None:
    """Raise InputError, which shows them, for labels with characters that cannot be seen."""
    hidden = {repr(value): count for value, count in rows.items() if not is_usable(value)}
    if not hidden:
        return
    remedy, others = _WHICH_FLAG, [value for value in rows if is_usable(value)]
    if len(others) > 1:
        labels = LabelMap.recognized(others)
        words = str(labels).split(" ") if labels.has_labels else map(shlex.quote, labels.names)
        remedy = f"--labels {listed(tuple(words), ' ')} leaves such rows out"
    raise InputError(
        f"{flag}: a label has characters that cannot be seen, so it can be no class: "
        f"{shown(hidden)}; {remedy}"
    )


def require_few(rows: Mapping[str, int], where: str) -> None:
    """Raise InputError, which begins with `where`, if there are more values than classes may be."""
    if len(rows) > MAX_CLASSES:
        raise InputError(
            f"{where} has more than {MAX_CLASSES:,} values: {shown(rows)}; {_WHICH_FLAG}"
        )


def require_rows(labels: LabelMap, rows: Mapping[str, int], unnamed: Mapping[str, int]) -> None:
    """Raise InputError, which shows what there is, if a class of `--labels` has no rows.

    Args:
        labels: the map.
        rows: rows of each class.
        unnamed: rows with each value that no class has.
    """
    for name, values in zip(labels.names, labels.values, strict=True):
        if not rows.get(name):
            others = (
                f"the labels that it does not name are {shown(unnamed)}"
                if unnamed
                else ("no label is left that it does not name")
            )
            raise InputError(
                f"--labels {name}={','.join(values)}: no row has such a label; {others}, and its "
                f"classes have {shown(rows) or 'no rows'}"
            )


def shown(rows: Mapping[str, int]) -> str:
    """The most frequent values with their rows: `1 (20 rows), 2 (1 row), ...`."""
    most = sorted(rows, key=lambda value: (-rows[value], _place(value)))
    listed = [f"{value} ({rows[value]:,} row{'s' * (rows[value] != 1)})" for value in most]
    rest = ["..."] if len(most) > _SHOWN_VALUES else []
    return ", ".join(listed[:_SHOWN_VALUES] + rest)


def listed(names: Sequence[str], between: str = ", ") -> str:
    """The first names of classes: `a, b, ...`."""
    return between.join([*names[:_SHOWN_VALUES], *(["..."] if len(names) > _SHOWN_VALUES else [])])


def _pair(present: set[str]) -> tuple[frozenset[str], frozenset[str]] | None:
    """The values that mean negative and positive, if these values are plain ones."""
    for negative, positive in _PAIRS:
        if present == {negative, positive}:
            return frozenset({negative}), frozenset({positive})
    both = all(present & plain for plain in _PLAIN)
    return _PLAIN if both and present <= _PLAIN[0] | _PLAIN[1] else None


def _numbers(values: set[str]) -> list[float]:
    return [float(value) for value in values if _NUMBER.fullmatch(value)]


def _place(value: str) -> tuple[bool, float, str]:
    """Sorts numbers by size, then words."""
    try:
        number = float(value)
    except ValueError:
        return True, 0.0, value
    return (True, 0.0, value) if np.isnan(number) else (False, number, value)
