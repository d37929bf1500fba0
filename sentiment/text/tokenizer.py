"""Texts -> tokens or token ids, in one pass of compiled code over a column's bytes.

What becomes a token, in the order of the text:

- HTML entities are first restored, once, as `html.unescape` does: `&amp;lt;` becomes `&lt;`.
- Characters are folded one by one: simple lower case (not full case folding: ß stays ß); the
  apostrophe U+2019 is `'`; full-width ! ? # @ and the Arabic ? are the ASCII ones; soft hyphens,
  direction marks and variation selectors are dropped. Nothing is composed or decomposed.
- In words and in scripts without spaces a letter or mark three times or more in a row stands
  there twice (`sooooo`: `soo`); digits stay, since 1000 is not 100.
- A word is a run of letters, digits and the marks on them, in any script. An apostrophe or
  zero-width joiner between two letters or digits is part of it (`don't`).
- In scripts without spaces (Han, Kana, Thai, Lao, Khmer, Myanmar, Tai) each letter, with its
  marks, is a token.
- `!` and `?`, emoticons and emoji are tokens. Of the same one three times or more with nothing
  between, two remain (`!!!!`: `!`, `!`), and so in scripts without spaces. In an emoticon three
  equal characters or more become two (`:)))))`: `:))`).
- An emoji takes its skin tone, joined emoji and tags along; a flag is one token; so is a keycap.
- Emoticons have eyes `: ; =`, perhaps a brow `>`, a nose `- ^ o` or a tear `'`, and a mouth; or
  are such from the other side after a blank, `(:`; or `<3`, `^^`, `-_-`, `o_o`, `8)` and their
  kin (`text._scan.emoticon`). Letters and brackets as mouths need the end of the word; `8)`
  needs blanks around and no open bracket. `xD` is simply a word.
- A full stop right after a letter, digit or mark, but an emoticon's, and before a blank or the end
  of the text, is a token `.`; so is `。`, `｡`, `।` or `۔` wherever it stands. A run of two or more
  of them, and any run with a `…` in it, is one token `..`. Emoticons come first: `..._.` is `..`
  and `._.`.
- A comma before a blank or the end of the text is a token `,`; so is `，`, `、`, `､` or `،`
  wherever it stands.
- `http://`, `https://` or `www.` at the beginning of a word and what follows, up to a blank, `"`,
  `<`, `>` or a character that is neither ASCII nor in a word, is `<url>`. The punctuation it ends
  with is not part of it: that of `www.a.b.` is a token `.`, as after any word.
- `@` and a run of words and underscores, not after such, is `<user>`.
- `#` and a run of words, underscores and letters of any script, not after a word, is one token, a
  hashtag; but not with ASCII digits and underscores alone.
- Everything else separates words and is dropped.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from sentiment.errors import InputError
from sentiment.text import _fold, _lookup, _scan
from sentiment.text._unicode import tables

PADDING, UNKNOWN = 0, _lookup.UNKNOWN
SPECIALS = ("<pad>", "<unk>")

# Folded texts are made for so many bytes at a time, so that they are still in the cache when the
# scan reads them.
_BLOCK_BYTES = 1 << 16
_MARKERS = np.frombuffer(_scan.URL + _scan.USER + _scan.PUNCTUATION, np.uint8)
_NOT_ALONE = ("<url>", "<user>", ".")
"""The tokens that a text of just their characters does not have."""

_Table = tuple[np.ndarray, np.uint64, np.ndarray, np.ndarray]
_INT32_MAX = np.iinfo(np.int32).max


@dataclass(frozen=True)
class Tokens:
    """The tokens of n texts, for building a vocabulary."""

    tokens: pa.Array
    """list<string> (n,): the tokens of each text; large lists and strings beyond 2 GiB."""
    hashes: np.ndarray
    """uint64 (n,): a hash of each text's tokens, stop words included, that is the same on every
    machine; uniform over its range. A text without tokens has one, too."""
    invalid: np.ndarray
    """int64: the rows whose text is null or not valid UTF-8, ascending. They have no tokens."""


@dataclass(frozen=True)
class TokenIds:
    """The token ids of n texts."""

    ids: np.ndarray
    """int32: the ids of all texts, one after another."""
    offsets: np.ndarray
    """int64 (n + 1,): where each text's ids begin, and the end."""
    hashes: np.ndarray
    """As in `Tokens`."""
    invalid: np.ndarray
    """As in `Tokens`."""

    def heads(self, lengths: np.ndarray) -> np.ndarray:
        """int32: the first `lengths` (n,) ids of each text, no more than it has, end to end."""
        return heads(self.ids, self.offsets, lengths)


