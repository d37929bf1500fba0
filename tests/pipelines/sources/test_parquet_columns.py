"""Types of Parquet columns, and those that cannot be read or kept, told from the footer."""

import base64
import datetime
import uuid

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.parquet.encryption as pqe
import pytest

from pipelines.errors import BadShard
from pipelines.sources.options import ReadOptions
from pipelines.sources.parquet import count_small_parquet
from pipelines.sources.parquet_columns import ENCRYPTED, column_types, unkept
from pipelines.sources.shard import Shard

ENCRYPTION = {
    "text": {"column_keys": {"key": ["text"]}, "plaintext_footer": True},
    "inside": {"column_keys": {"key": ["a.b"]}, "plaintext_footer": True},
    "footer": {"column_keys": {"key": ["text"]}, "plaintext_footer": False},
    "all": {"uniform_encryption": True},
}


class Keys(pqe.KmsClient):
    """A key server that hides nothing."""

    def __init__(self, config):
        pqe.KmsClient.__init__(self)

    def wrap_key(self, key_bytes, master_key_identifier):
        return base64.b64encode(key_bytes)

    def unwrap_key(self, wrapped_key, master_key_identifier):
        return base64.b64decode(wrapped_key)


@pytest.fixture(params=ENCRYPTION)
def encrypted(tmp_path, request) -> tuple[str, Shard]:
    table = pa.table({"id": [1, 2], "text": ["hi", "you"], "a": [{"b": 1}, {"b": 2}]})
    properties = pqe.CryptoFactory(Keys).file_encryption_properties(
        pqe.KmsConnectionConfig(),
        pqe.EncryptionConfiguration(footer_key="key", **ENCRYPTION[request.param]),
    )
    path = tmp_path / "a.parquet"
    with pq.ParquetWriter(path, table.schema, encryption_properties=properties) as writer:
        writer.write_table(table)
    return request.param, Shard(str(path), path.stat().st_size, 1)


def test_encrypted_columns_and_files_are_refused_by_name(encrypted):
    kind, shard = encrypted
    if kind in ("footer", "all"):
        with pytest.raises(BadShard, match=r"a\.parquet is encrypted: write it without encryption"):
            shard.count(ReadOptions())
        return
    counted = shard.count(ReadOptions())
    problems = dict(zip(counted.schema.names, map(unkept, counted.schema.types), strict=True))
    assert problems == {"id": "", "text": "", "a": ""} | {
        "text" if kind == "text" else "a": "encrypted"
    }
    if kind == "text":
        with pytest.raises(BadShard, match="column 'text' is encrypted, not text"):
            counted.require_text(shard.path, "text")
        with pytest.raises(BadShard, match=r"a\.parquet is encrypted"):
            list(shard.rows(["text"], ReadOptions()))
    assert [rows.table["id"].to_pylist() for rows in shard.rows(["id"], ReadOptions())] == [[1, 2]]


def test_a_small_file_in_a_bucket_is_looked_at_too(encrypted):
    _, shard = encrypted
    # Then `count_parquet` tells what is wrong.
    assert count_small_parquet(shard.path, shard.size) is None


def columns_of(path) -> dict[str, pa.DataType]:
    schema = column_types(pq.read_metadata(path), path.stat().st_size)
    return dict(zip(schema.names, schema.types, strict=True))


def write(path, **columns: str) -> None:
    """Write a row of these expressions with DuckDB."""
    values = ", ".join(f"{value} AS {name}" for name, value in columns.items())
    duckdb.sql(f"COPY (SELECT {values}) TO '{path}' (FORMAT parquet)")


def test_types_of_parquet_are_what_they_are_or_are_named(tmp_path):
    write(
        tmp_path / "a.parquet",
        id="uuid()",
        ids="[uuid()]",
        json="'{}'::JSON",
        gap="INTERVAL 3 DAY",
        gaps="{'x': 1, 'y': INTERVAL 3 DAY}",
        after="1::UBIGINT",
        any="1::VARIANT",
        last="[{'a': map {'k': 1::UTINYINT}}]",
    )
    columns = columns_of(tmp_path / "a.parquet")
    problems = {name: unkept(kind) for name, kind in columns.items() if unkept(kind)}
    assert problems == {"gap": "Interval", "gaps": "Interval", "any": "Variant"}
    assert columns["id"] == pa.uuid()
    assert columns["ids"] == pa.list_(pa.uuid())
    assert columns["json"] == pa.json_()
    assert columns["after"] == pa.uint64()
    assert columns["last"] == pa.list_(pa.struct([("a", pa.map_(pa.string(), pa.uint8()))]))


