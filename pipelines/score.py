"""Score a corpus: every text's class and its probabilities, into Parquet, exactly once.

    python -m pipelines.score --checkpoints_dir checkpoints/demo --input data/crowdflower/shards \\
        --output scored
    ray job submit -- python -m pipelines.score --checkpoints_dir s3://... --input s3://... ...

Any process may die at any moment: the same command again scores what is missing
(`pipelines.scoring.job`).
"""

from typing import Any

from pipelines.console import command


def load() -> command.Program[Any]:
    """The program and its flags."""
    from pipelines.scoring.config import ScoreConfig
    from pipelines.scoring.job import main

    return main, ScoreConfig


if __name__ == "__main__":
    command.run(load)
