"""Models of 2, 3 and 25 classes: what their outputs hold, and that the job does with them all it
does with any."""

import io
import itertools
import json
from collections import Counter
from contextlib import redirect_stdout

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.errors import Failure
from pipelines.scoring import audit, status
from pipelines.scoring.class_rows import MAX_CLASSES_OF_PIECES, ClassRows
from pipelines.scoring.output import Output
from pipelines.scoring.part_file import METADATA
from sentiment.answers import answer_schema
from sentiment.checkpoint import load
from sentiment.classes import Classes
from sentiment.errors import InputError
from sentiment.model.inference import inference
from sentiment.text.tokenizer import Tokenizer
from testing.generated import save_checkpoint
from testing.lake import Lake

SPAM = Classes(("ham", "Spam / Wurst"), threshold=0.3)
THREE = Classes(("negative", "neutral", "positive"))
TOPICS = Classes(tuple(f"Thema {i} ü" for i in range(25)))
IDS = [str(i) for i in range(60)]


@pytest.fixture(scope="module", params=[SPAM, THREE, TOPICS], ids=["2", "3", "25"])
def lake(request, tmp_path_factory):
    """Two nights of a corpus of ten parts."""
    root = tmp_path_factory.mktemp("lake")
    save_checkpoint(root / "model", seed=2, classes=request.param, sureness=60)
    lake = Lake(root, load(str(root / "model")))
    for i in range(4):
        lake.put(f"{i}.parquet", *IDS[10 * i : 10 * i + 10])
    lake.night()
    # Two shards in one part.
    lake.put("4.csv", *IDS[40:44])
    lake.put("5.csv", *IDS[44:50])
    lake.put("6.csv", *IDS[50:])
    lake.night()
    return lake


def expected(lake):
    """Probabilities and classes of the ids, as the model has them."""
    tokenizer = Tokenizer(lake.model.stop_words).encoder(lake.model.words)
    tokens = tokenizer(pa.array([f"word{i}" for i in IDS]))
    infer = inference(lake.model.network)
    probabilities = infer(tokens.ids, tokens.offsets)
    names = np.array(lake.model.classes.names, object)
    return probabilities, names[lake.model.classes.winners(probabilities)]


def in_order(lake):
    """The output as a table, by id."""
    table = pads.dataset(lake.scored, format="parquet").to_table()
    return table.take(pa.array(np.argsort([int(i) for i in table["id"].to_pylist()])))


def test_each_row_has_its_class_and_probabilities(lake):
    table, names = in_order(lake), lake.model.classes.names
    probabilities, classes = expected(lake)
    assert table["id"].to_pylist() == IDS
    assert len(set(classes)) > 1
    winner = "sentiment" if names == THREE.names else "label"
    assert table[winner].to_pylist() == classes.tolist()
    assert table.schema.names == ["id", *answer_schema(names).names]
    if len(names) == 2:
        assert table.schema.names == ["id", "Spam / Wurst_probability", "label"]
        np.testing.assert_array_equal(table[1], probabilities[:, 1])
    elif len(names) == 3:
        shown = [f"{name}_probability" for name in names]
        assert table.schema.names == ["id", *shown, "sentiment"]
        np.testing.assert_array_equal(np.stack(table.columns[1:4], axis=1), probabilities)
    else:
        order = np.argsort(-probabilities, axis=1, kind="stable")[:, :5]
        top = np.array(names, object)[order]
        assert table["top_labels"].to_pylist() == top.tolist()
        np.testing.assert_array_equal(
            np.array(table["top_probabilities"].to_pylist(), "f4"),
            np.take_along_axis(probabilities, order, axis=1),
        )
        np.testing.assert_array_equal(table["probability"], probabilities.max(axis=1))
        assert table["label"].to_pylist() == top[:, 0].tolist()


