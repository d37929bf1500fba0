"""A published model is loaded from the Hub as it was; nothing but the model is published."""

import base64
import json
import signal
import threading
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import huggingface_hub.constants
import pytest

import sentiment
from pipelines import publish
from pipelines.console import waiting
from pipelines.errors import Failure
from pipelines.publish import PublishConfig, main
from pipelines.reports.model_card import model_card
from sentiment.checkpoint import save
from sentiment.errors import InputError
from testing.evaluation_results import evaluated
from testing.generated import save_checkpoint
from testing.hub_server import HubServer
from testing.programs import refused, start, undated
from testing.waiting import wait_until

TEXTS = ["a lovely day", "awful :("]

KERNEL_BYTES = 12 << 20
"""More than the kernel keeps on its way. When these are sent, the client waits for the answer."""


class WritableHub(HubServer):
    """A Hub that also takes commits, as the client sends them, with large files beforehand."""

    def __init__(self, models: Path) -> None:
        super().__init__(models)
        self.created: list[dict[str, object]] = []
        self.status = 200
        """What requests to write are answered with."""
        self.refusal = "no"
        """What it says if that is not 200."""
        self.card: dict[str, list[dict[str, str]]] = {"errors": [], "warnings": []}
        """What it says of a model card."""
        self.large: set[str] = set()
        """Names of files that are large to it."""
        self.stored: dict[str, bytes] = {}
        """Large files by their SHA-256."""
        self.silent_at: tuple[str, ...] = ()
        """Pieces of the paths that it does not answer before it stops."""
        self.unanswered: list[str] = []
        """These paths, as they are asked for."""
        self.pause_seconds = 0.0
        """How long it waits in a body, after each MiB but the last ones."""
        self._stopping = threading.Event()

    def stop(self) -> None:
        self._stopping.set()
        super().stop()

    def is_silent(self, request: BaseHTTPRequestHandler) -> bool:
        """Whether a request is not answered, which is then over."""
        if is_silent := any(piece in request.path for piece in self.silent_at):
            self.unanswered.append(request.path)
            self._stopping.wait()
        return is_silent

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        if not self.is_silent(request):
            super()._answer(request)

    def _body(self, request: BaseHTTPRequestHandler) -> bytes:
        length = int(request.headers["Content-Length"])
        body = b""
        while len(body) < length:
            body += request.rfile.read(min(1 << 20, length - len(body)))
            if length - len(body) > KERNEL_BYTES:
                time.sleep(self.pause_seconds)
        return body

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        hub = self

        class Handler(super()._handler()):
            def do_POST(self) -> None:  # noqa: N802
                hub.requests.append((self.command, self.path))
                if hub.is_silent(self):
                    return
                answer = hub.written(self.path, hub._body(self))
                content = json.dumps(answer).encode()
                self.send_response(400 if answer.get("errors") else hub.status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def do_PUT(self) -> None:  # noqa: N802
                hub.requests.append((self.command, self.path))
                if hub.is_silent(self):
                    return
                hub.stored[self.path.rpartition("/")[2]] = hub._body(self)
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

        return Handler

    def written(self, path: str, body: bytes) -> dict[str, object]:
        """Do what a request asks for; the answer."""
        if self.status != 200:
            return {"error": self.refusal}
        _, _, model = path.partition("/api/models/")
        model = "/".join(model.split("/")[:2])
        if path == "/api/validate-yaml":
            return dict(self.card)
        if path == "/api/repos/create":
            self.created.append(json.loads(body))
            return {"url": f"{self.url}/ann/tweets"}
        if "/preupload/" in path:
            names = [file["path"] for file in json.loads(body)["files"]]
            modes = {name: "lfs" if name in self.large else "regular" for name in names}
            files = [{"path": n, "uploadMode": modes[n], "shouldIgnore": False} for n in names]
            return {"files": files}
        if path.endswith("/info/lfs/objects/batch"):
            objects = json.loads(body)["objects"]
            for each in objects:
                each["actions"] = {"upload": {"href": f"{self.url}/storage/{each['oid']}"}}
            return {"objects": objects}
        assert path == f"/api/models/{model}/commit/main", path
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] in ("file", "lfsFile"):
                is_large = line["key"] == "lfsFile"
                file = self.models / model / value["path"]
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(
                    self.stored[value["oid"]] if is_large else base64.b64decode(value["content"])
                )
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
    huggingface_hub.close_session()  # A test may have let it wait for less.


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


