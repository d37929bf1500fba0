"""URL or pinned package -> a whole file on disk; HTTP goes on where it broke off."""

import hashlib
import importlib.util
import json
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import requests
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from pipelines.errors import Failure
from sentiment import storage
from sentiment.errors import on_one_line

PAUSES = (0.5, 1.0, 2.0, 4.0)
"""Seconds to wait after each attempt that broke off; one more attempt than pauses is made."""

TIMEOUT = (15, 60)
"""Seconds to connect, and between two arrivals of data."""

BLOCK = 64 * 2**10
"""Bytes written at a time: at most so many are fetched twice when a connection drops."""

LINE_EVERY = 5.0
"""Seconds between lines of progress where stderr is no terminal."""


class Progress:
    """How many bytes of a step are done, on stderr: a bar on a terminal, else a line at times."""

    def __init__(self, what: str):
        self._what = what
        self._stack = ExitStack()
        self._bar = None

    def __enter__(self) -> "Progress":
        self.say(self._what)
        if sys.stderr.isatty():
            columns = BarColumn(), DownloadColumn(), TimeRemainingColumn()
            self._bar = self._stack.enter_context(Bar(*columns, console=Console(stderr=True)))
            self._task = self._bar.add_task(self._what, total=None)
        return self

    def __exit__(self, *raised) -> None:
        self._stack.close()

    def to(self, done: int, total: int | None) -> None:
        """`done` bytes of `total` are done; None: nobody knows how many there are."""
        if self._bar is not None:
            self._bar.update(self._task, completed=done, total=total)
        elif time.monotonic() - self._said >= LINE_EVERY:
            self.say(f"{self._what}: {megabytes(done, total)}")

    def say(self, line: str) -> None:
        """A line of its own."""
        self._said = time.monotonic()
        if self._bar is not None:
            self._bar.console.print(line, markup=False, highlight=False)
        else:
            print(line, file=sys.stderr, flush=True)


class _Broken(Exception):
    """An attempt came to nothing, or not to all of the file; another one may."""


def megabytes(done: int, total: int | None = None) -> str:
    """`12.3 of 81.4 MB`, or `12.3 MB`."""
    return f"{done / 1e6:.1f} MB" if total is None else f"{done / 1e6:.1f} of {total / 1e6:.1f} MB"


