"""What a scored output has, and what each run did: rows scored, rejected, removed; how it ended.

    python -m pipelines.status scored

Exit code 0: the output is complete.
"""

from typing import Any

from pipelines.console import command


def load() -> command.Program[Any]:
    """The program and its flags."""
    from pipelines.scoring.status import StatusConfig, main

    return main, StatusConfig


if __name__ == "__main__":
    command.run(load)
