"""What training workers report -> lines on the terminal, while the driver waits for them."""

import threading
import time
from typing import Any

from ray.util.queue import Empty, Queue

from pipelines import cli

EVERY = 1.0
"""Seconds between two lines about steps, at least; validations are always shown."""


class ProgressLines:
    """Prints the messages of `train_loop` as they come, and checks that replicas stay equal.

    A context: on leaving it, messages still under way are shown.
    """

    def __enter__(self) -> "ProgressLines":
        self.messages = Queue(actor_options={"num_cpus": 0})
        self._steps, self._best, self._printed = 0, float("inf"), 0.0
        self._replicas: dict[int, set[str]] = {}
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind, error, traceback) -> None:
        self._done.set()
        self._thread.join()
        self.messages.shutdown()
        for step, hashes in self._replicas.items():
            if error is None and len(hashes) > 1:
                raise cli.Failure(f"the workers' weights differ after step {step}")

    def _listen(self) -> None:
        while True:
            try:
                self._show(self.messages.get(timeout=0.5))
            except Empty:
                if self._done.is_set():
                    return
            except BrokenPipeError:
                continue  # Nobody reads any more; training goes on, and replicas are compared.

    def _show(self, message: dict[str, Any]) -> None:
        kind = message["kind"]
        if kind == "start":
            self._steps, self._best = message["steps"], message["best"]
            if message["step"]:
                print(f"going on after step {message['step']:,}", flush=True)
        elif kind == "replica":
            self._replicas.setdefault(message["step"], set()).add(message["hash"])
        elif kind == "step":
            now, left = time.monotonic(), self._steps - message["step"]
            if now - self._printed >= EVERY or not left:
                self._printed = now
                print(
                    f"step {message['step']:,}/{self._steps:,}  loss {message['loss']:.4f}  "
                    f"{message['examples/s']:,.0f} examples/s",
                    flush=True,
                )
        else:
            loss, accuracy = message["validation_loss"], message["validation_accuracy"]
            compared = "best so far" if loss < self._best else f"best {self._best:.4f}"
            self._best = min(self._best, loss)
            print(
                f"validation after step {message['step']:,}: loss {loss:.4f} ({compared}), "
                f"accuracy {accuracy:.1%}",
                flush=True,
            )
