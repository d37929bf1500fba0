"""Every epoch goes through the rows once, in an order that follows from the step's number alone."""

import time
import tracemalloc
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.training.batches import CHUNK_ROWS, WINDOW_BATCHES, CachedRows, TrainingBatches
from sentiment.model.batch import Batch
from sentiment.text.bigrams import NONE, Bigrams
from sentiment.text.tokenizer import SPECIALS, UNKNOWN
from testing.properties import examples

LONGEST = 64


def generated(n: int, seed: int = 0, shortest: int = 1) -> tuple[list[list[int]], np.ndarray]:
    """Texts that begin with their row's number, of about 12 tokens, and labels."""
    random = np.random.default_rng(seed)
    lengths = np.clip(random.negative_binomial(3, 0.2, n), shortest, LONGEST)
    ids = [random.integers(1, 1000, length).tolist() for length in lengths]
    for row, text in enumerate(ids):
        text[:1] = [row] if text else []
    return ids, random.integers(0, 2, n)


def write(directory: Path, ids: list[list[int]], labels: np.ndarray, files: int) -> list[str]:
    """A split of a cache as `training.cache` writes it, in files of any number of rows."""
    directory.mkdir(exist_ok=True)
    edges = np.linspace(0, len(ids), files + 1).astype(int)
    edges[1:-1] -= np.arange(len(edges[1:-1])) % 3
    names = []
    for number, (start, stop) in enumerate(pairwise(edges)):
        table = {
            "hash": pa.array(np.arange(start, stop), pa.uint64()),
            "label": pa.array(labels[start:stop], pa.int8()),
            "ids": pa.array(ids[start:stop], pa.large_list(pa.int32())),
        }
        batch = pa.record_batch(table)
        names.append(f"train-{number:05d}.arrow")
        with pa.ipc.new_file(str(directory / names[-1]), batch.schema) as writer:
            writer.write_batch(batch)
    return names


def cache(directory: Path, n: int, files: int = 1, longest: int = LONGEST, **kind) -> CachedRows:
    names = write(directory, *generated(n, **kind), files)
    return CachedRows(str(directory), names, longest, (1, 1))


def rows_of(batch: Batch) -> list[int]:
    return batch.ids[:, 0].tolist()


def epoch(batches: TrainingBatches, number: int) -> list[list[int]]:
    steps = batches.steps_per_epoch
    return [rows_of(batches.batch(number * steps + step)) for step in range(steps)]


def assert_same(one: Batch, other: Batch) -> None:
    for name in ("ids", "lengths", "targets"):
        left, right = getattr(one, name), getattr(other, name)
        assert left.dtype == right.dtype == (np.float32 if name == "targets" else np.int32)
        np.testing.assert_array_equal(left, right)


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """More rows than a window holds, and no multiple of anything."""
    return cache(tmp_path_factory.mktemp("cache"), 11_003)


SIZES = [
    (1, 1),
    (7, 3),
    (10, 10),
    (CHUNK_ROWS - 1, 10),
    (CHUNK_ROWS, CHUNK_ROWS),
    (3 * CHUNK_ROWS + 1, 7),
    (9 * CHUNK_ROWS, 2 * CHUNK_ROWS),
    (WINDOW_BATCHES * 32, 32),
    (WINDOW_BATCHES * 32 * 2 + 31, 32),
]


@pytest.mark.parametrize(("n", "size"), SIZES)
def test_an_epoch_holds_every_row_once_but_the_remainder(n, size, tmp_path):
    batches = TrainingBatches(cache(tmp_path, n), size, 0)
    assert batches.steps_per_epoch == n // size
    for number in range(3):
        found = epoch(batches, number)
        assert all(len(batch) == size for batch in found)
        flat = [row for batch in found for row in batch]
        assert len(set(flat)) == len(flat) == n - n % size
        assert set(flat) <= set(range(n))


def test_batches_hold_the_rows_as_they_were_written(tmp_path):
    ids, labels = generated(2000)
    batches = TrainingBatches(cache(tmp_path, 2000), 50, 3)
    for step in (0, 17, 39, 40, 1234):
        batch = batches.batch(step)
        assert batch.ids.shape == (50, batch.lengths.max())
        assert batch.ids.dtype == batch.lengths.dtype == np.int32
        for row, text, length, label in zip(
            rows_of(batch), batch.ids, batch.lengths, batch.targets[:, 1], strict=True
        ):
            assert text[:length].tolist() == ids[row]
            assert not text[length:].any()
            assert label == labels[row]


