"""Arrow filesystems for buckets of S3 and Google Cloud Storage, with retries that we set."""

import datetime
import functools
import os
import socket
import time
import urllib.parse
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

import pyarrow.fs as pafs

from sentiment.arrow_errors import is_outage

Result = TypeVar("Result")

S3_ATTEMPTS = 12
"""Per request, with pauses from 25 ms that double each time: about a minute in all."""

GOOGLE_RETRY_TIME = datetime.timedelta(minutes=1)
"""How long a request is retried. Google's library would retry for a quarter of an hour."""

OWN_ATTEMPTS = 6
"""Attempts of `retried`, for what Arrow tries only once: 6 s of pauses in all."""

REGION_SECONDS = 6.0
"""After so long, the request that asks for a bucket's region is not tried again. Without a network
each try takes 6 s."""

REACH_SECONDS = 10.0
"""How long `require_server` tries."""


class _S3(pafs.S3FileSystem):
    """S3 that retries for a minute when a server is unreachable or says "slow down".

    Arrow gives up after six seconds. Its own S3FileSystem loses another retry strategy when it is
    pickled, and its pickle contains the credentials. This class pickles its region alone.
    """

    def __init__(self, region: str) -> None:
        # If it is given a region, Arrow ignores the variables that name another server.
        scheme, _, host = _s3_endpoint().rpartition("://")
        super().__init__(
            region=region,
            scheme=scheme or "https",
            endpoint_override=host or None,
            # A file of a few MB takes one request instead of three.
            allow_delayed_open=True,
            # The "standard" strategy allows a process only a hundred retries in its lifetime.
            retry_strategy=pafs.AwsDefaultS3RetryStrategy(max_attempts=S3_ATTEMPTS),
        )

    def __reduce__(self) -> tuple[type["_S3"], tuple[str]]:
        return _S3, (self.region,)


@functools.lru_cache
def bucket(scheme: str, name: str) -> pafs.FileSystem:
    """The filesystem of a bucket. The first call for a bucket sends a request.

    Args:
        scheme: `s3` or `gs`.
        name: of the bucket; `anonymous@NAME` to read a public one of Google's.

    Raises what Arrow raises if there is no such bucket, or if it finds no credentials.
    """
    if scheme == "s3":
        until = time.monotonic() + REGION_SECONDS
        filesystem, _ = retried(
            lambda: pafs.FileSystem.from_uri(f"s3://{name}"),
            lambda error: is_outage(error) and time.monotonic() < until,
        )
        return _S3(filesystem.region)
    user, _, name = name.rpartition("@")
    filesystem = pafs.GcsFileSystem(anonymous=bool(user), retry_time_limit=GOOGLE_RETRY_TIME)
    # A role may have access to a bucket's objects but not to the bucket.
    with suppress(PermissionError):
        if filesystem.get_file_info(name).type == pafs.FileType.NotFound:
            raise FileNotFoundError(f"bucket '{name}' not found")
    return filesystem


def require_server(scheme: str) -> None:
    """Raise OSError within REACH_SECONDS if nothing answers where buckets of a scheme are.

    A request would be retried for a minute. Where another program decides where requests go (a
    proxy, AWS for a bucket's region), nothing is checked.
    """
    address = _server(scheme)
    if address is None:
        return
    until = time.monotonic() + REACH_SECONDS
    while True:
        try:
            socket.create_connection(address, timeout=max(until - time.monotonic(), 1)).close()
        except OSError as error:
            if time.monotonic() + 1 >= until:
                host, port = address
                reason = error.strerror or str(error)
                raise OSError(f"no connection to {host}, port {port}: {reason}") from error
            time.sleep(1)
        else:
            return


def _server(scheme: str) -> tuple[str, int] | None:
    """Host and port of the server that has the buckets of a scheme; None: not known."""
    if any(name.lower() in ("https_proxy", "http_proxy", "all_proxy") for name in os.environ):
        return None
    if scheme == "s3":
        url = _s3_endpoint()
    else:
        url = os.environ.get("CLOUD_STORAGE_EMULATOR_ENDPOINT", "https://storage.googleapis.com")
    if not url:
        return None
    parts = urllib.parse.urlsplit(url if "://" in url else f"https://{url}")
    return (parts.hostname or "", parts.port or (80 if parts.scheme == "http" else 443))


def _s3_endpoint() -> str:
    """The server of S3 buckets that the environment names; "": AWS."""
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL", "")


def retried(work: Callable[[], Result], retryable: Callable[[BaseException], bool]) -> Result:
    """Call `work`, retrying with pauses that double while `retryable(error)` holds."""
    for attempt in range(1, OWN_ATTEMPTS):
        try:
            return work()
        except OSError as error:
            if not retryable(error):
                raise
            time.sleep(0.1 * 2**attempt)
    return work()
