"""Paths and URIs -> files that are read whole and written whole, on a disk or in a bucket."""

import datetime
import functools
import os
import posixpath
import re
import time
import urllib.parse
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

import pyarrow as pa
import pyarrow.fs as pafs

from sentiment.errors import InputError, on_one_line

Result = TypeVar("Result")

ATTEMPTS = 12
"""At a request to S3, with pauses from 25 ms that double each time: about a minute."""

PATIENCE = datetime.timedelta(minutes=1)
"""With Google's servers, whose library would ask again for a quarter of an hour."""

SHORT_ATTEMPTS = 6
"""Of this module's own, where Arrow makes one."""

_AWAY = re.compile(
    r"AWS Error (INTERNAL_FAILURE|NETWORK_CONNECTION|REQUEST_TIMEOUT|SERVICE_UNAVAILABLE|SLOW_DOWN"
    r"|THROTTLING|UNKNOWN \(HTTP status (408|429|5\d\d)\)) "
    r"|google::cloud::Status\((UNAVAILABLE|DEADLINE_EXCEEDED|RESOURCE_EXHAUSTED|INTERNAL)"
)


class _S3(pafs.S3FileSystem):
    """S3 that waits for a server that is away or asks to slow down, in every process.

    Arrow by itself gives up after six seconds, and a filesystem of other patience loses it, and
    takes the credentials along, when it is pickled.
    """

    def __init__(self, region: str) -> None:
        # Given a region, Arrow looks at none of the variables that name another server.
        endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL", "")
        scheme, _, host = endpoint.rpartition("://")
        super().__init__(
            region=region,
            scheme=scheme or "https",
            endpoint_override=host or None,
            # One request, not three, for a file of a few MB.
            allow_delayed_open=True,
            # Not the "standard" strategy: it allows a process a hundred retries, ever.
            retry_strategy=pafs.AwsDefaultS3RetryStrategy(max_attempts=ATTEMPTS),
        )

    def __reduce__(self) -> tuple[type["_S3"], tuple[str]]:
        return _S3, (self.region,)


@functools.lru_cache
def bucket(scheme: str, name: str) -> pafs.FileSystem:
    """The filesystem of a bucket of S3 or Google's, which it takes a request to know.

    Raises what Arrow raises where there is no such bucket, or no credentials are found.
    """
    if scheme == "s3":
        filesystem, _ = _again(lambda: pafs.FileSystem.from_uri(f"s3://{name}"), is_away)
        return _S3(filesystem.region)
    user, _, name = name.rpartition("@")
    filesystem = pafs.GcsFileSystem(anonymous=bool(user), retry_time_limit=PATIENCE)
    # A role may be allowed a bucket's objects, and not to look at the bucket.
    with suppress(PermissionError):
        if filesystem.get_file_info(name).type == pafs.FileType.NotFound:
            raise FileNotFoundError(f"bucket '{name}' not found")
    return filesystem


def resolve(path: str) -> tuple[pafs.FileSystem, str]:
    """The filesystem of a local path or URI (`s3://`, `gs://`, `file://`) and the path in it.

    Credentials come from the environment, as the cloud's own tools find them, or, of
    `gs://anonymous@...`, are none; an InputError refuses those in a URI, which is written into logs
    and manifests.
    """
    if "://" not in path:
        return pafs.LocalFileSystem(), absolute(path)
    scheme, _, rest = path.partition("://")
    host = rest.partition("/")[0]
    named = host.removeprefix("anonymous@") if scheme == "gs" else host
    if ":" in host or "@" in named or "?" in rest:
        raise InputError(
            f"{_without_secrets(path)} was given with credentials or options in the URI: "
            "they belong in the environment (AWS_ACCESS_KEY_ID, AWS_DEFAULT_REGION, ...)"
        )
    if scheme in ("s3", "gs") and (not named or "//" in rest):
        raise InputError(f"{path} is no URI of a bucket: write {scheme}://BUCKET/NAME/...")
    try:
        if scheme in ("s3", "gs"):
            inner = urllib.parse.unquote(named + rest.removeprefix(host))
            return bucket(scheme, host), inner.rstrip("/")
        filesystem, inner = pafs.FileSystem.from_uri(path)
        return filesystem, inner
    except (pa.ArrowException, OSError) as error:
        # Of Google's, the rest is a paragraph.
        said = on_one_line(error).partition(" error_info=")[0]
        raise InputError(f"{path} is no path or URI that can be used: {said}") from error


def absolute(path: str) -> str:
    """The path as every process of this machine understands it; a URI as it is."""
    return path if "://" in path else os.path.abspath(os.path.expanduser(path))


def join(directory: str, *names: str) -> str:
    """The path or URI of a file below a directory."""
    return posixpath.join(directory, *names)


def read(path: str, most: float = float("inf")) -> bytes:
    """A file's whole content.

    Raises OSError as `open` does, for a file longer than `most` bytes, and for what is none, such
    as a pipe: to open it would be to wait.
    """
    filesystem, inner = resolve(path)

    def content() -> bytes:
        local = isinstance(filesystem, pafs.LocalFileSystem)
        if local and filesystem.get_file_info(inner).type == pafs.FileType.Unknown:
            raise OSError(f"{path} is no file")
        with filesystem.open_input_file(inner) as file:
            if file.size() > most:
                raise OSError(f"{path} has {file.size():,} bytes; at most {most:,} are read")
            whole: bytes = file.read()
            return whole

    return _again(content, is_misread)


