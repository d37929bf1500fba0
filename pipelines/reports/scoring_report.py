"""Report of a scored output: `ScoringResults` -> a page, `_manifest/report.html`.

The scoring job collects the results (`pipelines.scoring.report_data`). The page's size is bounded,
whatever the corpus: it shows the distribution and the extremes of shards, the last runs, the
most frequent reasons for rejecting, and a sample of rejected rows.
"""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.console.terminal import quantity
from pipelines.reports.page import BLUE, GREY, ORANGE, Chart, Section, Table, draw_chart, page
from sentiment import storage
from sentiment.checkpoint import Checkpoint

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LEAST_UNKNOWN, MOST_UNKNOWN = 0.02, 0.1
"""Tokens without an id are warned of where their share exceeds that of the training texts by as
much again, but by no less than the one and no more than the other. Training texts know more of
their own words than others do: where 2.0% of the tokens of tweets trained on had no id, 2.9% of
those held out had none, and 5.5% of those of film reviews."""

MOST_TRUNCATED = 0.01
"""Texts that are cut are warned of where their share exceeds that of the training texts by more:
what is behind the cut has no say in the answer."""

SHARDS_SHOWN = 20
"""In full; of more, the distribution, and half as many at either end."""

REASONS_SHOWN, UNREADABLE_SHOWN = 20, 10

SAMPLES_SHOWN = 20
"""Rejected rows in the report."""

MAX_CHARACTERS = 160
"""Of a path, or of a row's raw bytes."""

OTHER_REASONS = "other reasons"

SPANS = 60
"""Of a run's seconds, with the rows/s of each."""


@dataclass(frozen=True)
class ScoringRun:
    """What one run of the job did."""

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
class RejectedRow:
    """A row that could not be scored."""

    shard: str
    row: int | None
    """Counted from 1; None: all of a shard, or of a part's share of it."""
    reason: str
    raw: bytes | None


@dataclass(frozen=True)
class ScoringResults:
    """What the report shows of a scored output: sums over its parts, and bounded samples."""

    directory: str
    """The output: a local path or URI."""
    flags: Mapping[str, object]
    """Those of the run that writes the report, by name. A tuple is a flag with several values."""
    max_tokens: int
    """Texts are truncated to this many tokens."""
    checkpoint: Checkpoint
    stopped: str
    """Why the job was stopped before all parts were done; "": it was not."""
    planned_parts: int
    parts: int
    """Parts that the sums below are of."""
    parts_with_counts_only: int
    """Parts of an earlier version, which have `counts`, and none of the other sums."""
    counts: Mapping[str, int]
    """`rows` scored, rows `rejected`; of the texts scored, those `truncated`, those `positive`,
    their `tokens`, and those tokens that are `unknown` to the vocabulary."""
    histogram: np.ndarray
    """int64[bins]: rows scored by probability, in bins of equal width from 0 to 1."""
    shards: Sequence[str]
    """Paths, in the order of the plans; a shard that was planned again is there again."""
    shard_counts: np.ndarray
    """int64[shards, 2]: rows scored of each shard, and those that are positive."""
    reasons: Mapping[str, int]
    """Rows rejected, by reason."""
    rejected_for_other_reasons: int
    """Rows rejected for reasons that are too rare to be in `reasons`."""
    unreadable_shards: Sequence[tuple[str, str]]
    """Path of each shard that could not be opened, and why."""
    runs: Sequence[ScoringRun]
    """The last runs that scored any rows, the latest first."""
    rejected_rows: Sequence[RejectedRow]
    """A sample."""


