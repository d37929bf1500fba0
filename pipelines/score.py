"""Score a corpus: every text's probability of being positive, into Parquet, exactly once.

    python -m pipelines.score --checkpoints_dir checkpoints/demo --input data/crowdflower/shards \\
        --output scored
    ray job submit -- python -m pipelines.score --checkpoints_dir s3://... --input s3://... ...

Shards -> plan (`scoring.plan`) -> parts, each read, tokenized, scored and written on its own
(`scoring.parts`) -> `_SUCCESS`. Any process may die at any moment: the same command again
finishes what is missing.
"""

from typing import Any

from pipelines.console import command
from pipelines.scoring import plan
from pipelines.scoring.config import ScoreConfig
from pipelines.scoring.output import Output, writing
from pipelines.sources.listing import find_shards
from pipelines.sources.shard import Counted, Shard
from sentiment import storage
from sentiment.checkpoint import load
from sentiment.errors import InputError

SHARDS_TO_LOOK_AT = 256
"""Shards whose columns are looked at before Ray loads, at most."""


def main(config: ScoreConfig) -> None:
    """Plan, score what is missing, and mark the output as complete."""
    checkpoint = load(config.checkpoints_dir)
    shards = find_shards([storage.absolute(path) for path in config.input], "--input")
    output = Output(storage.absolute(config.output))
    if config.overwrite:
        with writing(output):
            output.clear()
    storage.require_writable(output.directory, "--output")
    output.require_same(config.settings(checkpoint.model_hash))
    if output.complete and not output.new_shards(shards):
        print(f"Nothing to do: every shard of the input is scored in {config.output}")
        return

    if not output.plans:
        _require_columns(shards, config.settings(checkpoint.model_hash))

    # Ray takes seconds to load: only where there is work.
    from pipelines.scoring.job import run

    try:
        run(config, checkpoint, output, shards)
    except KeyboardInterrupt:
        raise KeyboardInterrupt("interrupted; the same command again goes on") from None


def _require_columns(shards: list[Shard], settings: dict[str, Any]) -> None:
    """Raise an InputError for columns that no shard has, before Ray loads.

    For the most part the first shard has them all. Of many shards that lack one, the job finds it.
    """
    headers: list[Counted | str] = []
    refusal = None
    for shard in shards[:SHARDS_TO_LOOK_AT]:
        headers.append(plan.look(shard, settings, columns_only=True))
        try:
            plan.make(shards[: len(headers)], headers, settings, first_part=0)
            return
        except InputError as error:
            refusal = error
    if refusal and len(headers) == len(shards):
        raise refusal


if __name__ == "__main__":
    command.run(main, ScoreConfig)
