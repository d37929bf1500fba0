"""A checkpoint is loaded whole and as it was saved, or refused in one line that says why."""

import dataclasses
import json
import os
import pickle
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import example, given
from hypothesis import strategies as st

from sentiment import checkpoint, storage
from sentiment.checkpoint import Checkpoint
from sentiment.classes import BINARY, Classes
from sentiment.errors import InputError
from sentiment.network import BACKWARD, FORWARD, weight_shapes
from testing.generated import vouch
from testing.properties import examples

FILES = (
    "weights.safetensors",
    "vocabulary.txt",
    "stopwords.txt",
    "training.json",
    "model.json",
    "checkpoint.json",
)
THREE = Classes(("negative", "neutral", "sehr schön 😀"))
WORDS = ("good", "don't", ":))", "日", "cafe\u0301", "<url>", "👩🏽\u200d🚀")


def weights(vocabulary: int, embedding: int = 3, hidden: int = 2, seed: int = 0, classes: int = 2):
    random = np.random.default_rng(seed)
    shapes = weight_shapes(vocabulary, embedding, hidden, classes=classes)
    return {name: random.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def model(words=WORDS, stop_words=("a", "the"), training=None, seed=0, classes=THREE) -> Checkpoint:
    vocabulary = ("<pad>", "<unk>", *words)
    its = weights(len(vocabulary), seed=seed, classes=len(classes))
    return Checkpoint(its, vocabulary, stop_words, training or {}, classes)


def assert_equal(one: Checkpoint, other: Checkpoint) -> None:
    assert one.vocabulary == other.vocabulary
    assert one.stop_words == other.stop_words
    assert one.training == other.training
    assert one.weights.keys() == other.weights.keys()
    for name, value in one.weights.items():
        assert value.dtype == other.weights[name].dtype
        assert value.shape == other.weights[name].shape
        assert value.tobytes() == other.weights[name].tobytes()
    assert one.model_hash == other.model_hash


def refusal(directory: Path, *named: str) -> str:
    """The one line with which `load` refuses a directory; it names that and `named`."""
    with pytest.raises(InputError) as caught:
        checkpoint.load(str(directory))
    said = str(caught.value)
    assert len(said.splitlines()) == 1
    assert len(said) < 500
    for name in (str(directory), *named):
        assert name in said
    return said


def forge(directory: Path, name: str, content: bytes) -> None:
    checkpoint.save(model(), str(directory))
    (directory / name).write_bytes(content)
    vouch(directory)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    directory = tmp_path_factory.mktemp("saved")
    checkpoint.save(model(training={"flags": {"seed": 0}, "auc": 0.5}), str(directory))
    return directory


token = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(
    # With a blank it would be a bigram.
    lambda text: not {"\n", " "} & set(text)
)


@examples(50)
@given(
    words=st.lists(token, unique=True, max_size=8),
    stop_words=st.lists(token, max_size=4),
    training=st.dictionaries(st.text(), st.integers() | st.text() | st.none()),
    embedding=st.integers(1, 5),
    hidden=st.integers(1, 5),
    classes=st.sampled_from([BINARY, Classes(threshold=0.25), Classes(("b", "a")), THREE]),
    rules=st.sampled_from([1, 2]),
)
@example(["\u2028", "a\x85b", "\r", "\x1c", "\ufeff", "\0"], ["\u2029"], {}, 1, 1, BINARY, 1)
def test_what_is_saved_is_loaded(
    tmp_path_factory, words, stop_words, training, embedding, hidden, classes, rules
):
    vocabulary = tuple(dict.fromkeys(["<pad>", "<unk>", *words]))
    its = weights(len(vocabulary), embedding, hidden, classes=len(classes))
    before = Checkpoint(its, vocabulary, tuple(stop_words), training, classes, rules)
    directory = str(tmp_path_factory.mktemp("checkpoint"))
    checkpoint.save(before, directory)
    after = checkpoint.load(directory)
    assert_equal(before, after)
    assert before.files() == after.files()
    names = [name for name in FILES if name != "model.json" or (classes, rules) != (BINARY, 1)]
    assert before.files() == {name: storage.read(f"{directory}/{name}") for name in names}


@pytest.mark.parametrize("names", [(FORWARD,), (FORWARD, BACKWARD)])
def test_bigrams_and_a_second_way_to_read_are_kept(tmp_path, names):
    vocabulary = ("<pad>", "<unk>", "not", "good", "not good", "good good")
    shapes = weight_shapes(6, 3, 2, names)
    its = {name: np.full(shape, 0.5, np.float32) for name, shape in shapes.items()}
    before = Checkpoint(its, vocabulary)
    checkpoint.save(before, str(tmp_path))
    after = checkpoint.load(str(tmp_path))
    assert_equal(before, after)
    assert after.words == vocabulary[:4]
    ids = np.array([2, 3, 3, 1, 2], np.int32)
    assert after.network.bigrams(ids, np.array([0, 5])).tolist() == [0, 4, 5, 0, 0]


def test_uris_and_directories_that_are_not_there_yet(tmp_path):
    checkpoint.save(model(), f"file://{tmp_path}/a/b")
    for path in (f"file://{tmp_path}/a/b", f"{tmp_path}/a/b", f"{tmp_path}/a/b/"):
        assert_equal(checkpoint.load(path), model())
    assert sorted(os.listdir(tmp_path / "a" / "b")) == sorted(FILES)


def test_models_of_two_classes_keep_the_hash_that_they_had():
    zeros = {name: np.zeros(shape, "f4") for name, shape in weight_shapes(3, 1, 1).items()}
    one = Checkpoint(zeros, ("<pad>", "<unk>", "good"), ("the",), rules=1)
    assert one.model_hash == "709ed37b24cb2199885bf1ee452fe23743765402674f72070c7db1b2c9f10b27"
    assert dataclasses.replace(one, classes=Classes(threshold=0.6)).model_hash != one.model_hash
    assert dataclasses.replace(one, rules=2).model_hash != one.model_hash


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"classes": ["a", "b"], "threshold": None, "tokenizer": 2}, "dense/"),
        (
            {"classes": ["a", "b", "c"], "threshold": 0.5, "tokenizer": 2},
            "a threshold is for two classes",
        ),
        ({"classes": ["a", "a", "c"], "threshold": None, "tokenizer": 2}, "'a' is named twice"),
        ({"classes": ["a", "b", " "], "threshold": None, "tokenizer": 2}, "printable"),
        ({"classes": ["a", "b", "c\n"], "threshold": None, "tokenizer": 2}, "printable"),
        ({"classes": ["a", "b", "c" * 201], "threshold": None, "tokenizer": 2}, "200"),
        ({"classes": ["a", "b", 3], "threshold": None, "tokenizer": 2}, "printable"),
        ({"classes": ["a"], "threshold": None, "tokenizer": 2}, "1 classes"),
        ({"classes": "abc", "threshold": None, "tokenizer": 2}, "list of classes"),
        ({"classes": ["a", "b", "c"], "tokenizer": 2}, "threshold"),
        (
            {"classes": ["a", "b", "c"], "threshold": None, "tokenizer": 2, "pooling": "max"},
            "has 'pooling', which this version does not know: update the package",
        ),
        ({"classes": ["a", "b", "c"], "threshold": None, "tokenizer": 3}, "knows 1 to 2: update"),
        ({"classes": ["a", "b", "c"], "threshold": None, "tokenizer": True}, "knows 1 to 2"),
        (["classes", "threshold"], "model.json"),
        (3, "model.json"),
        ("classes", "model.json"),
    ],
)
def test_classes_that_are_none_are_refused(saved, tmp_path, content, said):
    shutil.copytree(saved, tmp_path, dirs_exist_ok=True)
    (tmp_path / "model.json").write_text(json.dumps(content))
    vouch(tmp_path)
    refusal(tmp_path, said)


