"""JSON lines: the rows that Python's json module reads, for any bytes, chunk size and span."""

import itertools
import json
import math

import pyarrow as pa
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pipelines.errors import BadShard
from pipelines.sources import _json_scan, blocks, decoding
from pipelines.sources.json_lines import count_json_lines, json_lines_schema, read_json_lines
from pipelines.sources.options import ReadOptions
from pipelines.sources.rows import Span
from testing.properties import examples

KEYS = st.sampled_from(["text", "id", "a", "b", "a.b", "é", 'q"', "a b", ""])
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12)
VALUES = st.recursive(
    SCALARS,
    lambda values: st.lists(values, max_size=3) | st.dictionaries(KEYS, values, max_size=3),
    max_leaves=6,
)
ROWS = st.dictionaries(KEYS, VALUES, max_size=5)
# Bytes that are special in JSON, and some that are invalid UTF-8.
PIECES = st.text('{}[]":,\\ \t\n\r0123456789.eE+-truefalsnubNaIiy/\x01\x80\xc3\xa9', max_size=12)
SIZES = st.integers(1, 64)
NAMES = ["text", "id", "a", "b", "a.b", "é"]


def read(content, columns, optional=(), span=None, chunk=decoding.CHUNK_BYTES, encoding="utf-8"):
    """Good rows by number, and malformed rows as (number, reason, bytes)."""
    good, bad = {}, []
    source, options = pa.BufferReader(content), ReadOptions(encoding=encoding)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decoding, "CHUNK_BYTES", chunk)
        patch.setattr(blocks, "MARK_BYTES", 0)
        for rows in read_json_lines(source, "a.jsonl", columns, options, span, optional):
            assert rows.table.column_names == list(dict.fromkeys([*columns, *optional]))
            fields = zip(*(column.to_pylist() for column in rows.table.columns), strict=True)
            good |= dict(zip(rows.numbers.tolist(), map(list, fields), strict=True))
            bad += [(row.number, row.reason, row.raw) for row in rows.bad]
    return good, bad


def count(content, fields=(), chunk=decoding.CHUNK_BYTES):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decoding, "CHUNK_BYTES", chunk)
        patch.setattr(blocks, "MARK_BYTES", 0)
        options = ReadOptions(fields=tuple(fields))
        return count_json_lines(pa.BufferReader(content), "a.jsonl", options)


def expected(row: dict, name: str):
    """A value as it is read: None, text, number or JSON."""
    value = row.get(name)
    if name not in row and name == "a.b" and isinstance(row.get("a"), dict):
        value = row["a"].get("b")
    is_nan = isinstance(value, float) and math.isnan(value)
    return None if is_nan else value


def same(read_value: bytes | None, value) -> bool:
    """Whether a value is read as what Python knows it as."""
    if value is None or read_value is None:
        return value is None and read_value is None
    if isinstance(value, str):
        return read_value == value.encode("utf-8", "surrogatepass")
    return json.dumps(json.loads(read_value)) == json.dumps(value)


@examples(150)
@given(
    st.lists(ROWS, min_size=1, max_size=6), st.booleans(), SIZES, st.sampled_from(["\n", "\r\n"])
)
def test_every_row_is_read_as_python_reads_it(rows, ascii_only, chunk, newline):
    lines = [json.dumps(row, ensure_ascii=ascii_only) for row in rows]
    content = newline.join(lines).encode("utf-8", "surrogatepass")
    good, bad = read(content, [], NAMES, chunk=chunk)
    assert not bad
    assert list(good) == list(range(1, len(rows) + 1))
    for number, row in enumerate(rows, 1):
        for name, value in zip(NAMES, good[number], strict=True):
            assert same(value, expected(row, name)), (row, name, value)


