"""An Arrow column of texts -> its tokens or ids: calls the compiled steps block by block."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from sentiment.errors import InputError
from sentiment.text import _fold, _lookup, _scan
from sentiment.text._entries import Entries, frozen
from sentiment.text._unicode import tables

_BLOCK_BYTES = 1 << 16
"""Texts are folded and scanned this many bytes at a time: folded texts are then still in the cache
when the scan reads them."""

_MARKERS = np.frombuffer(_scan.URL + _scan.USER + _scan.PUNCTUATION, np.uint8)


class ColumnTokens(NamedTuple):
    """The tokens of a column of n texts, as bytes or as ids."""

    token_bytes: np.ndarray
    """uint8[bytes]: the tokens' UTF-8, one after another; empty if ids were asked for."""
    token_ends: np.ndarray
    """int64[tokens]: where each token ends in `token_bytes`; empty if ids were asked for."""
    ids: np.ndarray
    """int32[tokens]; empty if bytes were asked for."""
    text_ends: np.ndarray
    """int64[n]: the number of tokens up to the end of each text."""
    hashes: np.ndarray
    """uint64[n]: a hash of each text's tokens."""
    invalid: np.ndarray
    """int64[invalid rows]: rows that are null or not UTF-8, ascending."""


def column_tokens(
    texts: pa.Array | pa.ChunkedArray, entries: Entries, rules: int, as_bytes: bool
) -> ColumnTokens:
    """Fold, scan and look up the texts of a column.

    Args:
        texts: an Arrow array of n strings, or of binary values in UTF-8.
        entries: the vocabulary and the stop words.
        rules: version of the rules.
        as_bytes: give the tokens' bytes instead of ids.
    """
    chunks = list(_byte_columns(texts))
    rows = sum(len(offsets) - 1 for _, offsets, _ in chunks)
    size = sum(int(offsets[-1] - offsets[0]) for _, offsets, _ in chunks)
    # Upper bounds; most of this memory is never touched. A token has at least one byte of the
    # text, and `@a!` becomes seven bytes.
    out = (
        np.empty(3 * size + 8 * rows if as_bytes else 0, np.uint8),
        np.empty(size if as_bytes else 0, np.int64),
        np.empty(0 if as_bytes else size, np.int32),
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
            need = 2 * span + _fold.MARGIN_BYTES * (last - row + 1) + _fold.STRIDE_BYTES
            if need > len(text):
                words, kind_words = np.empty((2, need // 8 + 1), np.uint64)
                text, kinds = words.view(np.uint8), kind_words.view(np.uint8)
                tokens = np.empty((need // 2, 2), np.int64)
            spans = np.empty((last - row, 2), np.int64)
            counts = np.empty(last - row, np.int64)
            _fold.fold(data, offsets, present, row, last, tables(rules), text, kinds, spans)
            text[: len(_MARKERS)] = _MARKERS
            _scan.scan(text, kinds, kind_words, spans, tokens, counts)
            invalid.append(np.flatnonzero(spans[:, 1] < 0) + state[0])
            _lookup.look_up(
                text, words, tokens, counts, table, entries.vocabulary_size, as_bytes, out, state
            )
    token_bytes, token_ends, ids, text_ends, hashes = out
    token_count, byte_count = state[1:]
    return ColumnTokens(
        token_bytes[:byte_count],
        token_ends[:token_count],
        ids[:token_count],
        text_ends,
        hashes,
        np.concatenate(invalid),
    )


def _blocks(offsets: np.ndarray) -> Iterator[tuple[int, int]]:
    """Ranges of rows of about _BLOCK_BYTES, at least one row each: first, and after the last."""
    row, rows = 0, len(offsets) - 1
    while row < rows:
        limit = offsets[row] + _BLOCK_BYTES
        last = int(np.searchsorted(offsets, limit, side="right")) - 1
        last = min(max(last, row + 1), row + _BLOCK_BYTES // 16, rows)
        yield row, last
        row = last


def _byte_columns(texts: pa.Array | pa.ChunkedArray) -> Iterator[tuple[np.ndarray, ...]]:
    """Each chunk that is not empty, as `_fold.fold` takes it.

    Yields data: uint8[bytes]; offsets: int64[rows + 1]; present: bool[rows], or bool[0] if there
    are no nulls.
    """
    if not isinstance(texts, pa.Array | pa.ChunkedArray):
        raise InputError(f"texts are a {type(texts).__name__}; give an Arrow array of strings")
    if isinstance(texts, pa.ChunkedArray):
        chunks = texts.chunks or [pa.array([], texts.type)]
    else:
        chunks = [texts]
    for chunk in chunks:
        chunk = _plain(chunk)
        if pa.types.is_large_string(chunk.type) or pa.types.is_large_binary(chunk.type):
            offset: type[np.integer[Any]] = np.int64
        elif pa.types.is_string(chunk.type) or pa.types.is_binary(chunk.type):
            offset = np.int32
        else:
            raise InputError(f"texts are of type {chunk.type}; give strings or binary values")
        if not len(chunk):
            continue
        _, offset_buffer, values = chunk.buffers()
        offsets = np.frombuffer(offset_buffer, offset)
        offsets = offsets[chunk.offset : chunk.offset + len(chunk) + 1]
        data = frozen(np.frombuffer(values or b"", np.uint8))
        present = np.empty(0, np.bool_)
        if chunk.null_count:
            present = chunk.is_valid().to_numpy(zero_copy_only=False)
        yield data, offsets.astype(np.int64), present


def _plain(chunk: pa.Array) -> pa.Array:
    """Dictionaries, views and nulls as plain strings or binary values; other types unchanged."""
    if pa.types.is_dictionary(chunk.type):
        chunk = chunk.dictionary_decode()
    if pa.types.is_string_view(chunk.type):
        return chunk.cast(pa.large_string())
    if pa.types.is_binary_view(chunk.type):
        return chunk.cast(pa.large_binary())
    if pa.types.is_null(chunk.type):
        return chunk.cast(pa.string())
    return chunk
