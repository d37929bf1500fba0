"""Names that a Parquet file has for the numbers of its label column."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.sources.label_names import KEY
from pipelines.sources.labelled import LabelledReader
from pipelines.sources.labels import LabelMap
from pipelines.sources.options import ReadOptions
from pipelines.sources.shard import Shard

INTEGER = pa.int64()


def shard(path, content: bytes, kind: pa.DataType = INTEGER) -> Shard:
    table = pa.table({"text": ["a", "b"], "y": pa.array([0, 1]).cast(kind)})
    pq.write_table(table.replace_schema_metadata({KEY: content}), path)
    return Shard(str(path), path.stat().st_size, 1)


def named(*names: object) -> bytes:
    return json.dumps({"info": {"features": {"y": {"names": names}}}}).encode()


@pytest.mark.parametrize(
    ("names", "labels"),
    [
        (("positive", "negative"), "positive=0 negative=1"),
        (("ham", "unwanted mail"), "ham=0 'unwanted mail=1'"),
        (("World", "Sports", "Business"), "World=0 Sports=1 Business=2"),
    ],
)
def test_names_that_are_not_used_are_told_with_the_flag(tmp_path, names, labels):
    shards = [shard(tmp_path / "a.parquet", named(*names))]
    assert LabelledReader("text", "y").detected(shards) == [
        f"The names that the file has for the labels of 'y' are not used; --labels {labels} says "
        f"them: 1 shard ({shards[0].path})"
    ]
    words = labels.replace("'", "").replace("unwanted mail", "unwanted_mail").split()
    read = LabelledReader("text", "y", ReadOptions(), LabelMap.parse(words))
    assert read.detected(shards) == []
    assert LabelledReader("text", "y", soft_labels=True).detected(shards) == []
    # Plans hold schemas, and shards that are scored alike have one.
    assert shards[0].count(ReadOptions()).schema.metadata is None


@pytest.mark.parametrize(
    "content",
    [
        named("negative", "positive"),
        named("Neg", "Pos"),
        named("0", "1", "2"),
        named("one"),
        named("a", 1),
        named("a=b", "c"),
        named("a\0", "c"),
        b"{}",
        b"[1]",
        b"no JSON",
        b'{"info": {"features": {"y": {"names": "ab"}}}}',
        b"[" * 100_000,
        b"\xff",
    ],
)
def test_other_metadata_says_nothing(tmp_path, content):
    shards = [shard(tmp_path / "a.parquet", content)]
    assert LabelledReader("text", "y").detected(shards) == []


def test_words_have_no_other_names(tmp_path):
    shards = [shard(tmp_path / "a.parquet", named("bad", "good"), pa.string())]
    assert LabelledReader("text", "y").detected(shards) == []
    # The metadata may name columns that are not there.
    other = json.dumps({"info": {"features": {"z": {"names": ["bad", "good"]}}}}).encode()
    shards = [shard(tmp_path / "b.parquet", other)]
    assert LabelledReader("text", "z").detected(shards) == []
