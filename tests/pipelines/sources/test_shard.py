"""Shards: which columns can hold texts, and what a shard's content is known by."""

import gzip
import hashlib

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.sources.options import ReadOptions
from pipelines.sources.parquet import FOOTER_READ_BYTES
from pipelines.sources.shard import Counted, Shard
from sentiment.errors import InputError


def test_a_column_of_nulls_may_be_text():
    Counted(1, pa.schema([("text", pa.null())])).require_text("a.parquet", "text")


@pytest.mark.parametrize(
    "kind", [pa.int64(), pa.list_(pa.string()), pa.dictionary(pa.int8(), pa.int64())], ids=str
)
def test_columns_that_are_no_text_are_refused(kind):
    counted = Counted(1, pa.schema([("text", kind), ("twice", pa.string())]))
    with pytest.raises(InputError, match=r"a\.parquet: column 'text' is .*, not text"):
        counted.require_text("a.parquet", "text")
    with pytest.raises(InputError, match=r"a\.parquet has no column 'tweet'; .*: text, twice"):
        counted.require_text("a.parquet", "tweet")
    twice = Counted(1, pa.schema([("text", pa.string())] * 2))
    with pytest.raises(InputError, match="more than one column 'text'"):
        twice.require_text("a.parquet", "text")


def digest(path) -> bytes:
    return Shard(str(path), path.stat().st_size, 0).count(ReadOptions()).digest


def test_the_digest_of_a_csv_file_is_that_of_its_bytes(tmp_path):
    rows = b"text\n" + b"some text\n" * 2_000_000
    for name, content in {
        "a.csv": rows,
        "b.csv.gz": gzip.compress(rows, 1) + gzip.compress(b"more\n"),
        "c.csv": b"text\n",
    }.items():
        (tmp_path / name).write_bytes(content)
        assert digest(tmp_path / name) == hashlib.sha256(content).digest()[:16]


def test_the_digest_of_a_parquet_file_is_that_of_its_size_and_footer(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": ["a", "b"]}), path)
    content = path.read_bytes()
    footer = content[-8 - int.from_bytes(content[-8:-4], "little") :]
    size = len(content).to_bytes(8, "little")
    assert digest(path) == hashlib.sha256(size + footer).digest()[:16]
    pq.write_table(pa.table({"text": ["a", "c"]}), path)
    assert len(path.read_bytes()) == len(content)
    assert digest(path) != hashlib.sha256(size + footer).digest()[:16]


def test_the_digest_of_a_parquet_file_with_a_long_footer(tmp_path):
    path = tmp_path / "a.parquet"
    names = [f"a column with a long name, number {i}" for i in range(2000)]
    pq.write_table(pa.table({name: [1] for name in names}), path)
    content = path.read_bytes()
    footer_bytes = 8 + int.from_bytes(content[-8:-4], "little")
    assert footer_bytes > FOOTER_READ_BYTES
    size = len(content).to_bytes(8, "little")
    assert digest(path) == hashlib.sha256(size + content[-footer_bytes:]).digest()[:16]
