"""The Ray session of a program: the cluster it is submitted to, or else a local Ray."""

import errno
import logging
import os
import secrets
import signal
import socket
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

import psutil
import ray

from pipelines.cluster.guard import guarded
from pipelines.cluster.ray_internals import (
    forbid_auto_connect,
    hide_raylet_messages,
    settings_kept,
)
from pipelines.console import command
from pipelines.console.terminal import printable, say
from pipelines.console.waiting import waiting
from pipelines.errors import Failure
from sentiment.errors import InputError, on_one_line

MAX_CONNECT_SECONDS = 45.0
"""How long the address of a cluster is tried."""

_TOO_SLOW = "timed out during startup"
"""In what Ray raises when its own processes need more than 30 s, as on a busy machine: the second
time their files are in memory."""

_DISK_ERRORS = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM),
    *(errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG),
}
_REMEDY = "set RAY_TMPDIR to the short path of a directory that can be written and has free space"


@contextmanager
def session(verbose: bool = False) -> Iterator[None]:
    """Context manager: connect to Ray, and disconnect at the end.

    `RAY_ADDRESS` names a cluster; `ray job submit` sets it. Without it, a local Ray is started and
    stopped. A Ray that this process has started already is used and left as it is. Output of the
    workers, and messages about those that died, stay in Ray's logs, unless `verbose`.

    Raises Failure if Ray does not start or the cluster does not answer.
    """
    if ray.is_initialized():
        yield
        return
    address = os.environ.get("RAY_ADDRESS") or "local"
    if address == "local":
        _require_temporary()
    if address not in ("local", "auto") and "://" not in address:
        require_answer(address, MAX_CONNECT_SECONDS)
    with _of_program(address, verbose) if command.is_program() else _of_caller(address, verbose):
        yield


@contextmanager
def _of_program(address: str, verbose: bool) -> Iterator[None]:
    """The session of a process that is a program of ours, with its signals and streams."""
    sigterm_handler = signal.getsignal(signal.SIGTERM)
    others = set(psutil.Process().children())
    with nullcontext() if verbose else guarded() as guard:
        if guard:
            others.add(psutil.Process(guard.pid))
            command.before_leaving[:] = [guard.keep_quiet]
        try:
            _start(address, verbose)
            if guard and address == "local":
                guard.watch_over(_processes(others))
            if sigterm_handler is command.terminate:
                # Ray's handler would end the program without a message.
                signal.signal(signal.SIGTERM, sigterm_handler)
        except BaseException as error:
            _end(_processes(others))
            if isinstance(error, SystemExit):
                # Ray's own handler of SIGTERM, which it sets before it starts, raises this.
                command.terminate(signal.SIGTERM, None)
            if not isinstance(error, Exception):  # Ray raises bare ones, too.
                raise
            raise Failure(_why_not_started(error, address)) from error
        try:
            yield
        finally:
            started = _processes(others)
            ray.shutdown()
            _end(started)
            command.before_leaving.clear()


@contextmanager
def _of_caller(address: str, verbose: bool) -> Iterator[None]:
    """The session of a process that calls a job, such as a notebook: it finds all as it was."""
    sigterm_handler = signal.getsignal(signal.SIGTERM)
    with settings_kept():
        try:
            _start(address, verbose)
        except BaseException as error:
            ray.shutdown()
            if not isinstance(error, Exception):
                raise
            raise Failure(_why_not_started(error, address)) from error
        finally:
            # Python allows it there alone, and so does Ray. None: not a handler of Python. That of
            # the system, SIG_DFL, is 0.
            is_main = threading.current_thread() is threading.main_thread()
            if is_main and sigterm_handler is not None:
                signal.signal(signal.SIGTERM, sigterm_handler)
        try:
            yield
        finally:
            ray.shutdown()


