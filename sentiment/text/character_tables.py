"""What each character is to the tokenizer, as JSON for `sentiment.text.reference`."""

from typing import Any

import numpy as np

from sentiment.text import _unicode
from sentiment.text._unicode import TABLE_SIZE

_SHAPES = {
    _unicode.BLANK: " ",
    _unicode.LETTER: "W",
    _unicode.DIGIT: "N",
    _unicode.MARK: "M",
    _unicode.IDEOGRAPH: "I",
    _unicode.EMOJI: "E",
    _unicode.MODIFIER: "S",
    _unicode.TAG: "T",
    _unicode.REGIONAL: "R",
    _unicode.KEYCAP: "K",
    _unicode.STOP: "P",
    _unicode.ELLIPSIS: "Z",
    _unicode.COMMA: "C",
}
_JOINERS = {"J": [[0x200D, 0x200D]], "H": [[0x200C, 0x200C]]}


def character_tables(rules: int) -> dict[str, Any]:
    """The tables of a version of the tokenizer's rules.

    Returns:
        folds: what becomes of each character that does not stay as it is; "" if it is dropped.
        composed: the letter that a letter and the mark after it make.
        shapes: first and last code points of the characters of each shape that is not ASCII.
    """
    tables = _unicode.tables(rules)
    kinds = np.full(0x110000, _unicode.OTHER, np.uint8)
    kinds[:TABLE_SIZE] = tables.kinds
    # As in `_fold.kind_of`.
    kinds[TABLE_SIZE:0x40000] = _unicode.IDEOGRAPH
    kinds[0xE0020:0xE0080] = _unicode.TAG
    kinds[0xE0100:0xE01F0] = _unicode.IGNORED
    changed = np.flatnonzero(tables.folds != np.arange(TABLE_SIZE)).tolist()
    folds = {chr(code): chr(tables.folds[code]) for code in changed}
    folds |= {chr(code): "" for code in np.flatnonzero(kinds == _unicode.IGNORED).tolist()}
    pairs = zip(tables.pairs.tolist(), tables.composed.tolist(), strict=True)
    kinds[ord("!") : ord("~") + 1] = _unicode.OTHER
    return {
        "folds": folds,
        "composed": {chr(pair >> 21) + chr(pair & 0x1FFFFF): chr(one) for pair, one in pairs},
        "shapes": {shape: _ranges(kinds == kind) for kind, shape in _SHAPES.items()} | _JOINERS,
    }


def _ranges(members: np.ndarray) -> list[list[int]]:
    """First and last places of each run of True in bool[n]."""
    edges = np.flatnonzero(np.diff(members.astype(np.int8), prepend=0, append=0))
    return [[first, end - 1] for first, end in edges.reshape(-1, 2).tolist()]
