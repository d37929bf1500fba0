"""The wheel, installed without extras into an empty environment, works outside the clone."""

import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from testing.generated import save_checkpoint, write_shards

ROOT = Path(__file__).parents[1]
MAX_INSTALLED_BYTES = 700 * 2**20
SCORING = ("--checkpoints_dir", "model", "--input", "corpus", "--output", "scored")
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check"]

pytestmark = [
    *(pytest.mark.registry, pytest.mark.process, pytest.mark.ray),
    *(pytest.mark.slow(60), pytest.mark.timeout(600)),
]


def call(*words: object, cwd: Path, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [*map(str, words)], cwd=cwd, capture_output=True, text=True, timeout=500, check=False
    )
    assert done.returncode == code, f"{done.stdout}\n{done.stderr}"
    return done


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """A directory with a model, a corpus, and an environment that has the wheel in `env`."""
    home, source = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("source")
    # A build writes beside the sources.
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in ("pipelines", "sentiment"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, source / name, ignore=ignored)
    call(*PIP, "wheel", "-q", "--no-deps", "--wheel-dir", home, source, cwd=home)
    (wheel,) = home.glob("*.whl")
    call(sys.executable, "-m", "venv", "--without-pip", home / "env", cwd=home)
    python = home / "env" / "bin" / "python"
    flags = ("-q", "--no-compile", "-c", ROOT / "constraints.txt")
    call(*PIP, "--python", python, "install", *flags, wheel, cwd=home)
    save_checkpoint(home / "model")
    write_shards(home / "corpus", rows=400, shards=2)
    return home


def program(home: Path, *words: object, code: int = 0) -> subprocess.CompletedProcess[str]:
    return call(home / "env" / "bin" / "sentiment-pipelines", *words, cwd=home, code=code)


def test_it_is_small_and_has_no_tensorflow(home):
    files = [path for path in (home / "env").rglob("*") if not path.is_symlink()]
    assert sum(path.stat().st_size for path in files) < MAX_INSTALLED_BYTES
    done = call(home / "env" / "bin" / "python", "-c", "import tensorflow", cwd=home, code=1)
    assert "No module named 'tensorflow'" in done.stderr


def test_it_predicts_and_scores_on_ray(home):
    (line,) = program(home, "predict", "--checkpoints_dir", "model", "a day").stdout.splitlines()
    label, probability, text = line.split("\t")
    assert (label in ("negative", "positive"), text) == (True, "a day")
    assert 0.5 <= float(probability) < 1
    columns = ("--text_column", "SentimentText", "--keep_columns", "id")
    done = program(home, "score", *SCORING, *columns, "--part_rows", 200)
    assert "Report: scored/_manifest/report.html" in done.stdout
    assert (home / "scored" / "_SUCCESS").exists()
    parts = sorted((home / "scored").glob("part-*.parquet"))
    assert len(parts) == 2
    assert sum(pq.read_metadata(part).num_rows for part in parts) == 400


@pytest.mark.parametrize(
    ("words", "module", "extra"),
    [
        (("train", "--data_dir", "corpus"), "scipy", "train"),
        (("evaluate", "--checkpoints_dir", "model"), "pydantic", "train"),
        (("score", *SCORING, "--use_gpu"), "tensorflow", "train"),
        (("export", "--checkpoints_dir", "model", "--output", "exported"), "onnx", "export"),
    ],
)
def test_what_is_missing_says_which_extra_brings_it(home, words, module, extra):
    done = program(home, *words, code=2)
    hint = f"{module} is not installed: pip install 'sentiment-pipelines[{extra}]'"
    assert done.stderr == f"error: {hint}\n"


def test_the_stop_words_are_in_it(home):
    code = (
        "from pipelines.training.stop_words import read_stop_words\n"
        "print(len(read_stop_words('english')))"
    )
    done = call(home / "env" / "bin" / "python", "-c", code, cwd=home)
    assert int(done.stdout) > 60
