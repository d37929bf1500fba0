"""Measure a checkpoint on labelled texts; print the metrics and write a report beside the model.

    python -m pipelines.evaluate --checkpoints_dir checkpoints/demo --baseline
    python -m pipelines.evaluate checkpoints/demo checkpoints/other

Uses the rows that training held out, unless --data_dir names others. Several runs are compared on
the rows that the first one held out. One process, without Ray and
TensorFlow.
"""

from typing import Any

from pipelines.console import command


def load() -> command.Program[Any]:
    """The program and its flags."""
    from pipelines.evaluation.config import EvaluateConfig
    from pipelines.evaluation.job import evaluate as main

    return main, EvaluateConfig


if __name__ == "__main__":
    command.run(load)
