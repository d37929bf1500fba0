"""Tokens -> the vocabulary: which tokens have an id, in an order that no sharding can change."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sentiment.text.tokenizer import SPECIALS

MIN_SHARE = 0.0001
"""A token found in at most this share of the texts gets no id: too rare to learn from."""

MAX_SIZE = 100_000
"""The most tokens a vocabulary holds, the frequent ones first."""


def document_frequencies(tokens: pa.Array) -> pa.Table:
    """In how many texts each token occurs, however often it does in one.

    Args:
        tokens: a list<string> array with one list of tokens a text.

    Returns:
        Columns `token` (string) and `texts` (int64), one row a distinct token, in no given order.
    """
    words = tokens.flatten().dictionary_encode()
    text = pc.list_parent_indices(tokens).to_numpy(zero_copy_only=False)
    word = words.indices.to_numpy(zero_copy_only=False)
    distinct = len(words.dictionary)
    pairs = np.unique(text.astype(np.int64) * distinct + word)
    counts = np.bincount(pairs % max(distinct, 1), minlength=distinct)
    # Large lists come with large strings; tables are merged, so all have the same type.
    token = words.dictionary.cast(pa.string())
    return pa.table({"token": token, "texts": pa.array(counts, pa.int64())})


def merge(frequencies: list[pa.Table]) -> pa.Table:
    """The frequencies of the union of disjoint sets of texts, each given by its own table."""
    whole = pa.concat_tables(frequencies)
    return whole.group_by("token").aggregate([("texts", "sum")]).rename_columns(["token", "texts"])


def frequent(frequencies: pa.Table, texts: int, min_share: float) -> pa.Table:
    """The rows of `frequencies` whose tokens are in more than a share of so many texts."""
    # The quotient, not min_share * texts: 0.29 * 100 is less than 29.
    share = pc.divide(frequencies["texts"].cast(pa.float64()), float(texts))
    return frequencies.filter(pc.greater(share, min_share))


def build(
    frequencies: pa.Table,
    texts: int,
    *,
    min_share: float = MIN_SHARE,
    max_size: int = MAX_SIZE,
) -> list[str]:
    """The vocabulary of a corpus: the special tokens, then by falling frequency, then by token.

    Args:
        frequencies: document frequencies (`token`, `texts`), each token once.
        texts: number of texts they were counted over.
        min_share: tokens in at most this share of the texts are left out.
        max_size: most entries, the special ones included.

    Returns:
        Tokens, each at the place of its id. The same texts give the same list in whatever order
        and grouping they were counted: ties are broken by the token's UTF-8 bytes.
    """
    kept = frequent(frequencies, texts, min_share)
    kept = kept.sort_by([("texts", "descending"), ("token", "ascending")])
    return [*SPECIALS, *kept["token"][: max(max_size - len(SPECIALS), 0)].to_pylist()]