def shown(url: str) -> str:
    """The URL without what may be a secret: user, password and query."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


def forget(target: Path) -> None:
    """Remove a download, whole or partial, and what is known about it."""
    for path in (target, _state_of(target)):
        path.unlink(missing_ok=True)


def download(url: str, target: Path, pauses: Sequence[float] = PAUSES) -> None:
    """Bring the file at `url` to `target`; what is there of the same file already is kept.

    What arrived stays when this fails or is killed, and a JSON file beside it remembers which
    file it is the beginning of (the server's strong ETag, else its date). The next call asks for
    the rest, and starts again where the server has another file by now or gives no parts. A file
    that is whole costs no request.

    Raises Failure if the server refuses, and once every attempt has broken off.
    """
    with requests.Session() as session, Progress(f"downloading {shown(url)}") as progress:
        for pause in (*pauses, None):
            try:
                _attempt(session, url, target, progress)
                return
            except _Broken as broken:
                if pause is None:
                    raise Failure(
                        f"{shown(url)}: {broken}; what arrived is kept, and the same command "
                        "goes on from there"
                    ) from None
                progress.say(f"{broken}; trying again in {pause:g} s")
            time.sleep(pause)


def _attempt(session: requests.Session, url: str, target: Path, progress: Progress) -> None:
    key = hashlib.sha256(url.encode()).hexdigest()
    have, state = _kept(target, key)
    if have and have == state["size"]:
        progress.say(f"{megabytes(have)} are there already")
        return
    headers = {"Accept-Encoding": "identity"}
    if have:
        headers |= {"Range": f"bytes={have}-", "If-Range": state["validator"]}
    with _open(session, url, headers) as response:
        length = response.headers.get("Content-Length", "")
        size = int(length) if length.isdecimal() else None
        if response.status_code == 206:
            ranged = re.match(r"bytes (\d+)-\d+/(\d+)$", response.headers.get("Content-Range", ""))
            # Not every server heeds If-Range: what it sends must be of the file we began.
            if (
                not have
                or ranged is None
                or [int(number) for number in ranged.groups()] != [have, state["size"]]
                or _validator(response) != state["validator"]
            ):
                forget(target)
                raise _Broken("the server's file changed meanwhile")
            size = state["size"]
            progress.say(f"going on after {megabytes(have, size)}")
        elif response.status_code == 416:
            forget(target)
            raise _Broken("the server's file changed meanwhile")
        else:
            have = 0
            target.write_bytes(b"")
            state = {"url": key, "validator": _validator(response), "size": size}
            storage.write(str(_state_of(target)), json.dumps(state).encode())
        with open(target, "ab", buffering=0) as file:
            try:
                for block in response.iter_content(BLOCK):
                    file.write(block)
                    have += len(block)
                    progress.to(have, size)
            except requests.RequestException:
                raise _Broken(f"the connection dropped at {megabytes(have, size)}") from None
        if size is not None and have != size:
            raise _Broken(f"the connection dropped at {megabytes(have, size)}")
        # A server that does not tell the length has told it now.
        storage.write(str(_state_of(target)), json.dumps(state | {"size": have}).encode())


def _open(session: requests.Session, url: str, headers: dict[str, str]) -> requests.Response:
    try:
        response = session.get(url, headers=headers, stream=True, timeout=TIMEOUT)
    except requests.exceptions.SSLError as error:
        raise Failure(f"{shown(url)}: {_reason(error)}") from None
    except (requests.ConnectionError, requests.Timeout) as error:
        raise _Broken(f"no connection to {urlsplit(url).hostname}: {_reason(error)}") from None
    except requests.RequestException as error:
        raise Failure(f"{shown(url)}: {_reason(error)}") from None
    hops = [hop.url for hop in (*response.history, response)]
    status = f"{response.status_code} {response.reason}"
    if url.lower().startswith("https:") and not all(hop.startswith("https:") for hop in hops):
        response.close()
        raise Failure(f"{shown(url)} redirects to {shown(response.url)}, which is not encrypted")
    if response.status_code >= 500 or response.status_code in (408, 429):
        response.close()
        raise _Broken(f"the server answers {status}")
    if response.status_code not in (200, 206, 416):
        response.close()
        raise Failure(f"{shown(url)}: the server answers {status}")
    return response


def _reason(error: requests.RequestException) -> str:
    """What went wrong, without the objects that urllib3 wraps it in."""
    cause = getattr(error.args[0], "reason", None) if error.args else None
    return on_one_line(cause or error).rpartition("): ")[2][:300]


def _kept(target: Path, key: str) -> tuple[int, dict]:
    """Bytes that are there of a file that can be gone on with, and what is known of the file."""
    try:
        state = json.loads(_state_of(target).read_bytes())
        have = target.stat().st_size
    except (FileNotFoundError, ValueError):
        return 0, {}
    if state["url"] != key or not (state["validator"] or have == state["size"]):
        return 0, {}
    return have, state


def _validator(response: requests.Response) -> str | None:
    # RFC 9110, 13.1.5: a weak ETag does not tell whether bytes are the same.
    etag = response.headers.get("ETag", "W/")
    return response.headers.get("Last-Modified") if etag.startswith("W/") else etag


def _state_of(target: Path) -> Path:
    return target.with_name(target.name + ".json")


def download_wheel(requirement: str, sha256: str, directory: Path) -> Path:
    """Have pip bring one wheel, checked against its hash, into a new directory.

    The index is the one the user's pip is configured for. Nothing is installed or run. Raises
    Failure with what pip says.
    """
    if importlib.util.find_spec("pip") is None:
        raise Failure(f"this Python has no pip; {sys.executable} -m ensurepip brings it")
    directory.mkdir()
    pinned = directory / "requirements.txt"
    pinned.write_text(f"{requirement} --hash=sha256:{sha256}\n")
    flags = (
        "-q --no-input --disable-pip-version-check --no-deps --only-binary :all: --require-hashes"
    )
    command = [sys.executable, "-m", "pip", "download", *flags.split(), "-r", pinned]
    print(f"downloading {requirement} with pip", file=sys.stderr, flush=True)
    done = subprocess.run(
        [*command, "-d", directory],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
    )
    if done.returncode:
        said = done.stderr.splitlines()
        errors = [line.removeprefix("ERROR: ") for line in said if line.startswith("ERROR: ")]
        if any("connection broken by" in line for line in said):
            errors.insert(0, "no connection to the package index; PIP_INDEX_URL names another")
        reason = on_one_line("; ".join(errors or said[-1:]))
        raise Failure(f"pip cannot download {requirement}: {reason[:400]}")
    return next(directory.glob("*.whl"))
