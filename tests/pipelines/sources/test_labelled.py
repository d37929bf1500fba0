"""Labelled rows: read in every encoding and type; the first bad row is named."""

import gzip
import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.errors import BadShard
from pipelines.sources import blocks, decoding
from pipelines.sources.labelled import LabelledReader
from pipelines.sources.shard import Shard
from sentiment.errors import InputError
from sentiment.text.tokenizer import SPECIALS, Tokenizer
from testing.properties import examples

READER = LabelledReader("text", "label", "utf-8")


def write(path, content):
    path.write_bytes(content)
    return Shard(str(path), len(content), 0)


def write_parquet(path, labels, texts=None):
    texts = pa.array([f"text {i}" for i in range(len(labels))]) if texts is None else texts
    sink = io.BytesIO()
    pq.write_table(pa.table({"label": labels, "text": texts, "more": texts}), sink)
    return write(path, sink.getvalue())


def read(shard, reader=READER):
    """Texts, labels and tokens of a shard."""
    texts, labels, tokens = [], [], []
    for rows in reader.read(shard, Tokenizer().tokens):
        assert rows.labels.dtype == np.int8
        assert len(rows.numbers) == len(rows.texts) == len(rows.labels)
        texts += rows.texts.to_pylist()
        labels += rows.labels.tolist()
        tokens += rows.tokens.tokens.to_pylist()
    return texts, labels, tokens


def test_csv(tmp_path):
    rows = b'id,label,text\r\n1,0,bad\r\n2, 1 ,"so, good\n"\r\n3,1.0,\r\n4,False,x'
    texts, labels, tokens = read(write(tmp_path / "a.csv", rows))
    assert texts == [b"bad", b"so, good\n", b"", b"x"]
    assert labels == [0, 1, 1, 0]
    assert tokens == [["bad"], ["so", ",", "good"], [], ["x"]]


def test_ids_instead_of_tokens(tmp_path):
    shard = write(tmp_path / "a.csv", b"label,text\n1,good day\n")
    encoder = Tokenizer().encoder([*SPECIALS, "good"])
    (rows,) = READER.read(shard, encoder)
    ids = rows.tokens
    assert (rows.labels.tolist(), ids.ids.tolist(), ids.offsets.tolist()) == ([1], [2, 1], [0, 2])


TYPES = [
    *(pa.int8(), pa.int64(), pa.uint64(), pa.float32(), pa.float64(), pa.bool_()),
    *(pa.string(), pa.large_string(), pa.string_view(), pa.binary()),
    *(pa.dictionary(pa.int8(), pa.string()), pa.dictionary(pa.int32(), pa.int64())),
]


@pytest.mark.parametrize("kind", TYPES, ids=str)
def test_labels_of_all_types(tmp_path, kind):
    labels = [0, 1, 1, 0, 1]
    plain = kind.value_type if pa.types.is_dictionary(kind) else kind
    values = pa.array(labels).cast(pa.int64() if plain == pa.bool_() else pa.string()).cast(plain)
    if pa.types.is_dictionary(kind):
        values = values.dictionary_encode().cast(kind)
    assert read(write_parquet(tmp_path / "a.parquet", values))[1] == labels


