"""Classes: the names of the classes that a model tells apart, and which of them wins a text."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sentiment.errors import InputError

MAX_CLASSES = 1000
MAX_NAME_CHARACTERS = 200


@dataclass(frozen=True)
class Classes:
    """The classes of a model, in the order of its outputs."""

    names: tuple[str, ...] = ("negative", "positive")
    """2 to MAX_CLASSES names, each once."""
    threshold: float | None = None
    """For two classes: a text is of the second class from this probability on; None: from 0.5."""

    def __post_init__(self) -> None:
        if not 2 <= len(self.names) <= MAX_CLASSES:
            raise InputError(f"{len(self.names):,} classes; a model has 2 to {MAX_CLASSES:,}")
        for number, name in enumerate(self.names):
            _require_usable(name)
            if name in self.names[:number]:
                raise InputError(f"class {name!r} is named twice")
        if self.threshold is not None and len(self.names) != 2:
            raise InputError(f"a threshold is for two classes; there are {len(self.names):,}")
        if self.threshold is not None and not 0 < self.threshold < 1:
            raise InputError(f"the threshold is {self.threshold}; it is above 0 and below 1")

    def __len__(self) -> int:
        return len(self.names)

    def winners(self, probabilities: np.ndarray) -> npt.NDArray[np.int64]:
        """The class of each text: int64[n].

        The most probable class wins, the first of equals. Of two classes it is the second one from
        the threshold on.

        Args:
            probabilities: float[n, classes].
        """
        if len(self.names) == 2:
            threshold = 0.5 if self.threshold is None else self.threshold
            winners = probabilities[:, 1] >= threshold
        else:
            winners = probabilities.argmax(axis=1)
        return winners.astype(np.int64)


def is_usable(name: object) -> bool:
    """Whether this can be the name of a class, a column and a line of output."""
    is_text = isinstance(name, str) and 0 < len(name) <= MAX_NAME_CHARACTERS
    return is_text and name == str(name).strip() and str(name).isprintable()


def _require_usable(name: object) -> None:
    """Raise InputError for what cannot be the name of a class."""
    if not is_usable(name):
        raise InputError(
            f"class name {name!r:.80} is not 1 to {MAX_NAME_CHARACTERS} printable characters "
            "without blanks around them"
        )


BINARY = Classes()
"""The classes of models that do not name theirs."""
