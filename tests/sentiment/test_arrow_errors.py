"""Arrow's error messages still say what `sentiment.arrow_errors` reads from them.

Arrow asks a server that answers with failures, as S3 and Google Cloud Storage do. If one of these
tests fails after an upgrade of Arrow, adapt `sentiment/arrow_errors.py` to the new messages.
"""

import datetime
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pyarrow.fs as pafs
import pytest

from sentiment.arrow_errors import is_misread, is_outage, without_details

ERROR = r"AWS Error|google::cloud::Status"


@contextmanager
def failing_server(status: int, body: bytes, head_status: int | None = None) -> Iterator[str]:
    """The address of a server that answers all requests alike; HEAD, if given, by its own."""

    class Handler(BaseHTTPRequestHandler):
        def answer(self, answered: int, content: bytes) -> None:
            self.send_response(answered)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        def do_GET(self) -> None:
            self.answer(status, body)

        def do_HEAD(self) -> None:
            self.answer(head_status or status, body[:4] if head_status else body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def s3(address: str) -> pafs.S3FileSystem:
    return pafs.S3FileSystem(
        access_key="key",
        secret_key="secret",
        region="us-east-1",
        scheme="http",
        endpoint_override=address,
        retry_strategy=pafs.AwsDefaultS3RetryStrategy(max_attempts=1),
    )


def google(address: str) -> pafs.GcsFileSystem:
    patience = datetime.timedelta(seconds=0.1)
    return pafs.GcsFileSystem(
        anonymous=True, scheme="http", endpoint_override=address, retry_time_limit=patience
    )


def s3_error(code: str) -> bytes:
    return f"<Error><Code>{code}</Code><Message>Sorry</Message></Error>".encode()


@pytest.mark.parametrize(
    ("status", "code", "outage"),
    [
        (500, "InternalError", True),
        (503, "ServiceUnavailable", True),
        (503, "SlowDown", True),
        (502, "BadGateway", True),
        (429, "TooManyRequests", True),
        (400, "RequestTimeout", True),
        (400, "InvalidArgument", False),
        (403, "AccessDenied", False),
        (404, "NoSuchKey", False),
    ],
)
def test_an_answer_of_s3_is_an_outage_or_not(status, code, outage):
    with (
        failing_server(status, s3_error(code)) as address,
        pytest.raises(OSError, match=ERROR) as caught,
    ):
        # A listing: the answer to a HEAD request has no body, and so no code.
        s3(address).get_file_info(pafs.FileSelector("bucket"))
    assert is_outage(caught.value) == outage, caught.value
    assert not is_outage(ValueError(str(caught.value)))


@pytest.mark.parametrize(("status", "outage"), [(500, True), (503, True), (403, False)])
def test_an_answer_of_s3_without_a_body_is_an_outage_or_not(status, outage):
    with failing_server(status, b"") as address, pytest.raises(OSError, match=ERROR) as caught:
        s3(address).open_input_file("bucket/file")
    assert is_outage(caught.value) == outage, caught.value


@pytest.mark.parametrize(
    ("status", "outage"), [(500, True), (503, True), (429, True), (403, False), (404, False)]
)
def test_an_answer_of_google_is_an_outage_or_not(status, outage):
    with failing_server(status, b"{}") as address, pytest.raises(OSError, match=ERROR) as caught:
        google(address).open_input_file("bucket/file")
    assert is_outage(caught.value) == outage, caught.value
    assert len(without_details(str(caught.value))) < 300


@pytest.mark.parametrize("connect", [s3, google])
def test_a_server_that_cannot_be_reached_is_an_outage(connect):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        filesystem = connect(f"127.0.0.1:{unused.getsockname()[1]}")
        with pytest.raises(OSError, match=ERROR) as caught:
            filesystem.open_input_file("bucket/file")
    assert is_outage(caught.value), caught.value


def test_slow_down_that_arrow_takes_for_the_content_is_misread():
    slow_down = s3_error("SlowDown")
    with (
        failing_server(503, slow_down, head_status=200) as address,
        s3(address).open_input_file("bucket/file") as file,
        pytest.raises(OSError, match=ERROR) as caught,
    ):
        file.read()
    assert is_misread(caught.value), caught.value
    assert is_outage(caught.value), caught.value


def test_no_error_is_no_outage():
    assert not is_outage(None)
    assert not is_misread(None)
