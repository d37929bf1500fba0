"""The Ray session of a program: the cluster it is submitted to, or else a local Ray."""

import errno
import logging
import os
import signal
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress

import psutil
import ray

from pipelines.cluster.guard import guarded
from pipelines.cluster.ray_internals import forbid_auto_connect, hide_raylet_messages
from pipelines.console import command
from pipelines.errors import Failure
from sentiment.errors import on_one_line

MAX_CONNECT_SECONDS = 45.0
"""How long the address of a cluster is tried."""

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


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
    if address not in ("local", "auto") and "://" not in address:
        require_answer(address, MAX_CONNECT_SECONDS)
    forbid_auto_connect()
    sigterm_handler = signal.getsignal(signal.SIGTERM)
    others = set(psutil.Process().children())
    with nullcontext() if verbose else guarded() as guard:
        if guard:
            others.add(psutil.Process(guard.pid))
            command.before_leaving[:] = [guard.keep_quiet]
        try:
            ray.init(
                # "auto" would try the address of an earlier `ray start`, which may be gone.
                address=address,
                log_to_driver=verbose,
                logging_level=logging.INFO if verbose else logging.ERROR,
                include_dashboard=False,
            )
            if guard and address == "local":
                guard.watch_over(_processes(others))
            if sigterm_handler is command.terminate:
                # Ray's handler would end the program without a message.
                signal.signal(signal.SIGTERM, sigterm_handler)
            if not verbose:
                hide_raylet_messages()
                logging.getLogger("ray.train").setLevel(logging.ERROR)
        except BaseException as error:
            _end(_processes(others))
            if isinstance(error, SystemExit):
                # Ray's own handler of SIGTERM, which it sets before it starts, raises this.
                command.terminate(signal.SIGTERM, None)
            if not isinstance(error, Exception):  # Ray raises bare ones, too.
                raise
            raise Failure(_why_not_started(error)) from error
        try:
            yield
        finally:
            started = _processes(others)
            ray.shutdown()
            _end(started)
            command.before_leaving.clear()


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
            print(f"Waiting for the Ray cluster at {address} ...", flush=True)
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


def _why_not_started(error: Exception) -> str:
    message = f"Ray did not start, or did not answer: {on_one_line(error)}"
    causes = (error, error.__cause__, error.__context__)
    if any(isinstance(cause, OSError) and cause.errno in _FULL for cause in causes):
        directory = os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()
        message += f"; its files are below {directory}: free space there, or set RAY_TMPDIR"
    return message