@examples(300)
@given(st.lists(PIECES, max_size=8), SIZES)
def test_a_line_is_malformed_if_python_says_so(pieces, chunk):
    content = "".join(pieces).encode("latin-1")
    first = content.split(maxsplit=1)[:1]
    assume(not first or (first[0][:1] != b"[" and first[0] != b"{"))
    good, bad = read(content, [], ["a"], chunk=chunk)
    lines = [line for line in content.replace(b"\r", b"\n").split(b"\n") if line.strip(b" \t")]
    numbers = [*good, *(number for number, _, _ in bad)]
    assert sorted(numbers) == list(range(1, len(lines) + 1))
    assert count(content, chunk=chunk).rows == len(lines)
    for number, line in enumerate(lines, 1):
        try:
            # Latin-1, so that bytes that are not UTF-8 are no error of JSON.
            is_good = isinstance(json.loads(line.decode("latin-1")), dict)
        except (ValueError, RecursionError):
            is_good = False
        assert (number in good) == is_good, line
    assert all(raw.strip(b" \t") == lines[number - 1].strip(b" \t") for number, _, raw in bad)


@examples(60)
@given(st.lists(ROWS | PIECES, max_size=10), SIZES, st.data())
def test_spans_give_the_same_rows_as_the_whole_file(rows, chunk, data):
    lines = ["{}", *(json.dumps(row) if isinstance(row, dict) else row for row in rows)]
    content = "\n".join(lines).encode("utf-8", "replace")
    counted = count(content, chunk=chunk)
    assert counted.rows == count(content).rows
    cuts = data.draw(st.sets(st.integers(0, counted.rows), max_size=4))
    edges = sorted({0, counted.rows} | cuts)
    good, bad = {}, []
    for first, last in itertools.pairwise(edges):
        before = [mark for mark in counted.marks if mark[0] <= first] + [(0, 0)]
        span = Span(first, last - first, *data.draw(st.sampled_from(before)))
        span_good, span_bad = read(content, ["text"], span=span, chunk=data.draw(SIZES))
        good |= span_good
        bad += span_bad
    assert (good, bad) == read(content, ["text"])


def test_the_columns_are_the_keys_in_order():
    content = b'{"id":1,"text":"a"}\n{"text":"b","x":{"y":[1]},"caf\\u00e9":2}\n{}\n'
    names = ["id", "text", "x", "café"]
    assert count(content).schema == pa.schema([(name, pa.string()) for name in names])
    fields = ("x.y", "x.z", "text")
    assert count(content, fields).schema.names == [*names, "x.y"]
    options = ReadOptions(fields=("text",))
    schema = json_lines_schema(pa.BufferReader(content * 2), "a.jsonl", options)
    assert schema.names == names
    late = b'{"text":"a"}\n' * 200_000 + b'{"text":"b","late":1}\n'
    for asked, found in ((("text",), ["text"]), (("text", "late"), ["text", "late"])):
        schema = json_lines_schema(pa.BufferReader(late), "a.jsonl", ReadOptions(fields=asked))
        assert schema.names == found


def test_a_field_may_have_another_type_in_each_row():
    content = b'{"id":1,"text":"a"}\n{"id":"x","text":5}\n{"id":1.50,"text":null}\n{"id":true}\n'
    good, bad = read(content, ["text"], ["id"])
    assert list(good.values()) == [[b"a", b"1"], [b"5", b"x"], [None, b"1.50"], [None, b"true"]]
    assert not bad


def test_nan_is_null_as_pandas_writes_missing_values():
    content = b'{"text":NaN,"id":"NaN"}\n{"text":[NaN],"id":-Infinity}\n'
    assert read(content, [], ["text", "id"])[0] == {1: [None, b"NaN"], 2: [b"[NaN]", b"-Infinity"]}


def test_the_last_of_a_repeated_key_counts():
    content = b'{"a":{"b":1},"a":{"c":2},"text":"x","text":"y"}\n{"a.b":3,"a":{"b":4}}'
    good, _ = read(content, [], ["text", "a.b", "a"])
    assert good == {1: [b"y", None, b'{"c":2}'], 2: [None, b"3", b'{"b":4}']}


