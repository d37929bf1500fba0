"""A small process that outlives the program: it says why Ray ended it, and ends what Ray left.

When Ray loses its own processes (raylet, GCS), its native code ends the program at once, without
an exception, and writes the reason to file descriptor 2. When the program is killed, some processes
of its local Ray stay for a minute. Only another process can speak or act then.
"""

import os
import re
import select
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

_DONE = b"."
_TAIL_BYTES = 8192
_RAYLET = "its process on this machine (raylet) died, perhaps for lack of memory"
_GCS = "the head of its cluster (GCS) died or cannot be reached"
_PATTERNS = {rb"GCS": _GCS, rb"[Rr]aylet": _RAYLET}
"""What the last words of native code are about, the first that matches."""

_EITHER = "one of its processes died, or this program was killed"

_NAMES = {"gcs_server": _GCS, "raylet": _RAYLET}
"""Native code that loses its raylet says nothing. By process that ends before the program."""


class Guard:
    """The other end of the guard."""

    def __init__(self, control: int, pid: int) -> None:
        self._control = control
        self.pid = pid
        """Process of the guard."""

    def watch_over(self, processes: list[psutil.Process]) -> None:
        """End these processes as well if this one is killed."""
        lines = []
        for process in processes:
            with suppress(psutil.Error):
                lines.append(f"{process.pid} {_started(process.pid)} {process.name()}\n")
        os.write(self._control, "".join(lines).encode())


@contextmanager
def guarded() -> Iterator[Guard]:
    """Context manager: what native code writes to file descriptor 2 goes to a guard.

    `sys.stderr` still reaches the terminal. The guard shows one line if this process ends within
    the block and Ray is the reason.
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
    lost = ""
    ends: dict[int, str] = {}
    while True:
        ready, _, _ = select.select([control, native, *ends], [], [])
        # They also end with the program, a moment later.
        ended = [ends[each] for each in ready if each in ends]
        if ended and not lost:
            lost = _EITHER if control in ready else ended[0]
            ends = {}
        if native in ready:
            tail = (tail + os.read(native, _TAIL_BYTES))[-_TAIL_BYTES:]
        if control in ready:
            order = os.read(control, 65536)
            if not order:
                break
            orders += order
            ends = ends or _ends(orders)
    if orders.endswith(_DONE):
        return
    while select.select([native], [], [], 0)[0] and (more := os.read(native, _TAIL_BYTES)):
        tail = (tail + more)[-_TAIL_BYTES:]
    said = [reason for pattern, reason in _PATTERNS.items() if re.search(pattern, tail)]
    if reason := lost or next(iter(said), ""):
        line = f"error: Ray ended this program: {reason}: run the same command again\n"
        os.write(terminal, line.encode())
    for pid, started, _ in _watched(orders):
        if _started(pid) == started:
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)


def _ends(orders: bytes) -> dict[int, str]:
    """What the end of a process means, by a file descriptor that is readable when it has ended."""
    ends = {}
    for pid, _, name in _watched(orders):
        if name in _NAMES:
            with suppress(OSError):
                ends[os.pidfd_open(pid)] = _NAMES[name]
    return ends


def _watched(orders: bytes) -> list[tuple[int, str, str]]:
    """Pid, start and name of each process of whole lines."""
    lines = orders.decode().rpartition("\n")[0].splitlines()
    return [(int(pid), started, name) for pid, started, name in (x.split(" ", 2) for x in lines)]


def _started(pid: int) -> str:
    """When a process started, in ticks since the machine did; "": it is gone."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "" if state == "Z" else fields[18]
    except (OSError, IndexError):
        return ""