def make(results: ScoringResults) -> bytes:
    """The report as an HTML page."""
    counts, unreadable = results.counts, results.unreadable_shards
    lead = (
        f"{quantity(counts['rows'], 'row')} of {quantity(len(set(results.shards)), 'shard')} in "
        f"{results.directory}, scored with the model {results.checkpoint.model_hash[:12]}. Written "
        f"{_date(time.time())} by version {version('sentiment-pipelines')}. "
    )
    if results.stopped:
        done = f"{results.parts:,} of {results.planned_parts:,} parts done"
        lead += f"The job was stopped with {done}: {results.stopped}."
    else:
        lead += "The output was complete when this page was written."
    facts = [
        ("rows scored", f"{counts['rows']:,}"),
        ("positive", _percent(counts["positive"], counts["rows"])),
        ("rows rejected", f"{counts['rejected']:,}"),
        ("shards that could not be read", f"{len(unreadable):,}"),
        ("texts cut", f"{counts['truncated']:,}"),
        ("tokens", f"{counts['tokens']:,}"),
    ]
    sections = [
        _drift(results),
        _probabilities(results.histogram),
        _shards(results),
        _rejected(results),
        _runs(results.runs),
        _reading(results.directory, bool(counts["rejected"] or unreadable)),
        _settings(results),
    ]
    return page(f"Scored: {_end(results.directory)}", lead, sections, facts)


def _drift(results: ScoringResults) -> Section:
    """Shares of these texts beside those of the texts that the model learnt from."""
    counts, training = results.counts, results.checkpoint.training
    # Older checkpoints and parts do not have all counts.
    learnt = training.get("learnt", {})
    all_counted = not results.parts_with_counts_only
    unknown = _share(counts["unknown"], counts["tokens"]) if all_counted else None
    truncated = _share(counts["truncated"], counts["rows"])
    learnt_unknown = _share(learnt.get("unknown"), learnt.get("tokens"))
    learnt_truncated = _share(learnt.get("truncated"), learnt.get("rows"))
    learnt_rows = training.get("rows", {}).get("train")
    learnt_positive = _share(training.get("positive", {}).get("train"), learnt_rows)
    warnings = []
    if not all_counted:
        warnings.append(
            f"{results.parts_with_counts_only:,} of {quantity(results.parts, 'part')} were written "
            "by an earlier version. They count in the totals; probabilities, shards and reasons "
            "below lack them."
        )
    if unknown is not None and learnt_unknown is not None:
        most = learnt_unknown + min(max(learnt_unknown, LEAST_UNKNOWN), MOST_UNKNOWN)
        if unknown > most:
            warnings.append(
                f"The vocabulary lacks {unknown:.1%} of the tokens of these texts, and "
                f"{learnt_unknown:.1%} of those the model learnt from; above {most:.1%} the texts "
                "are taken for ones of another kind. Label some of them, and measure the model "
                "on those by pipelines.evaluate --data_dir."
            )
    if (
        truncated is not None
        and learnt_truncated is not None
        and truncated > learnt_truncated + MOST_TRUNCATED
    ):
        warnings.append(
            f"{truncated:.1%} of these texts were scored on their first {results.max_tokens} "
            f"tokens alone; {learnt_truncated:.1%} of those the model learnt from were cut."
        )
    rows = [
        ("Tokens that the vocabulary lacks", _shown(unknown), _shown(learnt_unknown)),
        ("Texts that were cut", _shown(truncated), _shown(learnt_truncated)),
        (
            "Tokens a text",
            _shown(_share(counts["tokens"], counts["rows"]), ".1f"),
            _shown(_share(learnt.get("tokens"), learnt.get("rows")), ".1f"),
        ),
        (
            "Positive: answered here, labelled there",
            _percent(counts["positive"], counts["rows"]),
            _shown(learnt_positive),
        ),
    ]
    return Section(
        "Are these texts like those of training?",
        "A model knows the words that were frequent in its training texts. Texts of another kind, "
        "time or language have more words that it does not know, and its answers are worth less. "
        "Tokens are counted here up to --max_tokens a text, in training before any cut.",
        tables=[Table("Shares", ("", "these texts", "training texts"), rows, "lrr")],
        warnings=warnings,
    )


