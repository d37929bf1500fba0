"""Programs as a user runs them: `python -m pipelines.NAME` in a process of its own."""

import subprocess
import sys


def run(name: str, *arguments: object, code: int = 0) -> subprocess.CompletedProcess[str]:
    """Run a program to its end and check its exit code; at most three minutes."""
    command = [sys.executable, "-m", f"pipelines.{name}", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == code, f"{done.stdout}\n{done.stderr}"
    return done
