"""A Hugging Face Hub on this machine: the few answers that downloading a model's files needs."""

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote


class HubServer:
    """Serves the models below a directory, as OWNER/NAME/FILE."""

    def __init__(self, models: Path) -> None:
        self.models = models
        self.commit = "a" * 40
        """What the branch `main` of every model names."""
        self.errors: dict[str, tuple[int, str]] = {}
        """Status and error code that a model is answered with, by OWNER/NAME."""
        self.requests: list[tuple[str, str]] = []
        """Method and path of each request."""
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                hub._answer(self)

            def do_GET(self) -> None:
                hub._answer(self)

            def log_message(self, *_: object) -> None:
                pass

        return Handler

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        self.requests.append((request.command, request.path))
        model, found, rest = unquote(request.path).lstrip("/").partition("/resolve/")
        revision, _, name = rest.partition("/")
        file = self.models / model / name
        if not found:
            status, code = 404, ""
        elif model in self.errors:
            status, code = self.errors[model]
        elif not (self.models / model).is_dir():
            status, code = 404, "RepoNotFound"
        elif revision not in ("main", self.commit):
            status, code = 404, "RevisionNotFound"
        elif not file.is_file():
            status, code = 404, "EntryNotFound"
        else:
            status, code = 200, ""
        content = file.read_bytes() if status == 200 else b""
        request.send_response(status)
        request.send_header("Content-Length", str(len(content)))
        request.send_header("X-Repo-Commit", self.commit)
        if code:
            request.send_header("X-Error-Code", code)
        else:
            request.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        request.end_headers()
        if request.command == "GET":
            request.wfile.write(content)