@pytest.mark.parametrize("files", [1, 3])
def test_a_part_holds_the_rows_of_its_ranges(files, tmp_path):
    whole = cache(tmp_path, 100, files)
    ranges = [(0, 20), (37, 37), (40, 100)]
    part, expected = whole.part(ranges), whole.ranges(ranges)
    assert len(part) == 80
    for found, column in zip(part.ranges([(0, 80)]), expected, strict=True):
        np.testing.assert_array_equal(found, column)
    found = [row for batch in epoch(TrainingBatches(part, 8, 0), 0) for row in batch]
    assert sorted(found) == [*range(20), *range(40, 100)]
    assert len(whole) == 100


def test_texts_without_tokens_are_rows_like_others(tmp_path):
    labels = np.arange(40) % 2
    names = write(tmp_path, [[] if row % 4 else [5] for row in range(40)], labels, 3)
    batches = TrainingBatches(CachedRows(str(tmp_path), names, LONGEST, (1, 1)), 4, 0)
    found = [batches.batch(step) for step in range(10)]
    assert sum(int(batch.lengths.sum()) for batch in found) == 10
    assert sum(int(batch.targets[:, 1].sum()) for batch in found) == 20
    assert all(batch.ids.shape == (4, 1) for batch in found)


def test_every_epoch_has_another_order_and_leaves_out_other_rows(rows):
    batches = TrainingBatches(rows, 100, 0)
    epochs = [epoch(batches, number) for number in range(4)]
    left_out = [set(range(len(rows))) - {r for b in one for r in b} for one in epochs]
    assert [len(left) for left in left_out] == [3] * 4
    for i, one in enumerate(epochs):
        for other in epochs[i + 1 :]:
            assert one != other
            # Nor are the same rows together again.
            together = {tuple(sorted(batch)) for batch in one}
            assert not together & {tuple(sorted(batch)) for batch in other}
    assert len(set.union(*left_out)) > 3


def test_a_batch_follows_from_its_step_alone(rows):
    steps = np.random.default_rng(0).integers(0, 400, 60).tolist()
    one = TrainingBatches(rows, 100, 7)
    asked = [one.batch(step) for step in steps]
    straight = {}
    other = TrainingBatches(rows, 100, 7)
    for step in sorted(set(steps)):
        straight[step] = other.batch(step)
    for step, batch in zip(steps, asked, strict=True):
        assert_same(batch, straight[step])
    assert_same(TrainingBatches(rows, 100, 7).batch(steps[5]), asked[5])


@pytest.mark.parametrize("files", [2, 5, 37])
def test_the_number_of_files_does_not_matter(rows, tmp_path, files):
    other = cache(tmp_path, len(rows), files)
    one, many = TrainingBatches(rows, 100, 1), TrainingBatches(other, 100, 1)
    for step in range(0, 250, 3):
        assert_same(one.batch(step), many.batch(step))


def test_a_uri_reads_as_the_path_does(tmp_path):
    one = cache(tmp_path, 200, 2)
    names = [path.name for path in sorted(tmp_path.glob("*.arrow"))]
    other = CachedRows(f"file://{tmp_path}", names, LONGEST, (1, 1))
    assert_same(TrainingBatches(one, 20, 0).batch(3), TrainingBatches(other, 20, 0).batch(3))


def test_the_random_state_matters(rows):
    found = [epoch(TrainingBatches(rows, 100, state), 0) for state in (0, 1, 2**31 - 1)]
    assert found[0] != found[1]
    assert found[1] != found[2]


@pytest.mark.parametrize("workers", [1, 2, 3, 50])
def test_the_workers_parts_make_the_whole(rows, workers):
    whole = TrainingBatches(rows, 50, 0).batch(11)
    parts = [whole.for_worker(rank, workers) for rank in range(workers)]
    sizes = [len(part.lengths) for part in parts]
    assert max(sizes) - min(sizes) <= 1
    assert parts[0].unique_ids.tolist() == sorted({0, *whole.ids.flat})
    for rank, part in enumerate(parts):
        assert part.batch_rows == 50
        np.testing.assert_array_equal(part.unique_ids, parts[0].unique_ids)
        np.testing.assert_array_equal(part.unique_ids[part.places][0], whole.ids[rank::workers])
        np.testing.assert_array_equal(part.lengths, whole.lengths[rank::workers])
        np.testing.assert_array_equal(part.targets, whole.targets[rank::workers])
        assert {part.unique_ids.dtype, part.places.dtype} == {np.dtype(np.int32)}


@pytest.mark.parametrize(("first", "last"), [(0, 1), (5, 5), (100, 140)])
def test_parts_come_in_the_order_of_steps(rows, first, last):
    found = list(TrainingBatches(rows, 100, 0).worker_batches(first, last, 1, 3))
    assert len(found) == last - first
    batches = TrainingBatches(rows, 100, 0)
    for step, part in zip(range(first, last), found, strict=True):
        ids = part.unique_ids[part.places][0]
        np.testing.assert_array_equal(ids, batches.batch(step).ids[1::3])


