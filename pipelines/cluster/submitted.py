"""What a program that runs as a Ray job writes has to outlast the job's copy of the code."""

import json
import os
from pathlib import Path

from sentiment import storage
from sentiment.errors import InputError

JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""Variable that Ray sets for the driver of a job, with the job's `runtime_env`, as JSON."""


def require_lasting(path: str, flag: str) -> None:
    """Raise InputError for a path below the directory into which Ray unpacks `--working-dir`.

    It has another name for other code, and nobody looks there: what is written would be lost, and
    the same command would not go on with it. `path`: a URI, or absolute or relative.
    """
    environment = json.loads(os.environ.get(JOB) or "{}").get("runtime_env") or {}
    package = str(environment.get("working_dir") or "")
    # Of the nodes' own directories Ray makes no copy.
    if not package or package.startswith("local://") or "://" in path:
        return
    if Path(storage.absolute(path)).is_relative_to(Path.cwd()):
        raise InputError(
            f"{flag} {path} would be in this job's copy of the code, below {Path.cwd()}, and lost "
            "with it: pass a URI, or the absolute path of a directory that all nodes share"
        )
