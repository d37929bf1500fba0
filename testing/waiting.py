"""Wait for a condition, and find ports for servers."""

import socket
import time
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")


def wait_until(
    condition: Callable[[], Result], seconds: float, what: str, poll_seconds: float = 0.05
) -> Result:
    """Call `condition` until its result is true, and return that result.

    Fails the test, and names `what`, when that takes longer than `seconds`. A condition that can
    no longer come true (its process has ended, say) should assert so itself.
    """
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < deadline, f"{what}: not within {seconds:g} seconds"
        time.sleep(poll_seconds)
    return result


def free_ports(count: int, offset: int = 0) -> list[int]:
    """Ports of the loopback interface that no process uses; so too, `offset` above each of them."""
    ports: list[int] = []
    while len(ports) < count:
        with socket.socket() as low, socket.socket() as high:
            low.bind(("127.0.0.1", 0))
            port = low.getsockname()[1]
            try:
                high.bind(("127.0.0.1", port + offset if offset else 0))
            except (OSError, OverflowError):
                continue
            if port not in ports:
                ports.append(port)
    return ports
