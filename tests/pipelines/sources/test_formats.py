"""Shards of every format: found by name or first bytes, and read alike, compressed or not."""

import csv
import hashlib
import io
import json
from functools import partial
from pathlib import Path
from typing import get_args, get_type_hints

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.errors import BadShard
from pipelines.evaluation.config import EvaluateConfig
from pipelines.scoring.config import ScoreConfig
from pipelines.sources.format_files import FORMAT_FILES, format_told_by
from pipelines.sources.formats import FORMATS
from pipelines.sources.listing import find_shards
from pipelines.sources.names import FileName, file_name, partitions
from pipelines.sources.options import FORMAT_NAMES, ReadOptions
from pipelines.sources.rows import Span
from pipelines.sources.shard import Shard
from pipelines.sources.shard_file import DIGEST_BYTES
from pipelines.training.config import TrainConfig
from sentiment.errors import InputError
from testing.properties import examples

COMPRESSIONS = {"": None, ".gz": "gzip", ".zst": "zstd", ".bz2": "bz2", ".GZ": "gzip"}
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n\0"), max_size=9)


def content_of(format_name: str, texts: list[str]) -> bytes:
    """A file with the texts in its column `text`."""
    return CONTENT[format_name](texts)


def delimited(dialect: str, texts: list[str]) -> bytes:
    out = io.StringIO()
    writer = csv.writer(out, dialect, quoting=csv.QUOTE_ALL)
    writer.writerows([["id", "text"], *([i, text] for i, text in enumerate(texts))])
    return out.getvalue().encode()


def json_lines(texts: list[str]) -> bytes:
    return "".join(json.dumps({"id": i, "text": t}) + "\n" for i, t in enumerate(texts)).encode()


def parquet(texts: list[str]) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"id": range(len(texts)), "text": pa.array(texts, pa.string())}), sink)
    return sink.getvalue().to_pybytes()


CONTENT = {
    "csv": partial(delimited, "excel"),
    "tsv": partial(delimited, "excel-tab"),
    "json": json_lines,
    "text": lambda texts: "".join(f"{text}\n" for text in texts).encode(),
    "parquet": parquet,
}


def write(path: Path, content: bytes, compression: str | None = None) -> Shard:
    path.parent.mkdir(parents=True, exist_ok=True)
    if compression is not None:
        sink = pa.BufferOutputStream()
        with pa.CompressedOutputStream(sink, compression) as out:
            out.write(content)
        content = sink.getvalue().to_pybytes()
    path.write_bytes(content)
    return Shard(str(path), len(content), 0)


def texts_of(shard: Shard, options=ReadOptions(), span=None, columns=("text",)) -> list:  # noqa: B008
    return [
        value if isinstance(value, str) else value.decode()
        for rows in shard.rows(list(columns), options, span)
        for value in rows.table["text"].to_pylist()
    ]


def test_every_format_is_known_wherever_formats_are():
    assert FORMATS.keys() == FORMAT_FILES.keys() == CONTENT.keys()
    assert tuple(FORMATS) == FORMAT_NAMES
    named = [extension for form in FORMATS.values() for extension in form.files.extensions]
    assert len(set(named)) == len(named)
    for config in (ScoreConfig, TrainConfig, EvaluateConfig):
        choices = get_args(get_args(get_type_hints(config)["format"])[0])
        assert {*choices} == FORMATS.keys(), config


