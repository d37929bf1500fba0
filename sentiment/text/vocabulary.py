"""Builds the vocabulary: which tokens get an id. The order and sharding of texts do not matter."""

from collections.abc import Iterable, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sentiment.text.tokenizer import SPECIALS

MIN_SHARE = 0.0001
"""A token in at most this share of the texts is too rare to learn from, and gets no id."""

MAX_SIZE = 100_000
"""Largest number of entries of a vocabulary. The most frequent tokens are kept."""


_FREQUENCIES = pa.schema([("token", pa.string()), ("texts", pa.int64())])


def document_frequencies(tokens: pa.Array) -> pa.Table:
    """The number of texts in which each token occurs.

    Args:
        tokens: list<string>[n], the tokens of each text.

    Returns:
        Columns `token` (string) and `texts` (int64), one row per distinct token, in any order.
    """
    words = tokens.flatten().dictionary_encode()
    text = pc.list_parent_indices(tokens).to_numpy(zero_copy_only=False)
    word = words.indices.to_numpy(zero_copy_only=False)
    distinct = len(words.dictionary)
    pairs = np.unique(text.astype(np.int64) * distinct + word)
    counts = np.bincount(pairs % max(distinct, 1), minlength=distinct)
    # Large lists have large strings. All tables get the same type, because they are merged.
    token = words.dictionary.cast(pa.string())
    return pa.table({"token": token, "texts": pa.array(counts, pa.int64())})


def merge(frequencies: Iterable[pa.Table]) -> pa.Table:
    """Document frequencies over disjoint sets of texts, any number, from the table of each."""
    whole = pa.concat_tables([_FREQUENCIES.empty_table(), *frequencies])
    return whole.group_by("token").aggregate([("texts", "sum")]).rename_columns(["token", "texts"])


def frequent(frequencies: pa.Table, texts: int, min_share: float) -> pa.Table:
    """The rows of `frequencies` whose tokens are in more than `min_share` of `texts` texts."""
    # A quotient, because min_share * texts may be rounded down: 0.29 * 100 is less than 29.
    share = pc.divide(frequencies["texts"].cast(pa.float64()), float(texts))
    return frequencies.filter(pc.greater(share, min_share))


def build(
    frequencies: pa.Table,
    texts: int,
    *,
    min_share: float = MIN_SHARE,
    max_size: int = MAX_SIZE,
    always: Sequence[str] = (),
) -> list[str]:
    """The vocabulary of a corpus: the special tokens, then by falling frequency, then by token.

    Args:
        frequencies: document frequencies (`token`, `texts`), one row per token.
        texts: number of texts that were counted.
        min_share: tokens in at most this share of the texts are left out.
        max_size: largest number of entries, with the special ones.
        always: tokens that come first, however frequent they are; special ones are passed over.

    Returns:
        Tokens, each at the place of its id. The order and grouping in which texts were counted do
        not matter: equally frequent tokens are sorted by their UTF-8 bytes.
    """
    kept = frequent(frequencies, texts, min_share)
    kept = kept.sort_by([("texts", "descending"), ("token", "ascending")])
    tokens = dict.fromkeys([*SPECIALS, *always])
    # As many as may be missing: some are there.
    for token in kept["token"][:max_size].to_pylist():
        if len(tokens) >= max_size:
            break
        tokens[token] = None
    return list(tokens)
