"""Parquet reader: spans, row groups, types of text, columns, damaged files."""

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.sources import parquet as parquet_reader
from pipelines.sources.options import ReadOptions
from pipelines.sources.rows import Span
from pipelines.sources.shard import Shard
from sentiment.errors import InputError
from testing.generated import CountedFile
from testing.properties import examples


def parquet(table, **options):
    sink = io.BytesIO()
    pq.write_table(table, sink, **options)
    return sink.getvalue()


def parquet_shard(path, table, **options):
    path.write_bytes(parquet(table, **options))
    return Shard(str(path), path.stat().st_size, 0)


def read(source, columns, span=None, optional=()):
    """All rows as one table, and their numbers."""
    pieces = list(
        parquet_reader.read_parquet(source, "some.parquet", columns, ReadOptions(), span, optional)
    )
    numbers = np.concatenate([np.empty(0, np.int64), *(piece.numbers for piece in pieces)])
    return pa.concat_tables([piece.table for piece in pieces]), numbers.tolist()


@examples(100)
@given(st.integers(1, 60), st.integers(1, 25), st.integers(1, 20), st.data())
def test_spans_across_row_groups(rows, group, at_once, data):
    table = pa.table({"id": np.arange(rows), "text": [f"t{i}" for i in range(rows)]})
    content = parquet(table, row_group_size=group)
    first = data.draw(st.integers(0, rows - 1))
    count = data.draw(st.integers(1, rows - first))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parquet_reader, "MAX_BATCH_ROWS", at_once)
        part, numbers = read(pa.BufferReader(content), ["text", "id"], Span(first, count))
        whole, all_numbers = read(pa.BufferReader(content), None)
    assert part.column_names == ["text", "id"]
    assert part["id"].to_pylist() == list(range(first, first + count))
    assert numbers == list(range(first + 1, first + count + 1))
    assert whole.equals(table)
    assert all_numbers == list(range(1, rows + 1))


def test_a_row_group_is_not_read_beyond_the_span():
    random = np.random.default_rng(0)
    texts = random.bytes(30_000_000).hex()
    table = pa.table({"text": [texts[i : i + 300] for i in range(0, len(texts), 300)]})
    content = parquet(table, use_dictionary=False, compression="none")
    source = CountedFile(io.BytesIO(content), mode="r")
    first_rows, _ = read(source, ["text"], Span(0, 1000))
    assert first_rows.equals(table[:1000])
    assert source.total < len(content) / 2


def test_row_groups_and_files_without_rows():
    schema = pa.schema([("text", pa.string())])
    sink = io.BytesIO()
    with pq.ParquetWriter(sink, schema) as writer:
        for size in (0, 3, 0, 2, 0):
            writer.write_table(pa.table({"text": ["a"] * size}, schema))
    content = pa.BufferReader(sink.getvalue())
    assert read(content, ["text"], Span(2, 3))[1] == [3, 4, 5]
    empty = pa.BufferReader(parquet(schema.empty_table()))
    assert list(parquet_reader.read_parquet(empty, "some.parquet", ["text"], ReadOptions())) == []
    for source, groups in ((empty, (0,)), (content, (0, 3, 0, 2, 0))):
        counted = parquet_reader.count_parquet(source, "some.parquet", ReadOptions())
        assert (counted.groups, counted.schema) == (groups, schema)


TYPES = [
    pa.string(),
    pa.large_string(),
    pa.string_view(),
    pa.binary(),
    pa.large_binary(),
    pa.binary_view(),
    pa.dictionary(pa.int8(), pa.string()),
]


@pytest.mark.parametrize("kind", TYPES, ids=str)
def test_columns_of_all_types_of_text(tmp_path, kind):
    texts = ["a", None, "é", "", "a"]
    column = pa.array(texts, pa.string())
    column = column.dictionary_encode() if pa.types.is_dictionary(kind) else column.cast(kind)
    table = pa.table({"text": column.cast(kind), "id": range(5)})
    shard = parquet_shard(tmp_path / "a.parquet", table, row_group_size=2)
    counted = shard.count(ReadOptions())
    plain = pa.string() if pa.types.is_dictionary(kind) or kind == pa.string_view() else kind
    plain = pa.binary() if kind == pa.binary_view() else plain
    schema = pa.schema([("text", plain), ("id", pa.int64())])
    assert (counted.rows, counted.schema, counted.marks) == (5, schema, ())
    counted.require_text(shard.path, "text")
    found = pa.concat_tables(rows.table for rows in shard.rows(["text"], ReadOptions(), Span(1, 4)))
    values = [v.decode() if isinstance(v, bytes) else v for v in found["text"].to_pylist()]
    assert values == texts[1:]


def test_columns_that_are_missing_or_optional():
    content = pa.BufferReader(parquet(pa.table({"a.b": ["x"], "a": ["y"], "c": ["z"]})))
    table, _ = read(content, ["c"], optional=["gone", "a", "c"])
    assert table.to_pylist() == [{"c": "z", "a": "y"}]
    assert read(content, ["a.b"])[0].to_pylist() == [{"a.b": "x"}]
    with pytest.raises(InputError, match=r"some\.parquet has no column 'x'; .*: a\.b, a, c"):
        read(content, ["a", "x"])


def test_a_column_that_is_nearly_right_is_suggested():
    content = pa.BufferReader(parquet(pa.table({"Text": ["x"], "Sentiment": ["y"]})))
    with pytest.raises(InputError, match="no column 'txet'; did you mean 'Text'\\?; its columns"):
        read(content, ["txet"])
    # A column that is read for another purpose is no suggestion.
    with pytest.raises(InputError, match="no column 'SentimentText'; its columns"):
        read(content, ["Sentiment", "SentimentText"])


def test_a_file_that_ends_before_a_span_does_is_refused():
    content = pa.BufferReader(parquet(pa.table({"text": ["a", "b"]})))
    with pytest.raises(InputError, match=r"some\.parquet has 2 rows, not the 3 or more"):
        read(content, ["text"], Span(1, 2))


def test_damaged_parquet_is_refused_by_name_or_read():
    random = np.random.default_rng(0)
    table = pa.table({"text": [f"text {i}" for i in range(200)], "id": range(200)})
    content = parquet(table, row_group_size=64)
    messages = []
    for number in range(400):
        damaged = bytearray(content)
        if number % 2:
            del damaged[random.integers(len(content)) :]
        else:
            damaged[random.integers(len(content))] = random.integers(256)
        source = pa.BufferReader(bytes(damaged))
        try:
            parquet_reader.count_parquet(source, "bad.parquet", ReadOptions())
            for _ in parquet_reader.read_parquet(source, "bad.parquet", None, ReadOptions()):
                pass
        except InputError as error:
            messages.append(str(error))
    assert len(messages) >= 200
    assert all(message.startswith("bad.parquet ") for message in messages)
    assert not any("\n" in message for message in messages)