@examples(60)
@given(st.data())
def test_every_format_and_compression_gives_the_same_rows(tmp_path_factory, data):
    name = data.draw(st.sampled_from(sorted(FORMATS)))
    form = FORMATS[name]
    extension = data.draw(st.sampled_from(form.files.extensions))
    # A compressed file cannot be read from its footer, or told by its first bytes.
    compression = data.draw(st.sampled_from([""] if form.has_footer else sorted(COMPRESSIONS)))
    texts = data.draw(st.lists(TEXTS, min_size=1, max_size=8))
    path = tmp_path_factory.mktemp("formats") / f"a{extension}{compression}"
    content = content_of(name, texts)
    assert format_told_by(content) == (name if form.files.magic else None)
    shard = write(path, content, COMPRESSIONS[compression])
    assert shard.has_footer == form.has_footer
    counted = shard.count(ReadOptions())
    assert counted.rows == len(texts)
    assert "text" in counted.schema.names
    assert len(counted.digest) == DIGEST_BYTES
    if not form.has_footer:
        assert counted.digest == hashlib.sha256(path.read_bytes()).digest()[:DIGEST_BYTES]
        assert bool(counted.marks) == (not compression)
    assert texts_of(shard) == texts
    cut = data.draw(st.integers(0, len(texts)))
    halves = [Span(0, cut), Span(cut, len(texts) - cut)]
    assert [text for span in halves for text in texts_of(shard, span=span)] == texts
    content = shard.fetch(2**20)
    read = [rows.table["text"] for rows in shard.rows(["text"], ReadOptions(), content=content)]
    assert sum(map(len, read)) == len(texts)


@pytest.mark.parametrize("name", FORMATS)
def test_a_file_without_a_name_for_its_format_is_told_by_its_bytes_or_the_flag(tmp_path, name):
    shard = write(tmp_path / "part-0", content_of(name, ["é", "b"]))
    assert texts_of(shard, ReadOptions(format=name)) == ["é", "b"]
    if FORMATS[name].files.magic:
        assert texts_of(shard) == ["é", "b"]
        assert [each.path for each in find_shards([str(tmp_path)], "--input")] == [shard.path]


@pytest.mark.parametrize("name", FORMATS)
def test_the_encoding_counts_for_texts_only(tmp_path, name):
    form = FORMATS[name]
    shard = write(tmp_path / f"a{form.files.extensions[0]}", content_of(name, ["é"]))
    cp1252 = ReadOptions(encoding="cp1252")
    # JSON escapes what is not ASCII.
    expected = "Ã©" if form.is_text and name != "json" else "é"
    assert texts_of(shard, cp1252) == [expected]
    assert shard.is_utf8(cp1252) == (not form.is_text)
    assert shard.is_utf8(ReadOptions())


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.csv", ("csv", None)),
        ("A.CSV", ("csv", None)),
        ("a.b.tsv.GZ", ("tsv", "gzip")),
        ("a.ndjson.bz2", ("json", "bz2")),
        ("a.json", ("json", None)),
        ("a.jsonl.zstd", ("json", "zstd")),
        ("a.txt", ("text", None)),
        ("a.pq", ("parquet", None)),
        ("j.PARQUET", ("parquet", None)),
        ("a.parq", ("parquet", None)),
        ("a.parquet.gzip", ("parquet", None)),
        ("a.parquet.snappy", ("parquet", None)),
        ("f.snappy.parquet", ("parquet", None)),
        ("f.gz.parquet", ("parquet", None)),
        ("part-00000", (None, None)),
        ("000000_0", (None, None)),
        ("000000_0.gz", (None, "gzip")),
        ("part-00000-ab-c000", (None, None)),
        ("part-00000-ab.c000.csv", ("csv", None)),
        ("data.xlsx", (None, None)),
    ],
)
def test_a_name_tells_format_and_compression(name, expected):
    for path in (name, f"/a.csv/{name}", f"s3://b.parquet/x/{name}"):
        found = file_name(path)
        assert (found.format, found.compression) == expected
    assert file_name("x/part-00000-ab.c000") == FileName(None, None, "")


def test_a_file_without_extension_is_parquet_or_what_the_flag_says(tmp_path):
    pq.write_table(pa.table({"text": ["a"]}), tmp_path / "000000_0")
    for options in (ReadOptions(), ReadOptions(format="csv")):
        shard = Shard(str(tmp_path / "000000_0"), 0, 0)
        assert texts_of(shard, options) == ["a"]
        assert shard.count(options).groups == (1,)
    for name, format_name, content, compression in (
        ("part-0", "csv", b"id,text\n1,b\n", None),
        ("part-1.gz", "json", b'{"text":"b"}', "gzip"),
        ("part-2", "text", b"b\n", None),
        ("part-3.bz2", "tsv", b"id\ttext\n1\tb\n", "bz2"),
    ):
        shard = write(tmp_path / name, content, compression)
        assert texts_of(shard, ReadOptions(format=format_name)) == ["b"]
        with pytest.raises(BadShard, match=f"{name}: its name does not tell its format: .*--form"):
            shard.count(ReadOptions())