def _probabilities(histogram: np.ndarray) -> Section:
    bins = len(histogram)

    def draw(figure: "Figure") -> None:
        axes = figure.add_subplot()
        _bars(axes, histogram, [ORANGE] * (bins // 2) + [BLUE] * (bins - bins // 2))
        axes.set_xlabel("probability of being positive")
        axes.set_ylabel("rows")

    drawn = draw_chart(
        "Rows by probability of being positive",
        f"Rows in {bins} bins. From 0.5 on the answer is positive.",
        draw,
    )
    return Section(
        "Probabilities",
        "Rows near 0 and 1 are those that the model is sure of, those near 0.5 it might as well "
        "have answered otherwise.",
        charts=[drawn] if histogram.any() else [],
    )


def _shards(results: ScoringResults) -> Section:
    """Few shards in full, many by the distribution of their shares and the extremes."""
    rows, positive = results.shard_counts.T
    scored = np.flatnonzero(rows)
    shares = positive[scored] / rows[scored]
    whole = positive.sum() / max(rows.sum(), 1)

    def table(caption: str, places: np.ndarray) -> Table:
        cells = [
            (_end(results.shards[i]), f"{rows[i]:,}", _percent(positive[i], rows[i]))
            for i in scored[places]
        ]
        return Table(caption, ("shard", "rows scored", "positive"), cells, "lrr")

    if len(scored) <= SHARDS_SHOWN:
        shown = [table("All shards with rows that were scored", np.arange(len(scored)))]
        return Section("Shards", "The share of positive rows, shard by shard.", tables=shown)

    def draw(figure: "Figure") -> None:
        axes = figure.add_subplot()
        _bars(axes, np.histogram(shares, len(results.histogram), (0, 1))[0], BLUE)
        axes.axvline(whole, color=GREY, linestyle="--")
        axes.set_xlabel("share of positive rows")
        axes.set_ylabel("shards")

    drawn = draw_chart(
        "Shards by their share of positive rows", "The dashed line is the share of all rows.", draw
    )
    # In standard errors: of a shard of three rows, a share of 0 says nothing.
    errors = np.sqrt(max(whole * (1 - whole), 1e-12) / rows[scored])
    order = np.argsort((shares - whole) / errors, kind="stable")
    half = SHARDS_SHOWN // 2
    return Section(
        "Shards",
        f"{len(scored):,} shards have rows that were scored. The tables have those whose share of "
        f"positive rows is furthest from that of all rows, {whole:.1%}, in standard errors: "
        "neighbouring rows of a shard are often of one time or source.",
        charts=[drawn],
        tables=[
            table("The least positive", order[:half]),
            table("The most positive", order[::-1][:half]),
        ],
    )


def _rejected(results: ScoringResults) -> Section:
    rejected, unreadable = results.counts["rejected"], results.unreadable_shards
    if not rejected and not unreadable:
        return Section("Rejected rows", "None: every row of every shard was scored.")
    reasons = Counter(results.reasons).most_common(REASONS_SHOWN)
    not_shown = sum(results.reasons.values()) - sum(rows for _, rows in reasons)
    if other := not_shown + results.rejected_for_other_reasons:
        reasons.append((OTHER_REASONS, other))
    tables = []
    if reasons:
        cells = [(reason, f"{rows:,}", _percent(rows, rejected)) for reason, rows in reasons]
        tables.append(Table("By reason", ("reason", "rows", "share"), cells, "lrr"))
    if results.rejected_rows:
        samples = [
            (
                _end(row.shard),
                "" if row.row is None else f"{row.row:,}",
                row.reason,
                _safe(row.raw),
            )
            for row in results.rejected_rows[:SAMPLES_SHOWN]
        ]
        columns = ("shard", "row", "reason", "the row, or its text")
        tables.append(Table("A sample", columns, samples, "lrll"))
    if unreadable:
        shards = [(_end(shard), reason) for shard, reason in unreadable[:UNREADABLE_SHOWN]]
        caption = f"Shards that could not be read: the first of {len(unreadable):,}"
        tables.append(Table(caption, ("shard", "reason"), shards, "ll"))
    return Section(
        "Rejected rows",
        f"{quantity(rejected, 'row')} and {quantity(len(unreadable), 'shard')} could not be "
        "scored. They are in _rejected/, with shard, row number, reason and raw bytes. The sample "
        "is taken from the first rows of a few files there; \\x.. is a byte that is not UTF-8.",
        tables=tables,
    )


def _runs(runs: Sequence[ScoringRun]) -> Section:
    """Rows per second of the last run, and what the last runs did."""
    cells = [
        (
            _date(run.began),
            f"{run.seconds:,.1f}",
            f"{run.parts:,}",
            f"{run.rows:,}",
            f"{run.rows_per_second:,.0f}",
            f"{run.rows_left:,}",
        )
        for run in runs
    ]
    columns = ("began", "seconds", "parts", "rows", "rows/s", "rows left")
    tables = [Table("The last runs, and what each left to do", columns, cells, "lrrrrr")]
    charts = []
    for run in runs[:1]:
        points = [(0.0, 0), *run.course, (run.seconds, run.rows)]
        if len(points) > 5:
            seconds, rows = np.array(points, float).T
            charts.append(_rate(seconds, rows))
    return Section(
        "Runs",
        "A run begins when its parts are known, so its seconds have the start of Ray in them, and "
        "not the counting of rows. A part counts when it is written.",
        charts=charts,
        tables=tables if cells else [],
    )


def _rate(seconds: np.ndarray, rows: np.ndarray) -> Chart:
    """Of rows done after so many seconds, in even spans, each of two parts at least."""
    edges = np.linspace(0, seconds[-1], min(SPANS, len(seconds) // 2) + 1)
    rates = np.diff(np.interp(edges, seconds, rows)) / np.diff(edges)

    def draw(figure: "Figure") -> None:
        axes = figure.add_subplot()
        axes.stairs(rates, edges, color=BLUE, linewidth=1.5)
        axes.set_ylim(bottom=0)
        axes.set_xlabel("seconds")
        axes.set_ylabel("rows/s")
        _thousands(axes)

    return draw_chart("Rows a second over the last run", "Rows a second over the last run.", draw)


def _reading(directory: str, rejected: bool) -> Section:
    pandas = [
        "import pandas as pd",
        "",
        f"scored = pd.read_parquet({directory!r})",
    ]
    if rejected:
        pandas.append(f"rejected = pd.read_parquet({storage.join(directory, '_rejected')!r})")
    code = ["\n".join(pandas)]
    if "://" not in directory:
        parts = storage.join(directory, "part-*.parquet").replace("'", "''")
        code.append(
            "SELECT sentiment, count(*), avg(positive_probability)\n"
            f"FROM read_parquet('{parts}') GROUP BY sentiment;"
        )
    return Section(
        "How to read it",
        "In pandas, and in DuckDB, which does not take the rows into memory."
        if len(code) > 1
        else "In pandas.",
        code=code,
    )


def _settings(results: ScoringResults) -> Section:
    rows = [("model", results.checkpoint.model_hash)]
    for name, value in results.flags.items():
        shown = " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
        rows.append((f"--{name}", shown))
    return Section(
        "Model and flags",
        "The hash identifies the model.",
        tables=[Table("Of the run that wrote this page", ("", "value"), rows, "ll")],
    )


def _bars(axes: Any, heights: np.ndarray, color: Any) -> None:
    """A histogram of shares."""
    edges = np.linspace(0, 1, len(heights) + 1)
    axes.bar(edges[:-1], heights, np.diff(edges) * 0.9, align="edge", color=color)
    axes.set_xlim(0, 1)
    _thousands(axes)


def _thousands(axes: Any) -> None:
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.10g}")


def _share(part: object, whole: object) -> float | None:
    """part / whole; None where either is unknown or the whole is 0."""
    if isinstance(part, int) and isinstance(whole, int) and whole > 0:
        return part / whole
    return None


def _shown(share: float | None, form: str = ".1%") -> str:
    return "not recorded" if share is None else format(share, form)


def _percent(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else ""


def _date(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))


def _end(path: str) -> str:
    """A path, by its end: the beginning is what paths have in common."""
    return path if len(path) <= MAX_CHARACTERS else f"…{path[1 - MAX_CHARACTERS :]}"


def _safe(raw: bytes | None) -> str:
    """Bytes as text, without what is no UTF-8 and what cannot be seen: as Python writes that."""
    if raw is None:
        return "null"
    # No character has more bytes.
    text = raw[: 4 * MAX_CHARACTERS].decode("utf-8", "backslashreplace")
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return shown if len(shown) <= MAX_CHARACTERS else f"{shown[: MAX_CHARACTERS - 1]}…"
