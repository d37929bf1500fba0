"""What is said, and what is left, when Ray or the program itself is killed."""

import os
import signal
import subprocess
import sys
from contextlib import suppress

import psutil
import pytest
import ray

from pipelines.cluster import session
from pipelines.cluster.ray_internals import settings_kept
from pipelines.cluster.session import require_answer
from pipelines.errors import Failure
from sentiment.errors import InputError
from testing.waiting import wait_until

PROGRAM = """
import os, sys, time
from dataclasses import dataclass
import ray
from pipelines.cluster.session import session
from pipelines.console import command

@dataclass
class Flags:
    pass

def main(flags):
    waits = "WAITS" in os.environ
    with session():
        os.write(2, b"native code complains\\n")
        print("ready", flush=True)
        if not waits:
            print("to the terminal", file=sys.stderr)
        while waits:
            ray.get(ray.put(1))
            time.sleep(0.1)
    print("and after it", file=sys.stderr)

command.run(lambda: (main, Flags))
"""


def start(**environment: str) -> tuple[subprocess.Popen, list[psutil.Process]]:
    program = subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"RAY_ADDRESS": ""} | environment,
    )
    # On a slow machine a line says first that Ray starts.
    if "ready\n" not in iter(program.stdout.readline, ""):
        raise AssertionError(program.communicate()[1])
    return program, psutil.Process(program.pid).children(recursive=True)


@pytest.mark.parametrize("own", [signal.SIG_DFL, signal.SIG_IGN, lambda *_: None])
def test_a_caller_has_its_handler_of_sigterm_again(monkeypatch, own):
    """Ray sets one of its own as it starts. That of the system is 0, which is false."""
    monkeypatch.setattr(session, "_start", lambda *_: signal.signal(signal.SIGTERM, lambda *_: 1))
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    signal.signal(signal.SIGTERM, own)
    with session._of_caller("local", verbose=True):
        assert signal.getsignal(signal.SIGTERM) is own
    assert signal.getsignal(signal.SIGTERM) is own


def test_a_local_ray_that_starts_too_slowly_is_started_again(monkeypatch):
    tries = []

    def init(**flags: object) -> None:
        tries.append(flags["address"])
        if len(tries) == 1:
            raise Exception("The current node timed out during startup. This could happen ...")

    monkeypatch.setattr(ray, "init", init)
    for address, number in (("local", 2), ("10.0.0.1:6379", 1)):
        tries.clear()
        with suppress(Exception), settings_kept():
            session._start(address, verbose=True)
        assert tries == [address] * number


def require_none_left(processes: list[psutil.Process]) -> None:
    def none_is_left() -> bool:
        return not any(
            each.is_running() and each.status() != psutil.STATUS_ZOMBIE for each in processes
        )

    wait_until(none_is_left, 20, "the end of every process", poll_seconds=0.1)


@pytest.mark.slow(6)
@pytest.mark.ray
@pytest.mark.process
def test_native_code_is_not_heard_and_nothing_is_left():
    """And Ray needs no home, as in a container with a random uid."""
    program, processes = start(HOME="/proc/none")
    _, said = program.communicate(timeout=60)
    assert (program.returncode, said) == (0, "to the terminal\nand after it\n")
    require_none_left(processes)


@pytest.mark.slow(20)
@pytest.mark.ray
@pytest.mark.process
def test_a_program_that_ray_ends_says_why():
    program, processes = start(WAITS="")
    (raylet,) = [each for each in processes if each.name() == "raylet"]
    raylet.kill()
    _, said = program.communicate(timeout=90)
    assert program.returncode == 1
    # Python gets an exception if it is waiting for Ray; else native code ends the program.
    assert "Ray ended it because its raylet died" in said or "LocalRayletDiedError" in said
    require_none_left(processes)


@pytest.mark.slow(8)
@pytest.mark.ray
@pytest.mark.process
def test_a_program_that_is_killed_leaves_no_process_of_ray():
    program, processes = start(WAITS="")
    program.kill()
    _, said = program.communicate(timeout=60)
    assert program.returncode == -signal.SIGKILL
    assert said.startswith("error: this program was killed, or")
    assert said.count("\n") == 1
    require_none_left(processes)


@pytest.mark.parametrize("address", ["127.0.0.1:1", "127.0.0.1:99999", "nowhere"])
def test_a_cluster_that_does_not_answer_is_one_line(address):
    with pytest.raises(Failure, match=f"RAY_ADDRESS={address}: no Ray cluster answers there"):
        require_answer(address, 0)


@pytest.mark.process
@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("TMPDIR", "LONG", "is too long for its sockets: set RAY_TMPDIR to the short path"),
        ("RAY_TMPDIR", "/proc/none", "below /proc/none: set RAY_TMPDIR"),
        # Python would choose another directory then.
        ("TMPDIR", "/proc/none", "below /proc/none: set RAY_TMPDIR"),
    ],
)
def test_a_directory_that_ray_cannot_use_is_named_with_the_variable_to_set(
    variable, value, said, tmp_path
):
    if value == "LONG":
        (tmp_path / ("x" * 100)).mkdir()
        value = str(tmp_path / ("x" * 100))
    ours = ("RAY_ADDRESS", "RAY_TMPDIR")
    environment = {name: text for name, text in os.environ.items() if name not in ours}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**environment, variable: value},
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: Ray did not start")
    assert done.stderr.count("\n") == 1
    assert value in done.stderr
    assert said in done.stderr


@pytest.mark.parametrize(("variable", "value"), [("TMPDIR", "/tmp/tü"), ("RAY_TMPDIR", "tmp")])
def test_a_directory_of_which_ray_would_not_tell_is_refused(variable, value, monkeypatch):
    for name in ("RAY_ADDRESS", "RAY_TMPDIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, value)
    said = f"^{variable}={value}: Ray needs an absolute path in ASCII: set RAY_TMPDIR to"
    with pytest.raises(InputError, match=said), session.session():
        pass