def test_the_same_model_has_the_same_bytes_however_its_weights_lie_in_memory():
    one = model()
    turned = {name: np.asfortranarray(one.weights[name]) for name in reversed(one.weights)}
    other = dataclasses.replace(one, weights=turned)
    assert one.files() == other.files()
    assert list(one.files())[-1] == "checkpoint.json"


def test_the_hash_is_of_what_the_model_answers():
    one = model(training={"steps": 1})
    bumped = {name: value.copy() for name, value in one.weights.items()}
    bumped["dense/bias"][1] = np.nextafter(bumped["dense/bias"][1], np.float32(9))
    others = [
        dataclasses.replace(one, weights=bumped),
        dataclasses.replace(one, vocabulary=(*one.vocabulary[:-1], "other")),
        dataclasses.replace(one, vocabulary=(*one.vocabulary[:2], *one.vocabulary[:1:-1])),
        dataclasses.replace(one, stop_words=("a",)),
        dataclasses.replace(one, stop_words=()),
        dataclasses.replace(one, classes=Classes(("negative", "neutral", "positive"))),
    ]
    assert len({each.model_hash for each in [one, *others]}) == 1 + len(others)
    assert dataclasses.replace(one, training={"steps": 2}).model_hash == one.model_hash


@examples(200)
@given(st.data())
def test_a_file_with_another_byte_is_refused(saved, tmp_path_factory, data):
    name = data.draw(st.sampled_from(FILES))
    content = bytearray((saved / name).read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    directory = tmp_path_factory.mktemp("edited")
    shutil.copytree(saved, directory, dirs_exist_ok=True)
    (directory / name).write_bytes(content)
    refusal(directory)


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_cut_missing_or_a_directory_is_named(saved, tmp_path, name):
    content = (saved / name).read_bytes()
    shutil.copytree(saved, tmp_path, dirs_exist_ok=True)
    for cut in (content[:-1], content[: len(content) // 2], b"", content + b"\n"):
        (tmp_path / name).write_bytes(cut)
        said = refusal(tmp_path, name, "damaged")
        assert said.endswith("copy it again")
    (tmp_path / name).unlink()
    refusal(tmp_path, name, "no checkpoint" if name == "checkpoint.json" else "missing")
    (tmp_path / name).mkdir()
    refusal(tmp_path, name)


@pytest.mark.parametrize("count", range(len(FILES)))
def test_a_save_that_was_interrupted_is_no_checkpoint(tmp_path, count):
    other = tmp_path / "over another"
    checkpoint.save(model(seed=1, words=("x",), stop_words=("y",)), str(other))
    for name, content in list(model().files().items())[:count]:
        storage.write(str(tmp_path / "new" / name), content)
        storage.write(str(other / name), content)
    assert "no checkpoint.json" in refusal(tmp_path / "new", "is not a checkpoint")
    if count:
        refusal(other, "damaged")


@pytest.mark.parametrize("name", ["", "none", "file", "file/below", "data"])
def test_what_is_no_checkpoint_is_said_to_be_none(tmp_path, name):
    (tmp_path / "file").touch()
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "data.csv").touch()
    assert "is not a checkpoint" in refusal(tmp_path / name)


@pytest.mark.parametrize("uri", ["nowhere://bucket/model", "http://host/model"])
def test_a_uri_of_no_kind_that_can_be_read(uri):
    with pytest.raises(InputError, match=uri):
        checkpoint.load(uri)


@pytest.mark.parametrize(
    ("manifest", "said"),
    [
        (b'{"format": 1}', "has format 1; this version reads formats 2 and 3"),
        (b'{"format": 0, "files": []}', "has format 0"),
        (b'{"format": "1"}', "cannot be read"),
        (b'{"format": 2}', "cannot be read"),
        (b'{"format": 2, "model_hash": "", "files": {}}', "cannot be read"),
        (b'{"format": 2, "model_hash": "", "files": ["weights.safetensors"]}', "cannot be read"),
        (b"{}", "cannot be read"),
        (b"[1]", "cannot be read"),
        (b"1", "cannot be read"),
        (b"null", "cannot be read"),
        (b'"format"', "cannot be read"),
        (b"\xff\xfe\x00", "cannot be read"),
        (b"not JSON", "cannot be read"),
        (b"[" * 100_000, "cannot be read"),
        (b'{"format": ' + b"9" * 5000 + b"}", "cannot be read"),
    ],
)
def test_a_manifest_that_is_none(saved, tmp_path, manifest, said):
    shutil.copytree(saved, tmp_path, dirs_exist_ok=True)
    (tmp_path / "checkpoint.json").write_bytes(manifest)
    refusal(tmp_path, said)


def test_a_manifest_with_digests_that_are_none(saved, tmp_path):
    shutil.copytree(saved, tmp_path, dirs_exist_ok=True)
    manifest = json.loads((saved / "checkpoint.json").read_text())
    for digest in ("\ud800", None, 1, {}, "0" * 64):
        manifest["files"]["vocabulary.txt"] = digest
        text = json.dumps(manifest, indent=1, sort_keys=True) + "\n"
        (tmp_path / "checkpoint.json").write_text(text)
        refusal(tmp_path, "checkpoint.json")


def _header(text: str, data: bytes = b"", length: int | None = None) -> bytes:
    header = text.encode()
    return struct.pack("<Q", len(header) if length is None else length) + header + data


def _both_ways(without: str) -> dict[str, np.ndarray]:
    shapes = weight_shapes(9, 3, 2, (FORWARD, BACKWARD))
    return {name: np.zeros(shapes[name], np.float32) for name in shapes.keys() - {without}}


class _Bomb:
    def __reduce__(self):
        return os.mkdir, ("exploded",)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0",
        pickle.dumps(_Bomb()),
        pickle.dumps({"embedding": np.zeros((2, 2))}),
        _header("{}", length=2**63),
        _header("{}", length=2**64 - 1),
        _header("{}", length=99_999_999),
        _header("{}"),
        _header("[" * 50_000),
        _header('{"embedding": {"dtype": "BF16", "shape": [1], "data_offsets": [0, 2]}}', b"00"),
        _header('{"embedding": {"dtype": "F32", "shape": [9], "data_offsets": [0, 4]}}', b"0000"),
        _header('{"embedding": {"dtype": "F32", "shape": [1], "data_offsets": [9, 4]}}', b"0000"),
        _header(
            '{"embedding": {"dtype": "F32", "shape": [0, 18446744073709551615], '
            '"data_offsets": [0, 0]}}'
        ),
        _header(
            '{"embedding": {"dtype": "F32", "shape": [4294967296, 4294967296, 4294967296], '
            '"data_offsets": [0, 4]}}',
            b"0000",
        ),
        _header('{"a\\nb": {"dtype": "X\\nY", "shape": [1], "data_offsets": [0, 4]}}', b"0000"),
        safetensors.numpy.save({"../../etc/passwd": np.zeros(3, np.float32)}),
        safetensors.numpy.save(weights(9) | {"../../etc/passwd": np.zeros(3, np.float32)}),
        safetensors.numpy.save(weights(9) | {"a\nb" * 9999: np.zeros(3, np.float32)}),
        safetensors.numpy.save(weights(8)),
        safetensors.numpy.save(weights(10)),
        safetensors.numpy.save(weights(9, embedding=0)),
        safetensors.numpy.save(weights(9, hidden=0)),
        *(
            safetensors.numpy.save(weights(9) | {name: value})
            for name, value in {
                "embedding": np.zeros((), np.float32),
                "lstm/recurrent_kernel": np.zeros((), np.float32),
                "lstm/kernel": np.zeros((3, 9), np.float32),
                "lstm/bias": np.zeros((8, 1), np.float32),
                "dense/kernel": np.zeros((2, 3), np.float32),
                "dense/bias": np.full(2, np.nan, np.float32),
                "backward/bias": np.zeros(8, np.float32),
            }.items()
        ),
        safetensors.numpy.save(weights(9) | _both_ways("dense/kernel")),
        safetensors.numpy.save(weights(9) | _both_ways("backward/bias")),
        safetensors.numpy.save(weights(9) | {"dense/bias": np.array([0, np.inf], np.float32)}),
        safetensors.numpy.save(weights(9) | {"dense/bias": np.zeros(2)}),
        safetensors.numpy.save(weights(9) | {"dense/bias": np.zeros(2, np.int32)}),
        safetensors.numpy.save({n: v for n, v in weights(9).items() if n != "dense/bias"}),
    ],
)
def test_weights_that_make_no_model_are_refused(tmp_path, monkeypatch, content):
    forge(tmp_path / "forged", "weights.safetensors", content)
    monkeypatch.chdir(tmp_path)
    refusal(tmp_path / "forged", "weights.safetensors")
    assert os.listdir(tmp_path) == ["forged"]


