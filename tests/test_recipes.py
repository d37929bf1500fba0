"""Every block of docs/recipes.md, run as it stands there."""

import io
import os
import re
import subprocess
import sys
from contextlib import redirect_stdout
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.sources.labelled import LabelledReader
from pipelines.sources.listing import find_labelled
from sentiment.errors import InputError
from sentiment.text.tokenizer import Tokenizer
from testing.generated import save_checkpoint, texts_and_labels

ROOT = Path(__file__).parents[1]
DOCUMENT = (ROOT / "docs" / "recipes.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", DOCUMENT, re.MULTILINE | re.DOTALL)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The working directory that the document speaks of."""
    monkeypatch.chdir(tmp_path)
    save_checkpoint(tmp_path / "checkpoints" / "tweets")
    texts, _ = texts_and_labels(600)
    texts[5] = None
    users = [("ann", "bob", "eve")[number % 3] for number in range(600)]
    corpus = pa.table({"id": range(600), "user": users, "text": texts})
    (tmp_path / "texts").mkdir()
    for number, name in enumerate(("monday", "tuesday", "wednesday")):
        pq.write_table(corpus.slice(200 * number, 200), tmp_path / "texts" / f"{name}.parquet")
    # A program of this checkout, found as a user finds an installed one.
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    python = f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} "$@"\n'
    (tmp_path / ".venv" / "bin" / "python").write_text(python)
    (tmp_path / ".venv" / "bin" / "python").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / '.venv' / 'bin'}{os.pathsep}{os.environ['PATH']}")
    return tmp_path


def shell(command: str, directory: Path) -> str:
    done = subprocess.run(
        ["sh", "-ec", command],
        cwd=directory,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.mark.process
def test_every_block_runs_and_prints_what_stands_below_it(here):
    printed = ""
    for language, block in BLOCKS:
        if language == "sh":
            printed = shell(block, here)
        elif language == "cron":
            *times, command = block.split(maxsplit=5)
            assert len(times) == 5
            assert "%" not in command
            assert block.count("\n") == 1
            shell(command.replace("/srv/tweets", str(here)), here)
            printed = (here / "scoring.log").read_text()
        elif language == "python":
            out = io.StringIO()
            with redirect_stdout(out):
                exec(compile(block, "docs/recipes.md", "exec"), {})
            printed = out.getvalue()
        elif language == "text":
            # What share is positive depends on the model, and the seconds on the machine.
            said, wanted = (
                re.sub(r"[\d.]+(% positive| s$)", r"\1", s, flags=re.MULTILINE)
                for s in (printed, block)
            )
            assert said == wanted or (block.startswith("\n") and said.endswith(wanted))
        else:
            assert language == ""
    assert "Scoring 2 rows in 1 part (1 are there) ..." in (here / "scoring.log").read_text()
    assert pq.read_metadata("joined.parquet").num_rows == 599


@pytest.mark.parametrize(
    ("rows", "said"), re.findall(r"^\| (.+?) \| `(reviews\.csv.+)` \|$", DOCUMENT, re.MULTILINE)
)
def test_what_cannot_be_learnt_from_is_refused_as_it_says(tmp_path, rows, said):
    contents = {
        "`liked` is 2": b"1,hi\n2,hi\n",
        "`liked` is `yes`": b"1,hi\nyes,hi\n",
        "`liked` is empty": b"1,hi\n,hi\n",
        "a row lacks a field": b"1,hi\n1\n",
        "a text in Latin-1": b"1,hi\n1,caf\xe9\n",
    }
    (tmp_path / "reviews.csv").write_bytes(b"liked,review\n" + contents[rows])
    (shard,) = find_labelled(str(tmp_path), "--data_dir")
    with pytest.raises(InputError) as caught:
        list(LabelledReader("review", "liked", "utf-8").read(shard, Tokenizer().tokens))
    assert str(caught.value) == f"{tmp_path}/{said}"


def test_what_it_says_of_labels_is_so(tmp_path):
    content = "liked,review\n0,a\n1.0,a\nTrue,a\nFalse,a\n1,\n"
    (tmp_path / "reviews.csv").write_text(content)
    (shard,) = find_labelled(str(tmp_path), "--data_dir")
    for table in (None, pa.table({"liked": [False, True], "review": ["a", ""]})):
        if table:
            pq.write_table(table, tmp_path / "reviews.parquet")
            (_, shard) = find_labelled(str(tmp_path), "--data_dir")
        read = LabelledReader("review", "liked", "utf-8").read(shard, Tokenizer().tokens)
        assert [rows.labels.tolist() for rows in read] in ([[0, 1, 1, 0, 1]], [[0, 1]])
