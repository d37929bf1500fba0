"""How many rows of a part are of each class, piece by piece, as a list of numbers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np
import numpy.typing as npt

MAX_CLASSES_OF_PIECES = 20
"""With more classes the rows of each are counted by part, not by piece: a record stays small."""


@dataclass(frozen=True)
class ClassRows:
    """The layout of `PartResult.answers`, for a number of classes.

    First come `of_piece` numbers of each piece: its rows, then those of class 1, class 2, ... With
    more than MAX_CLASSES_OF_PIECES classes it is its rows only, and last come `of_part` numbers:
    the part's rows of class 1, class 2, ... What is left of the rows is of class 0.
    """

    classes: int

    @property
    def of_piece(self) -> int:
        """Numbers of each piece."""
        return self.classes if self.classes <= MAX_CLASSES_OF_PIECES else 1

    @property
    def of_part(self) -> int:
        """Numbers of the whole part."""
        return self.classes - self.of_piece

    @overload
    def length(self, pieces: int) -> int: ...
    @overload
    def length(self, pieces: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]: ...
    def length(self, pieces: int | npt.NDArray[np.int64]) -> int | npt.NDArray[np.int64]:
        """How many numbers a part of so many pieces has, or each of several parts."""
        return pieces * self.of_piece + self.of_part

    def count(self, winners: npt.NDArray[np.int64], piece_rows: npt.NDArray[np.int64]) -> list[int]:
        """The numbers of a part.

        Args:
            winners: int64[rows]: the class of each row.
            piece_rows: int64[pieces], which sums up to `rows`.
        """
        if self.of_part:
            in_part = np.bincount(winners, minlength=self.classes)[1:]
            return [*piece_rows.tolist(), *in_part.tolist()]
        piece = np.repeat(np.arange(len(piece_rows)), piece_rows)
        size = len(piece_rows) * self.classes
        counts = np.bincount(piece * self.classes + winners, minlength=size)
        counts = counts.reshape(-1, self.classes)
        counts[:, 0] = piece_rows
        numbers: list[int] = counts.ravel().tolist()
        return numbers

    def split(
        self, answers: npt.NDArray[np.int64], pieces: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """The numbers of parts, as int64[all pieces, of_piece], and as int64[classes]: all rows.

        Args:
            answers: the numbers of all parts, part after part.
            pieces: int64[parts]: number of pieces of each part.
        """
        sizes = np.stack([pieces * self.of_piece, np.full(len(pieces), self.of_part)], axis=1)
        is_of_part = np.repeat(np.tile([False, True], len(pieces)), sizes.ravel())
        by_piece = answers[~is_of_part].reshape(-1, self.of_piece)
        by_part = answers[is_of_part].reshape(-1, self.of_part) if self.of_part else by_piece[:, 1:]
        others = by_part.sum(axis=0)
        return by_piece, np.concatenate([[by_piece[:, 0].sum() - others.sum()], others])

    def of_one(self, answers: Sequence[int]) -> npt.NDArray[np.int64]:
        """int64[classes]: the rows of each class in one part."""
        pieces = (len(answers) - self.of_part) // self.of_piece
        return self.split(np.array(answers, np.int64), np.array([pieces]))[1]
