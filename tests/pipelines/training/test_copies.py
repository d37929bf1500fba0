"""Texts with very many copies are found, and their copies numbered, in any division of the rows."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.training import copies
from pipelines.training.copies import (
    CopyNumbers,
    FrequentTexts,
    many,
    places_of,
    running_numbers,
)
from testing.properties import examples

HASHES = st.lists(st.integers(0, 12) | st.sampled_from([3, 7]), max_size=120)


@pytest.fixture
def few(monkeypatch):
    monkeypatch.setattr(copies, "MAX_CANDIDATES", 4)
    monkeypatch.setattr(copies, "FEW_COPIES", 10)


@examples(200)
@given(HASHES, st.lists(st.integers(0, 120), max_size=5))
def test_the_most_frequent_texts_are_found_however_the_rows_are_divided(hashes, cuts):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(copies, "MAX_CANDIDATES", 4)
        patch.setattr(copies, "FEW_COPIES", 10)
        parts = np.split(np.array(hashes, np.uint64), sorted(cuts))
        found = FrequentTexts.merged(map(FrequentTexts.of, parts))
        assert len(found.hashes) <= 4
        counted = dict(zip(found.hashes.tolist(), found.copies.tolist(), strict=True))
        for value in set(hashes):
            least = counted.get(value, 0)
            assert least <= hashes.count(value) <= least + len(hashes) // 4
        candidates = set(found.candidates(len(hashes)).tolist())
        assert {value for value in hashes if hashes.count(value) >= many(len(hashes))} <= candidates


@examples(100)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2)), max_size=80),
    st.lists(st.integers(0, 80), max_size=4),
)
def test_each_copy_has_a_number_of_its_own(rows, cuts):
    """By text and label from 0 on, without gaps, whichever shard and batch it is in."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(copies, "MAX_CANDIDATES", 100)
        patch.setattr(copies, "FEW_COPIES", 10)
        frequent = np.array([0, 2, 3], np.uint64)
        table = np.array(rows, np.uint64).reshape(-1, 2)
        shards = {f"{n}": part for n, part in enumerate(np.split(table, sorted(cuts)))}
        counted = {}
        for path, part in shards.items():
            counted[path] = np.zeros((3, 3), np.int64)
            places = places_of(part[:, 0], frequent)
            np.add.at(counted[path], (places[places >= 0], part[places >= 0, 1].astype(int)), 1)
        numbers = CopyNumbers.of(frequent, counted, len(rows))
        totals = {hash_: np.count_nonzero(table[:, 0] == hash_) for hash_ in range(4)}
        assert numbers.hashes.tolist() == [h for h in (0, 2, 3) if totals[h] >= 10]
        found: dict[int, list[tuple[int, int]]] = {}
        for path, part in shards.items():
            first = numbers.first_of(path)
            for batch in np.split(part, [len(part) // 2]):
                own = numbers.numbers(batch[:, 0], batch[:, 1].astype(int), first)
                for (hash_, label), number in zip(batch.tolist(), own.tolist(), strict=True):
                    assert (number < 0) == (hash_ == 1 or totals[hash_] < 10)
                    found.setdefault(hash_, []).append((label, number))
        for hash_ in numbers.hashes.tolist():
            assert sorted(found[hash_]) == [
                (label, number)
                for number, label in enumerate(sorted(label for label, _ in found[hash_]))
            ]


def test_a_corpus_without_many_copies_needs_no_other_pass(few):
    hashes = np.arange(1000, dtype=np.uint64).repeat(2)
    assert not len(FrequentTexts.of(hashes).candidates(len(hashes)))
    none = CopyNumbers.of(np.empty(0, np.uint64), {}, 1000)
    assert none.numbers(hashes, np.zeros(2000, int), none.first_of("any")).tolist() == [-1] * 2000


def test_running_numbers():
    found = running_numbers(np.array([1, 1, 4, 5, 5, 5], np.uint64))
    assert found.tolist() == [0, 1, 0, 0, 1, 2]
    assert running_numbers(np.empty(0, np.uint64)).tolist() == []
