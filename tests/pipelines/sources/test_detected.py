"""What shards tell of how to read them, where no flag does, is said: a line for all alike."""

import codecs

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.sources.detected import MAX_LINES, detected_in, detected_notes
from pipelines.sources.labelled import LabelledReader
from pipelines.sources.options import ReadOptions
from pipelines.sources.shard import Shard

TEXT = "déjà vu, öfter"
BY_MARK = "Decoded as {}, as a byte order mark says"
LIKE_UTF8 = "Decoded as {} by --encoding, but UTF-8 by the look of it"
QUOTED_AFTER_BLANK = (
    "Read with quotes after blanks as part of the texts, since the header has no blanks"
)
UTF8 = "".join(f"{i},{TEXT[:4]}\n" for i in range(9))


def shard(path, content: bytes) -> Shard:
    path.write_bytes(content)
    return Shard(str(path), len(content), 1)


def detected(path, content: bytes, **flags) -> list[str]:
    return detected_in(shard(path, content).count(ReadOptions(**flags)).schema)


@pytest.mark.parametrize(
    ("content", "flags", "lines"),
    [
        (b"a,b\n1,2\n", {}, []),
        (b"b\n1;2\n", {}, []),
        (codecs.BOM_UTF8 + b"a,b\n1,2\n", {}, []),
        (b"a;b\n1;2\n", {}, ["Read with ';' between columns, as the first line has it"]),
        (b"sep=|\na|b\n1|2\n", {}, ["Read with '|' between columns, as the first line has it"]),
        (b"a\tb\n1\t2\n", {}, ["Read with tab between columns, as the first line has it"]),
        (
            b"1;2\n",
            {"columns": ("a", "b")},
            ["Read with ';' between columns, as the first line has it"],
        ),
        (b"a;b\n1;2\n", {"delimiter": ";"}, []),
        (b"a, b\n1, 2\n", {}, ["Read without the blanks after delimiters, as the header has them"]),
        (b'a,b\n1, "x"\n2, "y, z"\n', {}, [QUOTED_AFTER_BLANK]),
        (b'a,b\n1, "x" he said\n2,y\n', {}, []),
        (b'a b\n1  "x"\n', {"delimiter": " "}, []),
        (b'a,b\n1, "x"\n', {"quote": "none"}, []),
        (codecs.BOM_UTF16_LE + "a,b\n1,é\n".encode("utf-16-le"), {}, [BY_MARK.format("utf-16-le")]),
        (codecs.BOM_UTF16_LE + "a,b\n".encode("utf-16-le"), {"encoding": "utf-16"}, []),
        (codecs.BOM_UTF8 + b"a,b\n", {"encoding": "utf-8-sig"}, []),
        (codecs.BOM_UTF8 + b"a,b\n", {"encoding": "cp1252"}, [BY_MARK.format("utf-8")]),
        (f"a,b\n{UTF8}".encode(), {"encoding": "cp1252"}, [LIKE_UTF8.format("cp1252")]),
        (f"a,b\n{UTF8}".encode(), {"encoding": "gbk"}, [LIKE_UTF8.format("gbk")]),
        (f"a,b\n{UTF8}".encode(), {}, []),
        (f"a,b\n{UTF8}".encode("cp1252"), {"encoding": "cp1252"}, []),
        (b"a,b\n1,2\n", {"encoding": "cp1252"}, []),
        ("a,b\n1,Hей, ё\n".encode("cp866"), {"encoding": "cp866"}, []),
        # Some rows are UTF-8, some are not.
        (
            f"a,b\n{UTF8}".encode() + UTF8.encode("cp1252"),
            {"encoding": "cp1252"},
            [LIKE_UTF8.format("cp1252")],
        ),
    ],
)
def test_what_was_detected_of_csv_is_told(tmp_path, content, flags, lines):
    assert detected(tmp_path / "a.csv", content, **flags) == lines


def test_other_formats_tell_their_encoding(tmp_path):
    for name, content in (("a.jsonl", '{"text":"é"}\n'), ("a.txt", "é\n")):
        utf16 = codecs.BOM_UTF16_BE + content.encode("utf-16-be")
        assert detected(tmp_path / name, content.encode()) == []
        assert detected(tmp_path / name, utf16) == [BY_MARK.format("utf-16-be")]
        assert detected(tmp_path / name, content.encode(), encoding="cp1252") == [
            LIKE_UTF8.format("cp1252")
        ]
    assert detected(tmp_path / "a.tsv", b"a\tb\n") == []


def test_a_quote_after_a_blank_is_named_where_it_costs_a_row(tmp_path):
    read = shard(tmp_path / "a.csv", b'id,text\n1, "a, b"\n2,c,d\n3, "e"\n')
    (rows,) = read.rows(["text"], ReadOptions())
    assert rows.table["text"].to_pylist() == [b' "e"']
    assert [row.reason for row in rows.bad] == [
        "3 fields where the header has 2; a quote after a blank is part of the text",
        "3 fields where the header has 2",
    ]


def test_shards_that_are_read_alike_have_a_line_together():
    many = {f"Read {i}": (1, "a.csv") for i in range(MAX_LINES + 3)}
    assert detected_notes(many)[-1] == "3 more ways in which shards were read"
    assert detected_notes({"Read so": (1200, "a.csv"), "Or so": (1, "b.csv")}) == [
        "Read so: 1,200 shards (a.csv, ...)",
        "Or so: 1 shard (b.csv)",
    ]


def test_training_and_evaluation_tell_what_their_shards_do(tmp_path):
    shards = [shard(tmp_path / f"{i}.csv", b"text;label\na;1\n") for i in range(2)]
    shards.append(shard(tmp_path / "2.csv", b"text,label\na,1\n"))
    shards.append(shard(tmp_path / "3.csv", b""))
    pq.write_table(pa.table({"text": ["a"], "label": [1]}), tmp_path / "4.parquet")
    shards.append(Shard(str(tmp_path / "4.parquet"), 1, 1))
    reader = LabelledReader("text", "label")
    line = "Read with ';' between columns, as the first line has it"
    assert reader.detected(shards) == [f"{line}: 2 shards ({shards[0].path}, ...)"]
    assert reader.detected(shards[2:]) == []
