"""What scoring makes of every kind of malformed shard, row by row."""

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.parquet as pq
import pytest

from pipelines.errors import Failure
from pipelines.scoring.final_lines import MAX_UNREADABLE_SHOWN
from pipelines.scoring.job import main
from testing.generated import save_checkpoint
from tests.pipelines.scoring.test_score import HEAD, config, contents, parquet


def text(*values: object, kind: pa.DataType | None = None) -> bytes:
    return parquet(id=pa.array([str(i) for i in range(len(values))]), text=pa.array(values, kind))


def damaged(content: bytes) -> bytes:
    """A Parquet file whose footer reads and whose pages do not."""
    return content[:4] + b"\xff" * 40 + content[44:]


WORDS = b"lovely great word1 word2 word3"

# Of each shard: its bytes, how many of its rows are scored, and what is rejected: the number of
# the row (None: all of the shard) and what the reason says.
KINDS = {
    "plain.csv": (HEAD + b"1,hi\n2,you\n", 2, []),
    "short row.csv": (HEAD + b"1,hi\n2\n3,you\n", 2, [(2, "1 field where the header has 2")]),
    "long row.csv": (HEAD + b"1,hi,you\n2,you\n", 1, [(1, "3 fields where the header has 2")]),
    "blank lines.csv": (HEAD + b"\n\n1,hi\n\n\n2,you\n\n", 2, []),
    "latin-1 text.csv": (HEAD + b"1,caf\xe9\n2,you\n", 1, [(1, "UTF-8; pass --encoding")]),
    "latin-1 column.csv": (HEAD + b"\xe9,hi\n2,you\n", 1, [(1, "column 'id' is not valid")]),
    "overlong.csv": (HEAD + b"1,\xc0\xaf\n2,\xed\xa0\x80\n", 0, [(1, "UTF-8"), (2, "UTF-8")]),
    "open quote.csv": (HEAD + b'1,hi\n2,"you\n3,he\n', 1, [(2, "a quote is not closed")]),
    "quoted newlines.csv": (HEAD + b'1,"hi\n\r\nyou"\n2,"a ""b"" c"\n', 2, []),
    "quote inside.csv": (HEAD + b'1,hi "you" there\n', 1, []),
    "crlf.csv": (HEAD.replace(b"\n", b"\r\n") + b"1,hi\r\n2,you\r\n", 2, []),
    "cr.csv": (HEAD.replace(b"\n", b"\r") + b"1,hi\r2,you\r", 2, []),
    "byte order mark.csv": (b"\xef\xbb\xbf" + HEAD + b"1,hi\n", 1, []),
    "no newline at the end.csv": (HEAD + b"1,hi\n2,you", 2, []),
    "no rows.csv": (HEAD, 0, []),
    "nothing.csv": (b"", 0, [(None, "is empty")]),
    "utf-16.csv": ("id,text\n1,hi\n".encode("utf-16"), 1, []),
    "utf-16 without mark.csv": ("id,text\n1,hi\n".encode("utf-16-le"), 0, [(None, "NUL bytes")]),
    "another column.csv": (b"id,words\n1,hi\n", 0, [(None, "its columns: id, words")]),
    "column twice.csv": (b"id,text,text\n1,hi,you\n", 0, [(None, "more than one column 'text'")]),
    "nul.csv": (HEAD + b"1,h\0i\n", 1, []),
    "empty text.csv": (HEAD + b'1,\n2,""\n', 2, []),
    "formula and html.csv": (HEAD + b"1,=1+1\n2,<script>alert(1)</script>\n", 2, []),
    "a megabyte.csv": (HEAD + b"1," + WORDS * 40_000 + b"\n2,hi\n", 2, []),
    "compressed.csv.gz": (gzip.compress(HEAD + b"1,hi\n2\n"), 1, [(2, "1 field")]),
    "cut.csv.gz": (gzip.compress(HEAD + b"1,hi\n" * 99)[:-12], 0, [(None, "cannot be read")]),
    "no gzip.csv.gz": (HEAD + b"1,hi\n", 0, [(None, "is not gzip")]),
    "plain.parquet": (text("hi", "you"), 2, []),
    "null.parquet": (text("hi", None, "you"), 2, [(2, "the text is null")]),
    "all null.parquet": (text(None, None, kind=pa.null()), 0, [(1, "is null"), (2, "is null")]),
    "no rows.parquet": (text(kind=pa.string()), 0, []),
    "numbers.parquet": (text(1, 2), 0, [(None, "column 'text' is int64, not text")]),
    "lists.parquet": (text(["hi"], ["you"]), 0, [(None, "not text")]),
    "dictionary.parquet": (
        text("hi", "hi", kind=pa.dictionary(pa.int32(), pa.string())),
        2,
        [],
    ),
    "large.parquet": (text("hi", "you", kind=pa.large_string()), 2, []),
    "bytes.parquet": (text(b"hi", b"\xff", kind=pa.binary()), 1, [(2, "not valid UTF-8")]),
    "cut.parquet": (text("hi", "you")[:-9], 0, [(None, "cannot be read as Parquet")]),
    "no parquet.parquet": (HEAD + b"1,hi\n", 0, [(None, "cannot be read as Parquet")]),
    "damaged page.parquet": (damaged(text("hi", "you")), 0, [(None, "cannot be read as Parquet")]),
}