def test_a_batch_pads_little(rows):
    batches = TrainingBatches(rows, 100, 0)
    found = [batches.batch(step) for step in range(batches.steps_per_epoch)]
    padding = sum(batch.ids.size - int(batch.lengths.sum()) for batch in found)
    lengths = np.concatenate([batch.lengths for batch in found])
    mixed = np.random.default_rng(0).permutation(lengths).reshape(-1, 100)
    at_random = int((mixed.max(axis=1) * 100).sum() - mixed.sum())
    assert padding < 0.1 * at_random
    assert padding < 0.15 * lengths.sum()


def test_short_and_long_batches_come_in_random_order(rows):
    batches = TrainingBatches(rows, 100, 0)
    lengths = [batches.batch(step).lengths.mean() for step in range(batches.steps_per_epoch)]
    assert abs(np.corrcoef(lengths, np.arange(len(lengths)))[0, 1]) < 0.3
    ups = np.mean(np.diff(lengths) > 0)
    assert 0.3 < ups < 0.7


def test_every_window_has_an_order_of_its_own(rows):
    batches = TrainingBatches(rows, 32, 0)
    orders = []
    for window in range(5):
        steps = range(window * WINDOW_BATCHES, (window + 1) * WINDOW_BATCHES)
        lengths = [batches.batch(step).lengths.mean() for step in steps]
        orders.append(np.argsort(np.argsort(lengths)))
    assert np.abs(np.corrcoef(orders) - np.eye(5)).max() < 0.6


def test_every_epoch_is_cut_into_other_chunks(rows):
    batches = TrainingBatches(rows, 100, 0)
    cuts = []
    for number in range(5):
        ranges = batches._ranges(number, 0, len(rows))
        assert sorted(row for start, stop in ranges for row in range(start, stop)) == list(
            range(len(rows))
        )
        assert max(stop - start for start, stop in ranges) <= CHUNK_ROWS
        cuts.append({start % CHUNK_ROWS for start, _ in ranges} - {0})
    assert all(len(cut) == 1 for cut in cuts)
    assert len(set.union(*cuts)) == 5


def test_which_rows_of_equal_length_meet_is_random(tmp_path):
    names = write(tmp_path, [[row, 1] for row in range(640)], np.zeros(640, int), 1)
    batches = TrainingBatches(CachedRows(str(tmp_path), names, LONGEST, (1, 1)), 10, 0)
    together = [row for batch in epoch(batches, 0) for row in batch]
    distances = np.abs(np.diff(together))
    assert np.median(distances) > 100


@pytest.mark.parametrize("longest", [1, 5, 20])
def test_long_texts_are_cut(tmp_path, longest):
    ids, _ = generated(300)
    batches = TrainingBatches(cache(tmp_path, 300, 2, longest), 30, 0)
    for step in range(10):
        batch = batches.batch(step)
        assert batch.ids.shape[1] == batch.lengths.max() <= longest
        for row, text, length in zip(rows_of(batch), batch.ids, batch.lengths, strict=True):
            assert text[:length].tolist() == ids[row][:longest]


@pytest.mark.parametrize("most", [0, 1, 99, 100, 101, 1000])
def test_the_first_rows_by_length(tmp_path, most):
    ids, labels = generated(250)
    found = cache(tmp_path, 250, 3, longest=9).by_length(100, most)
    kept = min(most, 250)
    assert [len(batch.ids) for batch in found] == [
        min(100, kept - start) for start in range(0, kept, 100)
    ]
    lengths = [length for batch in found for length in batch.lengths]
    assert lengths == sorted(lengths)
    seen = {
        (*text[:length].tolist(), int(label))
        for batch in found
        for text, length, label in zip(batch.ids, batch.lengths, batch.targets[:, 1], strict=True)
    }
    expected = zip(ids[:most], labels[:most].tolist(), strict=True)
    assert seen == {(*text[:9], label) for text, label in expected}


@examples(40)
@given(files=st.integers(1, 9), edges=st.lists(st.integers(0, 60), max_size=8))
def test_ranges_are_slices_of_the_rows(tmp_path_factory, files, edges):
    ids, labels = generated(60, shortest=0)
    rows = cache(tmp_path_factory.mktemp("cache"), 60, files, shortest=0)
    ranges = [(min(pair), max(pair)) for pair in zip(edges[::2], edges[1::2], strict=False)]
    found_labels, lengths, found_ids = rows.ranges(ranges)
    numbers = [row for start, stop in ranges for row in range(start, stop)]
    assert found_labels.tolist() == labels[numbers].tolist() if numbers else not len(found_labels)
    assert lengths.tolist() == [len(ids[row]) for row in numbers]
    assert found_ids.tolist() == [token for row in numbers for token in ids[row]]


