"""Progress of training on the terminal, while the driver waits for the workers."""

import threading
import time
from contextlib import ExitStack
from types import TracebackType

import ray
from ray.exceptions import RayActorError, RayError
from ray.util.queue import Empty, Queue
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from pipelines.console.progress import Progress, steps
from pipelines.console.terminal import percent, printable, quantity
from pipelines.console.waiting import waiting
from pipelines.errors import Failure
from pipelines.training.messages import (
    Message,
    ReplicaHash,
    Retrying,
    Started,
    StepDone,
    Validated,
)

PATIENCE_SECONDS = 60.0
"""Time that workers may take to start before a line says what the cluster has free."""

POLL_SECONDS = 0.5
"""How long the listener waits for a message before it looks whether training is over."""


class MessageListener:
    """Shows the messages of the workers and of Ray Train, and checks that replicas stay equal.

    A context manager. At its end it shows the messages that are still queued, unless Ctrl-C or
    SIGTERM ended it, and raises Failure if the workers' weights differ.
    """

    def __enter__(self) -> "MessageListener":
        # The queue lives on the driver's node: workers and their nodes may die, and their messages
        # must not be lost.
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        self.messages = Queue(actor_options={"num_cpus": 0, "scheduling_strategy": here})
        self._display = MessageDisplay(Progress(steps))
        self._hashes: dict[int, set[str]] = {}
        self._workers: int | None = None
        self._done, self._interrupted = threading.Event(), False
        self._waiting_since: float | None = time.monotonic()
        self._start_up = ExitStack()
        self._start_up.enter_context(waiting("Workers start, and load TensorFlow: some 10 s"))
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # After an interruption the workers go on, and send messages, until Ray stops them.
        self._interrupted = kind is not None and not issubclass(kind, Exception)
        self._done.set()
        self._thread.join()
        self._start_up.close()
        self._display.close()
        self.messages.shutdown()
        for step, hashes in self._hashes.items():
            if error is None and len(hashes) > 1:
                raise Failure(f"the workers' weights differ after step {step}")

    def _listen(self) -> None:
        while not self._interrupted:
            try:
                message: Message = self.messages.get(timeout=POLL_SECONDS)
            except Empty:
                if self._done.is_set():
                    return
                self._say_if_waiting()
                continue
            except RayActorError:
                return  # Ray itself has ended; the driver gets an error of its own.
            match message:
                case ReplicaHash():
                    self._hashes.setdefault(message.step, set()).add(message.hash)
                case Started():
                    self._waiting_since = None
                    self._forget_steps_of_others(message)
                case Retrying():
                    self._waiting_since = time.monotonic()
            self._start_up.close()
            self._display.show(message)

    def _forget_steps_of_others(self, message: Started) -> None:
        """Another number of workers takes the later steps again, and rounds otherwise."""
        if self._workers not in (None, message.workers):
            self._hashes = {
                step: hashes
                for step, hashes in self._hashes.items()
                if step <= message.step or len(hashes) > 1
            }
        self._workers = message.workers

    def _say_if_waiting(self) -> None:
        """Say once what is free if workers take long to start: the cluster may be full."""
        since = self._waiting_since
        if since is None or time.monotonic() - since < PATIENCE_SECONDS:
            return
        self._waiting_since = None
        try:
            total, free = ray.cluster_resources(), ray.available_resources()
        except RayError:
            return  # Ray itself has ended; the driver gets an error of its own.
        counts = [
            f"{free.get(name, 0):g} of {quantity(int(total[name]), name)}"
            for name in ("CPU", "GPU")
            if name in total
        ]
        self._display.waiting(", ".join(counts) or "nothing")


class MessageDisplay:
    """Shows steps as progress, and each validation and each failure as a line of its own."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._first, self._steps, self._best = 0, 0, float("inf")
        self._workers = 0
        self._first_step_shown = False

    def show(self, message: Message) -> None:
        """Show a message of the workers or of Ray Train."""
        match message:
            case Started():
                self._start(message)
            case StepDone():
                self._step(message)
            case Validated():
                self._validation(message)
            case Retrying():
                self._retry(message)

    def waiting(self, free: str) -> None:
        """Say that no worker has started yet, and what the cluster has free."""
        self._progress.say(f"no worker has started yet; free in the cluster: {free}")

    def close(self) -> None:
        """Stop the progress display."""
        self._progress.close()

    def _start(self, message: Started) -> None:
        self._first, self._steps, self._best = message.step, message.steps, message.best_loss
        self._first_step_shown = False
        if self._workers not in (0, message.workers):
            self._progress.say(
                f"{quantity(message.workers, 'worker')} now, {self._workers:,} before: sums over "
                "other workers are rounded in another order"
            )
        self._workers = message.workers
        if self._first:
            self._progress.say(f"resuming after step {self._first:,}")
        self._progress.start(self._steps, self._first)

    def _step(self, message: StepDone) -> None:
        details = f"loss {message.loss:.4f}, {message.examples_per_second:,.0f} examples/s"
        first_or_last = not self._first_step_shown or message.step == self._steps
        self._progress.update(message.step, details, force=first_or_last)
        self._first_step_shown = True

    def _validation(self, message: Validated) -> None:
        if message.loss < self._best:
            before = f", {self._best:.4f} before" if self._best < float("inf") else ""
            compared = f"best so far{before}"
            self._best = message.loss
        else:
            compared = f"best {self._best:.4f}"
        self._progress.say(
            f"validation after step {message.step:,}: loss {message.loss:.4f} ({compared}), "
            f"accuracy {percent(message.accuracy)}"
        )

    def _retry(self, message: Retrying) -> None:
        # Ray Train reports only checkpoints since this program started. Before the first of them,
        # training resumes from where the program started.
        step = self._first if message.step is None else message.step
        action = f"resuming from step {step:,}" if step else "starting again"
        self._progress.say(
            f"{printable(message.reason)}: {action}, "
            f"attempt {message.attempt} of {message.attempts}"
        )
