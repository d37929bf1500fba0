"""Pieces of large shards: each row is in one; what is small or cannot be cut stays whole."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest

from pipelines.sources import blocks, pieces
from pipelines.sources.listing import find, find_shards
from pipelines.sources.options import ReadOptions
from pipelines.sources.pieces import ShardPiece, divided
from pipelines.sources.shard import Shard

ROWS = 20_000
TEXTS = [f"text {number},\n of row" for number in range(ROWS)]
TABLE = pa.table({"id": list(map(str, range(ROWS))), "text": TEXTS})


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(pieces, "PIECE_BYTES", 30_000)
    monkeypatch.setattr(blocks, "MARK_BYTES", 7_000)
    # A reader of text finds a mark where a chunk of it begins.
    monkeypatch.setattr("pipelines.sources.decoding.CHUNK_BYTES", 5_000)


def write(path: Path) -> None:
    if path.suffix == ".parquet":
        pq.write_table(TABLE, path, row_group_size=300)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in TABLE.to_pylist()))
    else:
        pacsv.write_csv(TABLE, path)


def counts(shards: list[Shard]) -> list:
    return [shard.count(ReadOptions()) for shard in shards]


def ids(piece: ShardPiece) -> list[int]:
    found = piece.shard.rows(["id", "text"], ReadOptions(), piece.span)
    return [int(value) for rows in found for value in rows.table["id"].to_pylist()]


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.parquet", "a"])
def test_each_row_is_in_one_piece(name, tmp_path):
    write(tmp_path / name)
    shards = find([str(tmp_path)], "--data_dir", has_format=True).shards
    options = ReadOptions(format="csv")
    made = divided(shards, lambda those: [shard.count(options) for shard in those])
    size = (tmp_path / name).stat().st_size
    assert size / 60_000 < len(made) <= size / 30_000 + 1
    assert sum(piece.size for piece in made) == size
    assert all(piece.size >= 30_000 for piece in made[:-1])
    found = [
        int(value)
        for piece in made
        for rows in piece.shard.rows(["id"], options, piece.span)
        for value in rows.table["id"].to_pylist()
    ]
    assert found == list(range(ROWS))


def test_what_is_small_or_compressed_is_not_counted(tmp_path):
    write(tmp_path / "large.csv")
    pq.write_table(TABLE[:100], tmp_path / "small.parquet")
    pacsv.write_csv(TABLE, tmp_path / "zipped.csv")
    (tmp_path / "zipped.csv").rename(tmp_path / "zipped.csv.gz")
    shards = find_shards([str(tmp_path)], "--data_dir")
    asked = []

    def count(those):
        asked.extend(those)
        return counts(those)

    made = divided(shards, count)
    assert [Path(shard.path).name for shard in asked] == ["large.csv"]
    whole = [piece for piece in made if piece.span is None]
    assert [Path(each.shard.path).name for each in whole] == ["small.parquet", "zipped.csv.gz"]
    assert made.index(whole[0]) == len(made) - 2, "pieces are in the order of shards"


def test_many_shards_are_enough_work_as_they_are():
    shards = [Shard(f"{number}.csv", 10**9, 0) for number in range(pieces.MAX_DIVIDED + 1)]
    assert divided(shards, pytest.fail) == [ShardPiece.whole(shard) for shard in shards]


def test_a_large_shard_that_has_no_place_to_cut_stays_whole(tmp_path):
    pq.write_table(TABLE, tmp_path / "a.parquet")
    shards = find_shards([str(tmp_path)], "--data_dir")
    (piece,) = divided(shards, counts)
    assert piece == ShardPiece.whole(shards[0])
    assert ids(piece) == list(range(ROWS))
