"""Train the LSTM on labelled texts, data-parallel on Ray Train workers.

    python -m pipelines.train --data_dir data/crowdflower --num_workers 2
    ray job submit -- python -m pipelines.train --data_dir s3://bucket/tweets --use_gpu \\
        --checkpoints_root s3://bucket/models --summaries_dir s3://bucket/logs

The job is `pipelines.training.job`.
"""

from typing import TYPE_CHECKING, Any

from pipelines.console import command

if TYPE_CHECKING:
    from pipelines.training.config import TrainConfig


def run(config: "TrainConfig", quiet: bool = False) -> str:
    """Train from Python what the program would train with these flags.

    Joins the Ray that this process has started, and leaves it running; without one it starts a
    local Ray, or connects to RAY_ADDRESS, and disconnects at the end.

    Args:
        config: the flags; `TrainConfig.of` takes them from a preset or a file.
        quiet: print nothing.

    Returns:
        The directory or URI of the checkpoint, for `sentiment.load`.

    Raises InputError for what cannot be used, and Failure if training fails: the same call, with
    the same `run_name`, resumes it.
    """
    from pipelines.console.from_python import called
    from pipelines.training.job import main

    with called(config, quiet):
        config.require_applied()
        return main(config)


def load() -> command.Program[Any]:
    """The program and its flags."""
    from pipelines.training.config import TrainConfig
    from pipelines.training.job import main

    return main, TrainConfig


if __name__ == "__main__":
    command.run(load)
