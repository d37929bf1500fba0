"""Models are loaded from the Hugging Face Hub: which files, of which commit, what goes wrong."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import huggingface_hub.constants
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import sentiment
from pipelines.scoring.config import ScoreConfig
from pipelines.scoring.job import main
from sentiment import checkpoint, storage
from sentiment.errors import InputError
from testing.generated import save_checkpoint
from testing.hub_server import HubServer
from testing.programs import refused

TEXTS = ["a lovely day", "awful :("]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    save_checkpoint(root / "ann" / "tweets")
    save_checkpoint(root / "ann" / "many" / "v2", seed=1)
    for name in ("README.md", "report.html", "big.bin"):
        (root / "ann" / "tweets" / name).write_text("not of the model")
    (root / "ann" / "empty").mkdir()
    return root


@pytest.fixture
def hub(models, tmp_path, monkeypatch):
    """A Hub that this process knows; its cache is empty."""
    server = HubServer(models)
    constants = huggingface_hub.constants
    template = f"{server.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    # As the variables set them when the package is imported.
    monkeypatch.setattr(constants, "ENDPOINT", server.url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    yield server
    server.stop()


def paths(hub: HubServer, method: str = "GET") -> list[str]:
    # The client itself may ask for more below /api/.
    return [path for asked, path in hub.requests if asked == method and "/resolve/" in path]


def test_a_model_is_loaded_from_its_own_files(hub, models):
    found = sentiment.load("hf://ann/tweets").predict_proba(TEXTS)
    here = sentiment.load(str(models / "ann" / "tweets")).predict_proba(TEXTS)
    assert found.tobytes() == here.tobytes()
    assert len(paths(hub)) == len(set(paths(hub)))
    names = {path.rpartition("/")[2] for path in paths(hub, "HEAD")}
    assert names == {
        "checkpoint.json",
        "model.json",
        "stopwords.txt",
        "training.json",
        "vocabulary.txt",
        "weights.safetensors",
    }


def test_all_files_are_of_one_commit(hub):
    sentiment.load("hf://ann/tweets@main")
    assert [path for path in paths(hub, "HEAD") if "/main/" in path]
    later = [path for path in paths(hub) if not path.endswith("checkpoint.json")]
    assert all(f"/resolve/{hub.commit}/" in path for path in later)


@pytest.mark.parametrize("revision", ["", "@main", f"@{'a' * 40}"])
def test_a_directory_and_a_revision_are_found(hub, models, revision):
    uri = f"hf://ann/many{revision}/v2/"
    assert checkpoint.pinned(uri) == f"hf://ann/many@{'a' * 40}/v2"
    here = checkpoint.load(str(models / "ann" / "many" / "v2"))
    assert checkpoint.load(uri).model_hash == here.model_hash


def test_a_cached_model_needs_no_network(hub, monkeypatch):
    before = checkpoint.load("hf://ann/tweets").model_hash
    hub.requests.clear()
    pinned = f"hf://ann/tweets@{hub.commit}"
    assert checkpoint.load(pinned).model_hash == before
    assert hub.requests == []
    hub.stop()
    assert checkpoint.load("hf://ann/tweets").model_hash == before
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert checkpoint.load("hf://ann/tweets").model_hash == before
    with pytest.raises(OSError, match=r"hf://ann/many cannot be reached.*HF_HUB_OFFLINE$"):
        checkpoint.load("hf://ann/many/v2")


def test_a_newer_commit_is_loaded(hub, models, tmp_path):
    old = checkpoint.load("hf://ann/tweets").model_hash
    hub.models, hub.commit = tmp_path, "b" * 40
    save_checkpoint(tmp_path / "ann" / "tweets", seed=7)
    assert checkpoint.load("hf://ann/tweets").model_hash != old
    assert checkpoint.load(f"hf://ann/tweets@{'a' * 40}").model_hash == old


def test_programs_take_it_and_record_the_commit(hub, tmp_path, capsys):
    pq.write_table(pa.table({"text": TEXTS}), tmp_path / "texts.parquet")
    texts, output = (str(tmp_path / "texts.parquet"),), str(tmp_path / "scored")
    main(ScoreConfig(checkpoints_dir="hf://ann/tweets", input=texts, output=output))
    (record,) = (tmp_path / "scored" / "_manifest").glob("run-*.json")
    flags = json.loads(record.read_text())["flags"]
    assert flags["checkpoints_dir"] == f"hf://ann/tweets@{hub.commit}"


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        (
            "hf://ann/none",
            "hf://ann/none: there is no such model, or it is private",
        ),
        ("hf://ann/tweets@v9", "hf://ann/tweets has no branch, tag or commit 'v9'"),
        ("hf://ann/empty", "hf://ann/empty is not a checkpoint: it has no checkpoint.json"),
        ("hf://ann/tweets/v7", "hf://ann/tweets/v7 is not a checkpoint"),
        ("hf://tweets", "hf://tweets does not name a model: write hf://OWNER/NAME"),
        ("hf://datasets/ann/tweets", "does not name a model"),
        ("hf://me:secret@ann/tweets", "hf://ann/tweets does not name a model"),
        ("hf://ann/" + "x" * 97, "does not name a model: Repo id"),
    ],
)
def test_what_is_not_there_is_one_line(hub, uri, said):
    line = refused("predict", "--checkpoints_dir", uri, "hi")
    assert line.startswith(f"error: {said}") or said in line
    assert "secret" not in line


@pytest.mark.parametrize(
    ("answer", "code", "said"),
    [
        ((403, "GatedRepo"), 2, "is gated: ask for access on its page, then set HF_TOKEN"),
        ((401, "RepoNotFound"), 2, "or it is private"),
        ((503, ""), 1, "cannot be reached, and checkpoint.json at 'main' is not in the cache"),
    ],
)
def test_what_the_hub_answers_is_one_line(hub, monkeypatch, caplog, answer, code, said):
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)
    hub.errors["ann/tweets"] = answer
    assert said in refused("predict", "--checkpoints_dir", "hf://ann/tweets", "hi", code=code)
    # The package would warn of each retry.
    assert caplog.records == []


def test_a_file_too_large_is_not_downloaded(hub):
    with pytest.raises(InputError, match="has 16 bytes; the limit is 15"):
        storage.read("hf://ann/tweets/big.bin", 15)
    assert paths(hub) == []
    assert storage.read("hf://ann/tweets/big.bin", 16) == b"not of the model"


def test_nothing_but_models_is_read_from_there(hub, tmp_path):
    flags = ("--checkpoints_dir", "hf://ann/tweets", "--output", tmp_path / "out")
    line = refused("score", *flags, "--input", "hf://ann/tweets")
    assert "only a model is read from there" in line
    with pytest.raises(InputError, match="only a model is read from there"):
        storage.write("hf://ann/tweets/a", b"")


def test_without_the_package_a_line_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(InputError, match=re.escape("pip install 'sentiment-pipelines[hub]'")):
        checkpoint.load("hf://ann/tweets")


@pytest.mark.process
def test_the_variables_of_the_hub_apply_and_a_pipe_sees_no_bar(hub, tmp_path):
    environment = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home")}
    done = subprocess.run(
        [sys.executable, "-m", "pipelines.predict", "--checkpoints_dir", "hf://ann/tweets", *TEXTS],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr, done.stdout.count("\n")) == (0, "", 2)
    assert list(Path(tmp_path, "home", "hub").glob("models--ann--tweets"))