def is_away(error: BaseException | None) -> bool:
    """Whether a bucket's server failed, and the file may well be there."""
    return isinstance(error, OSError) and bool(_AWAY.search(str(error)))


def is_misread(error: BaseException | None) -> bool:
    """Whether the server said "slow down", and Arrow did not ask again.

    It takes the answer for the content, and fails, where it is longer than what was asked for.
    """
    return isinstance(error, OSError) and "AWS Error INTERNAL_FAILURE " in str(error)


def _again(work: Callable[[], Result], after: Callable[[BaseException], bool]) -> Result:
    """Do what Arrow has little patience with, and again after errors of that kind."""
    for attempt in range(1, SHORT_ATTEMPTS):
        try:
            return work()
        except OSError as error:
            if not after(error):
                raise
            time.sleep(0.1 * 2**attempt)
    return work()


def exists(path: str) -> bool:
    """Whether a file or directory is there."""
    filesystem, inner = resolve(path)
    return bool(filesystem.get_file_info(inner).type != pafs.FileType.NotFound)


def names(directory: str) -> list[str]:
    """What is in a directory, save names that begin with a dot; nothing if it is not there."""
    filesystem, inner = resolve(directory)
    selector = pafs.FileSelector(inner, allow_not_found=True)
    try:
        found = [info.base_name for info in filesystem.get_file_info(selector)]
    except FileNotFoundError:
        return []  # Made while Arrow looked, which looks twice: it was not there.
    return [name for name in found if not name.startswith(".")]


def remove(path: str) -> None:
    """Remove a file."""
    filesystem, inner = resolve(path)
    filesystem.delete_file(inner)


def write(path: str, content: bytes) -> None:
    """Write a file that is seen whole or not at all."""
    with writing(path) as file:
        file.write(content)


def append(path: str, content: bytes) -> None:
    """Add to the end of a file, or make it; a crash can leave a beginning of the content.

    Nothing is added to what an object store holds: there the whole file is written anew.
    """
    filesystem, inner = resolve(path)
    if not isinstance(filesystem, pafs.LocalFileSystem):
        write(path, (read(path) if exists(path) else b"") + content)
        return
    Path(inner).parent.mkdir(parents=True, exist_ok=True)
    with open(inner, "ab") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def write_new(path: str, content: bytes) -> bool:
    """Write a file that is not there yet, whole; False, and nothing done, if it is there.

    On a disk one of several that try at once succeeds. Object stores offer no such promise through
    Arrow: there the last of them does.
    """
    filesystem, inner = resolve(path)
    if not isinstance(filesystem, pafs.LocalFileSystem):
        if exists(path):
            return False
        write(path, content)
        return True
    partial = _hidden(Path(inner))
    write(str(partial), content)
    try:
        os.link(partial, inner)
    except FileExistsError:
        return False
    finally:
        partial.unlink()
    return True


@contextmanager
def writing(path: str, writer: str = "") -> Iterator[pa.NativeFile]:
    """A stream into a file that appears, whole, when the block ends without an error.

    On a disk it is written under a name that begins with a dot, brought to the disk and renamed.
    `writer` stands in that name, so that the file is found should this process be killed.
    An object store shows an object when its upload is complete, and closing a stream completes
    it, after an error too: what is meant for there is held in memory until the block ends.
    """
    filesystem, inner = resolve(path)
    if not isinstance(filesystem, pafs.LocalFileSystem):
        memory = pa.BufferOutputStream()
        yield memory
        with filesystem.open_output_stream(inner) as file:
            file.write(memory.getvalue())
        return
    target = Path(inner)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = _hidden(target, writer)
    try:
        with filesystem.open_output_stream(str(partial)) as file:
            yield file
        descriptor = os.open(partial, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)


def require_writable(directory: str, flag: str) -> None:
    """Make `directory` and write a file into it, or raise an InputError that names the flag."""
    try:
        probe = join(directory, f".writable.{uuid.uuid4().hex[:8]}")
        filesystem, inner = resolve(probe)
        # At Google's Arrow would look at the bucket, which a role may not, and make a missing one.
        if not isinstance(filesystem, pafs.GcsFileSystem):
            filesystem.create_dir(resolve(directory)[1], recursive=True)
        filesystem.open_output_stream(inner).close()
        filesystem.delete_file(inner)
    except (OSError, InputError) as error:
        shown = _without_secrets(directory)
        raise InputError(f"{flag} {shown} cannot be written to: {on_one_line(error)}") from None


def _without_secrets(path: str) -> str:
    """The path, or the URI without what may stand before its bucket or after its name."""
    scheme, separator, rest = path.partition("://")
    # A secret may hold a slash: then its end, and the "@", is behind it.
    return f"{scheme}://{rest.rpartition('@')[2].partition('?')[0]}" if separator else path


def _hidden(target: Path, writer: str = "") -> Path:
    """A name beside the target that nothing else has and no reader looks at."""
    name = f".{target.name}.{writer}" if writer else f".{target.name}"
    return target.with_name(f"{name}.{uuid.uuid4().hex[:8]}")