def test_the_flag_says_what_a_txt_file_is(tmp_path):
    for name, format_name, content, compression in (
        ("a.txt", "csv", b"id;text\n1;b\n", None),
        ("b.TXT.gz", "tsv", b"id\ttext\n1\tb\n", "gzip"),
        ("c.txt.bz2", "json", b'{"text":"b"}', "bz2"),
        ("c.text", "csv", b"b\n", None),
        ("d.txt", "text", b"b\n", None),
        ("e.txt", None, b"b\n", None),
    ):
        shard = write(tmp_path / name, content, compression)
        options = ReadOptions(format=format_name)
        assert texts_of(shard, options) == ["b"]
        assert shard.count(options).rows == 1
    others = {"a.csv": b"text\nb\n", "a.jsonl": b'{"text":"b"}'}
    for name, content in others.items():
        assert texts_of(write(tmp_path / name, content), ReadOptions(format="text")) == ["b"]


@pytest.mark.parametrize("flags", [{"delimiter": ";"}, {"columns": ("id", "text")}])
def test_a_txt_file_is_refused_with_flags_of_csv_without_a_format(tmp_path, flags):
    shard = write(tmp_path / "a.txt", b"1;b\n")
    for use in (shard.count, shard.schema, lambda options: texts_of(shard, options)):
        with pytest.raises(BadShard, match=rf"a\.txt: .*--{next(iter(flags))} .*pass --format csv"):
            use(ReadOptions(**flags))
    options = ReadOptions(delimiter=";", columns=("id", "text"), format="csv")
    assert texts_of(shard, options) == ["b"]


KINDS = {
    b"PK\x03\x04..xl/workbook.xml": "a zip archive, or a workbook",
    b"\xd0\xcf\x11\xe0\xa1\xb1": "an old Excel workbook",
    b"\n <!DOCTYPE html><html>": "an HTML page",
    b"<html><head>": "an HTML page",
    b"version https://git-lfs.github.com/spec/v1\noid": "a pointer of Git LFS",
    b"Obj\x01\x04\x14avro.codec": "Avro",
    b"ORC\x0a\x0b": "ORC",
    b"SQLite format 3\0": "an SQLite database",
    b"a.csv".ljust(257, b"\0") + b"ustar\x0000": "a tar archive",
}


@pytest.mark.parametrize("extension", [".csv", ".csv.gz", ".jsonl", ".txt", ".parquet"])
@pytest.mark.parametrize("first", KINDS, ids=lambda first: KINDS[first])
def test_a_file_under_a_wrong_name_is_named_for_what_it_is(tmp_path, extension, first):
    shard = write(tmp_path / f"a{extension}", first + b"x" * 100)
    for use in (lambda: shard.count(ReadOptions()), lambda: texts_of(shard)):
        with pytest.raises(BadShard, match=rf"a\{extension} is {KINDS[first]}.*, whatever its"):
            use()


def test_a_text_that_has_what_tar_archives_have_is_a_text(tmp_path):
    text = "mustard".rjust(258, "x")
    content = f"text\n{text}\n".encode()
    assert content[257:].startswith(b"ustar")
    assert texts_of(write(tmp_path / "a.csv", content)) == [text]


