"""Arrow filesystems for buckets of S3 and Google Cloud Storage, with retries that we set."""

import datetime
import functools
import os
import time
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
"""Attempts of `retried`, for what Arrow tries only once: 6 s in all."""


class _S3(pafs.S3FileSystem):
    """S3 that retries for a minute when a server is unreachable or says "slow down".

    Arrow gives up after six seconds. Its own S3FileSystem loses another retry strategy when it is
    pickled, and its pickle contains the credentials. This class pickles its region alone.
    """

    def __init__(self, region: str) -> None:
        # If it is given a region, Arrow ignores the variables that name another server.
        endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL", "")
        scheme, _, host = endpoint.rpartition("://")
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
        filesystem, _ = retried(lambda: pafs.FileSystem.from_uri(f"s3://{name}"), is_outage)
        return _S3(filesystem.region)
    user, _, name = name.rpartition("@")
    filesystem = pafs.GcsFileSystem(anonymous=bool(user), retry_time_limit=GOOGLE_RETRY_TIME)
    # A role may have access to a bucket's objects but not to the bucket.
    with suppress(PermissionError):
        if filesystem.get_file_info(name).type == pafs.FileType.NotFound:
            raise FileNotFoundError(f"bucket '{name}' not found")
    return filesystem


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
