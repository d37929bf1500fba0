"""Programs as a user runs them: `python -m pipelines.NAME` in a process of its own."""

import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress

import psutil


def run(name: str, *arguments: object, code: int = 0) -> subprocess.CompletedProcess[str]:
    """Run a program to its end and check its exit code; at most three minutes."""
    command = [sys.executable, "-m", f"pipelines.{name}", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == code, f"{done.stdout}\n{done.stderr}"
    return done


def end(processes: Sequence[psutil.Process]) -> None:
    """What a killed driver leaves of its Ray goes by itself, but takes up to a minute: kill it."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(processes, timeout=30)
