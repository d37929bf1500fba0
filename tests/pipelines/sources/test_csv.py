"""CSV reader: every row with its number, for any bytes, chunk size and span."""

import codecs
import csv
import gzip
import io
import itertools
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.sources import blocks, decoding
from pipelines.sources import csv as csv_rows
from pipelines.sources.decoding import CHUNK_BYTES, FIRST_CHUNK_BYTES
from pipelines.sources.options import ReadOptions
from pipelines.sources.rows import Span
from pipelines.sources.shard import Shard
from sentiment.errors import InputError
from testing.generated import CountedFile
from testing.properties import examples

NEWLINES = (b"\n", b"\r\n", b"\r")

parsing = examples(60)

# Bytes that are special to a CSV parser, and some that are invalid UTF-8.
BYTES = st.text('",\n\r ab\0\xc3\xa9\xef\xbb\xbf\xff\xfe', max_size=8)
LONG = "longer than what is compared at a time " * 3
FIELDS = st.tuples(BYTES, st.sampled_from(["", "", LONG]), BYTES).map(
    lambda texts: "".join(texts).encode("latin-1")
)
SIZES = st.integers(1, 64)


@st.composite
def tables(draw, most=8):
    width = draw(st.integers(1, 3))
    return draw(st.lists(st.lists(FIELDS, min_size=width, max_size=width), max_size=most)), width


def line(fields, style):
    """A CSV row. Fields are quoted where necessary, and elsewhere by the bits of `style`."""
    quoted = []
    for index, field in enumerate(fields):
        must = len(fields) == 1 or any(special in field for special in (b'"', b",", b"\n", b"\r"))
        quote = must or style >> index & 1
        quoted.append(b'"%b"' % field.replace(b'"', b'""') if quote else field)
    return b",".join(quoted)


@st.composite
def files(draw):
    """A CSV file, its good rows by number, its bad rows (number, reason, bytes), and its width."""
    rows, width = draw(tables())
    styles = st.integers(0, 2**8 - 1)
    lines = [(row, draw(styles)) for row in rows]
    wrong = st.lists(FIELDS, min_size=1, max_size=4).filter(lambda row: len(row) != width)
    for row in draw(st.lists(wrong, max_size=3)):
        lines.insert(draw(st.integers(0, len(lines))), (row, draw(styles)))
    content = draw(st.sampled_from([b"", codecs.BOM_UTF8]))
    content += b",".join(b"c%d" % i for i in range(width)) + b"\n"
    good, bad, newline = {}, [], b"\n"
    for number, (row, style) in enumerate(lines, 1):
        content += (b"", b"", b"\n", b"\r\n\r")[style & 3] + line(row, style)
        if len(row) == width:
            good[number] = row
        else:
            fields = f"{len(row)} field{'s' * (len(row) > 1)} where the header has {width}"
            bad.append((number, fields, line(row, style)))
        newline = NEWLINES[style % 3]
        content += newline
    return content.removesuffix(newline * draw(st.integers(0, 1))), good, bad, width


def read(
    content, columns=None, encoding="utf-8", span=None, optional=(), chunk=CHUNK_BYTES, **flags
):
    """Good rows by number, and bad rows, read `chunk` bytes at a time."""
    options = ReadOptions(encoding=encoding, **flags)
    good, bad = {}, []
    source = pa.BufferReader(content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decoding, "CHUNK_BYTES", chunk)
        patch.setattr(blocks, "MARK_BYTES", 0)
        for rows in csv_rows.read_csv(source, "some.csv", columns, options, span, optional):
            fields = zip(*(column.to_pylist() for column in rows.table.columns), strict=True)
            good |= dict(zip(rows.numbers.tolist(), map(list, fields), strict=True))
            bad += [(row.number, row.reason, row.raw) for row in rows.bad]
    return good, bad


