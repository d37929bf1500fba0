"""Measure a checkpoint on labelled texts; print the metrics and write a report beside the model.

    python -m pipelines.evaluate --checkpoints_dir checkpoints/demo --baseline

Uses the rows that training held out, unless --data_dir names others. One process, without Ray and
TensorFlow.
"""

from pipelines.console import command
from pipelines.evaluation.config import EvaluateConfig


def main(config: EvaluateConfig) -> None:
    """Measure, print, and write the report."""
    from pipelines.evaluation.job import evaluate

    evaluate(config)


if __name__ == "__main__":
    command.run(main, EvaluateConfig)
