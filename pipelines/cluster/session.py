"""The Ray session of a program: the cluster it is submitted to, or else a local Ray."""

import logging
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import ray

from pipelines.cluster.native_stderr import native_stderr_closed
from pipelines.cluster.ray_internals import forbid_auto_connect, hide_raylet_messages
from pipelines.console import command
from pipelines.errors import Failure
from sentiment.errors import on_one_line


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
    forbid_auto_connect()
    sigterm_handler = signal.getsignal(signal.SIGTERM)
    with nullcontext() if verbose else native_stderr_closed():
        try:
            ray.init(
                # "auto" would try the address of an earlier `ray start`, which may be gone.
                address=os.environ.get("RAY_ADDRESS") or "local",
                log_to_driver=verbose,
                logging_level=logging.INFO if verbose else logging.ERROR,
                include_dashboard=False,
            )
        except SystemExit:
            # Ray's own handler of SIGTERM, which it sets before it starts, raises this.
            command.terminate(signal.SIGTERM, None)
        except Exception as error:  # Ray raises bare ones, too.
            raise Failure(f"Ray did not start, or did not answer: {on_one_line(error)}") from error
        if sigterm_handler is command.terminate:
            # Ray's handler would end the program without a message.
            signal.signal(signal.SIGTERM, sigterm_handler)
        if not verbose:
            hide_raylet_messages()
            logging.getLogger("ray.train").setLevel(logging.ERROR)
        try:
            yield
        finally:
            ray.shutdown()
