"""Tables by code point for folding texts: the kind of each character, and its lower case.

Letters, digits, marks and lower case come from `unicodedata`, entities from `html`. So a character
that a later Unicode version assigns is a letter only in a Python with that version. Nothing else
depends on the version.
"""

import html
import unicodedata
from functools import cache
from html.entities import html5
from typing import NamedTuple

import numpy as np

# Kinds of bytes of a folded text. If all bits but the lowest are zero, the byte is in a word.
WORD = 0
REPEAT = 1  # in a word, equal to the two characters before it, so not part of the token
BLANK = 2
COMMA = 3
OTHER = 4
# For kinds above OTHER the scan checks whether they continue the word before them.
SIGN = 5  # an ASCII sign that may begin a token, or form an emoticon with a letter
IDEOGRAPH = 6  # a letter of a script without spaces: a token of its own
ATTACHED = 7  # a mark on an ideograph
EMOJI = 8
MODIFIER = 9  # a skin tone
REGIONAL = 10  # half a flag
TAG = 11
KEYCAP = 12
STOP = 13
ELLIPSIS = 14
# Kinds of characters whose final kind depends on their neighbours.
LETTER = 15
DIGIT = 16
MARK = 17
JOINER = 18  # an apostrophe or zero-width joiner
IGNORED = 19

TABLE_SIZE = 0x20000
"""The tables hold the planes 0 and 1; `_fold.kind_of` has the rules for the others."""

# Scripts without spaces. Finding their words would need a dictionary.
_SPACELESS = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x1000, 0x109F),  # Myanmar
    (0x1780, 0x17FF),  # Khmer
    (0x1950, 0x19DF),  # Tai Le, New Tai Lue
    (0x1A20, 0x1AAF),  # Tai Tham
    (0x3000, 0x30FF),  # Hiragana, Katakana, iteration marks
    (0x31F0, 0x31FF),
    (0x3400, 0x4DBF),  # Han
    (0x4E00, 0x9FFF),
    (0xA9E0, 0xA9FF),  # Myanmar, extended
    (0xAA60, 0xAADF),  # Myanmar, extended; Tai Viet
    (0xF900, 0xFAFF),  # Han, compatibility
    (0xFF66, 0xFF9F),  # Katakana, half width
    (0x1AFF0, 0x1B16F),  # Kana, extended
)

# Extended_Pictographic of emoji-data.txt (Unicode 15), blocks taken whole where that adds only
# symbols such as stars and hearts; without (c), (R), TM and the letter i, which are text.
_PICTOGRAPHS = (
    (0x203C, 0x203C), (0x2049, 0x2049), (0x2194, 0x2199), (0x21A9, 0x21AA), (0x231A, 0x231B),
    (0x2328, 0x2328), (0x23CF, 0x23CF), (0x23E9, 0x23F3), (0x23F8, 0x23FA), (0x24C2, 0x24C2),
    (0x25AA, 0x25AB), (0x25B6, 0x25B6), (0x25C0, 0x25C0), (0x25FB, 0x25FE), (0x2600, 0x2767),
    (0x2794, 0x27BF), (0x2934, 0x2935), (0x2B05, 0x2B07), (0x2B1B, 0x2B1C), (0x2B50, 0x2B50),
    (0x2B55, 0x2B55), (0x3030, 0x3030), (0x303D, 0x303D), (0x3297, 0x3297), (0x3299, 0x3299),
    (0x1F000, 0x1F0FF), (0x1F170, 0x1F171), (0x1F17E, 0x1F17F), (0x1F18E, 0x1F18E),
    (0x1F191, 0x1F19A), (0x1F201, 0x1F202), (0x1F21A, 0x1F21A), (0x1F22F, 0x1F22F),
    (0x1F232, 0x1F23A), (0x1F250, 0x1F251), (0x1F300, 0x1F64F), (0x1F680, 0x1F6FF),
    (0x1F7E0, 0x1F7FF), (0x1F900, 0x1F9FF), (0x1FA70, 0x1FAFF),
)  # fmt: skip

# Invisible characters: soft hyphen, direction marks, variation selectors.
_IGNORED = (
    (0x00AD, 0x00AD), (0x061C, 0x061C), (0x180B, 0x180F), (0x200E, 0x200F), (0x202A, 0x202E),
    (0x2060, 0x2064), (0x2066, 0x2069), (0xFE00, 0xFE0F), (0xFEFF, 0xFEFF),
)  # fmt: skip

# Full stops: ASCII, Han and Kana (full and half width), Devanagari, Urdu. Commas: ASCII, Han and
# Kana (three), Arabic. The full-width stop is missing, because it occurs between digits.
_STOPS = ".。｡।۔"
_COMMAS = ",，、､،"

# Folded as well: the typographic apostrophe; ! ? # @ of East Asian and Arabic keyboards.
_SAME = {0x2019: "'", 0xFF01: "!", 0xFF1F: "?", 0x061F: "?", 0xFF03: "#", 0xFF20: "@"}

# From rules 2 on: what is typed for an apostrophe, and letters and digits that are other forms of
# plain ones: letterlike symbols, full width, mathematical.
_APOSTROPHES = (0x60, 0xB4, 0x2BC, 0x2018, 0x2032, 0xFF07)
_FORMS = (
    (0x2100, 0x2138), (0xFF10, 0xFF19), (0xFF21, 0xFF3A), (0xFF41, 0xFF5A), (0x1D400, 0x1D7FF),
)  # fmt: skip

