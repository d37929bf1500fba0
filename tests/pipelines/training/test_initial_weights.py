"""A model that starts from another answers as that one does, until it learns more."""

import dataclasses

import numpy as np
import pyarrow as pa
import pytest

from pipelines.training.config import TrainConfig
from pipelines.training.initial_weights import (
    InitialWeights,
    initial_model,
    of_checkpoint,
    require_same_model,
)
from sentiment.checkpoint import Checkpoint
from sentiment.errors import InputError
from sentiment.model.inference import inference
from sentiment.network import Network, weight_shapes
from sentiment.text import vocabulary
from sentiment.text.bigrams import Bigrams
from sentiment.text.tokenizer import SPECIALS, Tokenizer

OLD = (*SPECIALS, "not", "good", "film", "not good")
TEXTS = pa.array(["not good", "good film", "", "a film not good not"])


@pytest.fixture(scope="module")
def old() -> Checkpoint:
    random = np.random.default_rng(0)
    shapes = weight_shapes(len(OLD), 5, 7, ("lstm", "backward"))
    weights = {name: random.normal(size=shape).astype("f4") for name, shape in shapes.items()}
    return Checkpoint(weights, OLD, ("the",))


def answers(weights, entries) -> np.ndarray:
    bigrams = Bigrams(entries)
    tokens = Tokenizer(("the",)).encoder(entries[: bigrams.words])(TEXTS)
    return inference(Network(weights, bigrams))(tokens.ids, tokens.offsets)


@pytest.mark.parametrize("names", [("negative", "positive"), ("a", "b"), ("a", "b", "c")])
def test_the_new_model_has_all_of_the_old_one(old, names):
    from sentiment.model.keras_model import SentimentLSTM

    table = pa.table({"token": ["plot", "good"], "texts": pa.array([9, 5])})
    words = vocabulary.build(table, 10, min_share=0, always=old.words)
    entries = (*words, "not good", "good plot")
    model = SentimentLSTM(len(entries), 5, 7, bidirectional=True, classes=len(names))
    before = model.export()
    initial = of_checkpoint(old, entries, names)
    InitialWeights.from_bytes(initial.to_bytes()).set_in(model)
    after = model.export()
    # What the old one does not have stays as it was.
    new = [index for index, entry in enumerate(entries) if entry not in OLD]
    assert [entries[index] for index in new] == ["plot", "good plot"]
    np.testing.assert_array_equal(after["embedding"][new], before["embedding"][new])
    if names == old.classes.names:
        np.testing.assert_array_equal(answers(after, entries), answers(old.weights, old.vocabulary))
    else:
        np.testing.assert_array_equal(after["dense/kernel"], before["dense/kernel"])
        np.testing.assert_array_equal(after["lstm/kernel"], old.weights["lstm/kernel"])


def test_other_sizes_and_stop_words_are_refused_with_the_flags_to_pass(old):
    flags = TrainConfig(initial_checkpoint="m", embedding_size=5, hidden_size=7, bidirectional=True)
    require_same_model(flags, ("the",), old)
    with pytest.raises(InputError, match=r"m: that model has other stop words"):
        require_same_model(flags, (), old)
    other = dataclasses.replace(flags, hidden_size=8, bidirectional=False)
    with pytest.raises(InputError, match=r"pass --hidden_size 7 --bidirectional$"):
        require_same_model(other, ("the",), old)
    one_way = dataclasses.replace(
        old,
        weights={n: v for n, v in old.weights.items() if not n.startswith("backward")}
        | {"dense/kernel": old.weights["dense/kernel"][:7]},
    )
    with pytest.raises(InputError, match=r"pass --no_bidirectional$"):
        require_same_model(flags, ("the",), one_way)


def test_a_path_that_is_no_model_is_named_with_its_flag(tmp_path):
    with pytest.raises(InputError, match=f"--initial_checkpoint: {tmp_path} is not a checkpoint: "):
        initial_model(str(tmp_path))


def test_initial_vectors_and_an_initial_model_exclude_each_other():
    with pytest.raises(InputError, match="leave out one of the two"):
        TrainConfig(initial_checkpoint="m", initial_vectors="cooccurrence")


def test_always_comes_first_and_is_never_cut():
    table = pa.table({"token": ["a", "b", "c"], "texts": pa.array([3, 2, 1])})
    built = vocabulary.build(table, 3, min_share=0, max_size=5, always=[*SPECIALS, "z", "b"])
    assert built == [*SPECIALS, "z", "b", "a"]
    built = vocabulary.build(table, 3, min_share=0, max_size=3, always=["z", "y"])
    assert built == [*SPECIALS, "z", "y"]