def test_old_timestamps_reach_from_year_1_to_9999(tmp_path):
    moments = [datetime.datetime(1, 1, 1, 0, 0, 0, 7), datetime.datetime(9999, 12, 31)]
    path = tmp_path / "a.parquet"
    table = pa.table({"text": ["hi", "you"], "at": pa.array(moments, pa.timestamp("us"))})
    pq.write_table(table, path, use_deprecated_int96_timestamps=True)
    shard = Shard(str(path), path.stat().st_size, 1)
    assert shard.count(ReadOptions()).schema.field("at").type == pa.timestamp("us")
    (rows,) = shard.rows(["at"], ReadOptions())
    assert rows.table["at"].to_pylist() == moments


@pytest.mark.parametrize("nanoseconds", [2_000, 2_001])
@pytest.mark.parametrize("shape", ["plain", "list", "struct", "map"])
def test_old_timestamps_with_nanoseconds_are_refused_and_not_cut(tmp_path, shape, nanoseconds):
    moments = pa.array([None, 3_000, nanoseconds], pa.timestamp("ns"))
    offsets, keys = pa.array([0, 1, 3], pa.int32()), pa.array(["a", "b", "c"])
    column = {
        "plain": moments,
        "list": pa.ListArray.from_arrays(offsets, moments),
        "struct": pa.StructArray.from_arrays([keys, moments], ["k", "v"]),
        "map": pa.MapArray.from_arrays(offsets, keys, moments),
    }[shape]
    table = pa.table({"n": range(len(column)), "at": column})
    path = tmp_path / "a.parquet"
    pq.write_table(table, path, use_deprecated_int96_timestamps=True, row_group_size=1)
    shard = Shard(str(path), path.stat().st_size, 1)
    if nanoseconds % 1000:
        with pytest.raises(BadShard, match=r"a\.parquet: column 'at' has nanoseconds as INT96"):
            list(shard.rows(["n"], ReadOptions(), optional=["at"]))
    else:
        found = pa.concat_tables(rows.table for rows in shard.rows(["at"], ReadOptions()))
        assert len(found) == len(column)
    assert sum(len(rows.table) for rows in shard.rows(["n"], ReadOptions())) == len(column)


def test_uuids_and_json_stay_what_they_are(tmp_path):
    ids = [uuid.UUID(int=1), None]
    table = pa.table({"id": pa.array(ids, pa.uuid()), "json": pa.array(["{}", None], pa.json_())})
    pq.write_table(table, tmp_path / "a.parquet")
    (rows,) = Shard(str(tmp_path / "a.parquet"), 1, 1).rows(None, ReadOptions())
    assert rows.table.schema.types == [pa.uuid(), pa.json_()]
    assert rows.table["id"].to_pylist() == ids


def test_a_type_that_a_file_names_is_not_taken_for_ours(tmp_path):
    """A file may have the type that says that a column is encrypted."""
    kind = pa.opaque(pa.string(), ENCRYPTED, "parquet")
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"a": pa.array(["x"], pa.string()).cast(kind)}), path)
    assert columns_of(path) == {"a": pa.string()}


def test_a_file_without_rows_has_types(tmp_path):
    schema = pa.schema([("a", pa.int8()), ("b", pa.dictionary(pa.int8(), pa.string()))])
    pq.write_table(schema.empty_table(), tmp_path / "a.parquet")
    assert columns_of(tmp_path / "a.parquet") == {"a": pa.int8(), "b": pa.string()}


@pytest.mark.parametrize("is_inside", [False, True])
def test_a_view_of_lists_is_named(tmp_path, is_inside):
    """Arrow reads it, and casts it to a list of wrong offsets."""
    views = pa.array([[1], [2, 3], None], pa.list_view(pa.int64()))
    column = pa.StructArray.from_arrays([views], ["a"]) if is_inside else views
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": ["a", "b", "c"], "views": column}), path)
    columns = columns_of(path)
    assert unkept(columns["views"]) == "list_view"
    assert unkept(columns["text"]) == ""
    shard = Shard(str(path), path.stat().st_size, 1)
    assert [rows.table.num_rows for rows in shard.rows(["text"], ReadOptions())] == [3]
