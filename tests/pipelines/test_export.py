"""An exported directory answers as `sentiment.load` does, without this package."""

import errno
import json
import re
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

import sentiment
from pipelines import export
from pipelines.errors import Failure
from pipelines.export import ExportConfig
from sentiment import checkpoint, storage
from sentiment.checkpoint import Checkpoint
from sentiment.classes import Classes
from sentiment.network import weight_shapes
from testing.generated import texts_and_labels

DOCUMENT = Path(__file__).parents[2] / "docs" / "export.md"
TEXTS = [
    *texts_and_labels(50)[0],
    *(
        "",
        "the the",
        "unknown",
        "Don't &lt;3 :))))",
        "word1 " * 600,
        "日本 cafe\u0301 ＧＯＯＤ a\u0302\u0323",
    ),
]


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The working directory that the document speaks of, with what a checkpoint may have."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    words = ("<pad>", "<unk>", *(f"word{number}" for number in range(200)), "don't", ":))", "good")
    vocabulary = (*words, "日", "café", "â\u0323", "word1 word1", "word2 word3")
    random = np.random.default_rng(0)
    shapes = weight_shapes(len(vocabulary), 6, 5, ("lstm", "backward"))
    weights = {name: random.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    trained = Checkpoint(weights, vocabulary, ("the",), classes=Classes(threshold=0.25))
    checkpoint.save(trained, "checkpoints/reviews")
    export.main(ExportConfig("checkpoints/reviews", "exported"))
    return trained


def test_the_documents_program_gives_the_probabilities_of_score(here):
    (block,) = re.findall(r"^```python\n(.*?)^```$", DOCUMENT.read_text(), re.MULTILINE | re.DOTALL)
    block = block.replace('["what a lovely day", ""]', repr(TEXTS))
    Path("program.py").write_text(block)
    found = runpy.run_path("program.py")
    assert sys.modules.pop("tokenizer").__file__ == str(Path("exported/tokenizer.py").absolute())
    loaded = sentiment.load("checkpoints/reviews")
    np.testing.assert_allclose(found["probabilities"], loaded.predict_proba(TEXTS), atol=1e-6)
    assert found["classes"] == ["negative", "positive"]


def test_the_tokenizer_needs_the_standard_library_only(here):
    lines = Path("exported/tokenizer.py").read_text().splitlines()
    imports = [line.split()[1] for line in lines if re.match(r"(import|from) ", line)]
    assert set(imports) == {"html", "json", "re", "collections", "collections.abc", "pathlib"}


def test_the_tokenizers_file_has_what_a_translation_needs(here):
    content = json.loads(Path("exported/tokenizer.json").read_text())
    assert content["vocabulary"] == list(here.words)
    assert content["stop_words"] == ["the"]
    assert (content["max_tokens"], content["threshold"]) == (512, 0.25)
    assert (content["folds"]["Ａ"], content["composed"]["e\u0301"]) == ("a", "é")
    assert [0x65E5 in range(first, last + 1) for first, last in content["shapes"]["I"]].count(True)
    assert content["model_hash"] == here.model_hash


@pytest.mark.parametrize("fails", [0, 1, 2])
def test_an_export_that_is_broken_off_leaves_no_model(here, monkeypatch, fails):
    """That of an earlier export would answer otherwise with the tokenizer of this one."""
    write, files = storage.write, iter(range(3))

    def full(path: str, content: bytes) -> None:
        if next(files) == fails:
            raise OSError(errno.ENOSPC, "No space left on device", path)
        write(path, content)

    monkeypatch.setattr(storage, "write", full)
    with pytest.raises(Failure, match=r"^--output exported cannot be written: .*No space left"):
        export.main(ExportConfig("checkpoints/reviews", "exported"))
    assert not Path("exported", "model.onnx").exists()
    monkeypatch.setattr(storage, "write", write)
    export.main(ExportConfig("checkpoints/reviews", "exported"))
    assert Path("exported", "model.onnx").exists()


def test_a_directory_in_the_way_of_the_model_is_named(here):
    Path("exported", "model.onnx").unlink()
    Path("exported", "model.onnx").mkdir()
    with pytest.raises(IsADirectoryError, match=r"model\.onnx"):
        export.main(ExportConfig("checkpoints/reviews", "exported"))
