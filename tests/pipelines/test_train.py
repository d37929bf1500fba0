import re
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from pipelines.labelled import Source, Split
from pipelines.prepare import prepare
from pipelines.shards import find_labelled
from pipelines.train import TrainConfig, main
from sentiment.errors import InputError
from tests.generated import write_shards
from tests.programs import run


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    directory = tmp_path_factory.mktemp("corpus")
    write_shards(directory, rows=1200, shards=3)
    return directory


def config(corpus: Path, root: Path, name: str, **flags: object) -> TrainConfig:
    paths = {"data_dir": corpus, "checkpoints_root": root, "summaries_dir": root / "logs"}
    small = {"stopwords_file": None, "hidden_size": 8, "embedding_size": 6, "run_name": name}
    return TrainConfig(**{k: str(v) for k, v in paths.items()} | small | flags)


def last_state(root: Path, name: str) -> dict[str, np.ndarray]:
    last = max((root / "_runs" / name).glob("checkpoint_*/state.safetensors"))
    return safetensors.numpy.load_file(last)


def test_workers_add_up_to_one_on_the_same_global_batch(corpus, tmp_path, local_ray, capsys):
    flags = {"train_steps": 1, "dropout_keep_prob": 1.0, "batch_size": 63}
    for workers in (1, 2):
        main(config(corpus, tmp_path, f"of{workers}", num_workers=workers, **flags))
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

    # A run that is finished is left alone, and continued only with its own flags.
    capsys.readouterr()
    main(config(corpus, tmp_path, "of1", **flags))
    said = f"Run of1 is finished: nothing to do.\nModel saved in: {tmp_path}/of1\n"
    assert capsys.readouterr().out == said
    with pytest.raises(InputError, match="--train_steps is 4, but run of1 was begun with 1"):
        main(config(corpus, tmp_path, "of1", **flags | {"train_steps": 4}))


def test_the_cache_is_the_same_however_the_rows_are_sharded(tmp_path, local_ray):
    caches = []
    for shards in (1, 3, 6):
        directory = tmp_path / f"{shards}"
        write_shards(directory, rows=1200, shards=shards)
        source = Source("SentimentText", "Sentiment", "utf-8")
        found = find_labelled(str(directory), "--data_dir")
        caches.append(prepare(found, source, ("word7",), Split(3, 0.2), 900, str(directory / "c")))
        assert sum(caches[-1].rows.values()) == 900
    for other in caches[1:]:
        assert other.vocabulary == caches[0].vocabulary
        assert other.files == caches[0].files
        for name in ("train-00000.arrow", "validation-00000.arrow"):
            files = [Path(cache.directory, name).read_bytes() for cache in (caches[0], other)]
            assert files[0] == files[1]


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
        ("Sentiment,SentimentText\n1,hi\n", ("--cache_dir", "/proc/no"), "--cache_dir /proc/no"),
    ],
)
def test_misuse_is_said_in_one_line_before_anything_starts(content, flags, said, tmp_path):
    data = tmp_path / "data"
    if content is not None:
        data.mkdir()
        if content:
            (data / "shard.csv").write_text(content)
    paths = ("--data_dir", data, "--checkpoints_root", tmp_path, "--summaries_dir", tmp_path)
    done = run("train", *paths, "--stopwords_file", "None", *flags, code=2)
    assert said.format(data=data) in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("rows", "flags", "said"),
    [
        (["1,good", "2,bad"], {}, "a.csv, row 2: Sentiment is '2', not 0 or 1"),
        (["1,good", "0"], {}, "a.csv, row 2: 1 field where the header has 2"),
        (["1,good", "0,b\xe4d"], {}, "a.csv, row 2: SentimentText is not valid UTF-8"),
        ([f"1,word1 word2 {i}" for i in range(200)], {}, "labelled 1; a classifier needs both"),
        (["1,word1 word2", "0,word3"] * 4, {}, "--batch_size 20"),
        ([f"1,a b c w{i % 9} {i}" for i in range(99)], {"sequence_len": 3}, "row 1 has 5 tokens"),
    ],
)
def test_rows_that_cannot_be_learnt_from_are_named(rows, flags, said, tmp_path, local_ray):
    data = tmp_path / "data"
    data.mkdir()
    lines = ["Sentiment,SentimentText", *rows, *(f"0,w{i % 9} {i}" for i in range(9))]
    if "both" in said:
        lines = ["Sentiment,SentimentText", *rows]
    (data / "a.csv").write_bytes("\n".join(lines).encode("latin-1"))
    with pytest.raises(InputError, match=re.escape(said)):
        main(config(data, tmp_path / "root", "refused", batch_size=20, **flags))
