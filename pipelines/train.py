"""Train the LSTM on labelled texts, data-parallel on Ray Train workers.

    python -m pipelines.train --data_dir data/crowdflower --num_workers 2
    ray job submit -- python -m pipelines.train --data_dir s3://bucket/tweets --use_gpu

The job is `pipelines.training.job`.
"""

from typing import Any

from pipelines.console import command


def load() -> command.Program[Any]:
    """The program and its flags."""
    from pipelines.training.config import TrainConfig
    from pipelines.training.job import main

    return main, TrainConfig


if __name__ == "__main__":
    command.run(load)
