"""Every block of docs/recipes.md, run as it stands there."""

import io
import os
import re
import shutil
import subprocess
import sys
from contextlib import redirect_stdout
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import sentiment
from pipelines.sources.labelled import LabelledReader
from pipelines.sources.listing import find_labelled
from pipelines.sources.pieces import ShardPiece
from pipelines.sources.split import Split
from pipelines.training.cache_steps import count_piece
from pipelines.training.corpus_classes import CorpusClasses, decide_classes
from sentiment.errors import InputError
from sentiment.text.tokenizer import Tokenizer
from testing.generated import save_checkpoint, texts_and_labels
from testing.programs import undated

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
    # Where Ray runs, Daft would run on it, in another working directory.
    monkeypatch.setenv("DAFT_RUNNER", "native")
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
def test_every_block_runs_and_prints_what_stands_below_it(here, local_ray):
    printed = ""
    for language, block in BLOCKS:
        if language == "sh":
            # Said only of what takes seconds on this machine.
            printed = re.sub(
                r"^(Compiling|Listing|Loading|Starting|Workers|Writing) .* \.\.\.\n",
                "",
                shell(block, here),
                flags=re.MULTILINE,
            )
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
            # The share of positive depends on the model, the seconds on the machine. A command on
            # a terminal shows no dates; here it writes to a pipe.
            said, wanted = (
                re.sub(r"[\d.]+(% (?:negative|positive)| s$)", r"\1", s, flags=re.MULTILINE)
                for s in (undated(printed), undated(block))
            )
            assert said == wanted or (block.startswith("\n") and said.endswith(wanted))
        else:
            assert language == ""
    assert "Scoring 2 rows in 1 part (1 are there) ..." in (here / "scoring.log").read_text()
    assert pq.read_metadata("joined.parquet").num_rows == 599
    corpus = pq.read_table(sorted(Path("texts").glob("*.parquet")))
    # Other engines give the bits of `score`, and null for the text that it rejects.
    expected = sentiment.Scorer("checkpoints/tweets")(corpus.sort_by("id"))
    for path in ("scored_by_ray", "scored_by_duckdb.parquet", "scored_by_daft"):
        found = pq.read_table(path).sort_by("id")
        for name in ("id", "user", "positive_probability", "sentiment"):
            assert found[name].to_pylist() == expected[name].to_pylist()


SPARK = """
import sys
from pyspark.sql import SparkSession

spark = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false").getOrCreate()
exec(compile(sys.argv[1], "docs/recipes.md", "exec"), globals())
probabilities = texts.select("id", predict("text").alias("probabilities"))
probabilities.write.parquet("probabilities_by_spark")
spark.stop()
"""


@pytest.mark.process
@pytest.mark.skipif(shutil.which("java") is None, reason="Spark needs Java")
def test_spark_gives_the_bits_of_score(here, monkeypatch):
    monkeypatch.setenv("PYSPARK_PYTHON", sys.executable)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("SPARK_LOCAL_IP", "127.0.0.1")
    (block,) = [block for _, block in BLOCKS if "from pyspark" in block]
    done = subprocess.run(
        [sys.executable, "-c", SPARK, block], capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr
    corpus = pq.read_table(sorted(Path("texts").glob("*.parquet")))
    expected = sentiment.Scorer("checkpoints/tweets")(corpus.sort_by("id"))
    found = pq.read_table("scored_by_spark").sort_by("id")
    assert found.to_pydict() == expected.select(found.column_names).to_pydict()
    shown = pq.read_table("probabilities_by_spark").sort_by("id")["probabilities"].to_pylist()
    wanted = expected["positive_probability"].to_pylist()
    assert [each[1] for each in shown if each[1] == each[1]] == [p for p in wanted if p is not None]


def counted(directory: Path) -> CorpusClasses:
    """The classes of a corpus, or the error that training ends with."""
    reader = LabelledReader("review", "liked")
    shards = find_labelled(str(directory), "--data_dir").shards
    pieces = map(ShardPiece.whole, shards)
    counts = [count_piece(piece, reader, Tokenizer(), Split(0, 0.2)) for piece in pieces]
    return decide_classes(counts, reader, "1%")


@pytest.mark.parametrize(
    ("rows", "said"),
    re.findall(r"^\| (.+?) \| `(reviews\..+|--label_column.+)` \|$", DOCUMENT, re.MULTILINE),
)
def test_what_cannot_be_learnt_from_is_refused_as_it_says(tmp_path, rows, said):
    contents = {
        "a row lacks a field": b"1,hi\n1\n",
        "a text in Latin-1": b"1,hi\n0,caf\xe9\n",
        "one only": b"1,hi\n1,hi\n",
        "none": b",hi\n",
    }
    if rows == "a text is null":
        table = pa.table({"liked": [1, 0], "review": ["hi", None]})
        pq.write_table(table, tmp_path / "reviews.parquet")
    else:
        (tmp_path / "reviews.csv").write_bytes(b"liked,review\n" + contents[rows])
    with pytest.raises(InputError, match=re.escape(said)):
        counted(tmp_path)


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        ("0 1.0 True FALSE no Positive", ("negative", "positive")),
        ("-1 1", ("negative", "positive")),
        ("0 4.0", ("negative", "positive")),
        ("10 9.0 b A", ("9", "10", "a", "b")),
    ],
)
def test_what_it_says_of_labels_is_so(tmp_path, labels, classes):
    rows = "".join(f"{label},hi\n" for label in labels.split())
    (tmp_path / "reviews.csv").write_text(f"liked,review\n{rows}")
    assert counted(tmp_path).names == classes
