"""The benchmarks run, and what they compare does the same work."""

import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import sentiment
from tests.generated import save_checkpoint, texts_and_labels

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def run(name: str, *arguments: object) -> str:
    """What a benchmark prints."""
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{name}", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=BENCHMARKS.parent,
        # To test it and to measure in turns with others that run here are two things.
        env={name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"},
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.parametrize("name", sorted(path.stem for path in BENCHMARKS.glob("[a-z]*.py")))
def test_every_one_finds_what_it_imports(name):
    import_module(f"benchmarks.{name}")


def test_the_kernel_answers_as_keras_does_where_they_are_compared():
    *_, last = run("kernel", "--rows", 300, "--repeats", 1).splitlines()
    error = last.partition("largest difference from Keras: ")[2].split()[0]
    assert float(error) < 1e-6


def test_what_scoring_is_compared_with_does_its_work(tmp_path):
    save_checkpoint(tmp_path / "model")
    texts, _ = texts_and_labels(300)
    (tmp_path / "input").mkdir()
    pq.write_table(pa.table({"text": texts}), tmp_path / "input" / "shard.parquet")
    wanted = sentiment.load(str(tmp_path / "model")).predict(texts)
    paths = tmp_path / "model", tmp_path / "input"

    assert float(run("one_core", *paths, tmp_path / "one_core")) > 0
    found = pq.read_table(tmp_path / "one_core")
    np.testing.assert_array_equal(found["positive_probability"], wanted)

    run("docs_pattern", *paths, tmp_path / "docs_pattern")
    found = pq.read_table(tmp_path / "docs_pattern")
    np.testing.assert_allclose(
        sorted(found["positive_probability"].to_numpy()), sorted(wanted), atol=1e-6
    )
