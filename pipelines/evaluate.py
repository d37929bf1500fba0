"""Measure a checkpoint on labelled texts; print the metrics and write a report beside the model.

    python -m pipelines.evaluate --checkpoints_dir checkpoints/demo --baseline
    python -m pipelines.evaluate checkpoints/demo checkpoints/other

Uses the rows that training held out, unless --data_dir names others. Several runs are compared on
the rows that the first one held out. One process, without TensorFlow; only shards of more than 256
MiB are read and scored in tasks of Ray.
"""

import io
from contextlib import nullcontext, redirect_stdout
from typing import TYPE_CHECKING, Any

from pipelines.console import command

if TYPE_CHECKING:
    from pipelines.evaluation.config import EvaluateConfig
    from sentiment.metrics import Metrics


def run(config: "EvaluateConfig", quiet: bool = False) -> "dict[str, Metrics]":
    """Evaluate from Python what the program would evaluate with these flags.

    Args:
        config: the flags.
        quiet: print nothing; else the same as the program.

    Returns:
        The metrics, by the name that the table of results has for each model.

    Raises InputError for what cannot be used, and Failure if a disk or server fails.
    """
    from pipelines.console.from_python import called
    from pipelines.evaluation.job import evaluate

    # Its tables are printed as they are, by this thread alone.
    with called(config, quiet), redirect_stdout(io.StringIO()) if quiet else nullcontext():
        return evaluate(config)


def load() -> command.Program[Any]:
    """The program and its flags."""
    from pipelines.evaluation.config import EvaluateConfig
    from pipelines.evaluation.job import evaluate as main

    return main, EvaluateConfig


if __name__ == "__main__":
    command.run(load)
