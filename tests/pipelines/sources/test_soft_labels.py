"""Soft labels: probabilities in every form; rows that hold none are left out and counted."""

import math

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.errors import BadShard
from pipelines.sources.label_column import NO_LABEL
from pipelines.sources.labelled import LabelledReader
from pipelines.sources.labels import LabelMap
from pipelines.sources.left_out import LeftOut
from pipelines.sources.options import ReadOptions
from pipelines.sources.shard import Shard
from pipelines.sources.soft_labels import (
    NOT_PROBABILITIES,
    SoftLabels,
    holds_probabilities,
    read_soft_labels,
)
from sentiment.text.tokenizer import Tokenizer

THREE = LabelMap.parse(["a", "b", "c"])
NAN = math.nan


def read(values: pa.Array, labels: LabelMap | None = None) -> SoftLabels:
    return read_soft_labels(pa.chunked_array([values]), labels, "a.parquet: column 'p'")


FORMS = {
    "list": lambda rows: pa.array(rows, pa.list_(pa.float64())),
    "large list": lambda rows: pa.array(rows, pa.large_list(pa.float32())),
    "fixed-size list": lambda rows: pa.array(rows, pa.list_(pa.float32(), 3)),
    "struct": lambda rows: pa.array(
        [None if row is None else dict(zip("cab", (row[2], *row[:2]), strict=True)) for row in rows]
    ),
    "decimals": lambda rows: pa.array(rows, pa.list_(pa.float64())).cast(
        pa.list_(pa.decimal128(12, 6))
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_three_classes(form):
    values = FORMS[form]([[0.5, 0.25, 0.25], None, [0, 0, 1], [0.4, 0.4, 0.4], [-0.5, 0.5, 1]])
    assert holds_probabilities(values.type)
    # As slices come out of larger columns.
    for found, codes in (
        (read(values, THREE), [0, NO_LABEL, 2, NOT_PROBABILITIES, NOT_PROBABILITIES]),
        (read(values[2:], THREE), [2, NOT_PROBABILITIES, NOT_PROBABILITIES]),
    ):
        assert found.names == ("a", "b", "c")
        assert found.codes.tolist() == codes
        assert found.probabilities.dtype == np.float32
    expected = [[0.5, 0.25, 0.25], [0] * 3, [0, 0, 1], [0] * 3, [0] * 3]
    assert read(values, THREE).probabilities.tolist() == expected


@pytest.mark.parametrize(
    "values",
    [
        pa.array([0.25, 1, 1.5, None, NAN, -0.1]),
        pa.array([0.25, 1, 1.5, None, NAN, -0.1], pa.float32()),
        pa.array(["0.25", " 1", "1.5", "", "NaN", "high"]),
        pa.array([b"0.25", b"1.0", b"inf", None, b"nan", b"\xff"]),
    ],
    ids=str,
)
def test_a_number_is_the_probability_of_the_second_class(values):
    codes = [0, 1, NOT_PROBABILITIES, NO_LABEL, NO_LABEL, NOT_PROBABILITIES]
    for labels, names in ((None, ("negative", "positive")), (["no", "yes"], ("no", "yes"))):
        found = read(values, labels and LabelMap.parse(labels))
        assert (found.names, found.codes.tolist()) == (names, codes)
        assert found.probabilities[:2].tolist() == [[0.75, 0.25], [0, 1]]


@given(st.lists(st.lists(st.floats(0, 1, width=32), min_size=3, max_size=3), max_size=20))
def test_probabilities_sum_to_one_or_are_refused(rows):
    found = read(pa.array(rows, pa.list_(pa.float64())), THREE)
    for row, probabilities, code in zip(rows, found.probabilities, found.codes, strict=True):
        assert (code == NOT_PROBABILITIES) == (abs(sum(row) - 1) > 1e-3)
        if code >= 0:
            assert probabilities.sum() == pytest.approx(1, abs=1e-6)
            assert probabilities[code] == probabilities.max()
            np.testing.assert_allclose(probabilities, row, atol=2e-3)


def test_fields_of_a_struct_are_classes_by_name_and_by_map():
    values = pa.array([{"Pos": 0.5, "neg": 0.125, "irony": 0.375}, {"Pos": None, "neg": 1.0}])
    found = read(values)
    assert found.names == ("pos", "neg", "irony")
    assert found.codes.tolist() == [0, NOT_PROBABILITIES]
    mapped = read(values, LabelMap.parse(["negative=neg,irony", "positive=pos"]))
    assert mapped.names == ("negative", "positive")
    assert mapped.probabilities[0].tolist() == [0.5, 0.5]


STRUCT = pa.array([{"a": 0.5, "x": 0.5}])
TWICE = pa.StructArray.from_arrays([pa.array([0.5])] * 2, ["a", "A "])


@pytest.mark.parametrize(
    ("values", "labels", "said"),
    [
        (STRUCT, THREE, "the field 'x' is of no class of --labels"),
        (TWICE, THREE, "the field 'a' is there twice"),
        (pa.array([[0.5, 0.5]]), THREE, "lists of 2 numbers, but there are 3 classes: name them"),
        (pa.array([[0.2, 0.3, 0.5]]), None, "lists of 3 numbers, but there are 2 classes"),
        (pa.array([0.5]), THREE, "one number a row, but there are 3 classes"),
        (pa.array([[0.5, 0.5]]), LabelMap.parse(["a=2", "b"]), "name them without labels, by"),
        (pa.array([0.5]), LabelMap.parse(["a", "b=2"]), "name them without labels, by"),
        (pa.array([True]), None, "is bool, not probabilities"),
        (pa.array([["a"]]), None, "is list<item: string>, not probabilities"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_unsuitable_columns_are_refused(values, labels, said):
    with pytest.raises(BadShard, match=r"^a\.parquet: column 'p'") as caught:
        read(values, labels)
    assert said in str(caught.value)


def test_types_that_hold_no_probabilities():
    struct = pa.struct([("a", pa.float32()), ("b", pa.string())])
    for kind in (pa.float64(), pa.list_(pa.string()), struct, pa.struct([]), pa.null()):
        assert not holds_probabilities(kind)


def test_rows_are_read_with_their_probabilities(tmp_path):
    probabilities = [[0.5, 0.2, 0.3], [0.1, 0.1, 0.1], None, [0, 0.9, 0.1], [1, 0, 0]]
    table = pa.table({"p": probabilities, "text": ["good", "bad", "so", None, "fine"]})
    pq.write_table(table, tmp_path / "a.parquet")
    path = tmp_path / "a.parquet"
    reader = LabelledReader("text", "p", ReadOptions(), THREE)
    info = path.stat()
    shard = Shard(str(path), info.st_size, info.st_mtime_ns)
    (rows,) = reader.read(shard, Tokenizer().tokens)
    assert rows.numbers.tolist() == [1, 5]
    assert (rows.values, rows.labels.tolist()) == (("a", "b", "c"), [0, 0])
    np.testing.assert_allclose(rows.probabilities, [[0.5, 0.2, 0.3], [1, 0, 0]], rtol=1e-6)
    assert rows.left_out == LeftOut(
        unlabelled=1,
        rejected={"p is no probabilities that sum to 1": 1, "text is null": 1},
        first=(
            f"{path}, row 2: p is no probabilities that sum to 1",
            f"{path}, row 4: text is null",
        ),
    )


@pytest.mark.parametrize("values", [[0.25, 5.0, -0.5, 1.0], ["0.25", "5.0", "much", "1"]])
def test_a_number_that_is_no_probability_is_called_so(tmp_path, values):
    """Nobody sums a single number up."""
    pq.write_table(pa.table({"p": values, "text": ["good"] * 4}), tmp_path / "a.parquet")
    path = tmp_path / "a.parquet"
    info = path.stat()
    shard = Shard(str(path), info.st_size, info.st_mtime_ns)
    reader = LabelledReader("text", "p", ReadOptions(), soft_labels=True)
    (rows,) = reader.read(shard, Tokenizer().tokens)
    assert rows.numbers.tolist() == [1, 4]
    assert rows.left_out.rejected == {"p is no probability from 0 to 1": 2}


def test_without_a_map_the_order_of_a_model_is_that_of_its_numbers():
    order = ("Positive", "negative")
    for values in (pa.array([[0.75, 0.25]]), pa.array([0.25])):
        found = read_soft_labels(pa.chunked_array([values]), None, "-", order)
        assert (found.names, found.probabilities.tolist()) == (
            ("positive", "negative"),
            [[0.75, 0.25]],
        )
    column = pa.chunked_array([pa.array([[0.2, 0.3, 0.5]])])
    three = read_soft_labels(column, None, "-", ("a", "b", "c"))
    assert three.codes.tolist() == [2]
