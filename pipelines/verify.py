"""Verify a scored output: read every file, and check each count and hash.

    python -m pipelines.verify scored
    python -m pipelines.verify scored --input reviews

Exit code 0: all of it is as it was written, and with --input it has each row of the corpus.
"""

from typing import Any

from pipelines.console import command


def load() -> command.Program[Any]:
    """The program and its flags."""
    from pipelines.scoring.audit import VerifyConfig, main

    return main, VerifyConfig


if __name__ == "__main__":
    command.run(load)
