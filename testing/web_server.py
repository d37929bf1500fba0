"""A web server on this machine with the faults that a test asks for."""

import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Mirror:
    """Serves one file, with an ETag and ranges unless told otherwise."""

    def __init__(self, body: bytes):
        self.body, self.etag = body, '"one"'
        self.heeds_range = self.heeds_if_range = True
        self.statuses = []
        """What the next requests are answered with instead of the file."""
        self.cuts = []
        """Bytes after which the connections of the next requests drop."""
        self.hold_after = None
        """Bytes after which the server sends nothing more until `released` is set."""
        self.held, self.released = threading.Event(), threading.Event()
        self.ranges, self.sent = [], 0
        """The Range header of each request; bytes of bodies sent in all."""

    def __enter__(self):
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}/archive.zip"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *raised):
        self.released.set()
        self.server.shutdown()
        self.server.server_close()

    def _handler(self):
        answer = self.answer

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                answer(self)

            def log_message(self, *_):
                pass

        return Handler

    def answer(self, request):
        """Answer one GET request."""
        asked = request.headers.get("Range")
        self.ranges.append(asked)
        if self.statuses:
            request.send_error(self.statuses.pop(0))
            return
        start = 0
        same = request.headers.get("If-Range") == self.etag or not self.heeds_if_range
        if asked and self.heeds_range and same:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            request.send_response(206)
            size = len(self.body)
            request.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
        else:
            request.send_response(200)
        if self.etag is not None:
            request.send_header("ETag", self.etag)
        rest = self.body[start:]
        request.send_header("Content-Length", str(len(rest)))
        request.end_headers()
        if self.cuts:
            rest = rest[: self.cuts.pop(0)]
        if self.hold_after is not None:
            self._send(request, rest[: self.hold_after])
            rest = rest[self.hold_after :]
            self.hold_after = None
            self.held.set()
            self.released.wait(20)
        self._send(request, rest)

    def _send(self, request, data):
        # Counted first: the client may have it all before `write` returns.
        self.sent += len(data)
        with suppress(ConnectionError):
            request.wfile.write(data)
