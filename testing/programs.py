"""Programs as a user runs them: `python -m pipelines.NAME` in a process of its own."""

import io
import os
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout, suppress
from importlib import import_module
from pathlib import Path

import psutil

from pipelines.console import command
from sentiment import buckets, storage
from testing.waiting import wait_until


def words(name: str, *arguments: object) -> list[str]:
    """The words of a program's command line."""
    return [sys.executable, "-m", f"pipelines.{name}", *map(str, arguments)]


def run(
    name: str, *arguments: object, code: int = 0, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end and check its exit code; at most three minutes."""
    done = subprocess.run(
        words(name, *arguments),
        capture_output=True,
        text=True,
        timeout=180,
        env=os.environ | environment,
        check=False,
    )
    assert done.returncode == code, f"{done.stdout}\n{done.stderr}"
    return done


def undated(log: str) -> str:
    """What a program wrote to a pipe or file, without the dates before its lines."""
    return re.sub(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d ", "", log, flags=re.MULTILINE)


def start(name: str, *arguments: object, **environment: str) -> subprocess.Popen[str]:
    """Begin a program; `communicate` ends it. Its process group is its own."""
    return subprocess.Popen(
        words(name, *arguments),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | environment,
        start_new_session=True,
    )


def scoring(root: Path | str, output: Path | str, part_rows: int) -> list[str]:
    """Flags of `score`: `model` and `corpus` are below a directory or URI."""
    return [
        *("--checkpoints_dir", f"{root}/model", "--input", f"{root}/corpus"),
        *("--output", str(output), "--text_column", "SentimentText", "--keep_columns", "id"),
        *("--part_rows", str(part_rows)),
    ]


def wait_for_parts(output: Path | str, job: subprocess.Popen[str], parts: int) -> None:
    """Wait until so many parts are there; at most two minutes."""

    def are_there() -> bool:
        if sum(name.startswith("part-") for name in storage.names(str(output))) >= parts:
            return True
        assert job.poll() is None, job.communicate()
        return False

    # Listing a bucket again and again takes a core.
    poll_seconds = 0.2 if "://" in str(output) else 0.02
    wait_until(are_there, 120, f"{parts} parts in {output}", poll_seconds)


def contents(output: Path | str) -> dict[str, bytes]:
    """Of a scored directory or URI what readers see: parts, rejected rows, `_SUCCESS`."""
    names = [name for name in storage.names(str(output)) if name not in ("_manifest", "_rejected")]
    names += [f"_rejected/{name}" for name in storage.names(f"{output}/_rejected")]
    return {name: storage.read(f"{output}/{name}") for name in names}


def refused(name: str, *arguments: object, code: int = 2) -> str:
    """What a program says of a user's mistake, if that is one line; in this process, for speed.

    `code` is its exit code: 1 for what a server or its credentials do.
    """
    module = import_module(f"pipelines.{name}")
    out, err = io.StringIO(), io.StringIO()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    unraisable = sys.unraisablehook
    # As a program begins, it knows no bucket.
    buckets.bucket.cache_clear()
    try:
        with redirect_stdout(out), redirect_stderr(err):
            flags = [str(each) for each in arguments]
            ended = command.exit_code(module.load, name, module.__doc__, flags)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        sys.unraisablehook = unraisable
        buckets.bucket.cache_clear()
    assert (ended, out.getvalue()) == (code, ""), err.getvalue()
    assert err.getvalue().count("\n") == 1
    return err.getvalue()


def end(processes: Sequence[psutil.Process]) -> None:
    """What a killed driver leaves of its Ray goes by itself, but takes up to a minute: kill it."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(processes, timeout=30)
