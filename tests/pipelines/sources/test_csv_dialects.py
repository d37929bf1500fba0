"""CSV dialects: what the beginning of a file tells, what flags say, and what is refused."""

import csv
import io

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.errors import BadShard
from pipelines.sources import blocks, decoding
from pipelines.sources.csv import count_csv, csv_schema, read_csv
from pipelines.sources.options import ReadOptions
from testing.properties import examples

SIZES = st.integers(1, 32)


def read(content, wanted=None, chunk=decoding.CHUNK_BYTES, **flags):
    """Good rows by number, as texts, and malformed rows as (number, reason, bytes)."""
    good, bad = {}, []
    options, source = ReadOptions(**flags), pa.BufferReader(content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decoding, "CHUNK_BYTES", chunk)
        patch.setattr(blocks, "MARK_BYTES", 0)
        for rows in read_csv(source, "a.csv", wanted, options):
            fields = zip(*(column.to_pylist() for column in rows.table.columns), strict=True)
            texts = [[value.decode() for value in row] for row in fields]
            good |= dict(zip(rows.numbers.tolist(), texts, strict=True))
            bad += [(row.number, row.reason, row.raw) for row in rows.bad]
    return good, bad


def count(content, **flags):
    return count_csv(pa.BufferReader(content), "a.csv", ReadOptions(**flags))


# What Spark's df.write.csv(header=True) writes: \" for a quote in a text.
SPARK = b'id,text\n7,"my screen is 5\\""\n8,fine\n9,"good"\n10,bad\n'


def test_files_of_spark_are_refused_and_read_with_the_flag():
    for content, row in (
        (SPARK, 1),
        (b'id,text\n8,fine\n7,"he said \\"ok\\""\n', 2),
        (b'id,text\n7,"he said \\"ok\\", well"\n', 1),
        (b'id,text\n7,"\\"ok\\""\n8,"""\n', 1),
        (b'id,text\n7,"5\\""\n', 1),
        (b'id,text\n7,"5\\""', 1),
    ):
        for use in (lambda c=content: read(c, ["text"]), lambda c=content: count(c)):
            with pytest.raises(BadShard, match=rf"a\.csv, row {row} has a quote after a backslash"):
                use()
    good, bad = read(SPARK, escape="\\")
    assert good == {
        1: ["7", 'my screen is 5"'],
        2: ["8", "fine"],
        3: ["9", "good"],
        4: ["10", "bad"],
    }
    assert not bad
    assert count(SPARK, escape="\\").rows == 4


def test_a_backslash_before_a_closing_quote_is_a_text():
    """As RFC 4180 has it: these rows cannot be read in another way."""
    content = (
        b'id,text\n1,"C:\\dir\\"\n2,"{""a"": ""he said \\""hi\\""""}"\n'
        b'3,"two\nlines, ""and"" \\ more"\n4,\\"\n'
    )
    good, bad = read(content, ["text"])
    assert not bad
    assert [text for (text,) in good.values()] == [
        "C:\\dir\\",
        '{"a": "he said \\"hi\\""}',
        'two\nlines, "and" \\ more',
        '\\"',
    ]
    assert read(SPARK, escape="none")[0].keys() == {2}


def test_text_after_a_closing_quote_is_malformed():
    content = b'id,text\n1,"a"b\n2,"a" \n3,"a"\n'
    reason = "there is text after a closing quote"
    bad = [(1, reason, b'1,"a"b'), (2, reason, b'2,"a" ')]
    assert read(content, ["text"]) == ({3: ["a"]}, bad)


TEXTS = st.text("ab ,;\t|\"\\\n\r'é", max_size=8)