FIRST_RULES, RULES = 1, 2
"""Versions of the tokenizer's rules: the first, and the last."""


class Tables(NamedTuple):
    """Arrays that the compiled functions read, made once per process."""

    kinds: np.ndarray
    """uint8[TABLE_SIZE]: the kind of each character."""
    folds: np.ndarray
    """int32[TABLE_SIZE]: the code point that each character becomes in a token."""
    names: np.ndarray
    """uint8[bytes]: the sorted names of HTML's entities, one after another, with `;` if it is
    required."""
    name_ends: np.ndarray
    """int64[entities + 1]: where each name begins in `names`, and the end of the last."""
    restored: np.ndarray
    """int32[entities, 2]: the code points that a name stands for; the second may be -1 (none)."""
    numeric: np.ndarray
    """int32[256]: the code points that `&#0;` to `&#255;` stand for, -1 for none."""
    pairs: np.ndarray
    """int64[compositions], ascending: lower-case letter << 21 | the mark that goes onto it."""
    composed: np.ndarray
    """int32[compositions]: the letter that each pair makes."""


@cache
def tables(rules: int) -> Tables:
    """The tables of a version of the rules. The first call makes them, in about 50 ms."""
    characters = [chr(code) for code in range(TABLE_SIZE)]
    folds = np.fromiter((ord(c.lower()[0]) for c in characters), np.int32, TABLE_SIZE)
    for code, same in _SAME.items():
        folds[code] = ord(same)
    if rules > FIRST_RULES:
        folds[list(_APOSTROPHES)] = ord("'")
        for code in _forms():
            folds[code] = ord(unicodedata.normalize("NFKC", chr(code)).lower()[0])
    kinds = _kinds(characters)
    pairs = _compositions(kinds, folds) if rules > FIRST_RULES else {}
    names = sorted(name.encode() for name in html5)
    restored = np.full((len(names), 2), -1, np.int32)
    for row, name in zip(restored, names, strict=True):
        value = html5[name.decode()]
        row[: len(value)] = [ord(c) for c in value]
    numeric = [html.unescape(f"&#{number};") for number in range(256)]
    return Tables(
        kinds=kinds[folds],
        folds=folds,
        names=np.frombuffer(b"".join(names), np.uint8).copy(),
        name_ends=np.cumsum([0, *map(len, names)], dtype=np.int64),
        restored=restored,
        numeric=np.array([ord(c) if c else -1 for c in numeric], np.int32),
        pairs=np.array(sorted(pairs), np.int64),
        composed=np.array([pairs[pair] for pair in sorted(pairs)], np.int32),
    )


def _forms() -> list[int]:
    """Letters and digits of `_FORMS` that stand for one plain letter or digit."""
    codes = [code for first, last in _FORMS for code in range(first, last + 1)]
    return [
        code
        for code in codes
        if unicodedata.category(chr(code))[0] in "LN"
        and len(unicodedata.normalize("NFKC", chr(code))) == 1
    ]


def _compositions(kinds: np.ndarray, folds: np.ndarray) -> dict[int, int]:
    """The letter that a lower-case letter and a mark make, by letter << 21 | mark."""
    pairs = {}
    for code in range(TABLE_SIZE):
        parts = unicodedata.decomposition(chr(code)).split()
        is_canonical = len(parts) == 2 and not parts[0].startswith("<")
        if not is_canonical or kinds[code] != LETTER or folds[code] != code:
            continue
        letter, mark = (int(part, 16) for part in parts)
        # Some letters are never composed: their decomposition is how they are written.
        is_composed = unicodedata.normalize("NFC", chr(letter) + chr(mark)) == chr(code)
        if is_composed and kinds[letter] == LETTER and kinds[mark] == MARK:
            pairs[letter << 21 | mark] = code
    return pairs


def _kinds(characters: list[str]) -> np.ndarray:
    by_category = {"L": LETTER, "N": DIGIT, "M": MARK, "Z": BLANK}
    categories = [unicodedata.category(c) for c in characters]
    kinds = np.array([by_category.get(category[0], OTHER) for category in categories], np.uint8)
    number = np.array([category == "Nl" for category in categories])
    for first, last in _SPACELESS:
        span = slice(first, last + 1)
        kinds[span][(kinds[span] == LETTER) | number[span]] = IDEOGRAPH
    for first, last in _PICTOGRAPHS:
        kinds[first : last + 1] = EMOJI
    for first, last in _IGNORED:
        kinds[first : last + 1] = IGNORED
    kinds[0x1F3FB:0x1F400] = MODIFIER
    kinds[0x1F1E6:0x1F200] = REGIONAL
    kinds[0x20E3] = KEYCAP
    kinds[[ord("'"), 0x200C, 0x200D]] = JOINER
    kinds[list(b"!#$()*-:;<=>?@[\\]^_~")] = SIGN
    kinds[[ord(c) for c in _STOPS]] = STOP
    kinds[[ord(c) for c in _COMMAS]] = COMMA
    kinds[ord("…")] = ELLIPSIS
    kinds[: ord(" ") + 1] = BLANK
    kinds[0x85] = BLANK
    return kinds
