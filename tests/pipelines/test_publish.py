"""A published model is loaded from the Hub as it was; nothing but the model is published."""

import base64
import json
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import huggingface_hub.constants
import pytest

import sentiment
from pipelines.errors import Failure
from pipelines.publish import PublishConfig, main
from pipelines.reports.model_card import model_card
from sentiment.checkpoint import save
from sentiment.errors import InputError
from testing.evaluation_results import evaluated
from testing.generated import save_checkpoint
from testing.hub_server import HubServer

TEXTS = ["a lovely day", "awful :("]


class WritableHub(HubServer):
    """A Hub that also takes commits, as the client sends them for small files."""

    def __init__(self, models: Path) -> None:
        super().__init__(models)
        self.created: list[dict[str, object]] = []
        self.status = 200
        """What requests to write are answered with."""

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        hub = self

        class Handler(super()._handler()):
            def do_POST(self) -> None:  # noqa: N802
                body = self.rfile.read(int(self.headers["Content-Length"]))
                content = json.dumps(hub.written(self.path, body)).encode()
                self.send_response(hub.status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

        return Handler

    def written(self, path: str, body: bytes) -> dict[str, object]:
        """Do what a request asks for; the answer."""
        if self.status != 200:
            return {"error": "no"}
        _, _, model = path.partition("/api/models/")
        model = "/".join(model.split("/")[:2])
        if path == "/api/validate-yaml":
            return {"errors": [], "warnings": []}
        if path == "/api/repos/create":
            self.created.append(json.loads(body))
            return {"url": f"{self.url}/ann/tweets"}
        if "/preupload/" in path:
            names = [file["path"] for file in json.loads(body)["files"]]
            files = [{"path": n, "uploadMode": "regular", "shouldIgnore": False} for n in names]
            return {"files": files}
        assert path == f"/api/models/{model}/commit/main", path
        for line in map(json.loads, body.splitlines()):
            if line["key"] == "file":
                file = self.models / model / line["value"]["path"]
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(base64.b64decode(line["value"]["content"]))
        url = f"{self.url}/{model}/commit/{self.commit}"
        return {"success": True, "commitOid": self.commit, "commitUrl": url, "hookOutput": ""}


@pytest.fixture
def hub(tmp_path, monkeypatch):
    server = WritableHub(tmp_path / "hub")
    constants = huggingface_hub.constants
    template = f"{server.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    # As the variables set them when the package is imported.
    monkeypatch.setattr(constants, "ENDPOINT", server.url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_TOKEN", "hf_test")
    yield server
    server.stop()


@pytest.fixture
def model(tmp_path):
    save_checkpoint(tmp_path / "model")
    for name in ("report.html", "config.yaml"):
        (tmp_path / "model" / name).write_text("texts of customers")
    return tmp_path / "model"


def test_it_is_loaded_from_there_as_it_was(hub, model, capsys):
    (model / "README.md").write_text("# A card")
    main(PublishConfig(str(model), "ann/tweets", private=True))
    assert capsys.readouterr().out == f"Published: {hub.url}/ann/tweets/commit/{hub.commit}\n"
    (created,) = hub.created
    assert created == {"name": "tweets", "organization": "ann", "visibility": "private"}
    published = {path.name for path in (hub.models / "ann" / "tweets").iterdir()}
    assert published == {path.name for path in model.iterdir()} - {"report.html", "config.yaml"}
    assert (hub.models / "ann" / "tweets" / "README.md").read_text() == "# A card"
    found = sentiment.load("hf://ann/tweets").predict_proba(TEXTS)
    assert found.tobytes() == sentiment.load(str(model)).predict_proba(TEXTS).tobytes()


def test_a_card_that_is_lacking_is_said(hub, model, capsys):
    main(PublishConfig(str(model), "ann/tweets"))
    first, _ = capsys.readouterr().out.splitlines()
    assert first.startswith("There is no model card: python -m pipelines.evaluate ")
    assert not (hub.models / "ann" / "tweets" / "README.md").exists()


def test_the_card_of_an_earlier_model_is_not_published(hub, model, tmp_path):
    """Such as of a run that has taken more steps since."""
    earlier = save_checkpoint(tmp_path / "earlier", seed=1)
    card = model_card(evaluated(earlier, TEXTS, [1, 0], [0.9, 0.2]))
    (model / "README.md").write_bytes(card)
    with pytest.raises(InputError, match=r"README\.md describes an earlier model "):
        main(PublishConfig(str(model), "ann/tweets"))
    assert not (hub.models / "ann" / "tweets").exists()
    save(earlier, str(model))
    main(PublishConfig(str(model), "ann/tweets"))
    assert (hub.models / "ann" / "tweets" / "README.md").exists()


def test_what_cannot_be_published_is_one_line(hub, model):
    with pytest.raises(InputError, match="--repo not/a/name: Repo id"):
        main(PublishConfig(str(model), "not/a/name"))
    hub.status = 403
    with pytest.raises(InputError, match="does not let you write to --repo ann/tweets: set HF_T"):
        main(PublishConfig(str(model), "ann/tweets"))
    hub.status = 400
    with pytest.raises(Failure, match=r"--repo ann/tweets cannot be written: .*: run the same"):
        main(PublishConfig(str(model), "ann/tweets"))
    (model / "weights.safetensors").write_bytes(b"cut off")
    with pytest.raises(InputError, match=r"is damaged: weights\.safetensors"):
        main(PublishConfig(str(model), "ann/tweets"))