@examples(150)
@given(
    st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=6),
    st.sampled_from([",", ";", "\t", "|", "\x01"]),
    st.sampled_from(['"', "'"]),
    st.sampled_from([None, "\\", "none"]),
    SIZES,
)
def test_files_of_any_dialect_that_pythons_csv_writes(rows, delimiter, quote, escape, chunk):
    out = io.StringIO()
    doubled = escape != "\\"
    # Where it escapes quotes, Python does not escape the escape character.
    rows = [[text if doubled else text.replace("\\", "/") for text in row] for row in rows]
    writer = csv.writer(
        out,
        delimiter=delimiter,
        quotechar=quote,
        doublequote=doubled,
        escapechar=None if doubled else "\\",
        quoting=csv.QUOTE_ALL,
        lineterminator="\n",
    )
    writer.writerows([["id", "text"], *rows])
    flags = {"delimiter": delimiter, "quote": quote, "escape": escape}
    try:
        good, bad = read(out.getvalue().encode(), chunk=chunk, **flags)
    except BadShard:
        assert escape is None
        assert "\\" + quote in out.getvalue()
        return
    assert not bad
    assert good == dict(enumerate(rows, 1))


@examples(100)
@given(st.lists(st.text('a,"\\\n', max_size=10), min_size=1, max_size=5), SIZES)
def test_what_spark_writes_is_refused_or_read_as_it_is(texts, chunk):
    """Never is a row merged with another, or its text changed, without a word."""
    lines = ["id,text"]
    for i, text in enumerate(texts):
        is_plain = not set(text) & set(',"\n')
        quoted = text.replace("\\", "\\\\").replace('"', '\\"')
        lines.append(f"{i},{text}" if is_plain else f'{i},"{quoted}"')
    content = "\n".join(lines).encode()
    good, bad = read(content, ["text"], escape="\\", chunk=chunk)
    assert [text for (text,) in good.values()] == texts
    assert not bad
    try:
        good, bad = read(content, ["id", "text"], chunk=chunk)
    except BadShard:
        return
    if '\\"' not in content.decode():
        assert not bad
    for number, text in good.values():
        # Doubled backslashes stay: no flag said that they are escapes.
        assert number.isdigit()
        if "\\" not in text:
            assert text == texts[int(number)]


@pytest.mark.parametrize(
    "content",
    [
        b"id;text\n1;a, b\n2;\n",
        b"id\ttext\n1\ta, b\n2\t\n",
        b"id|text\n1|a, b\n2|\n",
        b'"id";"text"\n"1";"a, b"\n2;\n',
        b"sep=;\nid;text\n1;a, b\n2;\n",
        b'"sep=;"\r\nid;text\r\n1;a, b\r\n2;\r\n',
        b'sep=,\nid,text\n1,"a, b"\n2,\n',
        b"\xef\xbb\xbfsep=\t\nid\ttext\n1\ta, b\n2\t\n",
    ],
)
@pytest.mark.parametrize("chunk", [1, 100])
def test_a_header_tells_the_delimiter(content, chunk):
    assert read(content, chunk=chunk) == ({1: ["1", "a, b"], 2: ["2", ""]}, [])
    assert count(content).schema.names == ["id", "text"]
    (marked, *_) = count(content).marks
    assert content[marked[1] :].lstrip(b'"').startswith(b"1")


def test_a_column_alone_has_no_delimiter():
    content = b"text\na;b\tc\n"
    assert read(content) == ({1: ["a;b\tc"]}, [])
    assert read(b"a\tb\n1\t2\n", delimiter=",") == ({1: ["1\t2"]}, [])
    assert read(b"a\tb\n1\t2\n", delimiter="\\t") == ({1: ["1", "2"]}, [])
    tsv = csv_schema(pa.BufferReader(b"a,b\n1,2\n"), "a.tsv", ReadOptions(), ord("\t"))
    assert tsv.names == ["a", "b"]


def test_no_quotes():
    content = b'id\ttext\n1\t"hello\n2\tsaid "hi"\n3\ta\\\tb\n'
    flags = {"delimiter": "\t", "quote": "none"}
    good, bad = read(content, **flags)
    assert good == {1: ["1", '"hello'], 2: ["2", 'said "hi"']}
    assert [(number, reason) for number, reason, _ in bad] == [
        (3, "3 fields where the header has 2")
    ]
    assert read(content, escape="\\", **flags)[0][3] == ["3", "a\tb"]
    for text in ("a\1b", "a\0b", "\1" * 100):
        assert read(f"id\ttext\n1\t{text}\n".encode(), **flags) == ({1: ["1", text]}, [])


