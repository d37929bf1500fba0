"""The vocabulary follows from the texts alone, as counted by a few lines of Python."""

from collections import Counter

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentiment.text import vocabulary
from sentiment.text.tokenizer import SPECIALS, Tokenizer

LISTS = (pa.list_(pa.string()), pa.large_list(pa.large_string()))
texts = st.lists(
    st.lists(st.sampled_from(["a", "b", "A", "é", "e\u0301", "\uffff", "\U0001f600", "日", "zz"]))
)


def counted(texts: list[list[str]]) -> dict[str, int]:
    return dict(Counter(token for tokens in texts for token in set(tokens)))


def as_dict(frequencies: pa.Table) -> dict[str, int]:
    assert frequencies.column_names == ["token", "texts"]
    assert frequencies.schema.types == [pa.string(), pa.int64()]
    found = dict(zip(*frequencies.to_pydict().values(), strict=True))
    assert len(found) == len(frequencies)
    return found


def frequencies(counts: dict[str, int]) -> pa.Table:
    return pa.table({"token": pa.array(counts.keys(), pa.string()), "texts": counts.values()})


@pytest.mark.parametrize("kind", LISTS)
@given(texts=texts, ends=st.tuples(st.integers(0, 9), st.integers(0, 9)))
def test_document_frequencies_are_a_plain_count(kind, texts, ends):
    array = pa.array(texts, kind)
    assert as_dict(vocabulary.document_frequencies(array)) == counted(texts)
    start, length = ends
    some = array.slice(min(start, len(texts)), length)
    found = vocabulary.document_frequencies(some)
    assert as_dict(found) == counted(some.to_pylist())


@pytest.mark.parametrize("kind", LISTS)
@pytest.mark.parametrize("texts", [[], [[]], [[], [], []]])
def test_texts_without_tokens_count_nothing(kind, texts):
    found = vocabulary.document_frequencies(pa.array(texts, kind))
    assert as_dict(found) == {}
    assert vocabulary.build(vocabulary.merge([found, found]), len(texts)) == list(SPECIALS)


def test_what_the_tokenizer_gives_is_counted_whole_or_filtered():
    tokens = Tokenizer(["the"]).tokens(pa.array(["the cat, the CAT", "a cat", "", "dog :)"])).tokens
    expected = {"cat": 2, ",": 1, "a": 1, "dog": 1, ":)": 1}
    assert as_dict(vocabulary.document_frequencies(tokens)) == expected
    some = tokens.filter(pa.array([False, True, True, True]))
    expected = {"cat": 1, "a": 1, "dog": 1, ":)": 1}
    assert as_dict(vocabulary.document_frequencies(some)) == expected


@given(
    texts=texts.filter(bool),
    order=st.randoms(use_true_random=False),
    shards=st.integers(1, 5),
    min_share=st.sampled_from([0.0, 0.0001, 0.1, 0.29, 0.5]),
    max_size=st.integers(2, 12),
)
def test_no_sharding_changes_the_vocabulary(texts, order, shards, min_share, max_size):
    expected = [
        token
        for token, count in sorted(counted(texts).items(), key=lambda x: (-x[1], x[0].encode()))
        if count / len(texts) > min_share
    ]
    shuffled = order.sample(texts, len(texts))
    tables = [
        vocabulary.document_frequencies(pa.array(shuffled[i::shards], LISTS[i % 2]))
        for i in range(shards)
    ]
    merged = vocabulary.merge(tables)
    assert as_dict(merged) == counted(texts)
    built = vocabulary.build(merged, len(texts), min_share=min_share, max_size=max_size)
    assert built == [*SPECIALS, *expected][:max_size]


def test_ties_are_broken_by_bytes_not_by_locale_or_utf16():
    tokens = ["b", "a", "B", "é", "z", "\U0001f600", "\uffff", "日", "aa"]
    built = vocabulary.build(frequencies(dict.fromkeys(tokens, 3)), 10)
    assert built == [*SPECIALS, "B", "a", "aa", "b", "z", "é", "日", "\uffff", "\U0001f600"]


@pytest.mark.parametrize(("texts", "most"), [(10_000, 1), (9_999, 0), (70_000, 7), (430_000, 43)])
def test_a_token_in_the_least_share_of_the_texts_is_left_out(texts, most):
    built = vocabulary.build(frequencies({"at": most, "above": most + 1}), texts)
    assert built == [*SPECIALS, "above"]


@given(percent=st.integers(1, 99), hundreds=st.integers(1, 1000))
def test_the_least_share_is_exact(percent, hundreds):
    at = percent * hundreds
    table = frequencies({"at": at, "above": at + 1})
    built = vocabulary.build(table, 100 * hundreds, min_share=percent / 100)
    assert built == [*SPECIALS, "above"]


@pytest.mark.parametrize(("max_size", "kept"), [(5, 3), (3, 1), (2, 0), (1, 0), (0, 0)])
def test_the_frequent_tokens_are_kept_where_there_are_too_many(max_size, kept):
    table = frequencies({"c": 1, "a": 3, "b": 2, "d": 1})
    built = vocabulary.build(table, 3, max_size=max_size)
    assert built == [*SPECIALS, *["a", "b", "c"][:kept]]