def test_four_libraries_read_the_same(lake):
    expected = in_order(lake).to_pylist()
    files = sorted(map(str, lake.scored.glob("part-*.parquet")))
    by_pandas = pd.concat([pd.read_parquet(file) for file in files])
    readers = {
        "pandas": pa.Table.from_pandas(by_pandas, preserve_index=False).to_pylist(),
        "DuckDB": duckdb.sql(f"FROM read_parquet({files})").arrow().read_all().to_pylist(),
        "Polars": pl.read_parquet(files).to_dicts(),
    }
    for name, rows in readers.items():
        assert sorted(rows, key=lambda row: int(row["id"])) == expected, name


def test_what_is_lost_is_scored_again_with_the_same_bytes(lake):
    before = {path.name: path.read_bytes() for path in lake.scored.glob("part-*.parquet")}
    for name in ("part-000000.parquet", "part-000004.parquet"):
        (lake.scored / name).unlink()
    lake.night()
    assert lake.read == ["part-000000.parquet", "part-000004.parquet"]
    assert {path.name: path.read_bytes() for path in lake.scored.glob("part-*.parquet")} == before
    # Without records each part tells them again.
    for path in (lake.scored / "_manifest").glob("parts-*.parquet"):
        path.unlink()
    assert "Damaged" not in lake.night()
    assert lake.read == []


def test_rows_are_counted_by_class_and_by_shard(lake):
    names = lake.model.classes.names
    _, classes = expected(lake)
    counted = Counter(classes.tolist())
    success = json.loads((lake.scored / "_SUCCESS").read_text())
    assert success["labels"] == {name: counted[name] for name in names}
    assert success["positive"] == counted["positive"]
    totals = Output(str(lake.scored)).records.totals()
    assert totals.classes.tolist() == [counted[name] for name in names]
    shards = np.concatenate(totals.shards)
    assert shards[:, 0].tolist() == [10, 10, 10, 10, 4, 6, 10]
    if len(names) <= 20:
        edges = [0, 10, 20, 30, 40, 44, 50, 60]
        for number, name in enumerate(names[1:], 1):
            here = [np.count_nonzero(classes[a:b] == name) for a, b in itertools.pairwise(edges)]
            assert shards[:, number].tolist() == here
    runs = sorted((lake.scored / "_manifest").glob("run-*.json"), key=lambda path: path.name)
    assert sum(json.loads(runs[0].read_text())["labels"].values()) == 40


def test_status_and_verify_know_the_classes(lake, capsys):
    names = lake.model.classes.names
    status.main(status.StatusConfig(str(lake.scored)))
    _, *nights = capsys.readouterr().out.splitlines()
    first, second, *_ = (line for line in nights if "complete" in line and "%" in line)
    assert all(f"% {name}" in first + second for name in names[:5] if len(names) <= 5)
    assert second.count("%") == min(len(names), 5)
    audit.main(audit.VerifyConfig(str(lake.scored), (str(lake.corpus),)))
    path = lake.scored / "_SUCCESS"
    good = path.read_text()
    success = json.loads(good)
    success["labels"][names[0]] += 1
    path.write_text(json.dumps(success))
    with pytest.raises(Failure, match=r"^1 problem"):
        audit.main(audit.VerifyConfig(str(lake.scored)))
    assert "other rows of the classes" in capsys.readouterr().out
    path.write_text(good)


def test_another_model_is_refused(lake, tmp_path):
    save_checkpoint(tmp_path / "m", classes=Classes(("negative", "positive", "neutral")))
    other = Lake(tmp_path, load(str(tmp_path / "m")), lake.corpus)
    other.scored = lake.scored
    with pytest.raises(InputError, match=r"another model \(\w{12}, now \w{12}\)"):
        other.night()


