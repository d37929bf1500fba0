"""Texts in memory get the probabilities that the programs give them, or one line says why not."""

import pickle
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

import sentiment
from pipelines.scoring.config import ScoreConfig
from pipelines.scoring.job import main
from sentiment import checkpoint
from testing.generated import NEGATIVE, POSITIVE, save_checkpoint, texts_and_labels
from testing.programs import run

LONG = " ".join([*POSITIVE, *NEGATIVE] * 50)
TEXTS = [*texts_and_labels(300)[0], "", "日本 :)", LONG, "nothing known here"]


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    directory = tmp_path_factory.mktemp("model")
    save_checkpoint(directory)
    return directory


@pytest.fixture(scope="module")
def model(directory):
    return sentiment.load(str(directory))


def same(first: np.ndarray, second: np.ndarray) -> bool:
    """Whether these are the same float32, bit for bit."""
    return first.dtype == second.dtype == np.float32 and first.tobytes() == second.tobytes()


@pytest.mark.parametrize("chosen", [{}, {"max_tokens": 3}])
def test_it_is_what_scoring_gives(model, directory, tmp_path, chosen):
    pq.write_table(pa.table({"text": TEXTS}), tmp_path / "texts.parquet")
    paths = {"checkpoints_dir": str(directory), "output": str(tmp_path / "scored")}
    texts = (str(tmp_path / "texts.parquet"),)
    main(ScoreConfig(input=texts, **paths, **chosen))
    scored = pq.read_table(tmp_path / "scored" / "part-000000.parquet")
    found = model.predict_proba(TEXTS, **chosen)
    assert same(found[:, 1], scored["positive_probability"].to_numpy())
    assert model.predict(TEXTS, **chosen).tolist() == scored["sentiment"].to_pylist()
    footer = pq.read_metadata(tmp_path / "scored" / "part-000000.parquet").metadata
    assert model.model_hash in footer[b"sentiment.part"].decode()


@pytest.mark.process
def test_it_is_what_the_program_for_a_few_texts_gives(model, directory):
    shown = run("predict", "--checkpoints_dir", directory, *TEXTS).stdout.splitlines()
    answers = zip(model.predict(TEXTS), model.predict_proba(TEXTS).max(axis=1), TEXTS, strict=True)
    assert shown == [f"{winner}\t{p:.6f}\t{text}" for winner, p, text in answers]


def test_a_longer_text_is_scored_on_its_beginning(model):
    words = LONG.split()
    head = " ".join(words[:512])
    whole = model.predict_proba([LONG], max_tokens=len(words))
    assert same(model.predict_proba([LONG]), model.predict_proba([head]))
    assert not same(model.predict_proba([LONG]), whole)


@pytest.mark.parametrize(
    "given",
    [
        tuple(TEXTS),
        np.array(TEXTS, object),
        np.array(TEXTS),
        pd.Series(TEXTS),
        pd.Series(TEXTS, index=range(len(TEXTS), 0, -1), dtype=object),
        pd.Series(TEXTS, dtype="category"),
        pl.Series(TEXTS),
        pa.array(TEXTS),
        pa.array(TEXTS, pa.large_string()),
        pa.array(TEXTS, pa.string_view()),
        pa.array([text.encode() for text in TEXTS]),
        pa.array(TEXTS).dictionary_encode(),
        pa.array(["before", *TEXTS, "after"])[1:-1],
        pa.chunked_array([TEXTS[:100], [], TEXTS[100:]]),
    ],
    ids=lambda given: type(given).__name__,
)
def test_every_kind_of_column_gives_the_same(model, given):
    assert same(model.predict_proba(given), model.predict_proba(TEXTS))


@pytest.mark.parametrize("nothing", [[], np.array([], object), pa.array([], pa.string())])
def test_of_nothing_comes_nothing(model, nothing):
    assert same(model.predict_proba(nothing), np.empty((0, 2), np.float32))
    assert model.predict(nothing).shape == (0,)