def test_large_files_are_uploaded_beforehand(hub, model, capfd):
    hub.large = {"weights.safetensors", "vocabulary.txt"}
    main(PublishConfig(str(model), "ann/tweets"))
    assert len(hub.stored) == 2
    found = sentiment.load("hf://ann/tweets").predict_proba(TEXTS)
    assert found.tobytes() == sentiment.load(str(model)).predict_proba(TEXTS).tobytes()
    assert not capfd.readouterr().err


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
    (model / "README.md").write_bytes(card.replace(b"\n", b"\r\n"))
    with pytest.raises(InputError, match=r"README\.md describes an earlier model "):
        main(PublishConfig(str(model), "ann/tweets"))
    save(earlier, str(model))
    main(PublishConfig(str(model), "ann/tweets"))
    assert (hub.models / "ann" / "tweets" / "README.md").exists()


@pytest.mark.parametrize("name", ["tweets", "ann/", "/tweets", "ann/tweets.git", "ann/tw eets", ""])
def test_a_name_without_an_owner_is_refused_before_anything_is_sent(hub, model, name):
    """The Hub would create it, and not take files for it."""
    said = refused("publish", "--checkpoints_dir", model, "--repo", name)
    assert said.startswith(f"error: --repo {name}")
    assert not hub.requests


def test_a_card_that_is_not_utf_8_is_named_before_anything_is_sent(hub, model):
    (model / "README.md").write_bytes(b"# Caf\xe9")
    said = refused("publish", "--checkpoints_dir", model, "--repo", "ann/tweets")
    assert said.startswith(f"error: {model}/README.md is not UTF-8 (")
    assert not hub.requests


def test_what_the_hub_says_of_a_card_is_one_line(hub, model, capsys, recwarn):
    (model / "README.md").write_text("# A card")
    hub.card["warnings"] = [{"message": "no license\x1b[31m"}, {"message": "no\nlanguage"}]
    main(PublishConfig(str(model), "ann/tweets"))
    warning, published = capsys.readouterr().out.splitlines()
    assert warning.startswith("Warning: the Hub says: ")
    assert warning.endswith(r"- no license\x1b[31m - no language")
    assert published.startswith("Published: ")
    assert not [each for each in recwarn if each.category is UserWarning]
    hub.card = {"errors": [{"message": '"license" must be\na word'}], "warnings": []}
    with pytest.raises(InputError, match=r'refuses .*/README\.md: .* "license" must be a word: '):
        main(PublishConfig(str(model), "ann/tweets"))


@pytest.mark.parametrize("path", ["/api/repos/create", "/api/validate-yaml", "/commit/"])
def test_a_hub_that_is_silent_ends_it(hub, model, capsys, monkeypatch, path):
    (model / "README.md").write_text("# A card")
    monkeypatch.setattr(publish, "SILENCE_SECONDS", 0.5)
    monkeypatch.setattr(waiting, "DELAY_SECONDS", 0)
    hub.silent_at = (path,)
    with pytest.raises(Failure, match=r": the Hub does not answer within 0\.5 s: run the same"):
        main(PublishConfig(str(model), "ann/tweets"))
    assert capsys.readouterr().out == f"Publishing {model} as ann/tweets ...\n"


def test_a_hub_that_says_what_timed_out_has_answered(hub, model):
    hub.status, hub.refusal = 422, "a check of this name timed out"
    with pytest.raises(Failure, match=r"a check of this name timed out.*: run the same command"):
        main(PublishConfig(str(model), "ann/tweets"))


def test_an_upload_may_take_longer_than_a_silence(hub, model, monkeypatch):
    (model / "README.md").write_text("# A card\n" + "a" * (28 << 20))
    monkeypatch.setattr(publish, "SILENCE_SECONDS", 1.5)
    hub.pause_seconds = 0.1
    began = time.monotonic()
    main(PublishConfig(str(model), "ann/tweets"))
    assert time.monotonic() - began > 2 * publish.SILENCE_SECONDS
    assert (hub.models / "ann" / "tweets" / "README.md").exists()


@pytest.mark.process
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_the_upload_of_large_files(hub, model, tmp_path, number, code):
    hub.large = {"weights.safetensors", "vocabulary.txt"}
    hub.silent_at = ("/xet-write-token/", "/storage/")
    home = str(tmp_path / "home")
    flags = ("--checkpoints_dir", model, "--repo", "ann/tweets")
    program = start("publish", *flags, HF_ENDPOINT=hub.url, HF_HOME=home)
    try:
        wait_until(lambda: hub.unanswered, 60, "the upload")
        program.send_signal(number)
        out, err = program.communicate(timeout=10)
    finally:
        program.kill()
    assert (program.returncode, err) == (code, "error: interrupted\n")
    first, *others = undated(out).splitlines()
    assert first.startswith("There is no model card: ")
    assert others in ([], [f"Publishing {model} as ann/tweets ..."])  # On a busy machine.


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
