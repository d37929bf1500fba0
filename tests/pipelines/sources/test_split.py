"""Splits: their shares, that they never move, and that equal texts are on one side."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.sources.split import LEFT_OUT, TEST, TRAIN, VALIDATION, VALIDATION_SHARE, Split
from sentiment.text.tokenizer import Tokenizer

HASHES = np.random.default_rng(0).integers(0, 2**64, 200_000, np.uint64)


def test_a_split_never_moves():
    hashes = np.array([0, 1, 2**63, 2**64 - 1, *range(10, 22)], np.uint64)
    assert Split(0, 0.2)(hashes).tolist() == [0, 2, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0]
    assert Split(7, 0.5)(hashes).tolist() == [0, 2, 2, 0, 2, 0, 0, 0, 2, 0, 2, 2, 0, 0, 2, 2]
    assert Split(0, 0.2).sampling_hashes(hashes[:3]).tolist() == [
        6791897765849424158,
        16860738450190168606,
        13247853208833655894,
    ]


@pytest.mark.parametrize("random_state", [0, 1, -1, 2**40])
@pytest.mark.parametrize("test_size", [0.01, 0.2, 0.9])
def test_shares(random_state, test_size):
    parts = Split(random_state, test_size)(HASHES)
    assert parts.dtype == np.int8
    rest = 1 - test_size
    shares = {TEST: test_size, VALIDATION: rest * VALIDATION_SHARE}
    shares[TRAIN] = 1 - sum(shares.values())
    for part, share in shares.items():
        deviation = np.sqrt(share * (1 - share) / len(HASHES))
        assert abs(np.mean(parts == part) - share) < 5 * deviation


def test_splits_of_different_random_states_are_independent():
    held_out = [Split(state, 0.2)(HASHES) == TEST for state in range(6)]
    for i, one in enumerate(held_out):
        for other in held_out[:i]:
            assert abs(np.corrcoef(one, other)[0, 1]) < 5 / np.sqrt(len(HASHES))


@given(st.integers(0, 2**64), st.floats(0.01, 0.99))
def test_sampling_leaves_out_rows_and_moves_none(below, test_size):
    hashes = HASHES[:1000]
    below = min(below, 2**64 - 1)
    whole, sample = Split(3, test_size)(hashes), Split(3, test_size, below)(hashes)
    left_out = Split(3, test_size).sampling_hashes(hashes) >= np.uint64(below)
    assert np.array_equal(sample == LEFT_OUT, left_out)
    assert np.array_equal(sample[~left_out], whole[~left_out])


def test_sampling_is_independent_of_the_side():
    split = Split(0, 0.2, 2**63)
    parts = split(HASHES)
    kept = parts != LEFT_OUT
    assert abs(kept.mean() - 0.5) < 0.006
    assert abs(np.mean(parts[kept] == TEST) - 0.2) < 0.007


def test_equal_texts_are_on_one_side():
    texts = pa.array([f"{word} {i}" for i in range(500) for word in ("Great!", "great !")])
    parts = Split(0, 0.5)(Tokenizer().tokens(texts).hashes)
    assert np.array_equal(parts[::2], parts[1::2])
    assert len(set(parts.tolist())) == 3
