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


class _AttemptFailed(Exception):
    """An attempt did not get the whole file; another one may."""


def shown(url: str) -> str:
    """The URL without its possibly secret parts: user, password, query, fragment."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


def download(url: str, directory: Path, pauses: Sequence[float] = PAUSE_SECONDS) -> Path:
    """Download the file at `url` into `directory`; returns its path, named by a hash of the URL.

    A file that is already there costs no request. What arrives before a failure or a kill stays in
    a `.partial` file, with the server's validator (strong ETag or date) in a `.version` file. The
    next attempt asks for the rest with If-Range. It starts again if the file on the server has
    changed, or if the server does not support ranges.

    Raises Failure if the server refuses, or when the last attempt has failed.
    """
    target = directory / hashlib.sha256(url.encode()).hexdigest()[:16]
    partial, version = target.with_suffix(".partial"), target.with_suffix(".version")
    label = f"downloading {shown(url)}"
    with requests.Session() as session, Progress(megabytes, label, sys.stderr) as progress:
        progress.say(label)
        if target.exists():
            progress.say(f"{megabytes(target.stat().st_size)} were already downloaded")
            return target
        failure: _AttemptFailed | None = None
        for pause in (0, *pauses):
            if failure is not None:
                progress.say(f"{failure}; trying again in {pause:g} s")
                time.sleep(pause)
            try:
                _attempt(session, url, partial, version, progress)
                partial.rename(target)
                version.unlink()
                return target
            except _AttemptFailed as error:
                failure = error
    is_kept = partial.exists() and partial.stat().st_size > 0
    hint = "; run the same command to continue the download" if is_kept else ""
    raise Failure(f"{shown(url)}: {failure}{hint}")


def _attempt(
    session: requests.Session, url: str, partial: Path, version: Path, progress: Progress
) -> None:
    """Ask for what `partial` lacks and append it, or write the file from its beginning."""
    validator = version.read_text() if version.exists() else ""
    done = partial.stat().st_size if validator and partial.exists() else 0
    headers = {"Accept-Encoding": "identity"}
    if done:
        headers |= {"Range": f"bytes={done}-", "If-Range": validator}
    with _get(session, url, headers) as response:
        if response.status_code == 200:
            done = 0
            # In this order, a kill never leaves a partial file beside another file's validator.
            partial.unlink(missing_ok=True)
            version.write_text(_validator(response))
        else:
            # Some servers ignore If-Range, so check that this is the rest of the same file.
            content_range = response.headers.get("Content-Range", "")
            is_rest = content_range.startswith(f"bytes {done}-")
            if not done or not is_rest or _validator(response) != validator:
                partial.unlink(missing_ok=True)
                version.unlink(missing_ok=True)
                raise _AttemptFailed("the file on the server has changed")
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
            raise _AttemptFailed(f"the connection dropped at {megabytes(done, total)}")


def _get(session: requests.Session, url: str, headers: dict[str, str]) -> requests.Response:
    """The response to a GET request, with status 200, 206 or 416 (range not satisfiable)."""
    try:
        response = session.get(url, headers=headers, stream=True, timeout=TIMEOUT_SECONDS)
    except requests.RequestException as error:
        # The innermost reason, without the objects that urllib3 names around it.
        cause = getattr(error.args[0], "reason", None) if error.args else None
        reason = on_one_line(cause or error).rpartition("): ")[2][:300]
        is_final = not isinstance(error, requests.ConnectionError | requests.Timeout)
        if is_final or isinstance(error, requests.exceptions.SSLError):
            raise Failure(f"{shown(url)}: {reason}") from None
        raise _AttemptFailed(f"no connection to {urlsplit(url).hostname}: {reason}") from None
    status = f"the server answers {response.status_code} {response.reason}"
    hops = [hop.url for hop in (*response.history, response)]
    if response.status_code in (200, 206, 416):
        if url.lower().startswith("https:") and not all(hop.startswith("https:") for hop in hops):
            response.close()
            raise Failure(f"{shown(url)} redirects to {shown(hops[-1])}, which is not encrypted")
        return response
    response.close()
    if response.status_code >= 500 or response.status_code in (408, 429):
        raise _AttemptFailed(status)
    raise Failure(f"{shown(url)}: {status}")


def _validator(response: requests.Response) -> str:
    """What tells the versions of a file apart: a strong ETag, else the date, else ""."""
    # RFC 9110, 13.1.5: a weak ETag does not tell whether bytes are the same.
    etag = response.headers.get("ETag", "W/")
    return response.headers.get("Last-Modified", "") if etag.startswith("W/") else etag
