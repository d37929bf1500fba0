"""`_SUCCESS`: the file that says that an output is complete, and which plans it is complete for."""

import hashlib
import json
from collections.abc import Mapping, Sequence

from sentiment import storage

SUCCESS = "_SUCCESS"
"""File name."""

ACCEPTED = "accepted.json"
"""File name, in `_manifest/`, of the last `_SUCCESS` of those that were removed."""


def success_content(totals: Mapping[str, object], warnings: Sequence[str], plans: str) -> bytes:
    """The content of the file: totals, what is to know of texts, and the digest of the plans."""
    return json.dumps({**totals, "warnings": warnings, "plans_sha256": plans}, indent=1).encode()


def plans_digest(digests: Sequence[str]) -> str:
    """The digest of plans, SHA-256 in hex, given the digests of their files."""
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()


def recorded_digest(path: str) -> str:
    """The digest of the plans that a `_SUCCESS` was written for; "": it is not there, or damaged.

    Raises OSError if it cannot be read.
    """
    try:
        return str(json.loads(storage.read(path))["plans_sha256"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return ""


def accepted_plans(output: str, digests: Sequence[str]) -> int:
    """Number of an output's plans, from the first, that a `_SUCCESS` has accepted with their
    rejected rows and unreadable shards. Raises OSError.

    Args:
        output: the directory.
        digests: of the plans' files, in order.
    """
    accepted = {plans_digest(digests[:number]): number for number in range(len(digests), 0, -1)}
    files = (storage.join(output, SUCCESS), storage.join(output, "_manifest", ACCEPTED))
    return max(accepted.get(recorded_digest(path), 0) for path in files)
