"""Download a file over HTTP: retries, and continues a download that broke off, also later."""

import hashlib
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

import requests

from pipelines.console.progress import Progress, megabytes
from pipelines.errors import Failure
from sentiment.errors import on_one_line

PAUSE_SECONDS = (0.5, 1.0, 2.0, 4.0)
"""Waits after each failed attempt; there is one more attempt than waits."""

TIMEOUT_SECONDS = (15, 60)
"""Longest wait for a connection, and between two arrivals of data."""

BLOCK_BYTES = 64 * 2**10
"""Bytes written at a time; at most so many are downloaded twice when a connection drops."""


def shown(url: str) -> str:
    """The URL without its possibly secret parts: user, password, query, fragment."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


def download(url: str, directory: Path, pauses: Sequence[float] = PAUSE_SECONDS) -> Path:
    """Download the file at `url` into `directory`; returns its path, named by a hash of the URL.

    A file that is already there costs no request. What arrives before a failure or a kill stays in
    a `.partial` file, with the server's validator (strong ETag or date) in a `.version` file. The
    next attempt asks for the rest. It starts again if the file on the server has changed, or if
    the server does not support ranges.

    Raises Failure if the server refuses, or when the last attempt has failed.
    """
    target = directory / hashlib.sha256(url.encode()).hexdigest()[:16]
    partial, version = target.with_suffix(".partial"), target.with_suffix(".version")
    label = f"downloading {shown(url)}"
    with requests.Session() as session, Progress(megabytes, label, sys.stderr) as progress:
        progress.say(label)
        for pause in (*pauses, None):
            if target.exists():
                progress.say(f"{megabytes(target.stat().st_size)} are already there")
                break
            try:
                _attempt(session, url, partial, version, progress)
                partial.rename(target)
                version.unlink()
                break
            except requests.RequestException as error:
                if pause is None or not _is_transient(error):
                    is_kept = partial.exists() and partial.stat().st_size > 0
                    hint = "; run the same command to continue the download" if is_kept else ""
                    raise Failure(f"{shown(url)}: {_reason(error)}{hint}") from None
                progress.say(f"{_reason(error)}; trying again in {pause:g} s")
                time.sleep(pause)
    return target


def _attempt(
    session: requests.Session, url: str, partial: Path, version: Path, progress: Progress
) -> None:
    """Ask for what `partial` lacks and append it, or write the file from its beginning.

    Raises requests.RequestException if the file is not complete afterwards.
    """
    validator = version.read_text() if version.exists() else ""
    done = partial.stat().st_size if validator and partial.exists() else 0
    headers = {"Accept-Encoding": "identity"}
    if done:
        headers |= {"Range": f"bytes={done}-", "If-Range": validator}
    with session.get(url, headers=headers, stream=True, timeout=TIMEOUT_SECONDS) as response:
        require_encrypted(url, response)
        if response.status_code in (206, 416):
            # Some servers ignore If-Range, so check that this is the rest of the same file.
            content_range = response.headers.get("Content-Range", "")
            is_rest = content_range.startswith(f"bytes {done}-")
            if not done or not is_rest or _validator(response) != validator:
                partial.unlink(missing_ok=True)
                version.unlink(missing_ok=True)
                raise requests.ConnectionError("the file on the server has changed")
        else:
            response.raise_for_status()
            done = 0
            # In this order, a kill never leaves a partial file beside another file's validator.
            partial.unlink(missing_ok=True)
            version.write_text(_validator(response))
        length = response.headers.get("Content-Length", "")
        total = done + int(length) if length.isdecimal() else None
        if done:
            progress.say(f"continuing after {megabytes(done, total)}")
        progress.start(total, done)
        is_cut = False
        with open(partial, "ab", buffering=0) as file:
            try:
                for block in response.iter_content(BLOCK_BYTES):
                    file.write(block)
                    done += len(block)
                    progress.update(done)
            except requests.RequestException:
                is_cut = True
        if is_cut or total not in (None, done):
            raise requests.ConnectionError(f"connection dropped at {megabytes(done, total)}")


def require_encrypted(url: str, response: requests.Response) -> None:
    """Raise Failure if an https address redirected to one that is not."""
    hops = [hop.url for hop in (*response.history, response)]
    if url.lower().startswith("https:") and not all(hop.startswith("https:") for hop in hops):
        raise Failure(f"{shown(url)} redirects to {shown(hops[-1])}, which is not encrypted")


def _validator(response: requests.Response) -> str:
    """What tells the versions of a file apart: a strong ETag, else the date, else ""."""
    # RFC 9110, 13.1.5: a weak ETag does not tell whether bytes are the same.
    etag = response.headers.get("ETag", "W/")
    return response.headers.get("Last-Modified", "") if etag.startswith("W/") else etag


def _is_transient(error: requests.RequestException) -> bool:
    """Whether another attempt may succeed."""
    if error.response is not None:
        return error.response.status_code >= 500 or error.response.status_code in (408, 429)
    is_network = isinstance(error, requests.ConnectionError | requests.Timeout)
    return is_network and not isinstance(error, requests.exceptions.SSLError)


def _reason(error: requests.RequestException) -> str:
    """What went wrong, in one line, without the objects that urllib3 names before the reason."""
    if error.response is not None:
        return f"the server answers {error.response.status_code} {error.response.reason}"
    cause = error.args[0] if error.args else None
    if isinstance(cause, Exception):
        # Of a connection that breaks off, urllib3 gives a text and the error.
        cause = getattr(cause, "reason", None) or ": ".join(map(str, cause.args))
    # urllib3 has put the reason into this one.
    of_proxy = getattr(cause, "original_error", None)
    reason = on_one_line(of_proxy or cause or error).rpartition("): ")[2][:300]
    return f"the proxy does not answer: {reason}" if of_proxy else reason
