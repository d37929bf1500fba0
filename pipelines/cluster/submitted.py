"""Outputs of a submitted Ray job: they may not lie in the job's copy of the code."""

from sentiment import storage
from sentiment.errors import InputError

COPIES = "/runtime_resources/working_dir_files/"
"""In the path of each directory into which Ray unpacks the `--working-dir` of a job."""


def require_lasting(path: str, flag: str) -> None:
    """Raise InputError for a path among Ray's copies of code, into which relative ones lead.

    A copy has another name for other code, and goes with Ray's session; nobody looks there. What is
    written would be lost, and the same command would not go on with it. `path`: a URI, or absolute
    or relative.
    """
    absolute = storage.absolute(path)
    if "://" not in path and COPIES in absolute:
        raise InputError(
            f"{flag} {path} would be in Ray's copy of this job's code, {absolute}, and lost with "
            "it: pass a URI, or the absolute path of a directory that all nodes share"
        )
