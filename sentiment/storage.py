"""Files on disks and in object stores, by path or URI: read whole, and written atomically."""

import fcntl
import os
import posixpath
import re
import urllib.parse
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.fs as pafs

from sentiment import hub
from sentiment.arrow_errors import is_misread, is_outage, without_details
from sentiment.buckets import bucket, retried
from sentiment.errors import InputError, on_one_line

_HADOOP = "copy the files there, for example by `hdfs dfs -get` or `hadoop distcp`"
_AZURE = "copy the files there, for example by `azcopy`"
_DOWNLOAD = "download the files first"
_OTHER_SCHEMES = {
    "s3a": "write s3://{rest}, which is the same bucket",
    "s3n": "write s3://{rest}, which is the same bucket",
    "gcs": "write gs://{rest}, which is the same bucket",
    **dict.fromkeys(("hdfs", "viewfs", "webhdfs"), _HADOOP),
    **dict.fromkeys(("abfs", "abfss", "wasb", "wasbs", "adl", "az", "azure"), _AZURE),
    **dict.fromkeys(("http", "https", "ftp"), _DOWNLOAD),
    "hf": "only a model is read from there: download the files, for example by `hf download`",
    "dbfs": "write /dbfs/{rest} on a machine that mounts it",
}
"""Schemes of other tools, and what to do instead."""

