"""The flags of the scoring job, and those among them that the output's bytes follow from."""

from dataclasses import dataclass
from typing import ClassVar, TypedDict

from pipelines.console.flags import require, require_encoding
from sentiment.errors import InputError
from sentiment.predictor import MAX_TOKENS


class OutputSettings(TypedDict):
    """What the output's bytes follow from, besides the shards. Every plan holds it, as JSON."""

    model_hash: str
    text_column: str
    keep_columns: list[str] | None
    encoding: str
    max_tokens: int
    part_rows: int


@dataclass(frozen=True, kw_only=True)
class ScoreConfig:
    """Score texts with a checkpoint, into Parquet. The same command again resumes a job that was
    interrupted, and scores shards that are new."""

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
    """Texts longer than this many tokens are truncated; the number of such texts is reported."""
    output: str
    """Directory or URI for the scored parts."""
    keep_columns: tuple[str, ...] | None = None
    """Columns to keep in the output; None: all but the text."""
    part_rows: int = 100_000
    """Approximate number of rows in a part."""
    max_rejected: str = "1%"
    """Fail at the end, without _SUCCESS, if more rows are rejected: a number, or a share. 100%
    accepts all, and shards that cannot be read."""
    sync: bool = False
    """Score shards again that have changed, and remove the rows of those that are gone."""
    keep_stale: bool = False
    """Accept that scored shards have changed: their rows stay as they are, without --sync."""
    overwrite: bool = False
    """Remove what an earlier job of this program wrote to --output, and start again."""
    max_attempts: int = 3
    """Attempts at a part before the job goes on without it: its read fails, or its process dies."""
    num_actors: int | tuple[int, int] | None = None
    """Actors that score, or a minimum and a maximum; None: as many as fit; a cluster may grow."""
    wait_minutes: float = 60
    """Stop when no part was finished for this long, for example because no node came."""
    use_gpu: bool = False
    """Give each actor a GPU, or a share of one."""
    gpus_per_actor: float = 1.0
    """With --use_gpu, the share of a GPU that an actor has; 0.5: two on each. 0.01 <= x <= 1."""
    batch_size: int = 16_384
    """Texts that a GPU computes at once."""
    verbose: bool = False
    """Also show what Ray and the workers write."""

    def __post_init__(self) -> None:
        for name in ("max_tokens", "part_rows", "batch_size", "max_attempts"):
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
        if self.sync and self.keep_stale:
            raise InputError("--sync and --keep_stale exclude each other: pass one of them")
        require(self.wait_minutes > 0, "wait_minutes", self.wait_minutes, "more than 0")
        require_encoding(self.encoding)
        self.rejected_limit(0)

    def rejected_limit(self, planned_rows: int) -> float:
        """Rows that may be rejected, by `--max_rejected`, of `planned_rows`; inf: any number.

        Raises InputError unless the flag is a number or a percentage.
        """
        is_percentage = self.max_rejected.endswith("%")
        try:
            limit = float(self.max_rejected.removesuffix("%"))
        except ValueError:
            limit = -1.0
        wanted = "a number or a share (1%)"
        require(0 <= limit < float("inf"), "max_rejected", self.max_rejected, wanted)
        if not is_percentage:
            return limit
        return limit * planned_rows / 100 if limit < 100 else float("inf")

    def settings(self, model_hash: str) -> OutputSettings:
        """What the output's bytes follow from, besides the shards, with this model."""
        return {
            "model_hash": model_hash,
            "text_column": self.text_column,
            "keep_columns": None if self.keep_columns is None else list(self.keep_columns),
            "encoding": self.encoding,
            "max_tokens": self.max_tokens,
            "part_rows": self.part_rows,
        }
