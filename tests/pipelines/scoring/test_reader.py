"""Reading parts: which rows are rejected, with what of them, and what raises instead."""

import errno
import os
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.errors import ShardChanged, Unavailable
from pipelines.scoring import reader as part_reader
from pipelines.scoring.part_data import REJECTED, PartTask, TokenizedPart
from pipelines.scoring.reader import PartReader
from pipelines.sources.options import ReadOptions
from pipelines.sources.rows import MAX_RAW_BYTES, Span
from pipelines.sources.shard import Shard
from sentiment.text.tokenizer import SPECIALS, Tokenizer
from testing.faulty_files import Faults, faulty

ID = pa.schema([("id", pa.int64())])


def shard_of(path: Path) -> Shard:
    info = path.stat()
    return Shard(str(path), info.st_size, info.st_mtime_ns)


def part_of(*shards: tuple[Shard, int]) -> PartTask:
    """A part of so many first rows of each shard."""
    return PartTask("part-000000", tuple((shard, Span(0, rows)) for shard, rows in shards))


def read(task: PartTask, schema: pa.Schema = ID) -> TokenizedPart:
    encoder = Tokenizer().encoder([*SPECIALS, "hi"])
    return PartReader(encoder, "text", schema, ReadOptions(), 512)(task)


@pytest.fixture
def small(tmp_path) -> list[tuple[Shard, int]]:
    """Twenty small shards of 5 rows, whose ids are in order."""
    for number in range(20):
        ids = range(5 * number, 5 * number + 5)
        path = tmp_path / f"{number:02d}.parquet"
        if number % 2:
            pq.write_table(pa.table({"id": ids, "text": ["hi"] * 5}), path)
        else:
            lines = "".join(f"{i},hi\n" for i in ids)
            path.with_suffix(".csv").write_text(f"id,text\n{lines}")
    return [(shard_of(path), 5) for path in sorted(tmp_path.iterdir())]