def test_a_text_that_is_an_object_or_a_list_is_rejected():
    content = b'{"text":{"a":1}}\n{"text":["a"]}\n{"text":"a","id":[1]}\n'
    good, bad = read(content, ["text"], ["id"])
    assert good == {3: [b"a", b"[1]"]}
    reason = "text is an object or a list, not a text"
    assert bad == [(1, reason, b'{"text":{"a":1}}'), (2, reason, b'{"text":["a"]}')]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'["a"]', "the line is not a JSON object"),
        (b"5", "the line is not a JSON object"),
        (b'{"text":"a"', "the line is not valid JSON: its end is missing"),
        (b'{"text":"a"} x', "the line is not valid JSON"),
        (b"{'text':'a'}", "the line is not valid JSON"),
        (b'{"text":' + 600 * b"[" + 600 * b"]" + b"}", "more than 500 objects or lists are inside"),
    ],
)
def test_a_malformed_line_is_one_row_with_its_bytes(line, reason):
    content = b'{"text":"a"}\n\n' + line
    good, ((number, said, raw),) = read(content, ["text"])
    assert (good, number, raw) == ({1: [b"a"]}, 2, line)
    assert said.startswith(reason)


def test_half_a_surrogate_pair_is_not_utf8():
    good, _ = read(b'{"text":"\\ud83d\\ude00"}\n{"text":"\\ud83d x"}', ["text"])
    assert good[1] == ["😀".encode()]
    with pytest.raises(UnicodeDecodeError):
        good[2][0].decode()


@pytest.mark.parametrize(
    "content",
    [
        b'[\n{"text":"a"}\n]\n',
        b'{\n "text": "a"\n}\n',
        b'[{"a":1}]',
        b'{ "id": 0,\n "text": "a"\n}\n',
        b'{"text": "a",\n"id": 0}',
    ],
)
def test_one_json_document_is_refused(content):
    for use in (lambda: read(content, ["text"]), lambda: count(content)):
        with pytest.raises(BadShard, match=r"a\.jsonl is one JSON document, not JSON lines: .* jq"):
            use()


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"id,text,label\n1,good,1\n", r"is it CSV\? Then name it \.csv"),
        (b"{'text':'a'}\n{'text':'b'}\n", "of the first one, the line is not valid JSON"),
        (b'{"id":1', "of the first one, the line is not valid JSON: its end is missing"),
        (b'{"id":1},\n{"id":2},\n', "of the first one, the line is not valid JSON"),
    ],
)
def test_a_file_without_any_object_is_said_to_have_none(content, why):
    options = ReadOptions(fields=("text",))
    for use in (count_json_lines, json_lines_schema):
        with pytest.raises(BadShard, match=rf"a\.jsonl: no line is a JSON object: {why}"):
            use(pa.BufferReader(content), "a.jsonl", options)


def test_malformed_lines_that_name_the_column_are_rows():
    for content in (b'{"text":"a"', b'{"text":"a",', b'{"text":"a"} x\n{"text":', b'{"text":"a"},'):
        assert count(content, ["text"]).schema.names == ["text"]
        good, bad = read(content, ["text"])
        assert not good
        assert len(bad) == count(content).rows


def test_files_without_rows_lack_no_column():
    for content in (b"", b"\n \r\n", b"\xef\xbb\xbf"):
        counted = count(content, ["text", "id"])
        assert (counted.rows, counted.schema.names) == (0, ["text"])
        assert read(content, ["text"]) == ({}, [])


def test_other_encodings():
    content = '{"text":"é"}\n'
    for encoding in ("utf-16", "utf-8-sig", "utf-32"):
        assert read(content.encode(encoding), ["text"]) == ({1: ["é".encode()]}, [])
    latin = content.encode("latin-1")
    assert read(latin, ["text"], encoding="latin-1") == ({1: ["é".encode()]}, [])
    assert read(latin, ["text"])[0] == {1: [b"\xe9"]}


def test_too_many_keys_are_refused(monkeypatch):
    content = b"\n".join(b'{"text":"a","k%d":1}' % i for i in range(_json_scan.MAX_COLUMNS + 1))
    with pytest.raises(BadShard, match="columns; at most 10,000 are read"):
        count(content)