BAD = {
    "int": (pa.array([0, 1, 2]), 3, "'2'"),
    "negative": (pa.array([-1, 1]), 1, "'-1'"),
    "float": (pa.array([1.0, 0.5]), 2, "'0.5'"),
    "nan": (pa.array([1.0, float("nan")]), 2, "'nan'"),
    "string": (pa.array(["1", "positive"]), 2, "'positive'"),
    "empty": (pa.array(["1", ""]), 2, "''"),
    "long": (pa.array(["1", "1" * 1000]), 2, repr("1" * 80)),
    "binary": (pa.array([b"1", b"\xff"]), 2, "'ÿ'"),
    "dictionary": (pa.array(["1", "0", "x"]).dictionary_encode(), 3, "'x'"),
    "null": (pa.array([1, None, 0]), 2, "null"),
    "null string": (pa.array(["1", None]), 2, "null"),
    "null bool": (pa.array([True, None]), 2, "null"),
    "null in a dictionary": (pa.array(["1", None]).dictionary_encode(), 2, "null"),
    "nulls": (pa.nulls(2), 1, "null"),
    "a full dictionary": (
        pa.DictionaryArray.from_arrays(
            pa.array([0, None], pa.int8()), [str(i + 1) for i in range(128)]
        ),
        2,
        "null",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_label_is_named(tmp_path, case):
    labels, row, shown = BAD[case]
    shard = write_parquet(tmp_path / "bad.parquet", labels)
    with pytest.raises(InputError) as caught:
        read(shard)
    assert str(caught.value) == f"{shard.path}, row {row}: label is {shown}, not 0 or 1"


NO_LABELS = [pa.array([[1]]), pa.array([{"a": 1}]), pa.array([b"1" * 16], pa.uuid())]


@pytest.mark.parametrize("labels", NO_LABELS, ids=str)
def test_columns_that_cannot_be_labels_are_named(tmp_path, labels):
    shard = write_parquet(tmp_path / "bad.parquet", labels)
    with pytest.raises(InputError, match=r"bad\.parquet: column 'label' is .*, not labels 0 and 1"):
        read(shard)


@examples(30)
@given(st.integers(1, 60), st.data())
def test_the_row_is_counted_from_the_beginning_of_the_file(tmp_path_factory, rows, data):
    bad = data.draw(st.integers(1, rows))
    line, problem = data.draw(
        st.sampled_from(
            [
                (b"2,text", "label is '2', not 0 or 1"),
                (b",text", "label is '', not 0 or 1"),
                (b"1,\xff", "text is not valid UTF-8: pass --encoding (latin-1, cp1252, ...)"),
                (b"1", "1 field where the header has 2"),
                (b"1,a,b", "3 fields where the header has 2"),
            ]
        )
    )
    lines = [b'1,"text\n%d"\n' % i for i in range(rows)]
    lines[bad - 1] = line + b"\n\n"
    path = tmp_path_factory.mktemp("rows") / "bad.csv"
    shard = write(path, b"label,text\n" + b"".join(lines))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decoding, "CHUNK_BYTES", data.draw(st.integers(1, 100)))
        patch.setattr(blocks, "MARK_BYTES", 0)
        with pytest.raises(InputError) as caught:
            read(shard)
    assert str(caught.value) == f"{shard.path}, row {bad}: {problem}"


@pytest.mark.parametrize(
    ("texts", "problem"),
    [
        (pa.array(["a", None]), "row 2: text is null"),
        (pa.nulls(2), "row 1: text is null"),
        (pa.array([b"a", b"\xc3"]), "row 2: text is not valid UTF-8"),
        (pa.array(["a", None]).dictionary_encode(), "row 2: text is null"),
        (pa.array([1, 2]), "column 'text' is int64, not text"),
    ],
    ids=str,
)
def test_a_bad_text_is_named(tmp_path, texts, problem):
    shard = write_parquet(tmp_path / "bad.parquet", pa.array([1, 0]), texts)
    with pytest.raises(InputError) as caught:
        read(shard)
    assert str(caught.value).startswith(shard.path)
    assert problem in str(caught.value)


def test_other_encodings(tmp_path):
    shard = write(tmp_path / "a.csv", "label,text\n1,déjà vu\n".encode("latin-1"))
    assert read(shard, LabelledReader("text", "label", "latin-1"))[2] == [["déjà", "vu"]]
    with pytest.raises(InputError, match="row 1: text is not valid UTF-8"):
        read(shard)


def test_columns_are_required(tmp_path):
    shard = write(tmp_path / "a.csv", b"label,text\n1,a\n")
    READER.require_columns(shard)
    READER.require_columns(write(tmp_path / "b.csv", b"text,label\n"))
    for column, reader in (
        ("tweet", LabelledReader("tweet", "label", "utf-8")),
        ("y", LabelledReader("text", "y", "utf-8")),
    ):
        with pytest.raises(
            InputError, match=f"a.csv has no column '{column}'.*; its columns: label"
        ):
            reader.require_columns(shard)
    with pytest.raises(InputError, match="cannot be read as Parquet"):
        READER.require_columns(write(tmp_path / "a.parquet", b"text,label\n"))


@pytest.mark.parametrize("column", ["label", "text"])
@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.string_view()], ids=str)
def test_strings_that_are_not_utf8_are_refused_by_row(tmp_path, column, kind):
    """Arrow's string columns may hold any bytes."""
    values = pa.array([b"1", b"\xff not UTF-8, and longer than a view holds", b"0"])
    if kind == pa.string_view():
        invalid = values.cast(pa.binary_view()).view(kind)
    else:
        binary = values.cast(pa.large_binary() if kind == pa.large_string() else pa.binary())
        invalid = pa.Array.from_buffers(kind, 3, binary.buffers())
    labels = {"labels": invalid} if column == "label" else {"labels": [1, 0, 0], "texts": invalid}
    shard = write_parquet(tmp_path / "a.parquet", **labels)
    said = "is '\xff not UTF-8" if column == "label" else "is not valid UTF-8"
    with pytest.raises(BadShard, match=f"row 2: {column} {said}"):
        read(shard)


def test_a_byte_that_the_encoding_lacks_is_named(tmp_path):
    shard = write(tmp_path / "a.csv", b"label,text\n1,caf\xe9\n0,broken \x9d\n")
    reader = LabelledReader("text", "label", "cp1252")
    with pytest.raises(
        BadShard, match=r"row 2: text is not valid cp1252: .*latin-1 takes any byte"
    ):
        list(reader.read(shard, Tokenizer().tokens))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", b'{"label": 1, "text": "good"}\n{"label": "0", "text": "bad", "x": [1]}\n'),
        (
            "a.ndjson.gz",
            gzip.compress(b'{"label": true, "text": "good"}\n{"label":0,"text":"bad"}\n'),
        ),
        ("a.tsv", b"label\ttext\n1\tgood\n0\tbad\n"),
        ("a.csv", b"sep=;\nlabel;text\n1;good\n0;bad\n"),
    ],
    ids=["json", "gzip", "tab", "semicolon"],
)
def test_what_can_be_scored_can_be_learnt_from(tmp_path, name, content):
    shard = write(tmp_path / name, content)
    READER.require_columns(shard)
    (rows,) = READER.read(shard, Tokenizer().tokens)
    assert [text.as_py() for text in rows.texts] == [b"good", b"bad"]
    assert rows.labels.tolist() in ([1, 0],)
    with pytest.raises(BadShard, match="no column 'stars'"):
        LabelledReader("text", "stars", "utf-8").require_columns(shard)


def test_labels_may_come_from_directories(tmp_path):
    (tmp_path / "label=1").mkdir()
    shard = write(tmp_path / "label=1" / "a.txt", b"good\nfine\n")
    READER.require_columns(shard)
    (rows,) = READER.read(shard, Tokenizer().tokens)
    assert rows.labels.tolist() == [1, 1]
