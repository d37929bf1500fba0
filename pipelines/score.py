"""Score a corpus: every text's probability of being positive, into Parquet, exactly once.

    python -m pipelines.score --checkpoints_dir checkpoints/demo --input data/crowdflower/shards \\
        --output scored
    ray job submit -- python -m pipelines.score --checkpoints_dir s3://... --input s3://... ...

Shards -> plan (`scoring.plan`) -> parts, each read, tokenized, scored and written on its own
(`scoring.parts`) -> `_SUCCESS`. Any process may die at any moment: the same command again
finishes what is missing.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

from pipelines.console import command
from pipelines.console.flags import require, require_encoding
from pipelines.errors import Failure
from pipelines.scoring import plan
from pipelines.scoring.output import Output
from pipelines.sources.listing import find_shards
from pipelines.sources.shard import Counted, Shard
from sentiment import storage
from sentiment.checkpoint import load
from sentiment.errors import InputError
from sentiment.predictor import MAX_TOKENS

SHARDS_TO_LOOK_AT = 256
"""Shards whose columns are looked at before Ray loads, at most."""


@dataclass(frozen=True, kw_only=True)
class ScoreConfig:
    """Score texts with a checkpoint, into Parquet. The same command again finishes a job that was
    interrupted, and scores only shards that are new."""

    GROUPS: ClassVar = {
        "corpus": "checkpoints_dir",
        "output": "output",
        "cluster": "num_actors",
    }
    checkpoints_dir: str
    """Directory or URI of a checkpoint, as `pipelines.train` printed it."""
    input: tuple[str, ...]
    """Files and directories, or URIs, of CSV (.csv, .csv.gz) and Parquet shards."""
    text_column: str = "text"
    """Column that holds the texts."""
    encoding: str = "utf-8"
    """Encoding of CSV shards, as Python names it: utf-8, latin-1, utf-16, ..."""
    max_tokens: int = MAX_TOKENS
    """Longer texts are scored on so many tokens from their beginning, and counted."""
    output: str
    """Directory or URI for the scored parts."""
    keep_columns: tuple[str, ...] | None = None
    """Columns to keep in the output; None: all but the text."""
    part_rows: int = 100_000
    """Rows a part, about."""
    max_rejected: str | None = None
    """Stop, without success, when more rows are rejected: a number, or a share such as 1%."""
    overwrite: bool = False
    """Remove what an earlier job of this program left in --output, and begin anew."""
    num_actors: int | tuple[int, int] | None = None
    """Actors that score, or the fewest and the most; None: one a CPU; on GPUs all that fit."""
    use_gpu: bool = False
    """Give each actor a GPU, or a share of one."""
    gpus_per_actor: float = 1.0
    """With --use_gpu, the share of a GPU that an actor has; 0.5: two on each. 0.01 <= x <= 1."""
    batch_size: int = 4096
    """Texts that a GPU computes at once."""
    verbose: bool = False
    """Show what Ray and the workers write, too."""

    def __post_init__(self) -> None:
        for name in ("max_tokens", "part_rows", "batch_size"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        if isinstance(self.num_actors, tuple):
            fewest, most = self.num_actors
            wanted = "two numbers of at least 1, the larger one last"
            require(1 <= fewest <= most, "num_actors", f"{fewest} {most}", wanted)
        elif self.num_actors is not None:
            require(self.num_actors >= 1, "num_actors", self.num_actors, "at least 1")
        wanted = "at least 0.01 and at most 1"
        share = self.gpus_per_actor
        require(0.01 <= share <= 1, "gpus_per_actor", share, wanted)
        if share < 1 and not self.use_gpu:
            raise InputError(f"--gpus_per_actor {share} needs --use_gpu")
        require_encoding(self.encoding)
        if self.max_rejected is not None:
            self.most_rejected(0)

    def most_rejected(self, rows: int) -> float:
        """Rows that may be rejected of so many."""
        if self.max_rejected is None:
            return float("inf")
        number = self.max_rejected.removesuffix("%")
        try:
            most = float(number)
        except ValueError:
            most = -1.0
        require(
            0 <= most < float("inf"), "max_rejected", self.max_rejected, "a number or a share (1%)"
        )
        return most * rows / 100 if number != self.max_rejected else most

    def settings(self, model_hash: str) -> dict[str, Any]:
        """Everything besides the shards that the output's bytes follow from."""
        return {
            "model_hash": model_hash,
            "text_column": self.text_column,
            "keep_columns": None if self.keep_columns is None else list(self.keep_columns),
            "encoding": self.encoding,
            "max_tokens": self.max_tokens,
            "part_rows": self.part_rows,
        }


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


@contextmanager
def writing(output: Output) -> Iterator[None]:
    """A block whose OSErrors are those of the output: raised as a Failure, of one line."""
    try:
        yield
    except OSError as error:
        raise Failure(f"--output {output.directory} cannot be written: {error}") from error


if __name__ == "__main__":
    command.run(main, ScoreConfig)