@pytest.mark.parametrize("pieces", [1, 20])
@pytest.mark.parametrize("at", ["open", "read", "cut", "stat"])
@pytest.mark.parametrize("number", [errno.EIO, errno.EACCES, errno.ENOENT, errno.ENOMEM])
def test_an_outage_rejects_nothing(small, pieces, at, number):
    error = OSError(number, os.strerror(number))
    with faulty(Faults(at, error, after=pieces // 4)), pytest.raises(Unavailable):
        read(part_of(*small[:pieces]))


def test_small_shards_are_read_side_by_side_and_in_order(small):
    started = time.monotonic()
    with faulty(Faults(latency=0.05)):
        part = read(part_of(*small))
    assert part.kept["id"].to_pylist() == list(range(100))
    assert part.piece_rows.tolist() == [5] * 20
    # Opened, read and looked up one after another, they would take 3 s.
    assert time.monotonic() - started < 1.5


def test_shards_too_large_to_be_fetched_are_read_in_their_place(small, monkeypatch):
    sizes = sorted(shard.size for shard, _ in small)
    monkeypatch.setattr(part_reader, "MAX_FETCHED_BYTES", sizes[10])
    assert read(part_of(*small)).kept["id"].to_pylist() == list(range(100))


@pytest.mark.parametrize("pieces", [1, 20])
@pytest.mark.parametrize("spoil", ["grown", "touched", "gone", "damaged"])
def test_a_shard_that_is_not_the_one_planned_is_not_read(small, pieces, spoil):
    (shard, _), path = small[pieces - 1], Path(small[pieces - 1][0].path)
    if spoil == "gone":
        path.unlink()
    elif spoil == "touched":
        os.utime(path, ns=(1, 1))
    else:
        path.write_bytes(b"" if spoil == "damaged" else path.read_bytes() + b"1,hi\n")
    with pytest.raises(ShardChanged, match=shard.path):
        read(part_of(*small[:pieces]))


def test_a_directory_that_this_node_does_not_see_says_nothing_of_its_shards(small, tmp_path):
    tmp_path.rename(tmp_path.with_name("elsewhere"))
    with pytest.raises(Unavailable, match="every node must see it"):
        read(part_of(small[0]))


@pytest.mark.parametrize("extension", [".csv", ".csv.gz", ".jsonl", ".txt.bz2", ".parquet"])
def test_content_that_no_parser_can_use_costs_its_shard_alone(small, tmp_path, extension):
    path = tmp_path / f"bad{extension}"
    path.write_bytes(b"")
    part = read(part_of(*small[:3], (shard_of(path), 7), *small[3:]))
    assert (len(part.kept), part.rejected_rows) == (100, 7)
    (row,) = part.rejected.to_pylist()
    assert str(path) in row["reason"]
    assert (row["row"], row["raw"], row["raw_bytes"]) == (None, None, None)


KINDS = [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())]


def invalid(values: list[bytes | None], kind: pa.DataType) -> pa.Array:
    """Values as a type of text, though they are not UTF-8."""
    if pa.types.is_dictionary(kind):
        present = [i if value is not None else None for i, value in enumerate(values)]
        words = invalid([value or b"" for value in values], pa.string())
        return pa.DictionaryArray.from_arrays(pa.array(present, pa.int32()), words)
    if kind == pa.string_view():
        return pa.array(values, pa.binary_view()).view(kind)
    large = kind == pa.large_string()
    binary = pa.array(values, pa.large_binary() if large else pa.binary())
    return pa.Array.from_buffers(kind, len(values), binary.buffers())


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("column", ["text", "kept"])
def test_text_that_is_not_utf8_rejects_its_row(tmp_path, kind, column):
    values = [b"hi", b"\xff not UTF-8, and longer than a view holds", "é".encode(), None]
    columns = {"text": pa.array(["hi"] * 4), "kept": pa.array(["hi"] * 4)}
    table = pa.table({**columns, column: invalid(values, kind)})
    pq.write_table(table, tmp_path / "a.parquet")
    shard = shard_of(tmp_path / "a.parquet")
    part = read(part_of((shard, 4)), pa.schema([("kept", pa.string())]))
    rejected = part.rejected.to_pylist()
    assert [row["row"] for row in rejected] == ([2, 4] if column == "text" else [2])
    assert "not valid UTF-8" in rejected[0]["reason"]
    assert rejected[0]["raw"] == (values[1] if column == "text" else b"hi")
    if column == "text":
        assert rejected[1]["reason"] == "the text is null"
        assert rejected[1]["raw"] is None
        assert part.kept["kept"].to_pylist() == ["hi", "hi"]
    else:
        assert part.kept["kept"].to_pylist() == ["hi", "é", None]


def test_half_a_surrogate_pair_is_no_matter_of_encoding(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"text":"cut \\ud83d"}\n{"text":"\xe9"}\n{"text":NaN}\n{"text":"hi"}\n')
    part = read(part_of((shard_of(path), 4)), pa.schema([]))
    half, latin, null = [row["reason"] for row in part.rejected.to_pylist()]
    assert half.endswith("not valid UTF-8; it has half of a surrogate pair, such as a cut emoji")
    assert latin.endswith("not valid UTF-8; pass --encoding (latin-1, cp1252, ...)")
    assert null == "the text is null"


def test_a_column_name_that_is_not_utf8_is_the_shards_fault(tmp_path):
    pq.write_table(pa.table({"text": ["hi"], "naXe": [1]}), tmp_path / "a.parquet")
    content = (tmp_path / "a.parquet").read_bytes().replace(b"naXe", b"na\xffe")
    (tmp_path / "a.parquet").write_bytes(content)
    part = read(part_of((shard_of(tmp_path / "a.parquet"), 1)))
    assert part.rejected_rows == 1


@pytest.mark.parametrize("extension", ["csv", "parquet"])
def test_rejected_rows_are_cut_and_counted(tmp_path, monkeypatch, extension):
    monkeypatch.setattr(part_reader, "MAX_REJECTED_BYTES", 3 * MAX_RAW_BYTES + 20)
    sizes = [10, 2 * MAX_RAW_BYTES, MAX_RAW_BYTES, MAX_RAW_BYTES + 1, 20, MAX_RAW_BYTES]
    path = tmp_path / f"a.{extension}"
    if extension == "csv":
        path.write_bytes(b"id,text\n" + b"".join(b"x" * size + b"\n" for size in sizes))
    else:
        texts = pa.array([b"\xff" * size for size in sizes])
        pq.write_table(pa.table({"id": range(6), "text": texts}), path)
    part = read(part_of((shard_of(path), 6)))
    assert part.rejected.schema == REJECTED
    assert part.rejected["raw_bytes"].to_pylist() == sizes
    held = [None if raw is None else len(raw) for raw in part.rejected["raw"].to_pylist()]
    assert held == [10, MAX_RAW_BYTES, MAX_RAW_BYTES, MAX_RAW_BYTES, None, None]


def test_malformed_rows_and_bad_texts_are_in_order(tmp_path):
    rows = [b"1,hi", b"2", b"3,\xff", b"x,hi", b"5", b"6,hi"]
    (tmp_path / "a.csv").write_bytes(b"id,text\n" + b"\n".join(rows) + b"\n")
    part = read(part_of((shard_of(tmp_path / "a.csv"), 6)))
    assert part.rejected["row"].to_pylist() == [2, 3, 4, 5]
    assert part.rejected["raw"].to_pylist() == [b"2", b"\xff", b"hi", b"5"]
    assert part.kept["id"].to_pylist() == [1, 6]
    assert np.diff(part.offsets).tolist() == [1, 1]
