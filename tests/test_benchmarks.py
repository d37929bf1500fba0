"""The benchmarks can be imported; what two of them compare does the same work."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import sentiment
from benchmarks.score import ScoreBenchmark
from benchmarks.score import main as measure
from sentiment.checkpoint import Checkpoint, save
from sentiment.errors import InputError
from testing.generated import save_checkpoint, texts_and_labels

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def run(name: str, *arguments: object) -> str:
    """What a benchmark prints."""
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{name}", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=BENCHMARKS.parent,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def test_every_module_is_imported():
    # In another process: Keras and its like would stay.
    names = sorted(f"benchmarks.{path.stem}" for path in BENCHMARKS.glob("[a-z]*.py"))
    subprocess.run([sys.executable, "-c", f"import {', '.join(names)}"], check=True, timeout=120)


def test_the_kernel_answers_as_keras_does_where_they_are_compared():
    *_, last = run("kernel", "--rows", 300, "--repeats", 1).splitlines()
    error = last.partition("largest difference from Keras: ")[2].split()[0]
    assert float(error) < 1e-6


def test_what_scoring_is_compared_with_does_its_work(tmp_path):
    save_checkpoint(tmp_path / "model")
    texts, _ = texts_and_labels(300)
    (tmp_path / "input").mkdir()
    table = pa.table({"id": range(len(texts)), "text": texts})
    pq.write_table(table, tmp_path / "input" / "shard.parquet")
    wanted = sentiment.load(str(tmp_path / "model")).predict(texts)
    paths = tmp_path / "model", tmp_path / "input"

    assert float(run("one_core", *paths, tmp_path / "one_core")) > 0
    run("docs_pattern", *paths, tmp_path / "docs_pattern")
    for output, tolerance in (("one_core", 0), ("docs_pattern", 1e-6)):
        found = pq.read_table(tmp_path / output).sort_by("id")
        assert found["id"].to_pylist() == table["id"].to_pylist()
        np.testing.assert_allclose(found["positive_probability"], wanted, rtol=0, atol=tolerance)
        assert [answer == "positive" for answer in found["sentiment"].to_pylist()] == list(
            wanted >= 0.5
        )


def test_a_pattern_without_bigrams_is_not_measured_with_a_checkpoint_that_has_some(tmp_path):
    known = save_checkpoint(tmp_path / "model")
    rows = np.concatenate([known.weights["embedding"], np.ones((1, 5), "f4")])
    pair = f"{known.vocabulary[-2]} {known.vocabulary[-1]}"
    save(
        Checkpoint(known.weights | {"embedding": rows}, (*known.vocabulary, pair)),
        str(tmp_path / "pairs"),
    )
    config = ScoreBenchmark(str(tmp_path / "pairs"), str(tmp_path))
    with pytest.raises(InputError, match="has bigrams"):
        measure(config)
