"""The benchmarks accept the commands they show; what two of them compare does the same work."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import sentiment
from benchmarks import docs_pattern
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


SHOWN_COMMANDS = r"""
import importlib, re, shlex, sys
import tyro

for name in sys.argv[1:]:
    module = importlib.import_module(f"benchmarks.{name}")
    document = module.__doc__.replace("\\\n", " ")
    kinds = [kind for name, kind in vars(module).items() if re.search("Benchmark$|Config$", name)]
    (config,) = [kind for kind in kinds if kind.__module__ == module.__name__]
    for flags in re.findall(rf"^    python -m benchmarks\.{name}\b(.*)$", document, re.MULTILINE):
        if "..." not in flags:
            tyro.cli(config, args=shlex.split(flags), use_underscores=True)
            print(name, flags)
"""
"""Parses the commands in the docstrings of benchmarks, and prints them."""


@pytest.mark.process
def test_benchmarks_accept_the_commands_they_show():
    programs = sorted(
        path.stem
        for path in BENCHMARKS.glob("*.py")
        if re.search(r"command\.run\(|tyro\.cli\(", path.read_text())
    )
    # In another process: Keras and its like would stay.
    shown = subprocess.run(
        [sys.executable, "-c", SHOWN_COMMANDS, *programs],
        check=True,
        timeout=120,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert sorted({line.split()[0] for line in shown.stdout.splitlines()}) == programs


@pytest.mark.process
def test_the_kernel_answers_as_keras_does_where_they_are_compared():
    *_, last = run("kernel", "--rows", 300, "--repeats", 1).splitlines()
    error = last.partition("largest difference from Keras: ")[2].split()[0]
    assert float(error) < 1e-6


@pytest.fixture
def texts(tmp_path) -> pa.Table:
    """300 texts in `input/`, and a model in `model/`."""
    save_checkpoint(tmp_path / "model")
    texts, _ = texts_and_labels(300)
    table = pa.table({"id": range(len(texts)), "text": texts})
    (tmp_path / "input").mkdir()
    pq.write_table(table, tmp_path / "input" / "shard.parquet")
    return table


def require_answers(root: Path, output: str, texts: pa.Table, tolerance: float) -> None:
    """Those that the model in `model/` gives."""
    expected = sentiment.load(str(root / "model")).predict_proba(texts["text"].to_pylist())[:, 1]
    scored = pq.read_table(root / output).sort_by("id")
    assert scored["id"].to_pylist() == texts["id"].to_pylist()
    np.testing.assert_allclose(scored["positive_probability"], expected, rtol=0, atol=tolerance)
    answers = np.where(expected >= 0.5, "positive", "negative")
    assert scored["sentiment"].to_pylist() == answers.tolist()


@pytest.mark.process
def test_one_core_scores_every_text(tmp_path, texts):
    paths = [tmp_path / name for name in ("model", "input", "output")]
    assert float(run("one_core", *paths)) > 0
    require_answers(tmp_path, "output", texts, tolerance=0)


@pytest.mark.slow(20)
def test_the_pattern_of_the_documentation_scores_every_text(tmp_path, texts, local_ray):
    docs_pattern.main(*(str(tmp_path / name) for name in ("model", "input", "output")))
    require_answers(tmp_path, "output", texts, tolerance=1e-6)


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
