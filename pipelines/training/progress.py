"""What training workers report -> the terminal, while the driver waits for them."""

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import ray
from ray.exceptions import RayActorError, RayError
from ray.util.queue import Empty, Queue
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

from pipelines.console.terminal import live_console, printable, quantity, say
from pipelines.errors import Failure

EVERY = 1.0
"""Seconds between two lines about steps, at least; validations and trouble are always shown."""

LINES = 200
"""Lines about steps in a run that nothing interrupts, about, at most."""

PATIENCE = 60.0
"""Seconds that workers may take to begin before a line says what the cluster has free."""

REFRESH = 0.1
"""Seconds between two pictures of the bar, at least."""


class Progress:
    """Shows the messages of `train_loop` and `Watch`, and checks that replicas stay equal.

    A context: on leaving it, messages still under way are shown, unless Ctrl-C or SIGTERM ends it.
    """

    def __enter__(self) -> "Progress":
        # Where the driver is: workers and their nodes may die, and what they said must not.
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        self.messages = Queue(actor_options={"num_cpus": 0, "scheduling_strategy": here})
        terminal = live_console()
        self._display = Bar(terminal) if terminal else Lines()
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
            self._show(message)

    def _show(self, message: dict[str, Any]) -> None:
        # Where the terminal is gone training goes on, and replicas are compared.
        with suppress(OSError):
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
        self._show({"kind": "waiting", "free": ", ".join(counts) or "nothing"})


class Lines:
    """A line for each validation and trouble, and for steps at a pace that a reader can follow."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._first, self._steps, self._best = 0, 0, float("inf")
        self._shown_at, self._shown_step = float("-inf"), float("-inf")

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
        """Nothing more is to come."""

    def _say(self, line: str) -> None:
        say(line)

    def _start(self, message: dict[str, Any]) -> None:
        self._first, self._steps, self._best = (message[n] for n in ("step", "steps", "best"))
        self._shown_step = float("-inf")
        if self._first:
            self._say(f"going on after step {self._first:,}")

    def _step(self, message: dict[str, Any]) -> None:
        step, now = message["step"], self._clock()
        followed = now - self._shown_at >= EVERY
        if step == self._steps or (followed and step - self._shown_step >= self._steps / LINES):
            self._shown_at, self._shown_step = now, step
            self._say(
                f"step {step:,}/{self._steps:,}  loss {message['loss']:.4f}  "
                f"{message['examples/s']:,.0f} examples/s"
            )

    def _validation(self, message: dict[str, Any]) -> None:
        loss, best = message["validation_loss"], self._best
        if loss < best:
            compared = "best so far" + (f", {best:.4f} before" if best < float("inf") else "")
            self._best = loss
        else:
            compared = f"best {best:.4f}"
        self._say(
            f"validation after step {message['step']:,}: loss {loss:.4f} ({compared}), "
            f"accuracy {message['validation_accuracy']:.1%}"
        )

    def _trouble(self, message: dict[str, Any]) -> None:
        # Of a checkpoint since the program began; before the first, training goes on as it began.
        step = self._first if message["step"] is None else message["step"]
        again = f"going on from step {step:,}" if step else "beginning again"
        self._say(
            f"{printable(message['reason'])}: {again}, "
            f"try {message['attempt']} of {message['attempts']}"
        )

    def _waiting(self, message: dict[str, Any]) -> None:
        self._say(f"no worker has begun yet; free in the cluster: {message['free']}")


class Bar(Lines):
    """A bar with step, loss, examples/s and time left; other lines appear above it."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(clock)
        self._bar = RichProgress(
            TextColumn("step"),
            MofNCompleteColumn(),
            BarColumn(),
            TextColumn("{task.fields[told]}"),
            TimeRemainingColumn(),
            TextColumn("left"),
            console=console,
            # `_step` draws: in a thread of its own, a terminal that is gone would be an error.
            auto_refresh=False,
        )
        self._task = None

    def close(self) -> None:
        """Leave the bar as it is."""
        self._bar.stop()

    def _say(self, line: str) -> None:
        self._bar.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def _start(self, message: dict[str, Any]) -> None:
        super()._start(message)
        # Another one after a restart: the time left is told by how fast steps have gone by since.
        if self._task is not None:
            self._bar.remove_task(self._task)
        self._task = self._bar.add_task("", total=self._steps, completed=self._first, told="loss -")
        self._bar.start()

    def _step(self, message: dict[str, Any]) -> None:
        told = f"loss {message['loss']:.4f}  {message['examples/s']:,.0f} examples/s"
        self._bar.update(self._task, completed=message["step"], told=told)
        now = self._clock()
        if now - self._shown_at >= REFRESH or message["step"] == self._steps:
            self._shown_at = now
            self._bar.refresh()
