"""Says what becomes of a pool of actors while no result comes: deaths, waiting, silence."""

import threading
import time
from collections.abc import Callable

import ray

from pipelines.cluster.ray_internals import actors_of

POLL_SECONDS = 3.0
SILENCE_SECONDS = 60.0
"""After this time without a result, and again and again, a line says what the pool does."""


class PoolMonitor:
    """Watches a pool of actors from a thread; a context manager.

    Args:
        class_name: Part of the name of the actors' class.
        work: What an actor works on, for the lines: `part`.
        say: Prints a line.
    """

    def __init__(self, class_name: str, work: str, say: Callable[[str], None]) -> None:
        self._class_name, self._work, self._say = class_name, work, say
        self._ended = threading.Event()
        self._progressed_at = self._said_at = time.monotonic()
        self._deaths = 0
        self._thread = threading.Thread(target=self._watch, name="pool monitor", daemon=True)

    def __enter__(self) -> "PoolMonitor":
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._ended.set()
        self._thread.join()

    def progress(self) -> None:
        """A result has come."""
        self._progressed_at = self._said_at = time.monotonic()

    def _watch(self) -> None:
        while not self._ended.wait(POLL_SECONDS):
            self._look()

    def _look(self) -> None:
        actors = actors_of(self._class_name)
        deaths = sum(actor.deaths for actor in actors)
        if deaths > self._deaths:
            reason = next((actor.reason for actor in actors if actor.reason), "")
            details = f" ({reason.partition('.')[0].strip()})" if reason else ""
            self._say(f"{_processes(deaths - self._deaths)} died{details}")
        self._deaths = deaths
        now = time.monotonic()
        if now - self._said_at < SILENCE_SECONDS:
            return
        self._said_at = now
        minutes = (now - self._progressed_at) / 60
        alive = sum(actor.state == "ALIVE" for actor in actors)
        line = f"No {self._work} was finished for {minutes:.0f} min: "
        if alive:
            line += f"{_processes(alive)} at work"
        else:
            line += "no process is at work"
        if len(actors) > alive:
            cluster = ray.cluster_resources()
            here = f"{cluster.get('CPU', 0):g} CPUs and {cluster.get('GPU', 0):g} GPUs"
            starting = sum(actor.state not in ("ALIVE", "DEAD") for actor in actors)
            line += f", {starting} waiting to start; the cluster has {here}"
        self._say(line)


def _processes(number: int) -> str:
    return f"{number:,} process{'' if number == 1 else 'es'}"
