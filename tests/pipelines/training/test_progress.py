import io
import re
import time
from dataclasses import replace

import pytest
import ray
from ray.exceptions import RayActorError
from rich.console import Console

from pipelines.console import waiting
from pipelines.console.progress import MAX_LINES, Progress, steps
from pipelines.errors import Failure
from pipelines.training.messages import ReplicaHash, Retrying, Started, StepDone, Validated
from pipelines.training.progress import MessageDisplay, MessageListener

START = Started(step=0, steps=40, best_loss=float("inf"), workers=1)


class Clock:
    """Seconds that pass when told to."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def step(number: int, loss: float = 0.5) -> StepDone:
    return StepDone(number, loss, examples_per_second=1234.0)


def validation(number: int, loss: float) -> Validated:
    return Validated(number, loss, accuracy=0.75)


def trouble(number: int | None) -> Retrying:
    return Retrying("worker 1 died (node 10.0.0.3)", number, attempt=2, attempts=4)


def test_messages_become_lines(capsys, local_ray, monkeypatch):
    monkeypatch.setattr(waiting, "DELAY_SECONDS", 60)
    with MessageListener() as listener:
        for message in (replace(START, step=20, best_loss=0.5), step(40), validation(40, 0.4)):
            listener.messages.put(message)
    assert capsys.readouterr().out.splitlines() == [
        "resuming after step 20",
        "step 40/40, loss 0.5000, 1,234 examples/s",
        "validation after step 40: loss 0.4000 (best so far, 0.5000 before), accuracy 75.0%",
    ]


@pytest.mark.parametrize("workers", [1, 2])
def test_steps_that_another_number_of_workers_takes_again_may_differ(workers, capsys, local_ray):
    before, after = replace(START, workers=2), Started(20, 40, best_loss=0.5, workers=workers)
    hashes = [ReplicaHash(step, 0, "a") for step in (20, 40)] + [ReplicaHash(40, 0, "b")]
    messages = (before, *hashes[:2], after, hashes[2])
    if workers == 2:
        with pytest.raises(Failure, match="weights differ after step 40"):
            show(messages)
        return
    show(messages)
    assert capsys.readouterr().out.splitlines() == [
        "1 worker now, 2 before: sums over other workers are rounded in another order",
        "resuming after step 20",
    ]


def show(messages):
    with MessageListener() as listener:
        for message in messages:
            listener.messages.put(message)


def test_workers_that_find_no_place_are_one_line(capsys, local_ray, monkeypatch):
    monkeypatch.setattr("pipelines.training.progress.PATIENCE_SECONDS", 0)
    monkeypatch.setattr(waiting, "DELAY_SECONDS", 60)
    said, end = "", time.monotonic() + 30
    with MessageListener():
        while not said and time.monotonic() < end:
            time.sleep(0.1)
            said += capsys.readouterr().out
    said += capsys.readouterr().out
    assert re.fullmatch(r"no worker has started yet; free in the cluster: [\d.]+ of 2 CPUs\n", said)


@pytest.mark.parametrize("end", [KeyboardInterrupt, SystemExit])
def test_a_driver_told_to_end_does_not_wait_for_training_to_fall_silent(end, capsys, local_ray):
    @ray.remote
    def train(messages, message) -> int:
        for number in range(300):
            try:
                messages.put(message)
            except RayActorError:  # Nobody listens any more.
                return number
            time.sleep(0.1)
        return 300

    def drive() -> None:
        nonlocal training
        with MessageListener() as listener:
            training = train.remote(listener.messages, trouble(7))
            while not capsys.readouterr().out:
                time.sleep(0.01)
            raise end

    training = None
    with pytest.raises(end):
        drive()
    assert ray.get(training) < 300


@pytest.mark.parametrize("hashes", [("a", "a"), ("a", "b")])
def test_replicas_that_differ_are_a_failure(hashes, local_ray):
    def listen():
        with MessageListener() as listener:
            for rank, value in enumerate(hashes):
                listener.messages.put(ReplicaHash(7, rank, value))

    if len(set(hashes)) == 1:
        listen()
    else:
        with pytest.raises(Failure, match="differ after step 7"):
            listen()


def test_validations_stand_beside_the_best_before_them(capsys):
    lines = MessageDisplay(Progress(steps))
    lines.show(START)
    for number, loss in ((10, 0.5), (20, 0.6), (30, 0.4)):
        lines.show(validation(number, loss))
    said = [line.split("loss ")[1] for line in capsys.readouterr().out.splitlines()]
    assert said == [
        "0.5000 (best so far), accuracy 75.0%",
        "0.6000 (best 0.5000), accuracy 75.0%",
        "0.4000 (best so far, 0.5000 before), accuracy 75.0%",
    ]


@pytest.mark.parametrize(
    ("resumed", "saved", "next_"),
    [
        (0, 200, "resuming from step 200, attempt 2 of 4"),
        (0, None, "starting again, attempt 2 of 4"),
        (100, None, "resuming from step 100, attempt 2 of 4"),
        (100, 1200, "resuming from step 1,200, attempt 2 of 4"),
    ],
)
def test_trouble_says_what_happens_next(resumed, saved, next_, capsys):
    lines = MessageDisplay(Progress(steps))
    lines.show(replace(START, step=resumed, steps=2000))
    capsys.readouterr()
    lines.show(trouble(saved))
    assert capsys.readouterr().out == f"worker 1 died (node 10.0.0.3): {next_}\n"


@pytest.mark.parametrize(
    ("total", "seconds_a_step", "fewest", "most"),
    [
        (300, 0.01, 2, 2),  # 3 s
        (3000, 0.01, 7, 8),  # Half a minute: a line every 5 s.
        (100_000, 0.05, 195, MAX_LINES + 2),  # 83 minutes: one each 25 s.
        (1_000_000, 0.1, 195, MAX_LINES + 2),  # A day.
    ],
)
def test_lines_about_steps_come_at_a_pace_to_follow(total, seconds_a_step, fewest, most, capsys):
    clock = Clock()
    lines = MessageDisplay(Progress(steps, clock=clock))
    lines.show(replace(START, steps=total))
    for number in range(10, total + 1, 10):
        clock.now += 10 * seconds_a_step
        lines.show(step(number))
    said = capsys.readouterr().out.splitlines()
    assert fewest <= len(said) <= most
    # The first tells that it goes, the last that it went.
    assert said[0].startswith("step 10/")
    assert said[-1].startswith(f"step {total:,}/{total:,}")


@pytest.fixture
def terminal():
    written = io.StringIO()
    return Console(file=written, force_terminal=True, width=100), written


def plain(written: str) -> list[str]:
    """What stood on the lines of a terminal, one picture after another."""
    return [
        line.strip() for line in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\r", "\n", written).split("\n")
    ]


def test_a_bar_shows_step_loss_speed_and_time_left_and_lines_above(terminal):
    console, written = terminal
    clock = Clock()
    bar = MessageDisplay(Progress(steps, clock=clock, console=console))
    bar.show(replace(START, steps=400))
    for number in range(10, 210, 10):
        clock.now += 1
        bar.show(step(number, loss=1 / number))
    bar.show(validation(200, 0.4))
    bar.show(trouble(200))
    bar.show(Started(200, 400, best_loss=0.4, workers=1))
    bar.show(step(210))
    bar.show(validation(210, 0.5))
    bar.close()
    assert written.getvalue().endswith("\x1b[?25h")  # The cursor is back.
    text = " ".join(plain(written.getvalue()))
    assert re.search(r"step 200/400, loss 0\.0050, 1,234 examples/s", text)
    assert re.search(r"\d:\d\d:\d\d", text)
    lines = plain(written.getvalue())
    for line in (
        "validation after step 200: loss 0.4000 (best so far), accuracy 75.0%",
        "worker 1 died (node 10.0.0.3): resuming from step 200, attempt 2 of 4",
        "resuming after step 200",
        "validation after step 210: loss 0.5000 (best 0.4000), accuracy 75.0%",
    ):
        assert lines.count(line) == 1


def test_a_terminal_that_is_gone_stops_nothing(monkeypatch, local_ray):
    class Gone(io.StringIO):
        def write(self, text):
            raise OSError(5, "Input/output error")

    monkeypatch.setattr("sys.stdout", Gone())

    def listen():
        with MessageListener() as listener:
            listener.messages.put(step(10))
            for rank, value in enumerate("ab"):
                listener.messages.put(ReplicaHash(7, rank, value))

    with pytest.raises(Failure, match="differ after step 7"):
        listen()
