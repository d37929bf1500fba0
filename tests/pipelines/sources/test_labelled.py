"""Labelled rows: read in every encoding and type; what is left out is counted and named."""

import datetime
import gzip
import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.errors import BadShard, ShardChanged
from pipelines.sources import blocks, decoding
from pipelines.sources.labelled import LabelledReader
from pipelines.sources.labels import LabelMap
from pipelines.sources.left_out import LeftOut
from pipelines.sources.options import ReadOptions
from pipelines.sources.shard import Shard
from sentiment.errors import InputError
from sentiment.text.tokenizer import SPECIALS, Tokenizer
from testing.properties import examples

READER = LabelledReader("text", "label")


def write(path, content):
    path.write_bytes(content)
    return Shard(str(path), len(content), path.stat().st_mtime_ns)


def write_parquet(path, labels, texts=None):
    texts = pa.array([f"text {i}" for i in range(len(labels))]) if texts is None else texts
    sink = io.BytesIO()
    pq.write_table(pa.table({"label": labels, "text": texts, "more": texts}), sink)
    return write(path, sink.getvalue())


def read(shard, reader=READER):
    """Texts, labels and tokens of a shard."""
    texts, labels, tokens = [], [], []
    for rows in reader.read(shard, Tokenizer().tokens):
        assert len(rows.numbers) == len(rows.texts) == len(rows.labels) == len(rows.tokens.hashes)
        texts += rows.texts.to_pylist()
        labels += [rows.values[label] for label in rows.labels]
        tokens += rows.tokens.tokens.to_pylist()
    return texts, labels, tokens


def left_out(shard, reader=READER) -> LeftOut:
    return LeftOut.merged(rows.left_out for rows in reader.read(shard, Tokenizer().tokens))


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.parquet"])
@pytest.mark.parametrize("is_late", [False, True])
def test_a_shard_that_changes_is_not_read_to_its_end(tmp_path, name, is_late):
    """Its rows would be counted of one file and learnt from another."""
    path = tmp_path / name
    more = b'{"label": 1, "text": "b"}\n' if name == "a.jsonl" else b"1,b\n"
    if name == "a.parquet":
        shard = write_parquet(path, pa.array([0, 1]))
    else:
        shard = write(path, more if name == "a.jsonl" else b"label,text\n0,a\n")
    if not is_late:
        path.write_bytes(path.read_bytes() + more)
    reading = READER.read(shard, Tokenizer().tokens)
    if is_late:
        next(reading)
        path.write_bytes(path.read_bytes() + more)
    with pytest.raises(ShardChanged, match=rf"{name} has changed since it was listed \("):
        list(reading)
    path.unlink()
    with pytest.raises(ShardChanged, match=rf"{name} is gone: it was there when it was listed"):
        list(READER.read(shard, Tokenizer().tokens))


def test_csv(tmp_path):
    rows = b'id,label,text\r\n1,0,bad\r\n2, 1 ,"so, good\n"\r\n3,1.0,\r\n4,False,x'
    texts, labels, tokens = read(write(tmp_path / "a.csv", rows))
    assert texts == [b"bad", b"so, good\n", b"", b"x"]
    assert labels == ["0", "1", "1", "false"]
    assert tokens == [["bad"], ["so", ",", "good"], [], ["x"]]


def test_ids_instead_of_tokens(tmp_path):
    shard = write(tmp_path / "a.csv", b"label,text\n1,good day\n")
    encoder = Tokenizer().encoder([*SPECIALS, "good"])
    (rows,) = READER.read(shard, encoder)
    ids = rows.tokens
    assert (rows.values, rows.labels.tolist()) == (("1",), [0])
    assert (ids.ids.tolist(), ids.offsets.tolist()) == ([2, 1], [0, 2])


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
    words = ["false", "true"] if plain == pa.bool_() else ["0", "1"]
    found = read(write_parquet(tmp_path / "a.parquet", values))[1]
    assert found == [words[label] for label in labels]