def _start(address: str, verbose: bool) -> None:
    """Start a local Ray, or connect to a cluster."""
    forbid_auto_connect()
    if address == "local":
        _set_token()
    where = "Starting Ray on this machine" if address == "local" else f"Connecting to {address}"
    others = set(psutil.Process().children())
    # What Ray Client warns of, it also says in its error.
    with waiting(where), warnings.catch_warnings(action="ignore"):
        try:
            _init(address, verbose)
        except Exception as error:
            if address != "local" or _TOO_SLOW not in str(error):
                raise
            _end(_processes(others))
            ray.shutdown()
            _init(address, verbose)
    if not verbose:
        hide_raylet_messages()
        logging.getLogger("ray.train").setLevel(logging.ERROR)


def _init(address: str, verbose: bool) -> None:
    ray.init(
        # "auto" would try the address of an earlier `ray start`, which may be gone.
        address=address,
        log_to_driver=verbose,
        logging_level=logging.INFO if verbose else logging.ERROR,
        include_dashboard=False,
    )


def require_answer(address: str, seconds: float) -> None:
    """Raise a Failure unless something listens at `HOST:PORT`, within some seconds.

    Ray would try for ten minutes, without a word.
    """
    host, _, port = address.rpartition(":")
    deadline = time.monotonic() + seconds
    said = False
    while True:
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
            return
        except (OSError, ValueError, OverflowError) as error:
            if not isinstance(error, OSError) or time.monotonic() > deadline:
                raise Failure(
                    f"RAY_ADDRESS={address}: no Ray cluster answers there ({on_one_line(error)}): "
                    "start it, or unset RAY_ADDRESS to use this machine"
                ) from error
        if not said:
            said = True
            say(f"Waiting for the Ray cluster at {address} ...")
        time.sleep(1)


def _processes(others: set[psutil.Process]) -> list[psutil.Process]:
    """The processes that descend from this one, but not from `others`: those of a local Ray."""
    children = [child for child in psutil.Process().children() if child not in others]
    below: list[psutil.Process] = []
    for child in children:
        with suppress(psutil.Error):
            below += child.children(recursive=True)
    return [*children, *below]


def _end(processes: list[psutil.Process]) -> None:
    """End what Ray has left: its agents would notice after a minute that they are alone."""
    for process in processes:
        with suppress(psutil.Error):
            process.kill()


def _set_token() -> None:
    """Give a local Ray a token of its own where it could not write one to ~/.ray."""
    if os.environ.get("RAY_AUTH_TOKEN") or os.environ.get("RAY_AUTH_TOKEN_PATH"):
        return
    try:
        directory = Path.home() / ".ray"
        directory.mkdir(parents=True, exist_ok=True)
        is_there = (directory / "auth_token").exists() or os.access(directory, os.W_OK)
    except (OSError, RuntimeError):  # RuntimeError: this user has no home.
        is_there = False
    if not is_there:
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex()


def _temporary() -> tuple[str, str]:
    """The variable that says where a local Ray writes, and the directory.

    Python's `tempfile` would choose another directory if it cannot write there.
    """
    variable = "RAY_TMPDIR" if os.environ.get("RAY_TMPDIR") else "TMPDIR"
    return variable, os.environ.get(variable) or "/tmp"


def _require_temporary() -> None:
    """Raise InputError if a local Ray could not have its files where it wants to."""
    variable, directory = _temporary()
    if not directory.isascii() or not os.path.isabs(directory):
        raise InputError(
            f"{variable}={printable(directory)}: Ray needs an absolute path in ASCII: {_REMEDY}"
        )


def _why_not_started(error: Exception, address: str) -> str:
    message = f"Ray did not start, or did not answer: {on_one_line(error)}"
    if address != "local":
        return f"{message}; RAY_ADDRESS is {address}: unset it to use this machine"
    variable, directory = _temporary()
    if "AF_UNIX" in message:
        return f"Ray did not start: {variable}={directory} is too long for its sockets: {_REMEDY}"
    causes = (error, error.__cause__, error.__context__)
    if any(isinstance(cause, OSError) and cause.errno in _DISK_ERRORS for cause in causes):
        message += f"; its files are below {directory}: {_REMEDY}"
    return message
