"""`sentiment-pipelines`, the command that has all programs."""

import subprocess
import sys
from importlib.metadata import version

import pytest

import sentiment
from pipelines.__main__ import PROGRAMS

pytestmark = pytest.mark.process


def call(*words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "pipelines", *words], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == code, done.stderr
    return done


@pytest.mark.parametrize("words", [(), ("-h",), ("--help",)])
def test_help_names_every_program(words):
    lines = call(*words).stdout.splitlines()
    assert len(PROGRAMS) == 9
    for name in PROGRAMS:
        (line,) = [line for line in lines if line.startswith(f"  {name} ")]
        assert len(line.split()) > 3


def test_a_program_is_called_by_its_name_with_its_flags():
    shown = call("score", "--help").stdout
    assert "\nusage: sentiment-pipelines score " in shown
    assert "python -m pipelines.score --checkpoints_dir" in shown
    refused = call("score", "--out", "x", code=2).stderr
    assert refused == "error: there is no flag --out: did you mean --output?\n"


def test_the_version_is_that_of_the_distribution():
    assert call("--version").stdout == f"sentiment-pipelines {version('sentiment-pipelines')}\n"
    assert sentiment.__version__ == version("sentiment-pipelines")


def test_a_name_that_is_nearly_right_is_suggested():
    assert call("trian", code=2).stderr == "error: there is no program trian: did you mean train?\n"
    assert "the programs: fetch train" in call("x", code=2).stderr