NAN = float("nan")
WITHOUT = {
    "float": pa.array([1.0, NAN, 0.5]),
    "string": pa.array(["1", " ", "0.50"]),
    "nan as pandas writes it": pa.array(["1", "NaN", ".5"]),
    "null": pa.array([1, None, 0]),
    "null string": pa.array(["1", None, "0"]),
    "null bool": pa.array([True, None, False]),
    "null in a dictionary": pa.array(["1", None, "0"]).dictionary_encode(),
    "a full dictionary": pa.DictionaryArray.from_arrays(
        pa.array([0, None, 1], pa.int8()), [str(i + 1) for i in range(128)]
    ),
}


@pytest.mark.parametrize("case", WITHOUT)
def test_rows_without_a_label_are_left_out_and_counted(tmp_path, case):
    shard = write_parquet(tmp_path / "a.parquet", WITHOUT[case])
    assert read(shard)[0] == ["text 0", "text 2"]
    assert left_out(shard) == LeftOut(unlabelled=1)
    every = write_parquet(tmp_path / "b.parquet", pa.nulls(2))
    assert read(every) == ([], [], [])
    assert left_out(every) == LeftOut(unlabelled=2)


def test_with_a_map_labels_are_classes_and_other_values_are_counted(tmp_path):
    labels = LabelMap.parse(["bad=1,2", "Good=4, 5"])
    reader = LabelledReader("text", "label", ReadOptions(), labels)
    stars = pa.array([5, 3, 1, None, 4, 3, 2])
    shard = write_parquet(tmp_path / "a.parquet", stars)
    (rows,) = reader.read(shard, Tokenizer().tokens)
    assert (rows.values, rows.labels.tolist()) == (("bad", "Good"), [1, 0, 1, 0])
    assert rows.numbers.tolist() == [1, 3, 5, 7]
    assert rows.left_out == LeftOut(unlabelled=1, unnamed={"3": 2})


NO_LABELS = [
    pa.array([datetime.date(2024, 1, 1)]),
    pa.array([[b"1"]]),
    pa.array([{"a": "1"}]),
    pa.array([b"1" * 16], pa.uuid()),
]


@pytest.mark.parametrize("labels", NO_LABELS, ids=str)
def test_columns_that_cannot_be_labels_are_named(tmp_path, labels):
    shard = write_parquet(tmp_path / "bad.parquet", labels)
    with pytest.raises(InputError, match=r"bad\.parquet: column 'label' is .*, not labels"):
        read(shard)


