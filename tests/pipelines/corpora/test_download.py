"""Downloads: resumed after a break, never mixed from two versions, failing in one line."""

import random
import socket
from http.client import BadStatusLine

import pytest
import requests
from urllib3.exceptions import ProtocolError

from pipelines.corpora.download import BLOCK_BYTES, _reason, download, require_encrypted, shown
from pipelines.errors import Failure
from testing.waiting import free_ports
from testing.web_server import Mirror

CONTENT = random.Random(0).randbytes(20 * BLOCK_BYTES - 1)


@pytest.fixture
def mirror():
    with Mirror(CONTENT) as mirror:
        yield mirror


@pytest.mark.parametrize("cut", [0, 1, BLOCK_BYTES, 3 * BLOCK_BYTES + 7, len(CONTENT) - 1])
def test_a_dropped_download_continues_where_it_stopped(mirror, tmp_path, cut):
    mirror.cuts = [cut]
    assert download(mirror.url, tmp_path, pauses=(0,)).read_bytes() == CONTENT
    kept = cut // BLOCK_BYTES * BLOCK_BYTES
    assert mirror.ranges == [None, f"bytes={kept}-" if kept else None]
    assert mirror.sent == len(CONTENT) + cut - kept
    download(mirror.url, tmp_path)
    assert len(mirror.ranges) == 2


def test_a_download_that_keeps_dropping_fails_and_continues_later(mirror, tmp_path):
    mirror.cuts = [BLOCK_BYTES] * 3
    with pytest.raises(
        Failure, match=r"connection dropped at 0.2 of .* MB; run the same command to continue"
    ):
        download(mirror.url, tmp_path, pauses=(0, 0))
    assert len(mirror.ranges) == 3
    assert download(mirror.url, tmp_path).read_bytes() == CONTENT
    assert mirror.ranges[-1] == f"bytes={3 * BLOCK_BYTES}-"


@pytest.mark.parametrize("fault", ["no ranges", "no validator", "weak ETag", "416"])
def test_a_download_that_cannot_continue_starts_again(mirror, tmp_path, fault):
    mirror.cuts = [4 * BLOCK_BYTES]
    if fault == "no ranges":
        mirror.heeds_range = False
    elif fault != "416":
        mirror.etag = None if fault == "no validator" else 'W/"one"'
    with pytest.raises(Failure):
        download(mirror.url, tmp_path, pauses=())
    mirror.statuses = [416] if fault == "416" else []
    assert download(mirror.url, tmp_path, pauses=(0,)).read_bytes() == CONTENT
    assert (mirror.ranges[1] is None) == (fault in ("no validator", "weak ETag"))


@pytest.mark.parametrize("heeds_if_range", [True, False])
@pytest.mark.parametrize("size", [len(CONTENT), len(CONTENT) - 100])
def test_a_file_that_changed_is_not_mixed_with_the_old_one(mirror, tmp_path, heeds_if_range, size):
    mirror.cuts = [4 * BLOCK_BYTES]
    with pytest.raises(Failure):
        download(mirror.url, tmp_path, pauses=())
    mirror.body, mirror.etag = bytes(size), '"two"'
    mirror.heeds_if_range = heeds_if_range
    assert download(mirror.url, tmp_path, pauses=(0,)).read_bytes() == bytes(size)


def test_another_address_starts_again(mirror, tmp_path):
    mirror.cuts = [4 * BLOCK_BYTES]
    with pytest.raises(Failure):
        download(mirror.url, tmp_path, pauses=())
    assert download(f"{mirror.url}?other", tmp_path, pauses=()).read_bytes() == CONTENT
    assert mirror.ranges == [None, None]


def test_a_busy_server_is_asked_again(mirror, tmp_path):
    mirror.statuses = [503, 503]
    assert download(mirror.url, tmp_path, pauses=(0, 0)).read_bytes() == CONTENT
    assert len(mirror.ranges) == 3


def test_shown_addresses_hold_no_secret():
    assert shown("https://me:pass@host:8443/a.zip?key=1#x") == "https://host:8443/a.zip"


def test_a_redirect_from_https_to_http_is_refused():
    first, last = requests.Response(), requests.Response()
    first.url, last.url, last.history = "https://host/a.zip", "https://other/a.zip", [first]
    require_encrypted("https://host/a.zip", last)
    last.url = "http://user:secret@other/a.zip"
    with pytest.raises(Failure, match=r"redirects to http://other/a\.zip, which is not encrypted"):
        require_encrypted("https://host/a.zip", last)


def test_no_connection_is_a_failure_in_one_line(tmp_path):
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unheard.getsockname()[1]}/archive.zip"
        with pytest.raises(Failure, match=r"^http://127.0.0.1:\d+/archive.zip: [^\n]*refused$"):
            download(url, tmp_path, pauses=(0,))
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(Failure, match=r"^http://nowhere.invalid/archive.zip: [^\n]+$"):
        download("http://nowhere.invalid/archive.zip", tmp_path, pauses=())


def test_a_connection_that_breaks_off_is_told_in_words():
    cause = ProtocolError("Connection aborted.", BadStatusLine("garbage\r\n"))
    assert _reason(requests.ConnectionError(cause)) == "Connection aborted.: garbage"


def test_a_proxy_that_is_away_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_ports(1)[0]}")
    said = r": the proxy does not answer: Failed to establish .*Connection refused$"
    with pytest.raises(Failure, match=said):
        download("http://example.com/x", tmp_path, pauses=())
