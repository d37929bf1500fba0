"""Batches get the columns that `pipelines.score` writes, whatever kind of batch they are."""

import pickle
import re

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import sentiment
from pipelines.scoring.config import ScoreConfig
from pipelines.scoring.job import main
from sentiment.classes import BINARY, Classes
from testing.generated import save_checkpoint, texts_and_labels

CLASSES = {
    "2": BINARY,
    "2 with a threshold": Classes(("ham", "Spam / Wurst"), threshold=0.3),
    "3": Classes(("negative", "neutral", "positive")),
    "25": Classes(tuple(f"Thema {i} ü" for i in range(25))),
}
TEXTS = [*texts_and_labels(50)[0], "", "日本 :)"]
BATCH = pa.table({"id": range(len(TEXTS)), "text": TEXTS})


@pytest.fixture(scope="module", params=CLASSES)
def scored(request, tmp_path_factory):
    """A checkpoint's directory, and what `pipelines.score` writes with it for BATCH."""
    root = tmp_path_factory.mktemp("scored")
    save_checkpoint(root / "model", seed=2, classes=CLASSES[request.param], sureness=40)
    pq.write_table(BATCH, root / "texts.parquet")
    model, texts, output = (str(root / name) for name in ("model", "texts.parquet", "scored"))
    main(ScoreConfig(checkpoints_dir=model, input=(texts,), output=output))
    return model, pq.read_table(f"{output}/part-000000.parquet")


@pytest.fixture(scope="module")
def scorer(scored):
    return sentiment.Scorer(scored[0])


def without_text(table: pa.Table) -> pa.Table:
    return table.drop_columns("text").replace_schema_metadata(None)


def test_a_table_gets_what_scoring_writes(scorer, scored):
    found = scorer(BATCH)
    assert found.column_names == [*BATCH.column_names, *scorer.schema.names]
    assert without_text(found).equals(scored[1].replace_schema_metadata(None))
    assert found.schema.names[2:] == scorer.schema.names


def test_every_kind_of_batch_gets_the_same(scorer, scored):
    _, expected = scored
    record_batch = scorer(BATCH.combine_chunks().to_batches()[0])
    assert isinstance(record_batch, pa.RecordBatch)
    assert without_text(pa.table(record_batch)).equals(expected.replace_schema_metadata(None))
    chunked = pa.concat_tables([BATCH[:7], BATCH[:0], BATCH[7:]])
    assert scorer(chunked).equals(scorer(BATCH))
    arrays = scorer({"id": np.arange(len(TEXTS)), "text": np.array(TEXTS, object)})
    frame = scorer(pd.DataFrame({"id": range(len(TEXTS)), "text": TEXTS}, index=TEXTS))
    assert frame.index.tolist() == TEXTS
    assert [*arrays] == [*frame.columns] == [*BATCH.column_names, *scorer.schema.names]
    for name in scorer.schema.names:
        column = expected[name]
        assert pa.array(arrays[name], column.type).equals(column.combine_chunks())
        assert pa.array(frame[name], column.type).equals(column.combine_chunks())


def test_nothing_is_done_to_the_batch_itself(scorer):
    frame, arrays = BATCH.to_pandas(), {"text": np.array(TEXTS)}
    scorer(frame)
    scorer(arrays)
    assert [*frame.columns] == ["id", "text"]
    assert [*arrays] == ["text"]


@pytest.mark.parametrize("nulls", [[None, None], [float("nan"), pd.NA]], ids=str)
def test_a_null_text_has_null_answers(scorer, nulls):
    texts = ["great", nulls[0], "sad", nulls[1]]
    expected = scorer(pa.table({"text": ["great", "sad"]}))
    frame = scorer(pd.DataFrame({"text": pd.Series(texts, dtype=object)}))
    arrays = scorer({"text": np.array(texts, object)})
    table = scorer(pa.table({"text": pa.array(["great", None, "sad", None])}))
    assert table.take([0, 2]).equals(expected)
    for name in scorer.schema.names:
        assert table[name].is_null().to_pylist() == [False, True] * 2
        assert frame[name].isna().tolist() == [False, True] * 2
        assert pd.isna(pd.Series(arrays[name])).tolist() == [False, True] * 2
        assert table.schema.field(name).type == scorer.schema.field(name).type
    nothing = scorer(pa.table({"text": pa.nulls(2)}))
    assert nothing.schema.names == table.schema.names
    assert nothing[scorer.schema.names[0]].null_count == 2


def test_a_batch_of_no_rows_has_all_columns(scorer):
    assert scorer(BATCH[:0]).schema == scorer(BATCH).schema
    assert scorer(BATCH[:0].to_pandas()).columns.tolist() == scorer(BATCH).column_names
    assert scorer(pa.RecordBatch.from_pylist([], BATCH.schema)).schema == scorer(BATCH).schema


def test_columns_and_length_are_chosen(scored):
    directory, expected = scored
    scorer = sentiment.Scorer(directory, "body", "mood", max_tokens=3)
    found = scorer(pa.table({"body": TEXTS}))
    old = sentiment.Scorer(directory).schema.names
    assert found.schema.names == [
        "body",
        *("mood" if name in ("label", "sentiment") else name for name in old),
    ]
    model = sentiment.load(directory)
    assert found["mood"].to_pylist() == model.predict(TEXTS, max_tokens=3).tolist()
    assert found["mood"].to_pylist() != expected[expected.column_names[-1]].to_pylist()


def test_it_can_be_pickled(scorer):
    assert pickle.loads(pickle.dumps(scorer))(BATCH).equals(scorer(BATCH))


@pytest.fixture(scope="module")
def binary(tmp_path_factory):
    directory = tmp_path_factory.mktemp("binary")
    save_checkpoint(directory)
    return str(directory)


@pytest.mark.parametrize(
    ("batch", "error", "said"),
    [
        (pa.table({"body": ["a"]}), ValueError, "no column 'text': set text_column to one"),
        (pd.DataFrame({"a": [1], 2: [1]}), ValueError, "set text_column to one of 'a', 2"),
        (pa.table({"text": ["a"], "Sentiment": ["b"]}), ValueError, "'Sentiment', and 'sentiment'"),
        ({"text": np.array(["a"]), "positive_probability": [1]}, ValueError, "rename it"),
        ({"text": np.array(["a", 5], object)}, ValueError, "texts[1] is 5"),
        (pa.table({"text": [b"a", b"\xff"]}), ValueError, "texts[1] is not valid UTF-8"),
        (pa.table({"text": [1]}), ValueError, "texts are of type int64"),
        (pl.DataFrame({"text": ["a"]}), TypeError, "the batch is a DataFrame; give an Arrow table"),
        (["a"], TypeError, "the batch is a list"),
    ],
)
def test_what_cannot_be_scored_is_said(binary, batch, error, said):
    with pytest.raises(error, match=re.escape(said)):
        sentiment.Scorer(binary)(batch)


def test_two_columns_of_one_name_are_refused(binary):
    with pytest.raises(sentiment.InputError, match="output_column is 'Positive_probability', as"):
        sentiment.Scorer(binary, output_column="Positive_probability")
    with pytest.raises(sentiment.InputError, match="max_tokens is 0"):
        sentiment.Scorer(binary, max_tokens=0)(BATCH)
