"""What all tests share: SIGINT, the order of files, checks of markers, servers and a local Ray."""

import os
import signal
import socket
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

import testing.properties  # noqa: F401 (registers and loads a Hypothesis profile)
from pipelines.console import answering, progress, waiting
from sentiment import buckets
from testing.bucket_servers import GoogleServer, S3Server

# A shell's background job (`make test &`) ignores SIGINT, and so would each program a test starts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _handlers_restored() -> Iterator[None]:
    """Give signals back the handlers they had: programs that run in this process set their own."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture(autouse=True)
def _no_word_of_slow_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep what programs in this process print from depending on how busy the machine is."""
    monkeypatch.setattr(waiting, "DELAY_SECONDS", 10_000)
    monkeypatch.setattr(waiting, "COMPILE_DELAY_SECONDS", 10_000)
    monkeypatch.setattr(progress, "SHOWN_AFTER_SECONDS", 10_000)


MARKS_OF_FIXTURES = {
    "local_ray": ("ray", "process"),
    "s3_server": ("process",),
    "google": ("process",),
}
"""Marks of every test that uses a fixture, directly or by another fixture."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests by their fixtures, and put the files that take longest first.

    Each file goes to one of several processes when that one has done its others: the last ones
    should be short.
    """
    seconds: Counter[Path] = Counter()
    for item in items:
        for fixture, marks in MARKS_OF_FIXTURES.items():
            if fixture in getattr(item, "fixturenames", ()):
                for mark in marks:
                    item.add_marker(mark)
        if slow := item.get_closest_marker("slow"):
            seconds[item.path] += slow.args[0]
    items.sort(key=lambda item: -seconds[item.path])


PROCESS_EVENTS = {"subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.system"}
"""Audit events of Python as it starts a process."""

_running: list[pytest.Item] = []
"""The test that runs now, from the set-up of its fixtures on."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Keep which test runs."""
    _running.append(item)
    try:
        return (yield)
    finally:
        _running.clear()


def _refuse_unmarked(event: str, arguments: tuple[object, ...]) -> None:
    """Fail a test that starts a process, or asks another machine, and is not marked so."""
    if not _running:
        return
    if event in PROCESS_EVENTS:
        # Matplotlib asks for this machine's fonts, once, and TensorBoard for its processor.
        program = str(arguments[0] if arguments else "")
        needed = "" if program.endswith(("fc-list", "uname")) else "process"
    elif event == "socket.connect":
        host = arguments[1][0] if isinstance(arguments[1], tuple) else "127.0.0.1"
        needed = "" if host in ("127.0.0.1", "::1", "localhost") else "registry"
    else:
        return
    if needed and not _running[0].get_closest_marker(needed):
        pytest.fail(f"{_running[0].nodeid} is not marked `{needed}`: {event} {arguments}")


sys.addaudithook(_refuse_unmarked)


@pytest.fixture(scope="module")
def local_ray():
    """A local Ray for tests that call programs in this process; it stays for those of other files.

    It starts with the first test of a file that asks for it: another may have taken its place.
    """
    from testing.local_ray import share

    share()


@pytest.fixture(scope="session", autouse=True)
def _no_ray_left() -> Iterator[None]:
    yield
    if ray := sys.modules.get("ray"):
        ray.shutdown()


@pytest.fixture
def silent_buckets(monkeypatch):
    """Nobody answers where the buckets of all schemes are; the port of that address."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        monkeypatch.setattr(buckets, "REACH_SECONDS", 1.5)
        monkeypatch.setattr(answering, "ANSWER_SECONDS", 0.2)
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
        monkeypatch.setenv("CLOUD_STORAGE_EMULATOR_ENDPOINT", f"http://127.0.0.1:{port}")
        yield port


@pytest.fixture
def mlflow_store(tmp_path, monkeypatch):
    """What programs send to MLflow, which keeps it in files."""
    from testing.mlflow_store import MlflowStore

    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlflow").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    return MlflowStore()


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory):
    """An S3 server for all tests."""
    server = S3Server(tmp_path_factory.mktemp("s3"))
    yield server
    server.stop()


@pytest.fixture(scope="module")
def s3(s3_server):
    """An S3 server that this process and those it starts know by their environment."""
    yield from _known(s3_server)


@pytest.fixture(scope="module")
def google(tmp_path_factory):
    """A server of Google's buckets, known in the same way."""
    server = GoogleServer(tmp_path_factory.mktemp("google"))
    yield from _known(server)
    server.stop()


def _known(server: S3Server | GoogleServer) -> Iterator[S3Server | GoogleServer]:
    before = dict(os.environ)
    os.environ.update(server.environment)
    buckets.bucket.cache_clear()
    yield server
    os.environ.clear()
    os.environ.update(before)
