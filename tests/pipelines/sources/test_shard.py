"""Shards: which columns can hold texts."""

import pyarrow as pa
import pytest

from pipelines.sources.shard import Counted
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
