import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from pipelines.train import TrainConfig
from sentiment import checkpoint
from sentiment.errors import InputError
from tests.generated import write_shards
from tests.programs import run


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    directory = tmp_path_factory.mktemp("corpus")
    write_shards(directory, rows=1200, shards=3)
    return directory


def train(corpus: Path, root: Path, name: str, *flags: object, code: int = 0):
    return run(
        "train",
        *("--data_dir", corpus, "--checkpoints_root", root, "--summaries_dir", root / "logs"),
        *("--run_name", name, "--stopwords_file", "None", "--hidden_size", 8),
        *("--embedding_size", 6, *flags),
        code=code,
    )


def last_state(root: Path, name: str) -> dict[str, np.ndarray]:
    last = max((root / "_runs" / name).glob("checkpoint_*/state.safetensors"))
    return safetensors.numpy.load_file(last)


def test_workers_add_up_to_one_on_the_same_global_batch(corpus, tmp_path):
    flags = ("--train_steps", 1, "--dropout_keep_prob", 1, "--batch_size", 63)
    for workers in (1, 2):
        train(corpus, tmp_path, f"of{workers}", *flags, "--num_workers", workers)
    one, two = (last_state(tmp_path, name) for name in ("of1", "of2"))
    # After one step RMSProp's accumulators hold (1 - rho) g^2 with rho 0.9: the gradient itself.
    slots = [
        name for name in one if name.startswith("optimizer/") and one[name].dtype == np.float32
    ]
    gradients = [np.sqrt(one[name] / 0.1) for name in slots if one[name].ndim]
    others = [np.sqrt(two[name] / 0.1) for name in slots if two[name].ndim]
    assert max(np.abs(gradient).max() for gradient in gradients) > 1e-3
    for gradient, other in zip(gradients, others, strict=True):
        np.testing.assert_allclose(gradient, other, atol=1e-6)


def test_the_same_flags_give_the_same_bytes_however_the_rows_are_sharded(corpus, tmp_path):
    flags = ("--train_steps", 30, "--validate_every", 20, "--num_workers", 2)
    train(corpus, tmp_path, "as3", *flags)
    resharded = tmp_path / "corpus"
    write_shards(resharded, rows=1200, shards=5)
    train(resharded, tmp_path, "as5", *flags)
    first, second = (checkpoint.load(str(tmp_path / name)) for name in ("as3", "as5"))
    assert first.model_hash == second.model_hash
    for name, value in last_state(tmp_path, "as3").items():
        np.testing.assert_array_equal(value, last_state(tmp_path, "as5")[name])


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        ({"batch_size": 0}, "--batch_size is 0"),
        ({"test_size": 1.0}, "--test_size is 1.0"),
        ({"dropout_keep_prob": 0.0}, "--dropout_keep_prob is 0.0"),
        ({"random_state": -1}, "--random_state is -1"),
        ({"learning_rate": 0.0}, "--learning_rate is 0.0"),
        ({"num_workers": 8, "batch_size": 4}, "--batch_size is 4"),
        ({"encoding": "klingon"}, "--encoding klingon"),
        ({"run_name": "../up"}, "--run_name is ../up"),
        ({"truncate": True}, "--truncate needs --sequence_len"),
    ],
)
def test_impossible_flags_are_refused_by_name(flags, named):
    with pytest.raises(InputError, match=named.replace(".", r"\.")):
        TrainConfig(**flags)


@pytest.mark.parametrize(
    ("content", "flags", "said"),
    [
        (None, (), "--data_dir {data} does not exist"),
        ("", (), "--data_dir {data} holds no shards"),
        ("text,Sentiment\nhi,1\n", (), "has no column 'SentimentText'; its columns: text"),
        ("Sentiment,SentimentText\n1,hi\n", ("--test_size", "2"), "--test_size is 2.0"),
        ("Sentiment,SentimentText\n1,hi\n", ("--stopwords_file", "none.txt"), "--stopwords_file"),
    ],
)
def test_misuse_is_said_in_one_line_before_anything_starts(content, flags, said, tmp_path):
    data = tmp_path / "data"
    if content is not None:
        data.mkdir()
        if content:
            (data / "shard.csv").write_text(content)
    done = train(data, tmp_path / "root", "refused", *flags, code=2)
    assert said.format(data=data) in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("rows", "flags", "said"),
    [
        (["1,good", "2,bad"], (), "a.csv, row 2: Sentiment is '2', not 0 or 1"),
        (["1,good", "0"], (), "a.csv, row 2: 1 field where the header has 2"),
        (["1,word1 word2"] * 40, (), "labelled 1; a classifier needs both"),
        (["1,word1 word2", "0,word3"] * 4, (), "--batch_size 20"),
        (["1,a b c d", "0,d e f"] * 99, ("--sequence_len", 3), "a.csv, row 1 has 4 tokens"),
    ],
)
def test_rows_that_cannot_be_learnt_from_are_named(rows, flags, said, tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    rows = [f"{row} {i}" if "word" in row else row for i, row in enumerate(rows)]
    (data / "a.csv").write_text("\n".join(["Sentiment,SentimentText", *rows]))
    done = train(data, tmp_path / "root", "refused", "--batch_size", 20, *flags, code=2)
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_run_resumes_only_with_its_own_flags(corpus, tmp_path):
    flags = ("--train_steps", 3, "--validate_every", 2)
    done = train(corpus, tmp_path, "run", *flags)
    assert done.stdout.endswith(f"Model saved in: {tmp_path}/run\n")
    again = train(corpus, tmp_path, "run", *flags)
    assert again.stdout == f"Run run is finished: nothing to do.\nModel saved in: {tmp_path}/run\n"
    other = train(corpus, tmp_path, "run", "--train_steps", 4, "--validate_every", 2, code=2)
    assert "--train_steps is 4, but run run was begun with 3" in other.stderr
    training = json.loads((tmp_path / "run" / "training.json").read_text())
    assert [validation["step"] for validation in training["validations"]] == [2, 3]