def heads(ids: np.ndarray, offsets: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Of texts whose ids begin at `offsets` (n + 1,), the first `lengths` (n,), end to end."""
    if lengths.sum() == len(ids):
        return ids
    own = np.diff(offsets)
    place = np.arange(len(ids)) - np.repeat(offsets[:-1], own)
    kept: np.ndarray = ids[place < np.repeat(lengths, own)]
    return kept


class Tokenizer:
    """Cuts texts into tokens and drops stop words.

    Raises InputError for a stop word that no token can be equal to.
    """

    def __init__(self, stop_words: Iterable[str] = ()) -> None:
        self.stop_words = tuple(dict.fromkeys(stop_words))
        self._entries = _Entries((), ())
        if self.stop_words:
            # Not by `pa.array`: for anything but an Arrow array it loads pandas.
            encoded = [word.encode() for word in self.stop_words]
            ends = np.cumsum([0, *map(len, encoded)], dtype=np.int64)
            buffers = [None, pa.py_buffer(ends), pa.py_buffer(b"".join(encoded))]
            words = pa.Array.from_buffers(pa.large_string(), len(encoded), buffers)
            found = self.tokens(words).tokens.to_pylist()
            for word, tokens in zip(self.stop_words, found, strict=True):
                if tokens != [word] and word not in _NOT_ALONE:
                    raise InputError(
                        f"stop word {word!r} is no token but {tokens}: write it as one, in lower "
                        "case and without punctuation around it"
                    )
            self._entries = _Entries((), self.stop_words)

    def tokens(self, texts: pa.Array | pa.ChunkedArray) -> Tokens:
        """The tokens of each text.

        Args:
            texts: strings, or binary values with UTF-8 in them; nulls and invalid UTF-8 may be
                among them.
        """
        found = _find(texts, self._entries, keep=True)
        ends = np.concatenate([[0], found.token_ends])
        text_ends = np.concatenate([[0], found.text_ends])
        large = max(ends[-1], text_ends[-1]) > _INT32_MAX
        offset, string = (np.int64, pa.large_string()) if large else (np.int32, pa.string())
        values = pa.Array.from_buffers(
            string,
            len(ends) - 1,
            [None, pa.py_buffer(ends.astype(offset)), pa.py_buffer(found.token_bytes)],
        )
        kind = pa.large_list(string) if large else pa.list_(string)
        buffers = [None, pa.py_buffer(text_ends.astype(offset))]
        lists = pa.Array.from_buffers(kind, len(text_ends) - 1, buffers, children=[values])
        return Tokens(lists, found.hashes, found.invalid)

    def encoder(self, vocabulary: Sequence[str]) -> "Encoder":
        """What gives a token its place in `vocabulary`, which begins with SPECIALS.

        Raises InputError if it does not, or holds a token twice.
        """
        return Encoder(vocabulary, self.stop_words)


class Encoder:
    """Cuts texts into the ids of their tokens; stop words are dropped. Pickling it is cheap."""

    def __init__(self, vocabulary: Sequence[str], stop_words: Iterable[str] = ()) -> None:
        if tuple(vocabulary[: len(SPECIALS)]) != SPECIALS:
            raise InputError(f"the vocabulary does not begin with {', '.join(SPECIALS)}")
        self._entries = _Entries(vocabulary, stop_words)

    def __call__(self, texts: pa.Array | pa.ChunkedArray) -> TokenIds:
        """The ids of each text's tokens, UNKNOWN for one that is not in the vocabulary.

        Args:
            texts: as for `Tokenizer.tokens`.
        """
        found = _find(texts, self._entries, keep=False)
        offsets = np.concatenate([[0], found.text_ends])
        return TokenIds(found.ids, offsets, found.hashes, found.invalid)


def mix(hashes: np.ndarray, seed: int) -> np.ndarray:
    """uint64 hashes keyed with a seed: for each seed other, as good as independent, numbers.

    The finalizer of SplitMix64 (Steele, Lea and Flood 2014) over `hashes` and the seed's own.
    """
    key = _finish(np.array([seed % 2**64], np.uint64) + _lookup.START)
    return _finish((np.asarray(hashes, np.uint64) ^ key) + _lookup.START)


def _finish(h: np.ndarray) -> np.ndarray:
    h = (h ^ (h >> np.uint64(30))) * _lookup.FINAL_1
    h = (h ^ (h >> np.uint64(27))) * _lookup.FINAL_2
    h ^= h >> np.uint64(31)
    return h


class _Entries:
    """The tokens that the scan knows: a vocabulary and stop words, in an exact hash table."""

    def __init__(self, vocabulary: Sequence[str], stop_words: Iterable[str]) -> None:
        stop_words = list(stop_words)
        dropped = set(stop_words)
        # A stop word has no id, so its place in the vocabulary stays without a token.
        words = [b"" if word in dropped else word.encode() for word in vocabulary]
        words += [word.encode() for word in stop_words]
        self.known = len(vocabulary)
        self._ends = np.cumsum([0, *map(len, words)], dtype=np.int64)
        padding = -self._ends[-1] % 8 + _lookup.PADDED
        self._text = np.frombuffer(b"".join(words) + bytes(padding), np.uint64)
        self._table: _Table | None
        self._table, repeated = self._fill()
        if repeated >= 0:
            raise InputError(f"the vocabulary holds {words[repeated].decode()!r} twice")

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_table": None}

    def _fill(self) -> tuple[_Table, int]:
        _freeze(self._text)
        _freeze(self._ends)
        count = len(self._ends) - 1
        bits = max(4, (2 * count).bit_length())
        table = (
            np.full(1 << bits, -1, np.int32),
            np.uint64(64 - bits),
            np.empty((count, 4), np.uint64),
            self._text,
        )
        return table, _lookup.fill(table, self._ends)

    def table(self) -> _Table:
        """What `_lookup.look_up` takes; made again after unpickling."""
        if self._table is None:
            self._table, _ = self._fill()
        return self._table


def _freeze(array: np.ndarray) -> np.ndarray:
    """The array, read-only: writable ones, as some come from Arrow or a pickle, compile anew."""
    array.flags.writeable = False
    return array


class _Found(NamedTuple):
    """What `_lookup.look_up` gives for a column."""

    token_bytes: np.ndarray
    token_ends: np.ndarray
    ids: np.ndarray
    text_ends: np.ndarray
    hashes: np.ndarray
    invalid: np.ndarray


def _find(texts: pa.Array | pa.ChunkedArray, entries: _Entries, keep: bool) -> _Found:
    """Fold, scan and look up a column, as ids or (`keep`) as bytes."""
    chunks = list(_columns(texts))
    rows = sum(len(offsets) - 1 for _, offsets, _ in chunks)
    size = sum(int(offsets[-1] - offsets[0]) for _, offsets, _ in chunks)
    # Bounds, for the most part never touched: a token has a byte of the text at least, and `@a!`
    # becomes seven bytes.
    out = (
        np.empty(3 * size + 8 * rows if keep else 0, np.uint8),
        np.empty(size if keep else 0, np.int64),
        np.empty(0 if keep else size, np.int32),
        np.empty(rows, np.int64),
        np.empty(rows, np.uint64),
    )
    table = entries.table()
    state = np.zeros(3, np.int64)
    invalid = [np.empty(0, np.int64)]
    text = np.empty(0, np.uint8)
    for data, offsets, present in chunks:
        for row, last in _blocks(offsets):
            span = int(offsets[last] - offsets[row])
            need = 2 * span + _fold.MARGIN * (last - row + 1) + _fold.STRIDE
            if need > len(text):
                words, kind_words = np.empty((2, need // 8 + 1), np.uint64)
                text, kinds = words.view(np.uint8), kind_words.view(np.uint8)
                tokens = np.empty((need // 2, 2), np.int64)
            spans = np.empty((last - row, 2), np.int64)
            counts = np.empty(last - row, np.int64)
            _fold.fold(data, offsets, present, row, last, tables(), text, kinds, spans)
            text[: len(_MARKERS)] = _MARKERS
            _scan.scan(text, kinds, kind_words, spans, tokens, counts)
            invalid.append(np.flatnonzero(spans[:, 1] < 0) + state[0])
            _lookup.look_up(text, words, tokens, counts, table, entries.known, keep, out, state)
    token_bytes, token_ends, ids, text_ends, hashes = out
    found, used = state[1:]
    return _Found(
        token_bytes[:used],
        token_ends[:found],
        ids[:found],
        text_ends,
        hashes,
        np.concatenate(invalid),
    )


def _blocks(offsets: np.ndarray) -> Iterator[tuple[int, int]]:
    """Ranges of rows of about _BLOCK_BYTES, a row at least."""
    row, rows = 0, len(offsets) - 1
    while row < rows:
        limit = offsets[row] + _BLOCK_BYTES
        last = int(np.searchsorted(offsets, limit, side="right")) - 1
        last = min(max(last, row + 1), row + _BLOCK_BYTES // 16, rows)
        yield row, last
        row = last


def _columns(texts: pa.Array | pa.ChunkedArray) -> Iterator[tuple[np.ndarray, ...]]:
    """The bytes, offsets and presence of each chunk, as `_fold.fold` takes them."""
    if not isinstance(texts, pa.Array | pa.ChunkedArray):
        raise InputError(f"texts are a {type(texts).__name__}; give an Arrow array of strings")
    if isinstance(texts, pa.ChunkedArray):
        chunks = texts.chunks or [pa.array([], texts.type)]
    else:
        chunks = [texts]
    for chunk in chunks:
        if pa.types.is_dictionary(chunk.type):
            chunk = chunk.dictionary_decode()
        for other, plain in (
            ("string_view", pa.large_string()),
            ("binary_view", pa.large_binary()),
        ):
            if str(chunk.type) == other:
                chunk = chunk.cast(plain)
        if pa.types.is_null(chunk.type):
            chunk = chunk.cast(pa.string())
        if pa.types.is_large_string(chunk.type) or pa.types.is_large_binary(chunk.type):
            offset: type[np.integer[Any]] = np.int64
        elif pa.types.is_string(chunk.type) or pa.types.is_binary(chunk.type):
            offset = np.int32
        else:
            raise InputError(f"texts are of type {chunk.type}; give strings or binary values")
        if not len(chunk):
            continue
        _, places, values = chunk.buffers()
        offsets = np.frombuffer(places, offset)[chunk.offset : chunk.offset + len(chunk) + 1]
        data = _freeze(np.frombuffer(values or b"", np.uint8))
        present = np.empty(0, np.bool_)
        if chunk.null_count:
            present = chunk.is_valid().to_numpy(zero_copy_only=False)
        yield data, offsets.astype(np.int64), present