def test_blanks_after_delimiters_as_the_header_has_them():
    content = b'id, text, "n"\n1, "a, b", 2\n2,c,  3\n'
    assert read(content) == ({1: ["1", "a, b", "2"], 2: ["2", "c", "3"]}, [])
    assert read(b"id,text\n1, a\n") == ({1: ["1", " a"]}, [])
    assert read(b" text\n a\n") == ({1: [" a"]}, [])


def test_columns_without_a_name_are_left_out():
    content = b"v1,v2,,,\nham,what a lovely day,,,\n"
    assert read(content) == ({1: ["ham", "what a lovely day"]}, [])
    assert count(content).schema.names == ["v1", "v2"]
    assert read(b",text\n0,a\n") == ({1: ["0", "a"]}, [])
    assert count(b",text\n0,a\n").schema.names == ["", "text"]


def test_files_without_a_header():
    content = b"0,what a day\n4,oh;no\n"
    columns = ("label", "text")
    for chunk in (1, 100):
        good, bad = read(content, chunk=chunk, columns=columns)
        assert (good, bad) == ({1: ["0", "what a day"], 2: ["4", "oh;no"]}, [])
    counted = count(content, columns=columns)
    assert (counted.rows, counted.schema.names, counted.marks[0]) == (2, list(columns), (0, 0))
    assert count(b"", columns=columns).rows == 0
    assert read(b"a;b\n1;2\n", columns=("x", "y"))[0] == {1: ["a", "b"], 2: ["1", "2"]}
    assert read(b"hello; you\n", columns=("text",))[0] == {1: ["hello; you"]}
    reason = "1 field where --columns names 2"
    assert read(b"bad\n" + content, columns=columns)[1] == [(1, reason, b"bad")]
    with pytest.raises(BadShard, match="its first line has the names that --columns gives"):
        count(b"label,text\n" + content, columns=columns)
    with pytest.raises(
        BadShard, match=r"its first line names columns \(such as label, text\), and"
    ):
        count(b"Label, text,secret\n1,hi,2\n", columns=("label", "text", "id"))
    assert count(b"label,hi,1\n", columns=("label", "text", "id")).rows == 1
    with pytest.raises(BadShard, match="names 3 columns, and its first row has 2 fields"):
        count(content, columns=("a", "b", "text"))


@pytest.mark.parametrize(
    "line",
    [
        '"0","1467810369","Mon Apr 06","NO_QUERY","user","a secret, really"',
        "1,Ms Jones secret her doctor,neg",
        "secret,neg,1",
        "secret,2024-01-02",
        "secret,",
        "this is a secret,neg",
        "secret,ms.jones@clinic.example",
        "secret" * 11,
    ],
)
def test_a_first_row_that_is_no_header_is_told_and_not_shown(line):
    content = f"{line}\n".encode()
    said = r"no column 'text': its first line looks like a row .*--columns"
    with pytest.raises(BadShard, match=said) as caught:
        read(content, ["text"])
    assert "secret" not in str(caught.value)
    assert "neg" not in str(caught.value)


def test_a_row_of_equal_values_that_is_no_header_is_not_shown():
    with pytest.raises(BadShard, match=r"column of the same name: .*--columns") as caught:
        read(b"secret,secret,1\n")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "line", ["id,body", ",body,label", "Customer review text,id", "@id,q1,3d_model", "a" * 60]
)
def test_names_that_are_a_header_are_shown(line):
    with pytest.raises(BadShard, match=r"no column 'text'.*; its columns: ") as caught:
        read(f"{line}\n1,a\n".encode(), ["text"])
    assert str(caught.value).endswith(line.replace(",", ", "))
    assert "--columns" not in str(caught.value)


@pytest.mark.parametrize(
    ("line", "value"), [("id;name,first;text", "';'"), ("a\tb,c", r"'\t'"), ("a|b,1", "'|'")]
)
def test_names_with_another_delimiter_name_the_flag(line, value):
    with pytest.raises(BadShard) as caught:
        read(f"{line}\n".encode(), ["text"])
    assert str(caught.value).endswith(f"pass --delimiter {value}")