@given(st.lists(st.text() | st.lists(st.sampled_from(POSITIVE + NEGATIVE)).map(" ".join)))
def test_a_text_has_one_answer_whatever_comes_with_it(model, texts):
    try:
        together = model.predict_proba(texts)
    except sentiment.InputError as error:
        position = int(re.match(r"texts\[(\d+)\] is not valid Unicode", str(error))[1])
        with pytest.raises(UnicodeEncodeError):
            texts[position].encode()
        return
    alone = [model.predict_proba([text]) for text in texts]
    assert same(together, np.concatenate([np.empty((0, 2), np.float32), *alone]))


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        (["a", None], """texts[1] is None; give a str; null="nan" gives null texts no answer"""),
        (["a", "b", float("nan")], "texts[2] is nan"),
        (pd.Series(["a", None]), "texts[1] is nan"),
        (pd.Series([pd.NA, "a"], dtype=object), "texts[0] is <NA>"),
        ([b"a"], "texts[0] is b'a'; give a str, which may be empty"),
        (["a", 5], "texts[1] is 5"),
        (["a", ["b"] * 99], "texts[1] is ['b', 'b'"),
        (["a", "\ud800"], "texts[1] is not valid Unicode"),
        (pa.array(["a", None, None]), "texts[1] is null"),
        (pa.nulls(2), "texts[0] is null"),
        (pa.chunked_array([[b"a"], [b"b", b"\xff"]]), "texts[2] is not valid UTF-8"),
        (pa.array([1, 2]), "texts are of type int64"),
    ],
)
def test_what_is_no_text_is_named(model, texts, said):
    with pytest.raises(sentiment.InputError, match=re.escape(said)) as caught:
        model.predict_proba(texts)
    assert len(str(caught.value)) < 140
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        ("what a day", "give a list: [text]"),
        (b"what a day", "give a list: [text]"),
        ({"a", "b"}, "texts are a set of 0 dimensions"),
        ((text for text in TEXTS), "texts are a generator of 0 dimensions"),
        (None, "texts are a NoneType of 0 dimensions"),
        ([["a"], ["b"]], "texts are a list of 2 dimensions"),
        (pd.DataFrame({"text": ["a"]}), "texts are a DataFrame of 2 dimensions"),
    ],
)
def test_what_is_no_column_of_texts_is_a_type_error(model, texts, said):
    with pytest.raises(TypeError, match=re.escape(said)):
        model.predict_proba(texts)


def test_some_token_must_count(model):
    with pytest.raises(sentiment.InputError, match="max_tokens is 0; it must be at least 1"):
        model.predict_proba(TEXTS, max_tokens=0)


def test_a_directory_that_is_no_checkpoint_is_named(tmp_path):
    with pytest.raises(sentiment.InputError, match=f"{tmp_path} is not a checkpoint"):
        sentiment.load(str(tmp_path))


def test_it_knows_its_name_and_words(model, directory):
    assert model.model_hash in (directory / "checkpoint.json").read_text()
    assert list(model.vocabulary) == (directory / "vocabulary.txt").read_text().splitlines()


def test_threads_share_it(model):
    with ThreadPoolExecutor(4) as threads:
        assert all(
            same(p, model.predict_proba(TEXTS))
            for p in threads.map(model.predict_proba, [TEXTS] * 16)
        )


def test_it_can_be_pickled_in_the_size_of_its_checkpoint(model, directory):
    pickled = pickle.dumps(model)
    assert len(pickled) < 1.2 * sum(path.stat().st_size for path in directory.iterdir())
    assert same(pickle.loads(pickled).predict_proba(TEXTS), model.predict_proba(TEXTS))
    assert repr(pickle.loads(pickled)) == repr(model)


def test_it_says_what_it_is(model, directory):
    loaded = checkpoint.load(str(directory))
    known = f"2 classes: negative, positive; {len(loaded.words):,} words"
    assert repr(model) == f"<Predictor {model.model_hash[:12]}; {known}>"
    trained = replace(loaded, training={"rows": {"train": 1234}})
    assert repr(sentiment.Predictor(trained)).endswith("; trained on 1,234 rows>")
    assert "trained" not in repr(sentiment.Predictor(replace(loaded, training={"rows": 3})))


@pytest.mark.parametrize(
    "texts",
    [
        ["great", None, "sad", float("nan")],
        pd.Series(["great", None, "sad", pd.NaT]),
        pd.Series(["great", pd.NA, "sad", None], dtype="string"),
        pa.array(["great", None, "sad", None]),
    ],
    ids=["list", "series", "string series", "arrow"],
)
def test_nulls_are_nan_if_that_is_asked_for(model, texts):
    found = model.predict_proba(texts, null="nan")
    assert same(found[[0, 2]], model.predict_proba(["great", "sad"]))
    assert np.isnan(found[[1, 3]]).all()
    names = model.predict(["great", "sad"]).tolist()
    assert model.predict(texts, null="nan").tolist() == [names[0], None, names[1], None]
    with pytest.raises(sentiment.InputError, match=r"texts\[1\] is"):
        model.predict_proba(texts)
    with pytest.raises(sentiment.InputError, match="null is 'skip'"):
        model.predict_proba(texts, null="skip")


def test_what_is_not_utf8_is_no_null(model):
    with pytest.raises(sentiment.InputError, match=r"texts\[1\] is not valid UTF-8"):
        model.predict_proba(pa.array([None, b"\xff"]), null="nan")


@pytest.mark.process
def test_neither_ray_nor_tensorflow_nor_pandas_is_loaded(directory, tmp_path):
    checkpoint.save(replace(checkpoint.load(str(directory)), stop_words=("the",)), str(tmp_path))
    code = f"""
import sys
import sentiment

assert "numba" not in sys.modules and "pyarrow" not in sys.modules
print(sentiment.load({str(tmp_path)!r}).predict_proba(["what a lovely day :)"]).dtype)
assert not {{"ray", "tensorflow", "keras", "sklearn", "pandas"}} & set(sys.modules)
"""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == ("float32\n", "")


def test_it_shows_what_it_has_and_nothing_else():
    assert set(sentiment.__all__) <= set(dir(sentiment))
    with pytest.raises(AttributeError, match="module 'sentiment' has no attribute 'predict'"):
        sentiment.predict([])
