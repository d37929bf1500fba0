"""A sample of an output: any row may be in it, the same ones each time, and little is read."""

import io
import os
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.scoring import sample as sample_module
from pipelines.scoring.sample import PARTS_READ, sample


def write(directory, *rows, row_group_size=None, **columns):
    """Parts with so many rows, which are numbered; the arguments of `sample`."""
    names, first = [], 0
    for number, size in enumerate(rows):
        names.append(f"part-{number:06d}")
        table = pa.table({"row": range(first, first + size)})
        for name, value in columns.items():
            table = table.append_column(name, pa.array([value(i) for i in range(size)]))
        path = directory / f"{names[-1]}.parquet"
        pq.write_table(table, path, row_group_size=row_group_size, compression="none")
        first += size
    return str(directory), names, np.array(rows)


class Counted(io.FileIO):
    """A file that counts the bytes read of it."""

    total = 0

    def read(self, size=-1):
        content = super().read(size)
        self.total += len(content)
        return content


@pytest.fixture
def opened(monkeypatch):
    """The files that are opened for a sample; each counts the bytes read of it."""
    files = []

    def open_input_file(path):
        files.append(Counted(path))
        return pa.PythonFile(files[-1], "r")

    filesystem = SimpleNamespace(open_input_file=open_input_file)
    monkeypatch.setattr(sample_module.storage, "resolve", lambda path: (filesystem, path))
    return files


def test_a_sample_is_of_all_rows_in_order_and_the_same_each_time(tmp_path):
    output = write(tmp_path, 300, 0, 500, 200, row_group_size=70)
    samples = [sample(*output, 10, seed)["row"].to_pylist() for seed in range(200)]
    assert all(rows == sorted(set(rows)) and len(rows) == 10 for rows in samples)
    assert sample(*output, 10, 7)["row"].to_pylist() == samples[7]
    # 2,000 numbers of 1,000 rows.
    heights, _ = np.histogram(np.concatenate(samples), 10, (0, 1000))
    assert heights.min() > 120
    assert heights.max() < 300


@pytest.mark.parametrize(
    ("rows", "shown"), [((), 0), ((0, 0), 0), ((3, 0, 2), 5), ((1,) * 40, 10), ((2,) * 9, 10)]
)
def test_an_output_of_few_rows_is_shown_as_far_as_it_goes(tmp_path, rows, shown):
    output = write(tmp_path, *rows)
    for seed in range(20):
        table = sample(*output, 10, seed)
        found = [] if table is None else table["row"].to_pylist()
        assert len(set(found)) == len(found) == shown


def test_few_parts_are_read(tmp_path, opened):
    output = write(tmp_path, *[100] * 30)
    for seed in range(20):
        assert len(sample(*output, 10, seed)) == 10
        assert len(opened) <= PARTS_READ
        opened.clear()


def test_of_a_large_part_little_is_read(tmp_path, opened, monkeypatch):
    output = write(tmp_path, 20_000, text=lambda _: os.urandom(1000))
    monkeypatch.setattr(sample_module, "MAX_BYTES_READ", 2**20)
    monkeypatch.setattr(sample_module, "MAX_BATCH_BYTES", 2**16)
    monkeypatch.setattr(sample_module, "COLUMN_BUFFER_BYTES", 2**16)
    for seed in range(5):
        rows = sample(*output, 10, seed)["row"].to_pylist()
        assert max(rows) < 2**20 / 1000
        assert 8 <= len(rows) <= 10
    # Of 20 MB: pages, of 1,024 rows each.
    assert all(0 < file.total < 4 * 2**20 for file in opened)
