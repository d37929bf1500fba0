"""Scoring report: an HTML page on a scored output, `_manifest/report.html`.

Its size is bounded, whatever the corpus: it shows the distribution and the extremes of shards, the
last runs, the most frequent reasons for rejecting, and a sample of rejected rows.
"""

import time
from collections import Counter
from collections.abc import Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING

import numpy as np

from pipelines.console.terminal import quantity
from pipelines.reports.drift import Drift, share
from pipelines.reports.page import BLUE, GREY, ORANGE, Chart, Section, Table, draw_chart, page
from pipelines.reports.scoring_results import ScoringResults, ScoringRun
from sentiment import storage

if TYPE_CHECKING:  # Loads where a chart is drawn.
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SHARDS_SHOWN = 20
"""If there are more shards: the distribution, and half this many of either extreme."""

REASONS_SHOWN, UNREADABLE_SHOWN = 20, 10

SAMPLES_SHOWN = 20
"""Rejected rows."""

MAX_CHARACTERS = 160
"""Longest path or raw row that is shown in full."""

OTHER_REASONS = "other reasons"

MAX_SPANS = 60
"""Spans of a run's time for which rows/s are drawn."""


def scoring_report(results: ScoringResults) -> bytes:
    """Render the page, UTF-8."""
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
        ("texts truncated", f"{counts['truncated']:,}"),
        ("tokens", f"{counts['tokens']:,}"),
    ]
    sections = [
        _drift(results),
        _probabilities(results.histogram),
        _shards(results),
        _rejected(results),
        *_columns(results.column_notes),
        _runs(results.runs),
        _reading(results.directory, bool(counts["rejected"] or unreadable)),
        _settings(results),
    ]
    return page(f"Scored: {_end(results.directory)}", lead, sections, facts)


def _drift(results: ScoringResults) -> Section:
    """Compare the texts with the training texts; warn where they differ much."""
    counts, training = results.counts, results.checkpoint.training
    drift = Drift.of(counts, training)
    trained = training.get("learnt", {})
    trained_rows = training.get("rows", {}).get("train")
    trained_positive = share(training.get("positive", {}).get("train"), trained_rows)
    rows = [
        ("Tokens not in the vocabulary", _shown(drift.unknown), _shown(drift.trained_unknown)),
        ("Truncated texts", _shown(drift.truncated), _shown(drift.trained_truncated)),
        (
            "Tokens per text",
            _shown(share(counts["tokens"], counts["rows"]), ".1f"),
            _shown(share(trained.get("tokens"), trained.get("rows")), ".1f"),
        ),
        (
            "Positive texts (predicted here, labelled in training)",
            _percent(counts["positive"], counts["rows"]),
            _shown(trained_positive),
        ),
    ]
    return Section(
        "Comparison with the training texts",
        "The model knows the words that were frequent in its training texts. Texts of another "
        "kind, time or language have more unknown words, and predictions for them are less "
        "reliable. Tokens are counted after truncation here, and before it in training.",
        tables=[Table("Shares", ("", "these texts", "training texts"), rows, "lrr")],
        warnings=drift.warnings(results.max_tokens),
    )


