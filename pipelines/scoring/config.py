"""The flags of the scoring job, and those among them that the output's bytes follow from."""

from dataclasses import dataclass
from typing import ClassVar, Literal, NotRequired, TypedDict

from pipelines.console.flag_values import rejected_limit, require
from pipelines.sources.options import ReadOptions
from sentiment.classes import Classes
from sentiment.errors import InputError
from sentiment.predictor import MAX_TOKENS


class OutputSettings(TypedDict):
    """What the output's bytes follow from, besides the shards. Every plan holds it, as JSON."""

    model_hash: str
    classes: NotRequired[list[str]]
    text_column: str
    keep_columns: list[str] | None
    encoding: str
    delimiter: NotRequired[str]
    quote: NotRequired[str]
    escape: NotRequired[str]
    columns: NotRequired[list[str]]
    format: NotRequired[str]
    max_tokens: int
    part_rows: int
    with_source: NotRequired[bool]
    partition_by: NotRequired[list[str]]
    limit: NotRequired[int]


def class_names(settings: OutputSettings) -> tuple[str, ...]:
    """The names of the model's classes. Settings lack them if they are negative and positive."""
    return tuple(settings.get("classes", Classes().names))


def read_options(settings: OutputSettings) -> ReadOptions:
    """How shards are read. Settings lack the flags that have their defaults.

    Raises InputError if a flag has a value that cannot be used.
    """
    return ReadOptions(
        encoding=settings["encoding"],
        delimiter=settings.get("delimiter"),
        quote=settings.get("quote", '"'),
        escape=settings.get("escape"),
        columns=tuple(settings.get("columns", ())),
        format=settings.get("format"),
        fields=(settings["text_column"], *(settings["keep_columns"] or ())),
    )


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
    """Directory or URI of a checkpoint, as `pipelines.train` printed it; hf://OWNER/NAME: of the
    Hugging Face Hub."""
    input: tuple[str, ...]
    """Files, directories and patterns (in quotes), or URIs, of shards: CSV (.csv, .tsv), JSON lines
    (.jsonl, .ndjson, .json), text (.txt: a text a line), all of these also compressed (.gz, .zst,
    .bz2), and Parquet."""
    where: tuple[str, ...] | None = None
    """Conditions on key=value directories, such as "year=2024" "month>=3": which shards to read."""
    text_column: str = "text"
    """Column that holds the texts."""
    encoding: str = "utf-8"
    """Encoding of text files, as Python names it: utf-8, latin-1, utf-16, ... A byte order mark
    overrides it."""
    delimiter: str | None = None
    """CSV: what separates fields, such as ';' or '\\t'; None: as the name or the header says."""
    quote: str = '"'
    """CSV: what begins and ends a field that may hold delimiters and line breaks, or none."""
    escape: str | None = None
    """CSV: what makes a quote a part of the text in a quoted field, such as '\\' in files of Spark,
    or none. Doubled quotes always do; None: none, and files that this may be wrong for are
    refused."""
    columns: tuple[str, ...] | None = None
    """CSV: names of the columns of files without a header."""
    format: Literal["csv", "tsv", "json", "text", "parquet"] | None = None
    """Format of files whose names do not tell it (part-00000, 000000_0; Parquet needs no flag), and
    of .txt files."""
    max_tokens: int = MAX_TOKENS
    """Texts longer than this many tokens are truncated; the number of such texts is reported."""
    output: str
    """Directory or URI for the scored parts."""
    keep_columns: tuple[str, ...] | None = None
    """Columns to keep in the output; None: all but the text."""
    with_source: bool = False
    """Add columns that say where a row is from: source_shard, its path, and source_row, from 1."""
    partition_by: tuple[str, ...] | None = None
    """Keys of the input's key=value directories: each part goes into the directory of the same
    values in the output, such as year=2024/month=01/."""
    by: tuple[str, ...] | None = None
    """Kept columns by whose values the report shows the classes: times by their day. The output
    stays the same, with or without."""
    part_rows: int = 100_000
    """Approximate number of rows in a part."""
    max_rejected: str = "1%"
    """Fail at the end, without _SUCCESS, if more of the rows that are new since the last one are
    rejected: a number, or a share. 100% accepts all, and shards that cannot be read; they stay
    accepted."""
    sync: bool = False
    """Score shards again that have changed, and remove the rows of those that are gone."""
    keep_stale: bool = False
    """Accept that scored shards have changed: their rows stay as they are, without --sync."""
    retry_rejected: bool = False
    """Score parts with rejected rows again, also if their shards have changed, and look again at
    shards that could not be read."""
    limit: int | None = None
    """Score only the first rows, so many, once, into an --output of their own; None: all."""
    dry_run: bool = False
    """Show what would be read, planned and kept, and about how long it takes; write nothing."""
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
    show_samples: bool = False
    """Show ten rows of the output at the end, at random, the same each time, and rows of high and
    low probabilities in the report: texts, if they are kept."""
    quiet: bool = False
    """Show only warnings, failures and the last line."""
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
        if self.quiet and (self.verbose or self.show_samples):
            other = "--verbose" if self.verbose else "--show_samples"
            raise InputError(f"--quiet and {other} exclude each other: pass one of them")
        require(self.limit is None or self.limit >= 1, "limit", self.limit, "at least 1")
        if self.dry_run and self.overwrite:
            raise InputError("--dry_run writes nothing: pass it without --overwrite")
        if self.limit and (self.sync or self.keep_stale):
            other = "--sync" if self.sync else "--keep_stale"
            raise InputError(
                f"--limit and {other} exclude each other: the first rows are scored once, as they "
                "are; pass --overwrite to take them anew"
            )
        if self.sync and self.keep_stale:
            raise InputError("--sync and --keep_stale exclude each other: pass one of them")
        require(self.wait_minutes > 0, "wait_minutes", self.wait_minutes, "more than 0")
        read_options(self.settings(""))
        self.rejected_limit(0)

    def rejected_limit(self, rows: int) -> float:
        """Rows that may be rejected, by `--max_rejected`, of `rows`; inf: any number."""
        return rejected_limit(self.max_rejected, rows)

    def settings(
        self, model_hash: str, classes: tuple[str, ...] = Classes().names
    ) -> OutputSettings:
        """What the output's bytes follow from, besides the shards.

        Args:
            model_hash: of the model.
            classes: names of the model's classes.
        """
        settings: OutputSettings = {
            "model_hash": model_hash,
            "text_column": self.text_column,
            "keep_columns": None if self.keep_columns is None else list(self.keep_columns),
            "encoding": self.encoding,
            "max_tokens": self.max_tokens,
            "part_rows": self.part_rows,
        }
        # Plans of versions that lack these are those of their defaults.
        if classes != Classes().names:
            settings["classes"] = list(classes)
        if self.delimiter is not None:
            settings["delimiter"] = self.delimiter
        if self.quote != '"':
            settings["quote"] = self.quote
        if self.escape is not None:
            settings["escape"] = self.escape
        if self.columns:
            settings["columns"] = list(self.columns)
        if self.format is not None:
            settings["format"] = self.format
        if self.with_source:
            settings["with_source"] = True
        if self.partition_by:
            settings["partition_by"] = list(self.partition_by)
        if self.limit is not None:
            settings["limit"] = self.limit
        return settings
