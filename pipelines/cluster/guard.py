"""A small process that outlives the program: it says why Ray ended it, and ends what Ray left.

When Ray loses its own processes (raylet, GCS), its native code ends the program at once, without
an exception, and writes the reason to file descriptor 2. When the program is killed, some processes
of its local Ray stay for a minute. Only another process can speak or act then.
"""

import os
import select
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

_DONE = b"."
_QUIET = "quiet"
_TAIL_BYTES = 8192
_LOST_GCS = "Ray ended this program: the head of its cluster (GCS) died or cannot be reached"
_ENDED = (
    "this program was killed, or Ray ended it because its raylet died, perhaps for lack of memory"
)
"""Native code that loses its raylet says nothing."""


class Guard:
    """The other end of the guard."""

    def __init__(self, control: int, pid: int) -> None:
        self._control = control
        self.pid = pid
        """Process of the guard."""

    def watch_over(self, processes: list[psutil.Process]) -> None:
        """End these processes as well if this one is killed."""
        lines = (f"{process.pid} {_started(process.pid)}\n" for process in processes)
        os.write(self._control, "".join(lines).encode())

    def keep_quiet(self) -> None:
        """This process is about to end, and says why itself."""
        os.write(self._control, f"{_QUIET}\n".encode())


@contextmanager
def guarded() -> Iterator[Guard]:
    """Context manager: what native code writes to file descriptor 2 goes to a guard.

    `sys.stderr` still reaches the terminal. The guard shows one line if this process ends within
    the block.
    """
    terminal = os.dup(2)
    sys.stderr.flush()
    control_end, control = os.pipe()
    native_end, native = os.pipe()
    pid = os.fork()
    if pid == 0:
        # Whatever happens, this process never returns into the program.
        try:
            _guard(control_end, native_end, terminal)
        finally:
            os._exit(0)
    os.close(control_end)
    os.close(native_end)
    python_stderr = sys.stderr
    with os.fdopen(os.dup(terminal), "w", buffering=1) as copy:
        os.dup2(native, 2)
        os.close(native)
        sys.stderr = copy
        try:
            yield Guard(control, pid)
        finally:
            sys.stderr = python_stderr
            os.dup2(terminal, 2)
            os.close(terminal)
            with suppress(OSError):  # Someone has killed the guard.
                os.write(control, _DONE)
            os.close(control)
            with suppress(ChildProcessError):
                os.waitpid(pid, 0)


def _guard(control: int, native: int, terminal: int) -> None:
    """Wait for the program's end. Take no lock that a thread of the program may have held."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    kept = sorted((control, native, terminal))
    for first, last in zip([-1, *kept], [*kept, 65536], strict=True):
        os.closerange(first + 1, last)
    orders = tail = b""
    is_open = True
    while is_open:
        ready, _, _ = select.select([control, native], [], [])
        if native in ready:
            tail = (tail + os.read(native, _TAIL_BYTES))[-_TAIL_BYTES:]
        if control in ready:
            order = os.read(control, 65536)
            orders += order
            is_open = bool(order)
    if orders.endswith(_DONE):
        return
    while select.select([native], [], [], 0)[0] and (more := os.read(native, _TAIL_BYTES)):
        tail = (tail + more)[-_TAIL_BYTES:]
    # A line that was cut off with the program is left out.
    lines = orders.decode().rpartition("\n")[0].splitlines()
    if _QUIET not in lines:
        reason = _LOST_GCS if b"connect to GCS" in tail else _ENDED
        os.write(terminal, f"error: {reason}: run the same command again\n".encode())
    for line in lines:
        pid, _, started = line.partition(" ")
        if pid == _QUIET:
            continue
        if _started(int(pid)) == started:
            with suppress(OSError):
                os.kill(int(pid), signal.SIGKILL)


def _started(pid: int) -> str:
    """When a process started, in ticks since the machine did; "": it is gone."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "" if state == "Z" else fields[18]
    except (OSError, IndexError):
        return ""