class _Many:
    def __len__(self) -> int:
        return 100_000_000


def test_an_epoch_of_many_rows_takes_little_time_and_memory():
    batches = TrainingBatches(_Many(), 256, 0)
    began = time.process_time()
    places = [0, 12_345_678, 99_983_616]
    found = {
        (number, place): batches._ranges(number, place, place + 64 * 256)
        for number in (0, 1)
        for place in places
    }
    assert time.process_time() - began < 1
    tracemalloc.start()
    try:
        batches._ranges(2, 0, 64 * 256)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 20e6
    for ranges in found.values():
        assert sum(stop - start for start, stop in ranges) == 64 * 256
        assert all(0 <= start < stop <= len(_Many()) for start, stop in ranges)
        assert len(ranges) < 64 * 256 / CHUNK_ROWS + 3
    assert found[0, 0] != found[1, 0]


def test_words_and_bigrams_are_left_out_by_share_and_alike_for_every_worker(tmp_path):
    rows = cache(tmp_path, 3000)
    words = [*SPECIALS, *(f"w{number}" for number in range(2, 3000))]
    known = words[:200]
    pairs = [f"{first} {second}" for first in known[2:] for second in known[2:100]]
    bigrams = Bigrams([*words, *pairs])
    batches = TrainingBatches(rows, 300, 0, bigrams, 0.9, 0.6)
    whole = [batches.batch(step) for step in range(8)]
    own = [batch.ids > 0 for batch in whole]
    found = [part.unique_ids[part.places] for part in batches.worker_batches(0, 8, 0, 1)]
    lost = np.concatenate([(its[0] == UNKNOWN)[mask] for its, mask in zip(found, own, strict=True)])
    unknown = np.concatenate([(b.ids == UNKNOWN)[mask] for b, mask in zip(whole, own, strict=True)])
    assert abs(lost.mean() - unknown.mean() - 0.1) < 0.01
    possible = [
        Batch(its[0], b.lengths, b.targets).bigram_ids(bigrams)
        for its, b in zip(found, whole, strict=True)
    ]
    for its, batch, pairs in zip(found, whole, possible, strict=True):
        assert ((its[0] == batch.ids) | (its[0] == UNKNOWN)).all()
        assert ((its[1] == pairs) | (its[1] == NONE)).all()
    kept = sum(np.count_nonzero(its[1]) for its in found)
    assert abs(kept / sum(map(np.count_nonzero, possible)) - 0.6) < 0.06
    for rank in (0, 1, 2):
        for part, its in zip(batches.worker_batches(0, 8, rank, 3), found, strict=True):
            np.testing.assert_array_equal(part.unique_ids[part.places], its[:, rank::3])
    again = next(TrainingBatches(rows, 300, 0, bigrams, 0.9, 0.6).worker_batches(5, 6, 0, 1))
    np.testing.assert_array_equal(again.unique_ids[again.places], found[5])


def test_a_row_counts_by_its_classs_weight(tmp_path):
    names = write(tmp_path, [[5], [6], [7]], np.array([0, 2, 1]), 1)
    (batch,) = CachedRows(str(tmp_path), names, LONGEST, (0.5, 2, 3)).by_length(9, 9)
    assert batch.targets.tolist() == [[0.5, 0, 0], [0, 0, 3], [0, 2, 0]]


def test_targets_are_labels_or_probabilities_times_the_weight_of_the_class(tmp_path):
    ids = pa.array([[1, 2], [3], [4]], pa.large_list(pa.int32()))
    soft = [[0.5, 0.25, 0.25], [0, 1, 0], [0.125, 0.5, 0.375]]
    columns = {
        "label": pa.array([2, 0, 1], pa.int16()),
        "target": pa.array(soft, pa.list_(pa.float32(), 3)),
    }
    for name, expected in (("label", np.eye(3)[[2, 0, 1]]), ("target", np.array(soft))):
        batch = pa.record_batch(
            {"hash": pa.array([1, 2, 3], pa.uint64()), name: columns[name], "ids": ids}
        )
        with pa.ipc.new_file(str(tmp_path / "a.arrow"), batch.schema) as writer:
            writer.write_batch(batch)
        rows = CachedRows(str(tmp_path), ["a.arrow"], LONGEST, (1, 2, 4))
        (found,) = rows.by_length(3, 3)
        assert found.targets.dtype == np.float32
        np.testing.assert_array_equal(found.targets, (expected * [1, 2, 4])[[1, 2, 0]])