def _probabilities(histogram: np.ndarray) -> Section:
    bins = len(histogram)

    def draw(figure: "Figure") -> None:
        axes = figure.add_subplot()
        _bars(axes, histogram, [ORANGE] * (bins // 2) + [BLUE] * (bins - bins // 2))
        axes.set_xlabel("positive probability")
        axes.set_ylabel("rows")

    drawn = draw_chart(
        "Rows by positive probability",
        f"Rows in {bins} bins. Rows are predicted positive from 0.5.",
        draw,
    )
    return Section(
        "Probabilities",
        "The model is sure of rows near 0 and 1, and unsure of rows near 0.5.",
        charts=[drawn] if histogram.any() else [],
    )


def _shards(results: ScoringResults) -> Section:
    """All shards if they are few, else the distribution of their shares and the extremes."""
    rows, positive = results.shard_counts.T
    scored = np.flatnonzero(rows)
    shares = positive[scored] / rows[scored]
    overall = positive.sum() / max(rows.sum(), 1)

    def table(caption: str, places: np.ndarray) -> Table:
        cells = [
            (_end(results.shards[i]), f"{rows[i]:,}", _percent(positive[i], rows[i]))
            for i in scored[places]
        ]
        return Table(caption, ("shard", "rows scored", "positive"), cells, "lrr")

    if len(scored) <= SHARDS_SHOWN:
        shown = [table("All shards with scored rows", np.arange(len(scored)))]
        return Section("Shards", "Share of positive rows in each shard.", tables=shown)

    def draw(figure: "Figure") -> None:
        axes = figure.add_subplot()
        _bars(axes, np.histogram(shares, len(results.histogram), (0, 1))[0], BLUE)
        axes.axvline(overall, color=GREY, linestyle="--")
        axes.set_xlabel("share of positive rows")
        axes.set_ylabel("shards")

    drawn = draw_chart(
        "Shards by their share of positive rows", "The dashed line is the overall share.", draw
    )
    # In standard errors, so that tiny shards do not fill the tables.
    errors = np.sqrt(max(overall * (1 - overall), 1e-12) / rows[scored])
    order = np.argsort((shares - overall) / errors, kind="stable")
    half = SHARDS_SHOWN // 2
    return Section(
        "Shards",
        f"{len(scored):,} shards have scored rows. The tables show the shards whose share of "
        f"positive rows differs most from the overall share, {overall:.1%}, measured in standard "
        "errors. Rows of a shard are often of one time or source.",
        charts=[drawn],
        tables=[
            table("Least positive shards", order[:half]),
            table("Most positive shards", order[::-1][:half]),
        ],
    )


def _rejected(results: ScoringResults) -> Section:
    rejected, unreadable = results.counts["rejected"], results.unreadable_shards
    if not rejected and not unreadable:
        return Section("Rejected rows", "None. All rows of all shards were scored.")
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
        columns = ("shard", "row", "reason", "raw row or text")
        tables.append(Table("A sample", columns, samples, "lrll"))
    if unreadable:
        shards = [(_end(shard), reason) for shard, reason in unreadable[:UNREADABLE_SHOWN]]
        caption = f"Shards that could not be read: the first of {len(unreadable):,}"
        tables.append(Table(caption, ("shard", "reason"), shards, "ll"))
    return Section(
        "Rejected rows",
        f"{quantity(rejected, 'row')} and {quantity(len(unreadable), 'shard')} could not be "
        "scored. _rejected/ has them with shard, row number, reason and raw bytes. The sample is "
        "from the first rows of a few files there; \\x.. is a byte that is not UTF-8.",
        tables=tables,
    )


def _columns(notes: Sequence[str]) -> list[Section]:
    """What is to know of the kept columns; nothing if each is as in the shards."""
    if not notes:
        return []
    table = Table("Cast, missing or left out", ("",), [(note,) for note in notes], "l")
    text = (
        "The first shards decided the columns and their types. A value that a cast would change "
        "rejects its row."
    )
    return [Section("Columns", text, tables=[table])]


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
    tables = [Table("The last runs", columns, cells, "lrrrrr")]
    charts = []
    for run in runs[:1]:
        points = [(0.0, 0), *run.course, (run.seconds, run.rows)]
        if len(points) > 5:
            seconds, rows = np.array(points, float).T
            charts.append(_rate(seconds, rows))
    return Section(
        "Runs",
        "Seconds are counted from the end of planning: they include starting Ray, and not counting "
        "rows. A part counts when it is written.",
        charts=charts,
        tables=tables if cells else [],
    )


def _rate(seconds: np.ndarray, rows: np.ndarray) -> Chart:
    """Draw rows per second in equal spans of time, of two parts at least on average.

    Args:
        seconds: float64[points], since the run began, ascending.
        rows: float64[points], done by then.
    """
    edges = np.linspace(0, seconds[-1], min(MAX_SPANS, len(seconds) // 2) + 1)
    rates = np.diff(np.interp(edges, seconds, rows)) / np.diff(edges)

    def draw(figure: "Figure") -> None:
        axes = figure.add_subplot()
        axes.stairs(rates, edges, color=BLUE, linewidth=1.5)
        axes.set_ylim(bottom=0)
        axes.set_xlabel("seconds")
        axes.set_ylabel("rows/s")
        _thousands(axes)

    return draw_chart("Rows per second", "Rows per second over the last run.", draw)


def _reading(directory: str, rejected: bool) -> Section:
    pandas = [
        "import pandas as pd",
        "",
        f"scored = pd.read_parquet({directory!r})",
    ]
    if rejected:
        pandas.append(f"rejected = pd.read_parquet({storage.join(directory, '_rejected')!r})")
    code, readers = ["\n".join(pandas)], ["pandas"]
    if "://" not in directory:
        parts = storage.join(directory, "part-*.parquet").replace("'", "''")
        code.append(
            "SELECT sentiment, count(*), avg(positive_probability)\n"
            f"FROM read_parquet('{parts}') GROUP BY sentiment;"
        )
        readers.append("DuckDB, which streams the rows")
    return Section(
        "Reading the output",
        "With pandas."
        if len(code) == 1
        else "With pandas, or with DuckDB, which streams the rows.",
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
        tables=[Table("The run that wrote this page", ("", "value"), rows, "ll")],
    )


def _bars(axes: "Axes", heights: np.ndarray, color: str | list[str]) -> None:
    """Draw a histogram of [0, 1], `heights: int[bins]`, in one colour or one per bin."""
    edges = np.linspace(0, 1, len(heights) + 1)
    axes.bar(edges[:-1], heights, np.diff(edges) * 0.9, align="edge", color=color)
    axes.set_xlim(0, 1)
    _thousands(axes)


def _thousands(axes: "Axes") -> None:
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.10g}")


def _shown(share: float | None, form: str = ".1%") -> str:
    return "not recorded" if share is None else format(share, form)


def _percent(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else ""


def _date(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))


def _end(path: str) -> str:
    """The end of a long path: paths often have the beginning in common."""
    return path if len(path) <= MAX_CHARACTERS else f"…{path[1 - MAX_CHARACTERS :]}"


def _safe(raw: bytes | None) -> str:
    """Bytes as text; invalid UTF-8 and invisible characters as Python escapes."""
    if raw is None:
        return "null"
    # A character has at most 4 bytes.
    text = raw[: 4 * MAX_CHARACTERS].decode("utf-8", "backslashreplace")
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return shown if len(shown) <= MAX_CHARACTERS else f"{shown[: MAX_CHARACTERS - 1]}…"