def test_compressed_files_under_a_wrong_name_are_named(tmp_path):
    rows = b"id,text\n1,what a day\n"
    for compression, extension in (("gzip", ".gz"), ("zstd", ".zst"), ("bz2", ".bz2")):
        shard = write(tmp_path / "a.csv", rows, compression)
        with pytest.raises(BadShard, match=rf"a\.csv is {compression}.*\{extension}"):
            shard.count(ReadOptions(encoding="latin-1"))
    shard = write(tmp_path / "a.csv.gz", rows, "zstd")
    with pytest.raises(BadShard, match=r"a\.csv\.gz is zstd"):
        shard.schema(ReadOptions())
    pq.write_table(pa.table({"text": ["a"]}), tmp_path / "b.csv")
    with pytest.raises(BadShard, match=r"b\.csv is Parquet, whatever .*: name it \.parquet"):
        Shard(str(tmp_path / "b.csv"), 0, 0).count(ReadOptions())
    shard = write(tmp_path / "c.parquet", rows)
    with pytest.raises(BadShard, match=r"c\.parquet cannot be read as Parquet"):
        shard.count(ReadOptions())


def test_files_that_are_compressed_once_too_often_are_named(tmp_path):
    pq.write_table(pa.table({"text": ["a"]}), tmp_path / "a.parquet")
    parquet = (tmp_path / "a.parquet").read_bytes()
    once = pa.compress(b"text\na\n", "gzip", asbytes=True)
    for name, content, said in (
        ("b.parquet.gz", parquet, "is gzip around a whole file: decompress it, since Parquet"),
        ("b.csv.gz", parquet, r"is Parquet in gzip: decompress it, then name it \.parquet"),
        ("c.csv.gz", once, "is compressed twice: decompress it once"),
    ):
        shard = write(tmp_path / name, content, "gzip")
        with pytest.raises(BadShard, match=rf"{name} {said}"):
            shard.count(ReadOptions())


def decoded(rows) -> list[str | None]:
    """The values of the first row, as strings."""
    (*values,) = rows.table.to_pylist()[0].values()
    return [value.decode() if isinstance(value, bytes) else value for value in values]


def test_directories_with_values_give_columns(tmp_path):
    directory = tmp_path / "year=2024" / "month=01" / "x=a%2Fb" / "n=__HIVE_DEFAULT_PARTITION__"
    for shard in (
        write(directory / "a.csv", b"id,text,x\n1,b,own\nbad\n"),
        write(directory / "a.jsonl", b'{"id":1,"text":"b","x":"own"}\n'),
    ):
        schema = shard.count(ReadOptions()).schema
        assert schema == shard.schema(ReadOptions())
        names = ["id", "text", "x", "year", "month", "n"]
        assert schema == pa.schema([(name, pa.string()) for name in names])
        (rows,) = shard.rows(None, ReadOptions())
        assert rows.table.column_names == names
        expected = ["1", "b", "own", "2024", "01", None]
        assert decoded(rows) == expected
        (rows,) = shard.rows(["month", "text"], ReadOptions(), optional=["n", "x", "none"])
        assert rows.table.column_names[:4] == ["month", "text", "n", "x"]
        assert decoded(rows)[:4] == ["01", "b", None, "own"]
    pq.write_table(pa.table({"text": ["a", "b"], "year": [1, 2]}), directory / "a.parquet")
    shard = Shard(str(directory / "a.parquet"), 0, 0)
    (rows,) = shard.rows(["text"], ReadOptions(), Span(1, 1), ["month", "year"])
    assert rows.table.to_pylist() == [{"text": "b", "month": "01", "year": 2}]
    assert partitions("s3://b/k=a%2520b/=x/y=/a.csv") == {"k": "a b", "y": ""}


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        ({"delimiter": ";;"}, "--delimiter is ';;'; it must be one ASCII"),
        ({"delimiter": "é"}, "--delimiter"),
        ({"quote": "''"}, "--quote is"),
        ({"escape": '"'}, "must be different"),
        ({"columns": ("a", "a")}, "--columns a a"),
        ({"format": "avro"}, "--format is avro; it must be csv"),
        ({"encoding": "utf-9"}, "--encoding utf-9 is unknown"),
    ],
)
def test_impossible_options_are_refused(flags, problem):
    with pytest.raises(InputError, match=problem):
        ReadOptions(**flags)