def count(content, chunk=CHUNK_BYTES):
    """Columns, row count and marks, read `chunk` bytes at a time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decoding, "CHUNK_BYTES", chunk)
        patch.setattr(blocks, "MARK_BYTES", 0)
        counted = csv_rows.count_csv(pa.BufferReader(content), "some.csv", ReadOptions())
        return counted.schema.names, counted.rows, list(counted.marks)


@parsing
@given(files(), SIZES)
def test_good_rows_are_read_and_only_bad_rows_are_bad(file, chunk):
    content, good, bad, width = file
    assert read(content, chunk=chunk) == (good, bad)
    names, rows, _ = count(content, chunk)
    assert names == [f"c{i}" for i in range(width)]
    assert rows == len(good) + len(bad)


@parsing
@given(files(), SIZES, st.data())
def test_spans_give_the_same_rows_as_the_whole_file(file, chunk, data):
    content, *_ = file
    _, rows, marks = count(content, chunk)
    cuts = data.draw(st.sets(st.integers(1, max(rows - 1, 1)), max_size=4))
    edges = sorted({0, rows} | {cut for cut in cuts if cut < rows})
    good, bad = {}, []
    for first, last in itertools.pairwise(edges):
        marks_before = [mark for mark in marks if mark[0] <= first] + [(0, 0)]
        span = Span(first, last - first, *data.draw(st.sampled_from(marks_before)))
        span_good, span_bad = read(content, span=span, chunk=data.draw(SIZES))
        assert all(first < number <= last for number in span_good)
        good |= span_good
        bad += span_bad
    assert (good, bad) == read(content)


@parsing
@given(files(), SIZES)
def test_marks_are_where_rows_begin(file, chunk):
    content, good, bad, width = file
    _, rows, marks = count(content, chunk)
    assert [row for row, _ in marks] == sorted({row for row, _ in marks})
    assert bool(marks) == bool(rows)
    raws = {number: raw for number, _, raw in bad}
    for row, byte in marks:
        assert content[byte - 1 : byte] in (b"\n", b"\r")
        if row + 1 in raws:
            assert content[byte:].startswith(raws[row + 1])
        else:
            header = b",".join(b"%d" % i for i in range(width))
            assert read(header + b"\n" + content[byte:])[0][1] == good[row + 1]


@parsing
@given(tables(), st.sampled_from(["\r\n", "\n", "\r"]), st.sampled_from([0, 1]), SIZES)
def test_files_written_by_pythons_csv_module(table, newline, quoting, chunk):
    rows, width = table
    out = io.StringIO()
    # Python 3.11 quotes a line break other than its own only when it quotes everything.
    quoting = csv.QUOTE_ALL if quoting or newline != "\r\n" else csv.QUOTE_MINIMAL
    writer = csv.writer(out, lineterminator=newline, quoting=quoting)
    texts = [[field.decode("latin-1") for field in row] for row in rows]
    writer.writerows([[f"c{i}" for i in range(width)], *texts])
    content = out.getvalue()
    utf8 = {i: [field.encode() for field in row] for i, row in enumerate(texts, 1)}
    for encoding in ("utf-8", "utf-16", "utf-16-le", "utf-8-sig"):
        assert read(content.encode(encoding), encoding=encoding, chunk=chunk) == (utf8, [])
    assert read(content.encode("latin-1"), encoding="latin-1") == (utf8, [])
    assert read(content.encode("latin-1")) == (dict(enumerate(rows, 1)), [])


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)


@parsing
@given(st.lists(st.tuples(TEXTS, TEXTS, st.integers()), max_size=10), SIZES)
def test_agreement_with_pyarrow(rows, chunk):
    columns = zip(*rows, strict=True) if rows else ([], [], [])
    names = ("t,1", '"', "n")
    table = pa.table([pa.array(map(str, column), pa.string()) for column in columns], names)
    sink = pa.BufferOutputStream()
    pacsv.write_csv(table, sink)
    content = sink.getvalue().to_pybytes()
    parsed = pacsv.read_csv(
        pa.BufferReader(content),
        parse_options=pacsv.ParseOptions(newlines_in_values=True),
        convert_options=pacsv.ConvertOptions(
            column_types=dict.fromkeys(table.column_names, pa.binary()), strings_can_be_null=False
        ),
    )
    expected = zip(*(column.to_pylist() for column in parsed.columns), strict=True)
    assert read(content, chunk=chunk)[0] == {i: list(row) for i, row in enumerate(expected, 1)}
    texts = [[row[0].encode()] for row in rows]
    assert list(read(content, ["t,1"], chunk=chunk)[0].values()) == texts


@parsing
@given(st.lists(FIELDS), SIZES)
def test_any_bytes_give_the_same_rows_for_any_chunk_size(pieces, chunk):
    content = b"a,b\n" + b"".join(pieces)
    whole = read(content)
    numbers = sorted([*whole[0], *(number for number, _, _ in whole[1])])
    assert numbers == list(range(1, count(content)[1] + 1))
    assert read(content, chunk=chunk) == whole


def test_columns_are_chosen_by_name():
    content = b"id,text,id,more\n1,a,2,x\n"
    assert read(content, ["text"]) == ({1: [b"a"]}, [])
    assert read(content, ["more", "text"], optional=["gone"]) == ({1: [b"x", b"a"]}, [])
    assert read(content, ["text"], optional=["more", "text"]) == ({1: [b"a", b"x"]}, [])
    for columns, problem in ((["id"], "more than one column 'id'"), (None, "'id'")):
        with pytest.raises(InputError, match=f"some.csv has .*{problem}"):
            read(content, columns)
    with pytest.raises(InputError, match=r"no column 'tweet'; .*; its columns: id, text, id, more"):
        read(content, ["tweet"])


def test_the_message_about_a_column_is_one_short_line():
    header = b",".join(b'"column\n%d"' % i for i in range(10_000))
    with pytest.raises(InputError) as caught:
        read(header + b"\n", ["text"])
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1200


@pytest.mark.parametrize("content", [b"text\n", b"text", b"\n\ntext\r\n\r\n", b'"text"'])
def test_a_header_without_rows(content):
    assert read(content) == ({}, [])
    assert count(content) == (["text"], 0, [])


@pytest.mark.parametrize("content", [b"", b"\n\r\n", codecs.BOM_UTF8])
def test_an_empty_file_is_refused(content):
    with pytest.raises(InputError, match=r"some\.csv is empty"):
        read(content)


def test_a_quote_that_is_not_closed_is_one_bad_row():
    content = b'text,id\na,1\n"b,2\nc,3\n'
    reason = "a quote is not closed"
    assert read(content) == ({1: [b"a", b"1"]}, [(2, reason, b'"b,2\nc,3\n')])
    assert count(content)[1] == 2


def test_an_unclosed_quote_is_found_before_memory_is_full(monkeypatch):
    monkeypatch.setattr(blocks, "MAX_ROW_BYTES", 5000)
    rows = b"a,1\n" * 2000
    assert len(read(b"text,id\n" + rows, chunk=1000)[0]) == 2000
    with pytest.raises(InputError, match=r"from byte 8008 on: a row longer .* not closed\?$"):
        read(b"text,id\n" + rows + b'"' + rows, chunk=1000)


def test_a_row_that_is_too_long_is_found_wherever_the_file_ends(monkeypatch):
    monkeypatch.setattr(blocks, "MAX_ROW_BYTES", 5000)
    for length in (5200, 6000, 9000):
        with pytest.raises(InputError, match=r"a row longer"):
            read(b"text\n" + b"a" * length, chunk=100)
    assert len(read(b"text\n" + b"a" * 4900, chunk=100)[0]) == 1


def test_a_header_with_a_quote_that_is_not_closed_is_refused():
    with pytest.raises(InputError, match="a quote in its first line is not closed"):
        read(b'"text,id\na,1\n')


def test_a_byte_order_mark_is_dropped_only_at_the_beginning():
    rows = [b"\xef\xbb\xbfa", b'\xef\xbb\xbf"b"', b"c"]
    for chunk in (1, 3, 5, 100):
        content = codecs.BOM_UTF8 + b'"text"\n' + b"\n".join(rows)
        expected = {i: [row] for i, row in enumerate(rows, 1)}
        assert read(content, ["text"], chunk=chunk)[0] == expected


@pytest.mark.parametrize("chunk", [1, 100])
@pytest.mark.parametrize("given", ["utf-8", "latin-1"])
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_a_byte_order_mark_tells_the_encoding(chunk, given, encoding):
    content = "text,id\nà la carte,1\n".encode(encoding)
    assert read(content, encoding=given, chunk=chunk)[0] == {1: ["à la carte".encode(), b"1"]}
    big_endian = codecs.BOM_UTF16_BE + "text\nà\n".encode("utf-16-be")
    assert read(big_endian, encoding=given, chunk=chunk)[0] == {1: ["à".encode()]}


def test_other_encodings_are_recognised():
    text = "text,id\nà la carte,1\n"
    for chunk in (1, 100):
        with pytest.raises(InputError, match=r"NUL bytes.*utf-16-le"):
            read(text.encode("utf-16-le"), chunk=chunk)
        with pytest.raises(InputError, match=r"first line is not UTF-8: pass --encoding \(latin"):
            read("à\nla\n".encode("latin-1"))
        assert read(text.encode("latin-1"))[0] == {1: [b"\xe0 la carte", b"1"]}


def is_utf8(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


@parsing
@given(
    st.lists(st.binary(min_size=1, max_size=6), min_size=1, max_size=6),
    st.sampled_from(["cp1252", "ascii", "cp932", "euc-jp", "gb18030", "utf-8-sig", "cp1255"]),
    SIZES,
)
def test_a_byte_that_is_no_character_costs_its_row_only(texts, encoding, chunk):
    texts = [bytes(byte for byte in text if byte not in b'\r\n,"') or b"x" for text in texts]
    # A character may end in the next row, if its second byte can be a line feed.
    expected = {}
    for number, text in enumerate(texts, 1):
        try:
            expected[number] = text.decode(encoding).encode()
        except UnicodeDecodeError:
            expected[number] = None
    found = read(b"text,id\n" + b"".join(b"%b,1\n" % t for t in texts), ["text"], encoding)[0]
    if encoding in ("cp1252", "ascii", "cp1255"):
        assert list(found) == list(expected)
    for number, (value,) in found.items():
        if expected[number] is None:
            assert not is_utf8(value)
        elif encoding in ("cp1252", "ascii", "cp1255"):
            assert value == expected[number]


def test_the_bytes_of_a_row_that_is_not_in_the_encoding_are_kept():
    content = b"id,text\n1,caf\xe9\n3,broken \x9d byte\n4,bad day\n"
    good, _ = read(content, ["text"], "cp1252")
    assert good == {1: ["café".encode()], 2: [b"broken \x9d byte"], 3: [b"bad day"]}


def test_half_a_surrogate_pair_costs_its_row_only():
    content = "text\na\n".encode("utf-16") + b"\0\xd8\n\0" + "b\n".encode("utf-16-le")
    for encoding in ("utf-8", "utf-16"):
        good, _ = read(content, encoding=encoding)
        assert [is_utf8(value) for (value,) in good.values()] == [True, False, True]
    assert not is_utf8(read(content[:-1], encoding="utf-16")[0][3][0])


def test_a_file_that_ends_before_a_span_does_is_refused():
    content = b"text\na\nb\n"
    assert read(content, span=Span(1, 1))[0] == {2: [b"b"]}
    with pytest.raises(InputError, match=r"some\.csv has 2 rows, not the 3 or more"):
        read(content, span=Span(0, 3))
    with pytest.raises(InputError, match="has 2 rows, not the 9"):
        read(content, span=Span(7, 2))


def shard(path: Path) -> Shard:
    info = path.stat()
    return Shard(str(path), info.st_size, info.st_mtime_ns)


def test_gzip(tmp_path):
    content = b"text,id\n" + b'"a\nb",1\nc,2\n' * 1000
    path = tmp_path / "a.csv.gz"
    # Two members, as `cat a.gz b.gz` makes.
    path.write_bytes(gzip.compress(content[:5000]) + gzip.compress(content[5000:]))
    counted = shard(path).count(ReadOptions())
    assert (counted.rows, counted.marks) == (2000, ())
    numbers = [rows.numbers for rows in shard(path).rows(["id"], ReadOptions(), Span(500, 700))]
    assert np.concatenate(numbers).tolist() == list(range(501, 1201))


@pytest.mark.parametrize("damage", [lambda z: z[:-100], lambda z: z[:3], lambda z: z[:20] + z[40:]])
def test_damaged_gzip_is_refused_by_name(tmp_path, damage):
    path = tmp_path / "bad.csv.gz"
    random = np.random.default_rng(0).integers(0, 10**9, 5000)
    path.write_bytes(damage(gzip.compress(b"text\n" + b"\n".join(b"%d" % i for i in random))))
    for use in (lambda s: s.count(ReadOptions()), lambda s: list(s.rows(["text"], ReadOptions()))):
        with pytest.raises(InputError, match=r"bad\.csv\.gz cannot be read after byte \d+: ") as it:
            use(shard(path))
        assert "\n" not in str(it.value)


def test_a_gz_file_that_is_not_gzip_is_refused(tmp_path):
    path = tmp_path / "plain.csv.gz"
    path.write_bytes(b"text\nplain\n")
    with pytest.raises(InputError, match=r"plain\.csv\.gz is not gzip"):
        shard(path).count(ReadOptions())


def test_quoted_newlines_across_real_chunks(tmp_path):
    random = np.random.default_rng(0)
    texts = [
        b"row %d\n,\r\n" % i + b'"quoted"\n' * (i % 7) + b"x" * int(k)
        for i, k in enumerate(random.integers(0, 300, 100_000))
    ]
    table = pa.table({"id": np.arange(len(texts)), "text": pa.array(texts, pa.binary())})
    path = tmp_path / "large.csv"
    pacsv.write_csv(table.set_column(1, "text", table["text"].cast(pa.string())), path)
    assert path.stat().st_size > 2 * blocks.MARK_BYTES
    counted = shard(path).count(ReadOptions())
    assert counted.rows == len(texts)
    assert len(counted.marks) >= 3
    whole = pa.concat_tables(rows.table for rows in shard(path).rows(None, ReadOptions()))
    assert whole["text"].combine_chunks() == table["text"].combine_chunks()
    assert whole["id"].cast(pa.string()).cast(pa.int64()).to_pylist() == list(range(len(texts)))
    first = counted.marks[-1][0] - 5
    spans = [
        pa.concat_tables(
            r.table for r in shard(path).rows(["text"], ReadOptions(), Span(first, 10, *m))
        )
        for m in ((0, 0), counted.marks[-2])
    ]
    assert spans[0] == spans[1]
    assert spans[0]["text"].to_pylist() == texts[first : first + 10]


def test_a_span_is_read_from_its_mark():
    content = b"text\n" + b"a text of some length\n" * 2_000_000
    _, rows, marks = count(content)
    source = CountedFile(io.BytesIO(content), mode="r")
    span = Span(rows - 10, 10, *marks[-1])
    tail = list(csv_rows.read_csv(source, "some.csv", ["text"], ReadOptions(), span))
    assert sum(len(rows.numbers) for rows in tail) == 10
    assert source.total <= FIRST_CHUNK_BYTES + len(content) - marks[-1][1] + CHUNK_BYTES
