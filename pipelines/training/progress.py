"""What training workers report -> the terminal, while the driver waits for them."""

import threading
import time
from typing import Any

import ray
from ray.exceptions import RayActorError, RayError
from ray.util.queue import Empty, Queue
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from pipelines.console.progress import Progress, steps
from pipelines.console.terminal import printable, quantity
from pipelines.errors import Failure

PATIENCE = 60.0
"""Seconds that workers may take to begin before a line says what the cluster has free."""


class MessageListener:
    """Shows the messages of `train_loop` and `Watch`, and checks that replicas stay equal.

    A context: on leaving it, messages still under way are shown, unless Ctrl-C or SIGTERM ends it.
    """

    def __enter__(self) -> "MessageListener":
        # Where the driver is: workers and their nodes may die, and what they said must not.
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        self.messages = Queue(actor_options={"num_cpus": 0, "scheduling_strategy": here})
        self._display = MessageDisplay(Progress(steps))
        self._replicas: dict[int, set[str]] = {}
        self._done, self._left = threading.Event(), False
        self._waiting_since: float | None = time.monotonic()
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind, error, traceback) -> None:
        # After them training goes on, and has more to say, until Ray ends it.
        self._left = kind is not None and not issubclass(kind, Exception)
        self._done.set()
        self._thread.join()
        self._display.close()
        self.messages.shutdown()
        for step, hashes in self._replicas.items():
            if error is None and len(hashes) > 1:
                raise Failure(f"the workers' weights differ after step {step}")

    def _listen(self) -> None:
        while not self._left:
            try:
                message = self.messages.get(timeout=0.5)
            except Empty:
                if self._done.is_set():
                    return
                self._say_if_waiting()
                continue
            except RayActorError:
                return  # Ray itself is gone, and the driver is told so.
            if message["kind"] == "replica":
                self._replicas.setdefault(message["step"], set()).add(message["hash"])
                continue
            if message["kind"] in ("start", "trouble"):
                self._waiting_since = None if message["kind"] == "start" else time.monotonic()
            self._display.show(message)

    def _say_if_waiting(self) -> None:
        """Once, if workers take long to begin: a cluster may have no place for them."""
        if self._waiting_since is None or time.monotonic() - self._waiting_since < PATIENCE:
            return
        self._waiting_since = None
        try:
            have, free = ray.cluster_resources(), ray.available_resources()
        except RayError:
            return  # Ray itself is gone, and the driver is told so.
        counts = [
            f"{free.get(name, 0):g} of {quantity(int(have[name]), name)}"
            for name in ("CPU", "GPU")
            if name in have
        ]
        self._display.show({"kind": "waiting", "free": ", ".join(counts) or "nothing"})


class MessageDisplay:
    """Shows steps as progress, and each validation and each failure as a line of its own."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._first, self._steps, self._best = 0, 0, float("inf")
        self._first_step_shown = False

    def show(self, message: dict[str, Any]) -> None:
        """Show what `train_loop` or `Watch` has to say."""
        match message["kind"]:
            case "start":
                self._start(message)
            case "step":
                self._step(message)
            case "validation":
                self._validation(message)
            case "trouble":
                self._trouble(message)
            case "waiting":
                self._waiting(message)

    def close(self) -> None:
        """Stop the progress display."""
        self._progress.close()

    def _start(self, message: dict[str, Any]) -> None:
        self._first, self._steps, self._best = (message[n] for n in ("step", "steps", "best"))
        self._first_step_shown = False
        if self._first:
            self._progress.say(f"going on after step {self._first:,}")
        self._progress.start(self._steps, self._first)

    def _step(self, message: dict[str, Any]) -> None:
        details = f"loss {message['loss']:.4f}, {message['examples/s']:,.0f} examples/s"
        first_or_last = not self._first_step_shown or message["step"] == self._steps
        self._progress.update(message["step"], details, force=first_or_last)
        self._first_step_shown = True

    def _validation(self, message: dict[str, Any]) -> None:
        loss, best = message["validation_loss"], self._best
        if loss < best:
            compared = "best so far" + (f", {best:.4f} before" if best < float("inf") else "")
            self._best = loss
        else:
            compared = f"best {best:.4f}"
        self._progress.say(
            f"validation after step {message['step']:,}: loss {loss:.4f} ({compared}), "
            f"accuracy {message['validation_accuracy']:.1%}"
        )

    def _trouble(self, message: dict[str, Any]) -> None:
        # Of a checkpoint since the program began; before the first, training goes on as it began.
        step = self._first if message["step"] is None else message["step"]
        again = f"going on from step {step:,}" if step else "beginning again"
        self._progress.say(
            f"{printable(message['reason'])}: {again}, "
            f"try {message['attempt']} of {message['attempts']}"
        )

    def _waiting(self, message: dict[str, Any]) -> None:
        self._progress.say(f"no worker has begun yet; free in the cluster: {message['free']}")
