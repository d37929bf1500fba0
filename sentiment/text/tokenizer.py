"""Tokenizer: texts -> tokens or token ids, in one pass of compiled code over a column's bytes.

These rules say what becomes a token. Tokens are in the order of the text. `a b` below means the
two tokens `a` and `b`.

Before tokenizing:
- HTML entities are restored once, as by `html.unescape`: `&lt;3` is `<3`, and `&amp;lt;` is
  `&lt;`, which is the word `lt`.
- Each character is folded by itself, by simple lower case: `ÀÉ` is `àé`, and ß stays ß. The
  apostrophe U+2019 becomes `'`, and so do the characters that are typed for it: the grave and the
  acute accent, U+02BC, U+2018, U+2032, U+FF07. Full-width ! ? # @ and the Arabic ? become the ASCII
  characters. Full-width, mathematical and letterlike letters and digits become plain: `ＧＯＯＤ` is
  `good`. Soft hyphens, direction marks and variation selectors are dropped.
- A mark directly after its letter is composed with it where Unicode has that letter: `e` and
  U+0301 are `é`.

Words:
- A word is a run of letters, digits and the marks on them, in any script. An apostrophe or a
  zero-width joiner between two letters or digits is part of it: `don't`, `rock'n'roll`. Other
  signs end it: `well-made` is `well made`.
- A letter or mark that occurs three times or more in a row is kept twice: `sooooo` is `soo`.
  Digits are kept, because 1000 is not 100.
- In scripts without spaces (Han, Kana, Thai, Lao, Khmer, Myanmar, Tai) each letter, with its
  marks, is a token: `很好` is `很 好`. Of three or more of the same in a row, two are kept.

Punctuation:
- `!` and `?` are tokens. Of three or more of the same in a row, two are kept: `!!!!` is `! !`.
- A full stop is a token `.` if it comes directly after a letter, digit or mark (but not after an
  emoticon's) and before a blank or the end of the text: `ok.` is `ok .`, and `3.14` is `3 14`.
  `。`, `｡`, `।` and `۔` are a token `.` anywhere.
- Two or more full stops in a row, and any run of them with a `…`, are one token `..`. Emoticons
  come first: `..._.` is `..` and `._.`.
- A comma is a token `,` if it comes before a blank or the end of the text: `1,000` is `1 000`.
  `，`, `、`, `､` and `،` are a token `,` anywhere.

Emoticons and emoji:
- An emoticon is a token: eyes `: ; =`, an optional brow `>` before them, an optional nose `- ^ o`
  or tear `'`, and a mouth: `:)`, `>:(`, `:'(`, `=D`. Also turned round after a blank, `(:`; and
  `<3`, `</3`, `^^`, `-_-`, `o_o`, `\\o/`, `8)` and similar ones (`sentiment.text._scan.emoticon`).
- A mouth that is a letter or bracket must end the word. `8)` needs blanks around it and no open
  bracket. `xD` is a word.
- In an emoticon, three or more equal characters become two: `:)))))` is `:))`.
- An emoji is a token, with its skin tone, tags and the emoji joined to it. A flag is one token,
  and so is a keycap.
- Of three or more equal emoticons or emoji with nothing in between, two are kept.

Web and social media:
- A URL is the token `<url>`. It begins a word with `http://`, `https://` or `www.`, and ends
  before a blank, `"`, `<`, `>` or a character that is neither ASCII nor part of a word.
  Punctuation at its end is not part of it: `www.a.b.` is `<url> .`
- `@` and a name of letters, digits, marks and underscores is the token `<user>`, but not directly
  after such a name: `b@x` is `b x`.
- `#` and letters of any script, digits, marks and underscores are one token, a hashtag, but not
  directly after a word, and not if they are only ASCII digits and underscores: `#good` is `#good`,
  `c#d` is `c d`, `#1` is `1`.

All other characters separate words and are dropped.

These are rules 2. Models that were trained with rules 1 are tokenized with them: there only U+2019
becomes an apostrophe, full-width and mathematical letters stay, and nothing is composed.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from sentiment.errors import InputError
from sentiment.text import _lookup
from sentiment.text._column import column_tokens
from sentiment.text._entries import Entries
from sentiment.text._unicode import FIRST_RULES as FIRST_RULES
from sentiment.text._unicode import RULES as RULES

PADDING, UNKNOWN = 0, _lookup.UNKNOWN
SPECIALS = ("<pad>", "<unk>")
"""The first two entries of every vocabulary. No token equals them."""

_NOT_FROM_THEMSELVES = ("<url>", "<user>", ".")
"""Tokens that a text of just their characters does not have."""

_INT32_MAX = np.iinfo(np.int32).max


@dataclass(frozen=True)
class Tokens:
    """The tokens of n texts, for building a vocabulary."""

    tokens: pa.Array
    """list<string>[n]: the tokens of each text; large lists of large strings beyond 2 GiB."""
    hashes: np.ndarray
    """uint64[n]: a hash of each text's tokens, stop words included. It is uniform, and the same on
    every machine. A text without tokens has a hash, too."""
    invalid: np.ndarray
    """int64[invalid rows]: the rows whose text is null or not UTF-8, ascending. They have no
    tokens."""


@dataclass(frozen=True)
class TokenIds:
    """The token ids of n texts."""

    ids: np.ndarray
    """int32[tokens]: the ids of all texts, one text after another."""
    offsets: np.ndarray
    """int64[n + 1]: where each text begins in `ids`, and the end of the last."""
    hashes: np.ndarray
    """uint64[n], as in `Tokens`."""
    invalid: np.ndarray
    """int64[invalid rows], as in `Tokens`."""

    def heads(self, lengths: np.ndarray) -> np.ndarray:
        """The first ids of each text: see `heads`."""
        return heads(self.ids, self.offsets, lengths)


def heads(ids: np.ndarray, offsets: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """The first `lengths` ids of each text, one text after another.

    Args:
        ids: int32[tokens].
        offsets: int64[n + 1], where each text begins in `ids`, and the end of the last.
        lengths: int64[n], none above the text's own length.

    Returns:
        int32[sum of lengths].
    """
    if lengths.sum() == len(ids):
        return ids
    text_lengths = np.diff(offsets)
    place_in_text = np.arange(len(ids)) - np.repeat(offsets[:-1], text_lengths)
    kept: np.ndarray = ids[place_in_text < np.repeat(lengths, text_lengths)]
    return kept


class Tokenizer:
    """Cuts texts into tokens by a version of the rules, and drops stop words.

    Raises InputError for a stop word that cannot be equal to any token.
    """

    def __init__(self, stop_words: Iterable[str] = (), rules: int = RULES) -> None:
        self.stop_words = tuple(dict.fromkeys(stop_words))
        self._rules = rules
        self._entries = Entries((), ())
        if self.stop_words:
            self._require_tokens(self.stop_words)
            self._entries = Entries((), self.stop_words)

    def _require_tokens(self, stop_words: Sequence[str]) -> None:
        # Built from buffers, because `pa.array` imports pandas for anything but an Arrow array.
        encoded = [word.encode() for word in stop_words]
        ends = np.cumsum([0, *map(len, encoded)], dtype=np.int64)
        buffers = [None, pa.py_buffer(ends), pa.py_buffer(b"".join(encoded))]
        column = pa.Array.from_buffers(pa.large_string(), len(encoded), buffers)
        for word, tokens in zip(stop_words, self.tokens(column).tokens.to_pylist(), strict=True):
            if tokens != [word] and word not in _NOT_FROM_THEMSELVES:
                raise InputError(
                    f"stop word {word!r} is not a token but {tokens}: write it as one, in lower "
                    "case and without punctuation around it"
                )

    def tokens(self, texts: pa.Array | pa.ChunkedArray) -> Tokens:
        """The tokens of each text.

        Args:
            texts: n strings, or binary values in UTF-8. Nulls and invalid UTF-8 are allowed.
        """
        column = column_tokens(texts, self._entries, self._rules, as_bytes=True)
        token_offsets = np.concatenate([[0], column.token_ends])
        text_offsets = np.concatenate([[0], column.text_ends])
        is_large = max(token_offsets[-1], text_offsets[-1]) > _INT32_MAX
        offset, string = (np.int64, pa.large_string()) if is_large else (np.int32, pa.string())
        token_buffer = pa.py_buffer(token_offsets.astype(offset))
        values = pa.Array.from_buffers(
            string,
            len(token_offsets) - 1,
            [None, token_buffer, pa.py_buffer(column.token_bytes)],
        )
        kind = pa.large_list(string) if is_large else pa.list_(string)
        buffers = [None, pa.py_buffer(text_offsets.astype(offset))]
        lists = pa.Array.from_buffers(kind, len(text_offsets) - 1, buffers, children=[values])
        return Tokens(lists, column.hashes, column.invalid)

    def encoder(self, vocabulary: Sequence[str]) -> "Encoder":
        """An encoder with these stop words and a vocabulary. A token's id is its place in it.

        Raises InputError if the vocabulary does not begin with SPECIALS or holds a token twice.
        """
        return Encoder(vocabulary, self.stop_words, self._rules)


class Encoder:
    """Cuts texts into token ids and drops stop words. Pickles without its hash table, so cheaply.

    Raises InputError if the vocabulary does not begin with SPECIALS or holds a token twice.
    """

    def __init__(
        self, vocabulary: Sequence[str], stop_words: Iterable[str] = (), rules: int = RULES
    ) -> None:
        self._rules = rules
        if tuple(vocabulary[: len(SPECIALS)]) != SPECIALS:
            raise InputError(f"the vocabulary does not begin with {', '.join(SPECIALS)}")
        self._entries = Entries(vocabulary, stop_words)

    def __call__(self, texts: pa.Array | pa.ChunkedArray) -> TokenIds:
        """The ids of each text's tokens; UNKNOWN for a token that is not in the vocabulary.

        Args:
            texts: as for `Tokenizer.tokens`.
        """
        column = column_tokens(texts, self._entries, self._rules, as_bytes=False)
        offsets = np.concatenate([[0], column.text_ends])
        return TokenIds(column.ids, offsets, column.hashes, column.invalid)


def mix(hashes: np.ndarray, seed: int) -> np.ndarray:
    """Hashes keyed with a seed. Different seeds give numbers that are as good as independent.

    The finalizer of SplitMix64 (Steele, Lea and Flood 2014) over the hashes and the hashed seed.

    Args:
        hashes: uint64[n].
        seed: any integer.

    Returns:
        uint64[n].
    """
    key = _finalized(np.array([seed % 2**64], np.uint64) + _lookup.START)
    return _finalized((np.asarray(hashes, np.uint64) ^ key) + _lookup.START)


def _finalized(h: np.ndarray) -> np.ndarray:
    h = (h ^ (h >> np.uint64(30))) * _lookup.FINAL_1
    h = (h ^ (h >> np.uint64(27))) * _lookup.FINAL_2
    h ^= h >> np.uint64(31)
    return h
