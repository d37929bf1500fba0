"""Bigrams are found where their two words stand together in a text, and counted so."""

import pickle
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentiment.errors import InputError
from sentiment.text.bigrams import MIN_COUNT, NONE, Bigrams, frequent
from sentiment.text.tokenizer import SPECIALS

WORDS = [*SPECIALS, *(f"w{number}" for number in range(2, 8))]

texts = st.lists(st.lists(st.integers(0, len(WORDS) - 1), max_size=9), max_size=30)
pairs = st.lists(st.tuples(*[st.integers(2, len(WORDS) - 1)] * 2), unique=True)


def flat(texts):
    ids = np.array([word for text in texts for word in text], np.int32)
    return ids, np.cumsum([0, *map(len, texts)])


@given(texts=texts, pairs=pairs, copied=st.booleans())
def test_a_bigram_is_found_where_its_words_stand_together(texts, pairs, copied):
    bigrams = Bigrams([*WORDS, *(f"{WORDS[a]} {WORDS[b]}" for a, b in pairs)])
    if copied:
        bigrams = pickle.loads(pickle.dumps(bigrams))
    assert (len(bigrams), bigrams.words) == (len(pairs), len(WORDS))
    id_of = {pair: len(WORDS) + number for number, pair in enumerate(pairs)}
    expected = [
        id_of.get(pair, NONE) for text in texts for pair in pairwise([0, *text]) if len(text)
    ]
    found = bigrams(*flat(texts))
    assert found.dtype == np.int32
    assert found.tolist() == expected


@given(texts=texts, most=st.integers(0, 12), cut=st.integers(0, 30), seed=st.integers(0, 99))
def test_the_most_frequent_are_those_counted_most(texts, most, cut, seed):
    counts = Counter(pair for text in texts for pair in pairwise(text) if min(pair) > 1)
    order = sorted(counts, key=lambda pair: (-counts[pair], pair))
    expected = [f"{WORDS[a]} {WORDS[b]}" for a, b in order if counts[a, b] >= MIN_COUNT][:most]
    mixed = [texts[place] for place in np.random.default_rng(seed).permutation(len(texts))]
    for batches in ([texts], [texts[:cut], [], texts[cut:]], [mixed]):
        assert frequent(map(flat, batches), WORDS, most) == expected


def test_a_hundred_thousand_are_each_found():
    words = [*SPECIALS, *map(str, range(998))]
    random = np.random.default_rng(0)
    keys = random.choice(998**2, 100_000, replace=False)
    pairs = np.stack([keys // 998, keys % 998], axis=1) + 2
    bigrams = Bigrams([*words, *(f"{words[a]} {words[b]}" for a, b in pairs)])
    found = bigrams(pairs.ravel().astype(np.int32), np.arange(0, 200_001, 2))
    np.testing.assert_array_equal(found[1::2], np.arange(1000, 101_000))
    assert not found[::2].any()


@pytest.mark.parametrize("entry", ["w2 x", "x w2", "w2 w3 w4", " w2", "w2 ", " ", "<unk> w2"])
def test_what_is_no_pair_of_words_is_refused(entry):
    with pytest.raises(InputError, match="is not of two words"):
        Bigrams([*WORDS, entry])


def test_a_word_after_a_bigram_is_refused():
    with pytest.raises(InputError, match="comes after"):
        Bigrams([*WORDS, "w2 w3", "late"])