_OWN_SCHEMES = ("s3", "gs", "file", "hf")
_LIKE_A_URI = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*):(?P<slashes>/*)(?P<rest>.*)", re.DOTALL
)


def resolve(path: str) -> tuple[pafs.FileSystem, str]:
    """The filesystem of a local path or URI (`s3://`, `gs://`, `file://`) and the path in it.

    Credentials come from the environment, where the cloud's own tools find them.
    `gs://anonymous@BUCKET` uses none. Credentials in a URI are refused with an InputError, because
    URIs are written into logs and manifests. So are paths that cannot be one, schemes that are
    misspelt or of other tools, and buckets that do not exist. Raises OSError if a server or its
    credentials fail.
    """
    _require_scheme(path)
    if "://" not in path:
        return pafs.LocalFileSystem(), absolute(path)
    scheme, _, rest = path.partition("://")
    host = rest.partition("/")[0]
    bucket_name = host.removeprefix("anonymous@") if scheme == "gs" else host
    if ":" in host or "@" in bucket_name or "?" in rest:
        raise InputError(
            f"{_without_secrets(path)} was given with credentials or options in the URI: "
            "they belong in the environment (AWS_ACCESS_KEY_ID, AWS_DEFAULT_REGION, ...); of a "
            "name, write ? as %3F"
        )
    if scheme in ("s3", "gs") and not bucket_name:
        raise InputError(f"{path} does not name a bucket: write {scheme}://BUCKET/NAME/...")
    if scheme in ("s3", "gs") and "//" in rest:
        raise InputError(f"{path} has a name that is empty, between two slashes: remove one")
    try:
        if scheme in ("s3", "gs"):
            inner = urllib.parse.unquote(bucket_name + rest.removeprefix(host))
            return bucket(scheme, host), inner.rstrip("/")
        filesystem, inner = pafs.FileSystem.from_uri(path)
        return filesystem, inner
    except (pa.ArrowException, OSError) as error:
        reason = without_details(on_one_line(error))
        is_input = isinstance(error, pa.ArrowInvalid | FileNotFoundError)
        if scheme in ("s3", "gs") and not is_input:
            raise OSError(f"{path} cannot be reached: {reason}") from error
        raise InputError(f"{path} is not a usable path or URI: {reason}") from error


def _require_scheme(path: str) -> None:
    """Raise an InputError, which says what to write, if a path has the scheme of another tool, or a
    known scheme misspelt. A local name may have a colon after anything else."""
    match = _LIKE_A_URI.fullmatch(path)
    if match is None:
        return
    given, slashes = match["scheme"], match["slashes"]
    scheme, is_uri = given.lower(), len(slashes) > 1
    if scheme not in (*_OWN_SCHEMES, *_OTHER_SCHEMES) and not is_uri:
        return
    if is_uri and given in ("s3", "gs", "file"):
        return
    rest = match["rest"].rpartition("@")[2].partition("?")[0]
    known = "only local paths, s3:// and gs://"
    if scheme in _OTHER_SCHEMES and not (scheme == "hf" and path[:5] != "hf://"):
        problem = (
            f"{scheme}:// is not supported, {known}: {_OTHER_SCHEMES[scheme].format(rest=rest)}"
        )
    elif scheme == "file":
        problem = f"write {'/' if slashes else ''}{rest}"
    elif scheme in _OWN_SCHEMES:
        problem = f"write {scheme}://{rest}"
    else:
        problem = f"{scheme}:// is not supported, {known}"
    raise InputError(f"{given}:{slashes}{rest} is not a usable path or URI: {problem}")


def absolute(path: str) -> str:
    """The absolute path, with `~` expanded; a URI unchanged.

    Raises InputError for what looks like a misspelt URI, such as `s3:/bucket`.
    """
    if "://" in path:
        return path
    _require_scheme(path)
    return os.path.abspath(os.path.expanduser(path))


def join(directory: str, *names: str) -> str:
    """The path or URI of a file below a directory."""
    if "://" in directory:
        # `resolve` decodes what a URI escapes.
        names = tuple(name.replace("%", "%25").replace("?", "%3F") for name in names)
    return posixpath.join(directory, *names)


def read(path: str, max_bytes: float = float("inf")) -> bytes:
    """A file's whole content; the URI may also be that of `sentiment.hub`.

    Raises OSError as `open` does. Raises InputError for a file larger than `max_bytes`,
    and for a pipe, socket or device, which could block.
    """
    if path.startswith(hub.SCHEME):
        path = hub.downloaded(path, max_bytes)
    filesystem, inner = resolve(path)

    def content() -> bytes:
        is_local = isinstance(filesystem, pafs.LocalFileSystem)
        kind = filesystem.get_file_info(inner).type if is_local else pafs.FileType.File
        if kind == pafs.FileType.Directory:
            raise IsADirectoryError(f"{path} is a directory")
        if kind == pafs.FileType.Unknown:
            raise InputError(f"{path} is not a regular file")
        with filesystem.open_input_file(inner) as file:
            if file.size() > max_bytes:
                raise InputError(
                    f"{path} has {file.size():,} bytes; the limit is {max_bytes:,} bytes"
                )
            whole: bytes = file.read()
            return whole

    return retried(content, is_misread)


def exists(path: str) -> bool:
    """Whether a file or directory exists."""
    filesystem, inner = resolve(path)
    return bool(filesystem.get_file_info(inner).type != pafs.FileType.NotFound)


def entries(directory: str) -> list[pafs.FileInfo]:
    """A directory's entries, without those whose names begin with a dot. [] if it is missing."""
    filesystem, inner = resolve(directory)
    selector = pafs.FileSelector(inner, allow_not_found=True)
    try:
        infos = filesystem.get_file_info(selector)
    except FileNotFoundError:
        # Arrow looks twice. The directory was created in between, so at first it was missing.
        return []
    return [info for info in infos if not info.base_name.startswith(".")]


def names(directory: str) -> list[str]:
    """Names of a directory's entries, without those that begin with a dot. [] if it is missing."""
    return [info.base_name for info in entries(directory)]


def make_directory(directory: str) -> None:
    """Create a directory on a disk, and those above it, unless it exists; buckets have none."""
    filesystem, inner = resolve(directory)
    if isinstance(filesystem, pafs.LocalFileSystem):
        filesystem.create_dir(inner, recursive=True)


def remove(path: str) -> None:
    """Remove a file."""
    filesystem, inner = resolve(path)
    filesystem.delete_file(inner)


def remove_if_there(path: str) -> None:
    """Remove a file if it exists; another program may remove it at the same time."""
    if exists(path):
        with suppress(FileNotFoundError):
            remove(path)


def write(path: str, content: bytes | pa.Buffer, staging: str = "", writer: str = "") -> None:
    """Write a file atomically: readers see all of it or nothing. Arguments as of `writing`."""
    with writing(path, staging, writer) as file:
        file.write(content)


def append(path: str, content: bytes) -> None:
    """Add to the end of a file on a disk, or create it. Object stores cannot.

    A crash may leave only the first bytes of `content`.
    """
    filesystem, inner = resolve(path)
    if not isinstance(filesystem, pafs.LocalFileSystem):
        raise ValueError(f"{path} is in an object store, where nothing is added to a file")
    Path(inner).parent.mkdir(parents=True, exist_ok=True)
    with open(inner, "ab") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def write_new(path: str, content: bytes, staging: str = "") -> bool:
    """Write a file atomically if it does not exist. Returns False, and writes nothing, if it does.

    On a disk, one of several concurrent writers succeeds. Through Arrow, object stores cannot
    promise that: there the last writer wins. `staging`: as of `writing`.
    """
    filesystem, inner = resolve(path)
    if not isinstance(filesystem, pafs.LocalFileSystem):
        if exists(path):
            return False
        write(path, content)
        return True
    partial = _partial(Path(inner), staging, "")
    write(str(partial), content, staging)
    try:
        os.link(partial, inner)
    except FileExistsError:
        return False
    finally:
        partial.unlink(missing_ok=True)
    return True


@contextmanager
def writing(path: str, staging: str = "", writer: str = "") -> Iterator[pa.NativeFile]:
    """Context manager: a stream to a file that appears, complete, if the block raises no error.

    On a disk the stream writes to a partial file, which is then synced and renamed. It lies in the
    directory `staging`, on the same disk. Then no directory is created: if `staging` is removed,
    the rename fails with FileNotFoundError. Without `staging` the partial file lies beside the
    target, whose directory is created if need be, and has a name that begins with a dot. A partial
    file's name contains `writer`, so that it can be found if this process is killed.

    In an object store, an object appears when its stream is closed, even after an error. So the
    content is held in memory until the block ends.
    """
    filesystem, inner = resolve(path)
    if not isinstance(filesystem, pafs.LocalFileSystem):
        memory = pa.BufferOutputStream()
        yield memory
        with filesystem.open_output_stream(inner) as file:
            file.write(memory.getvalue())
        return
    target = Path(inner)
    if not staging:
        target.parent.mkdir(parents=True, exist_ok=True)
    partial = _partial(target, staging, writer)
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
        with suppress(FileNotFoundError, NotADirectoryError):
            partial.unlink()


@contextmanager
def locked(path: str, wait: bool = True) -> Iterator[None]:
    """Context manager: of the programs on a disk that use the lock `path`, one runs its block.

    Others wait, or with `wait=False` raise BlockingIOError. The directory must exist. The system
    frees the lock when its process ends, however it ends. The block may remove the file. Object
    stores have no locks, and not all network disks have: there nothing is locked.
    """
    filesystem, inner = resolve(path)
    if not isinstance(filesystem, pafs.LocalFileSystem):
        yield
        return
    while True:
        descriptor = os.open(inner, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except OSError as error:
                if isinstance(error, BlockingIOError) and not wait:
                    raise
            # Whoever had the lock before may have removed its file.
            try:
                is_same = os.path.samestat(os.fstat(descriptor), os.stat(inner))
            except FileNotFoundError:
                is_same = False
            if is_same:
                yield
                return
        finally:
            os.close(descriptor)


def require_writable(directory: str, flag: str) -> None:
    """Create `directory` and a file in it, or raise an InputError that names the flag.

    Raises OSError, which names it too, if a bucket's server fails: another try may help.
    """
    try:
        probe = join(directory, f".writable.{uuid.uuid4().hex[:8]}")
        filesystem, inner = resolve(probe)
        # At Google, Arrow would read the bucket's metadata, which a role may not do, and would
        # create a missing bucket.
        if not isinstance(filesystem, pafs.GcsFileSystem):
            filesystem.create_dir(resolve(directory)[1], recursive=True)
        filesystem.open_output_stream(inner).close()
        filesystem.delete_file(inner)
    except (OSError, InputError) as error:
        shown = _without_secrets(directory)
        message = f"{flag} {shown} cannot be written to: {without_details(on_one_line(error))}"
        if is_outage(error):
            raise OSError(message) from error
        raise InputError(message) from None


def _without_secrets(path: str) -> str:
    """The path, or the URI without what comes before its bucket and after its name."""
    scheme, separator, rest = path.partition("://")
    # A secret may contain a slash, and then its end and the "@" come after that slash.
    return f"{scheme}://{rest.rpartition('@')[2].partition('?')[0]}" if separator else path


def _partial(target: Path, staging: str, writer: str) -> Path:
    """A unique name in `staging`, or beside the target a name that readers ignore."""
    name = ".".join(filter(None, [target.name, writer, uuid.uuid4().hex[:8]]))
    return Path(staging, name) if staging else target.with_name(f".{name}")
