"""A proxy on this machine's loopback that makes a server as slow as one far away."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from testing.waiting import free_ports

CHUNK_BYTES = 2**16


@contextmanager
def slow_proxy(address: str, request_seconds: float, bytes_per_second: float) -> Iterator[str]:
    """Context manager: the address of a proxy to a server.

    Args:
        address: of the server, HOST:PORT.
        request_seconds: how much later what a client sends arrives.
        bytes_per_second: most that a connection brings back.
    """
    host, _, port = address.rpartition(":")

    async def pass_on(
        source: asyncio.StreamReader, sink: asyncio.StreamWriter, is_request: bool
    ) -> None:
        with suppress(ConnectionError):
            while chunk := await source.read(CHUNK_BYTES):
                wait = request_seconds if is_request else len(chunk) / bytes_per_second
                await asyncio.sleep(wait)
                sink.write(chunk)
                await sink.drain()
        sink.close()

    async def answer(client: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        server, forth = await asyncio.open_connection(host, int(port))
        await asyncio.gather(pass_on(client, forth, True), pass_on(server, back, False))

    (own_port,) = free_ports(1)
    loop = asyncio.new_event_loop()
    loop.run_until_complete(asyncio.start_server(answer, "127.0.0.1", own_port))
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    def end() -> None:
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.call_soon(loop.stop)

    try:
        yield f"127.0.0.1:{own_port}"
    finally:
        loop.call_soon_threadsafe(end)
        thread.join()
