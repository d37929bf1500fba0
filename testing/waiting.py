"""Wait for a condition, and find ports for servers."""

import secrets
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
    """Ports of the loopback interface that no process uses; so too, `offset` above each of them.

    They are below those that Linux gives to connections: until they are used, none takes them. And
    above those that Ray gives to workers.
    """
    ports: list[int] = []
    while len(ports) < count:
        port = 20_000 + secrets.randbelow(12_000 - offset)
        with socket.socket() as low, socket.socket() as high:
            try:
                low.bind(("127.0.0.1", port))
                high.bind(("127.0.0.1", port + offset if offset else 0))
            except OSError:
                continue
            if port not in ports:
                ports.append(port)
    return ports
