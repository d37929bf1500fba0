"""Plain text: a line is a row, as Python's universal newlines divide it."""

import io
import itertools

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.errors import BadShard
from pipelines.sources import blocks, decoding
from pipelines.sources.options import ReadOptions
from pipelines.sources.rows import Span
from pipelines.sources.text import count_text, read_text
from testing.properties import examples

SIZES = st.integers(1, 32)


def read(content, span=None, chunk=decoding.CHUNK_BYTES):
    texts = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decoding, "CHUNK_BYTES", chunk)
        patch.setattr(blocks, "MARK_BYTES", 0)
        source = pa.BufferReader(content)
        for rows in read_text(source, "a.txt", ["text"], ReadOptions(), span):
            texts |= dict(zip(rows.numbers.tolist(), rows.table["text"].to_pylist(), strict=True))
    return texts


@examples(150)
@given(st.text('ab\n\r,"\t\x80é', max_size=40), SIZES, st.data())
def test_lines_are_those_of_python(text, chunk, data):
    lines = [line.removesuffix("\n").encode() for line in io.StringIO(text, newline=None)]
    content = text.encode()
    assert read(content, chunk=chunk) == dict(enumerate(lines, 1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decoding, "CHUNK_BYTES", chunk)
        patch.setattr(blocks, "MARK_BYTES", 0)
        counted = count_text(pa.BufferReader(content), "a.txt", ReadOptions())
    assert counted.rows == len(lines)
    edges = sorted({0, len(lines)} | data.draw(st.sets(st.integers(0, len(lines)), max_size=3)))
    texts = {}
    for first, last in itertools.pairwise(edges):
        before = [mark for mark in counted.marks if mark[0] <= first] + [(0, 0)]
        span = Span(first, last - first, *data.draw(st.sampled_from(before)))
        texts |= read(content, span, chunk=data.draw(SIZES))
    assert texts == dict(enumerate(lines, 1))


def test_another_column_is_refused():
    with pytest.raises(BadShard, match=r"a\.txt has no column 'body'; .*its columns: text"):
        list(read_text(pa.BufferReader(b"a\n"), "a.txt", ["body"], ReadOptions()))


def test_utf16_without_a_byte_order_mark_is_named():
    with pytest.raises(BadShard, match=r"NUL bytes.*utf-16-le"):
        read("a\nb\n".encode("utf-16-le"))
    assert read("à\nb\n".encode("utf-16")) == {1: "à".encode(), 2: b"b"}