@examples(150)
@given(st.data())
def test_forged_weights_never_raise_anything_else(saved, tmp_path_factory, data):
    content = (saved / "weights.safetensors").read_bytes()
    header = 8 + int.from_bytes(content[:8], "little")
    if data.draw(st.booleans()):
        start = data.draw(st.integers(8, header - 1))
        piece = data.draw(st.sampled_from([b"0", b"-1", b"9" * 20, b"[", b"]", b'"', b"{}", b"I8"]))
        length = data.draw(st.integers(0, 3))
        text = content[8:start] + piece + content[start + length : header]
        content = struct.pack("<Q", len(text)) + text + content[header:]
    else:
        place = data.draw(st.integers(0, header - 1))
        content = content[:place] + data.draw(st.binary(max_size=4)) + content[place + 1 :]
    directory = tmp_path_factory.mktemp("forged")
    forge(directory, "weights.safetensors", content)
    try:
        loaded = checkpoint.load(str(directory))
    except InputError:
        refusal(directory)
    else:
        assert [w.shape for w in loaded.weights.values()]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("vocabulary.txt", b"<pad>\n<unk>\na\na\nc\nd\ne\nf\ng\n"),
        ("vocabulary.txt", b"<pad>\n<unk>\na\nb\nc\nd\ne\nf\na z\n"),
        ("vocabulary.txt", b"<pad>\n<unk>\na\nb\nc\nd\ne\na b\ng\n"),
        ("vocabulary.txt", b"<pad>\n<unk>\na\nb\nc\nd\ne\nf\ng"),
        ("vocabulary.txt", b"<pad>\n<unk>\na\nb\nc\nd\ne\nf\n\n"),
        ("vocabulary.txt", b"<unk>\n<pad>\na\nb\nc\nd\ne\nf\ng\n"),
        ("vocabulary.txt", b"\xef\xbb\xbf<pad>\n<unk>\na\nb\nc\nd\ne\nf\ng\n"),
        ("vocabulary.txt", b"<pad>\r\n<unk>\r\na\r\nb\r\nc\r\nd\r\ne\r\nf\r\ng\r\n"),
        ("vocabulary.txt", b"<pad>\n<unk>\na\nb\nc\nd\ne\nf\n\xff\n"),
        ("vocabulary.txt", b""),
        ("stopwords.txt", b"a\nb"),
        ("stopwords.txt", b"a\n\nb\n"),
        ("stopwords.txt", b"\xff\n"),
        ("training.json", b""),
        ("training.json", b"[]"),
        ("training.json", b"1"),
        ("training.json", b"\xff"),
        ("training.json", b"[" * 100_000),
    ],
)
def test_text_that_is_not_as_it_was_saved_is_refused(tmp_path, name, content):
    forge(tmp_path, name, content)
    refusal(tmp_path, name)


def test_a_vocabulary_of_another_size_than_the_weights_is_refused(tmp_path):
    forge(tmp_path, "vocabulary.txt", b"<pad>\n<unk>\na\n")
    refusal(tmp_path, "(9, 3)", "(3, 3)")


@pytest.mark.parametrize("bad", ["", "a\nb", "\n", "\ud800"])
def test_a_token_that_no_line_holds_is_not_saved(tmp_path, bad):
    for each in (model(words=("a", bad)), model(stop_words=(bad,))):
        with pytest.raises(InputError, match="token"):
            checkpoint.save(each, str(tmp_path))
    assert os.listdir(tmp_path) == []