def test_outputs_of_negative_and_positive_are_those_of_earlier_versions(tmp_path):
    save_checkpoint(tmp_path / "model", seed=2, sureness=60)
    lake = Lake(tmp_path, load(str(tmp_path / "model")))
    lake.put("0.csv", *IDS[:4])
    lake.put("1.csv", *IDS[4:10])
    lake.night()
    (plan,) = Output(str(lake.scored)).plans
    assert "classes" not in plan.settings
    file = pq.ParquetFile(lake.scored / "part-000000.parquet")
    assert file.schema_arrow.names == ["id", "positive_probability", "sentiment"]
    footer = json.loads(file.metadata.metadata[METADATA])
    _, classes = expected(lake)
    positive = classes[:10] == "positive"
    assert footer["answers"] == [4, positive[:4].sum(), 6, positive[4:].sum()]
    assert set(footer["counts"]) == {
        *("rows", "rejected", "truncated", "positive", "tokens", "unknown")
    }
    assert footer["counts"]["positive"] == positive.sum()
    heights, _ = np.histogram(file.read()["positive_probability"], 20, (0, 1))
    assert footer["histogram"] == heights.tolist()
    # A `_SUCCESS` without rows of each class is as good.
    success = json.loads((lake.scored / "_SUCCESS").read_text())
    del success["labels"]
    (lake.scored / "_SUCCESS").write_text(json.dumps(success))
    audit.main(audit.VerifyConfig(str(lake.scored)))


@pytest.mark.parametrize(
    ("classes", "column"),
    [
        (SPAM, "spam / wurst_PROBABILITY"),
        (THREE, "Neutral_probability"),
        (THREE, "SENTIMENT"),
        (TOPICS, "Top_labels"),
        (TOPICS, "probability"),
        (TOPICS, "label"),
    ],
)
def test_a_column_that_the_output_adds_is_refused_before_anything_is_scored(
    tmp_path, classes, column
):
    save_checkpoint(tmp_path / "model", classes=classes)
    lake = Lake(tmp_path, load(str(tmp_path / "model")))
    table = pa.table({"text": ["word1"], column: ["x"]})
    pq.write_table(table, lake.corpus / "a.parquet")
    with pytest.raises(InputError, match=r"the input has a column .* by --keep_columns$"):
        lake.night()
    assert not list(lake.scored.glob("part-*"))


@given(st.integers(2, 40), st.data())
def test_rows_of_classes_are_counted(number, data):
    layout = ClassRows(number)
    parts = data.draw(st.lists(st.lists(st.lists(st.integers(0, number - 1)))))
    answers, by_piece, by_class = [], [], Counter()
    for pieces in parts:
        winners = np.array([winner for piece in pieces for winner in piece], np.int64)
        sizes = np.array([len(piece) for piece in pieces], np.int64)
        numbers = layout.count(winners, sizes)
        assert len(numbers) == layout.length(len(pieces))
        by_piece += [[len(piece), *(piece.count(k) for k in range(1, number))] for piece in pieces]
        by_class.update(winners.tolist())
        counted = np.bincount(winners, minlength=number)
        assert layout.of_one(numbers).tolist() == counted.tolist()
        answers += numbers
    sizes = np.array([len(pieces) for pieces in parts], np.int64)
    of_pieces, of_classes = layout.split(np.array(answers, np.int64), sizes)
    shown = number if number <= MAX_CLASSES_OF_PIECES else 1
    assert of_pieces.tolist() == [numbers[:shown] for numbers in by_piece]
    assert of_classes.tolist() == [by_class[k] for k in range(number)]


def test_a_night_says_the_share_of_each_class(tmp_path):
    save_checkpoint(tmp_path / "model", classes=TOPICS, sureness=60)
    lake = Lake(tmp_path, load(str(tmp_path / "model")))
    lake.put("a.csv", *IDS)
    with redirect_stdout(io.StringIO()):
        lake.night()
    _, classes = expected(lake)
    ((name, rows), *_) = Counter(classes).most_common()
    said = io.StringIO()
    with redirect_stdout(said):
        status.main(status.StatusConfig(str(lake.scored)))
    assert f" {rows / 60:.1%} {name}, " in said.getvalue()
