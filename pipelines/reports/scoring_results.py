"""ScoringResults: sums over the parts of a scored output and samples, as its report takes them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sentiment.checkpoint import Checkpoint


@dataclass(frozen=True)
class ScoringRun:
    """One run of the scoring job."""

    began: float
    """Unix time in seconds."""
    seconds: float
    parts: int
    rows: int
    rows_per_second: float
    rows_left: int
    """Rows that were still to be scored when the run ended."""
    course: Sequence[tuple[float, int]]
    """Points (seconds since the run began, rows done by then), in order."""


@dataclass(frozen=True)
class Night:
    """What a plan, which is made when there are new shards, has added to the output."""

    made: float
    """Unix time in seconds."""
    counts: Mapping[str, int]
    """As `ScoringResults.counts`."""
    class_rows: np.ndarray
    """int64[classes]: rows scored of each class."""


@dataclass(frozen=True)
class Breakdown:
    """Rows scored by the values of a column."""

    column: str
    values: Sequence[str | None]
    """n values; None: null."""
    rows: np.ndarray
    """int64[n]."""
    class_rows: np.ndarray | None
    """int64[n, classes]; None: there are too many classes to count."""
    note: str = ""
    """Which rows are not counted, and why."""


@dataclass(frozen=True)
class SampledRows:
    """n random rows of the output."""

    columns: Sequence[str]
    """Names of the kept columns that are shown."""
    cells: Sequence[Sequence[object]]
    """For each row, the values of these columns."""
    winners: np.ndarray
    """int64[n]: the class of each row."""
    probabilities: np.ndarray
    """float[n, classes]; with many classes only those of the winners are not 0."""


@dataclass(frozen=True)
class RejectedRow:
    """A row that could not be scored."""

    shard: str
    row: int | None
    """Counted from 1; None: all of a shard, or of a part's share of it."""
    reason: str
    raw: bytes | None


@dataclass(frozen=True)
class ScoringResults:
    """Sums over the parts of a scored output, and samples of bounded size."""

    directory: str
    """The output: a local path or URI."""
    flags: Mapping[str, object]
    """Flags of the run that writes the report, by name. A tuple is a flag with several values."""
    max_tokens: int
    """Texts are truncated to this many tokens."""
    checkpoint: Checkpoint
    stopped: str
    """Why the job was stopped before all parts were done, or ""."""
    planned_parts: int
    parts: int
    """Parts that are included in the sums below."""
    counts: Mapping[str, int]
    """`rows` scored and `rejected`; of the scored ones, `truncated` texts, `tokens`, and
    `unknown` tokens, which are not in the vocabulary."""
    wordless: int
    """Texts scored without any known word, in the parts in which they were counted."""
    wordless_of: int
    """Rows scored in those parts: earlier versions did not count."""
    mean_probabilities: np.ndarray | None
    """float64[classes]: over the rows of parts in which they were summed up; None: of none."""
    mean_of: int
    """Rows scored in those parts: earlier versions did not sum up."""
    histogram: np.ndarray
    """int64[bins]: rows scored by probability, in bins of equal width from 0 to 1: of two classes
    that of the second, else the winner's."""
    class_rows: np.ndarray
    """int64[classes]: rows scored of each class."""
    shards_read: int
    """Shards whose rows are in the output: neither gone nor unreadable."""
    shards: Sequence[str]
    """Paths, in the order of the plans; a shard that was planned again occurs again."""
    shard_rows: np.ndarray
    """int64[shards]: rows scored of each shard."""
    shard_class_rows: np.ndarray | None
    """int64[shards, classes]: those of each class; None: there are too many classes to count."""
    winner_column: str
    """The column of the output that holds each row's class."""
    reasons: Mapping[str, int]
    """Rejected rows by reason."""
    rejected_for_other_reasons: int
    """Rejected rows whose reason is too rare to be in `reasons`."""
    unreadable_shards: Sequence[tuple[str, str]]
    """Path of each shard that could not be opened, and the reason."""
    runs: Sequence[ScoringRun]
    """The last runs that scored any rows, latest first."""
    nights: Sequence[Night]
    """The last plans, in order."""
    breakdowns: Sequence[Breakdown]
    """By partition, and by the columns that `--by` names."""
    left_aside: Mapping[str, int]
    """Files of the input that are no shards: their number, by kind, as the last run found them."""
    rejected_rows: Sequence[RejectedRow]
    """A sample of the rejected rows."""
    sample: SampledRows | None
    """None: rows may not be shown, or there are none."""
    column_notes: Sequence[str]
    """What is to know of the kept columns: what is cast, missing or left out."""