@examples(30)
@given(st.integers(1, 60), st.data())
def test_the_row_is_counted_from_the_beginning_of_the_file(tmp_path_factory, rows, data):
    bad = data.draw(st.integers(1, rows))
    encoding = "is not valid UTF-8: pass --encoding (latin-1, cp1252, ...)"
    line, reason, problem = data.draw(
        st.sampled_from(
            [
                (b"1,\xff", "text is not valid UTF-8", f"text {encoding}"),
                (b"\xff,text", "label is not valid UTF-8", f"label {encoding}"),
                (b"1", "malformed", "1 field where the header has 2"),
                (b"1,a,b", "malformed", "3 fields where the header has 2"),
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
        found = left_out(shard)
        texts = read(shard)[0]
    assert found == LeftOut(rejected={reason: 1}, first=(f"{shard.path}, row {bad}: {problem}",))
    assert texts == [b"text\n%d" % i for i in range(rows) if i != bad - 1]


@pytest.mark.parametrize(
    ("texts", "reason"),
    [
        (pa.array(["a", None, "b", None]), "text is null"),
        (pa.array([b"a", b"\xc3", b"b", b"\xff"]), "text is not valid UTF-8"),
        (pa.array(["a", None, "b", None]).dictionary_encode(), "text is null"),
    ],
    ids=str,
)
def test_rows_whose_text_cannot_be_used_are_left_out(tmp_path, texts, reason):
    shard = write_parquet(tmp_path / "bad.parquet", pa.array([1, 0, 2, None]), texts)
    found = left_out(shard)
    assert (found.unlabelled, found.rejected) == (1, {reason: 1})
    assert found.first[0].startswith(f"{shard.path}, row 2: {reason}")
    assert read(shard)[1:] == (["1", "2"], [["a"], ["b"]])


def test_a_text_column_of_another_type_is_refused(tmp_path):
    shard = write_parquet(tmp_path / "bad.parquet", pa.array([1, 0]), pa.array([1, 2]))
    with pytest.raises(InputError, match=r"bad\.parquet: column 'text' is int64, not text"):
        read(shard)


def test_a_column_of_long_texts_is_no_label_column(tmp_path):
    shard = write_parquet(tmp_path / "a.parquet", pa.array(["x" * 201, "b"]))
    with pytest.raises(InputError, match=r"'label' has a label of 201 characters, more than 200"):
        read(shard)


def test_other_encodings(tmp_path):
    shard = write(tmp_path / "a.csv", "label,text\n1,déjà vu\n".encode("latin-1"))
    assert read(shard, LabelledReader("text", "label", ReadOptions("latin-1")))[2] == [
        ["déjà", "vu"]
    ]
    assert left_out(shard).rejected == {"text is not valid UTF-8": 1}


def test_half_a_surrogate_pair_is_told_from_another_encoding(tmp_path):
    lines = [r'{"label":1,"text":"cut \ud83d"}', '{"label":0,"text":"é"}', '{"label":1,"text":"a"}']
    shard = write(tmp_path / "a.jsonl", "\n".join(lines).encode("latin-1"))
    found = left_out(shard)
    assert found.rejected == {"text is not valid UTF-8": 2}
    half = "it has half of a surrogate pair, such as a cut emoji"
    assert found.first[0].endswith(f"row 1: text is not valid UTF-8: {half}")
    assert found.first[1].endswith("pass --encoding (latin-1, cp1252, ...)")
    assert len(read(shard)[0]) == 1


def test_columns_are_required(tmp_path):
    shard = write(tmp_path / "a.csv", b"label,text\n1,a\n")
    READER.require_columns(shard)
    READER.require_columns(write(tmp_path / "b.csv", b"text,label\n"))
    for column, reader in (
        ("tweet", LabelledReader("tweet", "label")),
        ("y", LabelledReader("text", "y")),
    ):
        with pytest.raises(
            InputError, match=f"a.csv has no column '{column}'.*; its columns: label"
        ):
            reader.require_columns(shard)
    with pytest.raises(InputError, match="cannot be read as Parquet"):
        READER.require_columns(write(tmp_path / "a.parquet", b"text,label\n"))


@pytest.mark.parametrize("column", ["label", "text"])
@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.string_view()], ids=str)
def test_strings_that_are_not_utf8_are_named_by_row(tmp_path, column, kind):
    """Arrow's string columns may hold any bytes."""
    values = pa.array([b"1", b"\xff not UTF-8, and longer than a view holds", b"0"])
    if kind == pa.string_view():
        invalid = values.cast(pa.binary_view()).view(kind)
    else:
        binary = values.cast(pa.large_binary() if kind == pa.large_string() else pa.binary())
        invalid = pa.Array.from_buffers(kind, 3, binary.buffers())
    labels = {"labels": invalid} if column == "label" else {"labels": [1, 0, 0], "texts": invalid}
    shard = write_parquet(tmp_path / "a.parquet", **labels)
    found = left_out(shard)
    assert found.rejected == {f"{column} is not valid UTF-8": 1}
    assert found.first[0].startswith(f"{shard.path}, row 2: {column} is not valid UTF-8")
    assert len(read(shard)[0]) == 2


def test_a_byte_that_the_encoding_lacks_is_named(tmp_path):
    shard = write(tmp_path / "a.csv", b"label,text\n1,caf\xe9\n0,broken \x9d\n")
    reader = LabelledReader("text", "label", ReadOptions("cp1252"))
    (said,) = left_out(shard, reader).first
    assert "row 2: text is not valid cp1252: " in said
    assert "latin-1 takes any byte" in said


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
    assert [rows.values[label] for label in rows.labels] in (["1", "0"], ["true", "0"])
    with pytest.raises(BadShard, match="no column 'stars'"):
        LabelledReader("text", "stars").require_columns(shard)


def test_labels_may_come_from_directories(tmp_path):
    (tmp_path / "label=1").mkdir()
    shard = write(tmp_path / "label=1" / "a.txt", b"good\nfine\n")
    READER.require_columns(shard)
    (rows,) = READER.read(shard, Tokenizer().tokens)
    assert (rows.values, rows.labels.tolist()) == (("1",), [0, 0])