@pytest.fixture(scope="module")
def malformed(tmp_path_factory, local_ray):
    root = tmp_path_factory.mktemp("malformed")
    save_checkpoint(root / "model")
    (root / "corpus").mkdir()
    for name, (content, _, _) in KINDS.items():
        (root / "corpus" / name).write_bytes(content)
    main(config(root, max_rejected="100%"))
    return root


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_shard_is_scored_or_rejected_row_by_row(malformed, name):
    _, scored, expected = KINDS[name]
    rejected = pads.dataset(malformed / "scored" / "_rejected").to_table().to_pylist()
    here = [row for row in rejected if Path(row["shard"]).name == name]
    assert len(here) == len(expected)
    for row, (number, reason) in zip(here, expected, strict=True):
        assert row["row"] == number
        assert reason in row["reason"]
    # A part of several shards says of each how many rows it planned to read.
    pieces = [
        piece
        for part in (malformed / "scored").glob("*.parquet")
        for piece in json.loads(pq.read_metadata(part).metadata[b"sentiment.part"])["pieces"]
        if Path(piece[0]).name == name
    ]
    planned = sum(rows for _, _, rows in pieces)
    lost = planned if None in [number for number, _ in expected] else len(expected)
    assert planned - lost == scored


def test_rejected_rows_keep_their_bytes(malformed):
    rejected = pads.dataset(malformed / "scored" / "_rejected").to_table().to_pylist()
    raw = {(Path(row["shard"]).name, row["row"]): row["raw"] for row in rejected}
    assert raw["latin-1 text.csv", 1] == b"caf\xe9"
    assert raw["short row.csv", 2] == b"2"
    assert raw["open quote.csv", 2] == b'2,"you\n3,he\n'
    assert raw["null.parquet", 2] is None


def test_every_row_of_a_malformed_corpus_is_accounted_for(malformed):
    table = pads.dataset(malformed / "scored", format="parquet").to_table()
    totals = json.loads((malformed / "scored" / "_SUCCESS").read_text())
    assert len(table) == sum(scored for _, scored, _ in KINDS.values()) == totals["rows"]
    assert totals["truncated"] == 1
    assert table["positive_probability"].null_count == 0


def test_too_many_rejected_rows_are_no_success(malformed, tmp_path, local_ray, capsys):
    output = tmp_path / "scored"
    for most in ("3", "1%", "99%"):
        with pytest.raises(Failure) as failure:
            main(config(malformed, output=str(output), max_rejected=most))
        message = str(failure.value)
        assert "could not be read: see _rejected/" in message
        assert (f"more than --max_rejected {most}" in message) == (most != "99%")
        assert message.endswith("or accept it, once, by --max_rejected 100%; all else is done")
        assert not (output / "_SUCCESS").exists()
        # All else is done, and the report shows the reasons.
        assert contents(output).keys() == contents(malformed / "scored").keys() - {"_SUCCESS"}
        assert "1 field where the header has 2" in (output / "_manifest/report.html").read_text()
    said = capsys.readouterr().out
    assert said.count("Scoring") == 1
    unreadable = pq.read_table(output / "_rejected" / "shards.parquet").to_pylist()
    named = [line for line in said.splitlines() if line.startswith("Not read: ")]
    assert len(named) == 3 * (MAX_UNREADABLE_SHOWN + 1)
    for line, row in zip(named, unreadable[:MAX_UNREADABLE_SHOWN], strict=False):
        assert row["shard"] in line
    assert named[-1] == f"Not read: {len(unreadable) - MAX_UNREADABLE_SHOWN} more shards"
    main(config(malformed, output=str(output), max_rejected="100%"))
    assert unreadable[0]["reason"] in capsys.readouterr().out
    main(config(malformed, output=str(output), quiet=True))
    said = capsys.readouterr().out
    assert unreadable[0]["reason"] in said
    assert "Nothing to do" in said
    assert contents(output) == contents(malformed / "scored")


@pytest.mark.parametrize(("limit", "is_success"), [("1", False), ("24%", False), ("2", True)])
def test_the_flag_that_accepts_rejected_rows_is_named(tmp_path, limit, is_success):
    save_checkpoint(tmp_path / "model")
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "a.csv").write_bytes(HEAD + b"1,a\n2\n3,b\n4\n5,c\n6,d\n7,e\n8,f\n")
    if is_success:
        main(config(tmp_path, max_rejected=limit))
    else:
        with pytest.raises(
            Failure,
            match=r"2 of 8 new rows were .*accept it, once, by --max_rejected 25%",
        ):
            main(config(tmp_path, max_rejected=limit))
        main(config(tmp_path, max_rejected="25%"))
    assert (tmp_path / "scored" / "_SUCCESS").exists()
