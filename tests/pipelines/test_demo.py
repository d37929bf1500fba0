"""How the demo's model behaves, trained as `make demo` does: what every user will ask first.

Its tweets are real and its training short, so bounds leave room for what it has not learnt: that
"not bad" praises, for one. `test_behaviour` asks for more, of a corpus that teaches it.
"""

import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.csv as pacsv
import pytest

import pipelines
import sentiment

ROOT = Path(pipelines.__file__).parents[1]
SUBJECTS = ("this is", "it was", "my day is", "that movie was", "i am", "the weather is")
PRAISE = ("good", "great", "happy", "nice", "fun", "cool", "awesome", "amazing", "beautiful")
MORE = ("great", "i love it", "awesome", "thank you", "best day ever", ":)", "good", "amazing")
TWEETS = 4000

# Bounds on a trained model hold with room, but training rounds otherwise on other CPUs.
pytestmark = [
    *(pytest.mark.slow(5), pytest.mark.ray, pytest.mark.process),
    *(pytest.mark.registry, pytest.mark.cpu, pytest.mark.timeout(600)),
]

Predict = Callable[[list[str]], np.ndarray]


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """A directory in which the first two programs of `make demo` have run."""
    home = tmp_path_factory.mktemp("demo")
    make = ["make", "--no-print-directory", "-C", ROOT, "-n", "demo"]
    demo = subprocess.run(make, capture_output=True, text=True, check=True).stdout
    (home / "temporary").mkdir()
    # Ray keeps its logs elsewhere, and wants a short path.
    environment = os.environ | {"TMPDIR": str(home / "temporary")}
    environment["RAY_TMPDIR"] = tempfile.gettempdir()
    for name in ("fetch", "train"):
        (line,) = [line for line in demo.splitlines() if f" -m pipelines.{name} " in line]
        command = [sys.executable, *shlex.split(line)[1:]]
        done = subprocess.run(
            command,
            cwd=home,
            env=environment,
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return home


@pytest.fixture(scope="module")
def predict(home) -> Predict:
    return sentiment.load(str(home / "checkpoints" / "demo")).predict


@pytest.fixture(scope="module")
def tweets(home) -> list[str]:
    table = pacsv.read_csv(
        home / "data" / "crowdflower" / "data.csv",
        parse_options=pacsv.ParseOptions(newlines_in_values=True),
    )
    return table["SentimentText"].slice(0, TWEETS).to_pylist()


def test_no_temporary_file_is_left(home):
    assert list((home / "temporary").iterdir()) == []


def test_not_turns_praise_round(predict):
    pairs = [(subject, word) for subject in SUBJECTS for word in PRAISE]
    plain = predict([f"{subject} {word}" for subject, word in pairs])
    negated = predict([f"{subject} not {word}" for subject, word in pairs])
    assert (plain > 0.5).mean() > 0.8
    assert (negated < plain - 0.05).all()
    assert (negated < 0.5).mean() > 0.95


def test_case_does_not_matter_to_the_last_bit(predict, tweets):
    # Of ASCII: a few letters elsewhere have no way back from capitals.
    plain = [text for text in tweets if text.isascii()]
    assert len(plain) > TWEETS / 2
    lower = predict([text.lower() for text in plain])
    np.testing.assert_array_equal(predict([text.upper() for text in plain]), lower)
    np.testing.assert_array_equal(predict([text.swapcase() for text in plain]), lower)


def test_an_address_hardly_matters_and_which_one_not_at_all(predict, tweets):
    addresses = ("http://t.co/Good", "https://example.com/not/bad?a=1", "www.example.org/awful")
    found = [predict([f"{text} {address}" for text in tweets]) for address in addresses]
    for other in found[1:]:
        np.testing.assert_array_equal(other, found[0])
    plain = predict(tweets)
    assert np.quantile(abs(found[0] - plain), 0.99) < 0.2
    assert ((found[0] > 0.5) != (plain > 0.5)).mean() < 0.03


@pytest.mark.parametrize("more", MORE)
def test_more_praise_lowers_no_answer_much(predict, tweets, more):
    change = predict([f"{text} {more}" for text in tweets]) - predict(tweets)
    assert change.min() > -0.1
    assert change.mean() > 0.01
