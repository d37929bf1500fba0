"""Score a corpus: every text's class and its probabilities, into Parquet, exactly once.

    python -m pipelines.score --checkpoints_dir checkpoints/demo --input data/crowdflower/shards \\
        --output scored
    ray job submit -- python -m pipelines.score --checkpoints_dir s3://... --input s3://... ...

Any process may die at any moment: the same command again scores what is missing
(`pipelines.scoring.job`).
"""

from typing import TYPE_CHECKING, Any

from pipelines.console import command

if TYPE_CHECKING:
    from pipelines.scoring.config import ScoreConfig
    from pipelines.scoring.totals import Scored


def run(config: "ScoreConfig") -> "Scored":
    """Score from Python what the program would score with these flags.

    Joins the Ray that this process has started, and leaves it running; without one it starts a
    local Ray, or connects to RAY_ADDRESS, and disconnects at the end. `quiet` prints nothing.

    Returns:
        What the output holds, and how many rows are new. With `dry_run` that is what it held.

    Raises InputError for what cannot be used, and Failure if the job has to stop: the same call
    goes on.
    """
    from pipelines.console.from_python import called
    from pipelines.scoring.job import main

    with called(config, config.quiet):
        return main(config)


def load() -> command.Program[Any]:
    """The program and its flags."""
    from pipelines.scoring.config import ScoreConfig
    from pipelines.scoring.job import main

    return main, ScoreConfig


if __name__ == "__main__":
    command.run(load)
