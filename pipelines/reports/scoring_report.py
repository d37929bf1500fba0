"""Scoring report: an HTML page on a scored output, `_manifest/report.html`.

Its size is bounded, whatever the corpus: it shows the distribution and the extremes of shards, the
last runs, the most frequent reasons for rejecting, and a sample of rejected rows.
"""

import itertools
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING

import numpy as np

from pipelines.console.terminal import percent, quantity
from pipelines.reports.class_shares import most_frequent, shares, shares_shown, trained_rows
from pipelines.reports.drift import Drift, share
from pipelines.reports.page import (
    BLUE,
    GREY,
    ORANGE,
    Chart,
    Section,
    Table,
    draw_chart,
    page,
)
from pipelines.reports.scoring_breakdowns import (
    breakdowns,
    date,
    nights,
    percent_of,
    sample,
    short,
    thousands,
)
from pipelines.reports.scoring_results import ScoringResults, ScoringRun
from sentiment import storage
from sentiment.classes import Classes

if TYPE_CHECKING:  # Loads where a chart is drawn.
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SHARDS_SHOWN = 20
"""If there are more shards: the distribution, and half this many of either extreme."""

CLASSES_LISTED = 20
"""Classes in the table of their shares, the most frequent."""

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
    names = results.checkpoint.classes.names
    shards = results.shards_read
    verb = "was" if shards == 1 else "were"
    lead = (
        f"{_verdict(results)} {quantity(shards, 'shard')} {verb} scored into "
        f"{results.directory} with the model {results.checkpoint.model_hash[:12]}. Page written "
        f"{date(time.time())} by version {version('sentiment-pipelines')}."
    )
    facts = [
        ("rows scored", f"{counts['rows']:,}"),
        *(
            (
                short(names[i]),
                percent_of(results.class_rows[i], counts["rows"]),
            )
            for i in most_frequent(results.class_rows)
        ),
        ("rows rejected", f"{counts['rejected']:,}"),
        ("shards that could not be read", f"{len(unreadable):,}"),
        ("texts truncated", f"{counts['truncated']:,}"),
        ("texts without a known word", _wordless(results)),
        ("tokens", f"{counts['tokens']:,}"),
    ]
    sections = [
        _drift(results),
        _classes(results),
        _probabilities(results.histogram, results.checkpoint.classes),
        *nights(results),
        *breakdowns(results),
        *sample(results),
        _shards(results),
        _rejected(results),
        *_left_aside(results.left_aside),
        *_columns(results.column_notes),
        _runs(results.runs),
        _reading(results, bool(counts["rejected"] or unreadable)),
        _settings(results),
    ]
    return page(f"Scored: {_end(results.directory)}", lead, sections, facts)


def _wordless(results: ScoringResults) -> str:
    """Texts without a known word, and of how many, if earlier versions did not count some."""
    is_all = results.wordless_of == results.counts["rows"]
    return f"{results.wordless:,}" + ("" if is_all else f" of {results.wordless_of:,} counted")


def _verdict(results: ScoringResults) -> str:
    """Whether all is scored, as what, and whether the model knows such texts, in two sentences."""
    counts = results.counts
    rows = quantity(counts["rows"], "row")
    shown = shares(results.checkpoint.classes.names, results.class_rows)
    what = f": {shown}" if shown else ""
    if results.stopped:
        done = f"{results.parts:,} of {results.planned_parts:,} parts done"
        said = f"The job was stopped with {done}: {results.stopped}. {rows} scored so far{what}."
    elif counts["rejected"] or results.unreadable_shards:
        rejected = f"{quantity(counts['rejected'], 'row')} rejected"
        if results.unreadable_shards:
            unreadable = quantity(len(results.unreadable_shards), "shard")
            rejected += f" and {unreadable} not readable"
        said = f"The output is complete, with {rejected}. {rows} scored{what}."
    else:
        said = f"The output is complete: all of its {rows} are scored{what}."
    drift = Drift.of(counts, results.checkpoint.training)
    if drift.warnings(results.max_tokens):
        return f"{said} The texts differ from the training texts: see below."
    if drift.unknown is not None and drift.trained_unknown is not None:
        return f"{said} The model knows {percent(1 - drift.unknown)} of the tokens."
    return said


def _drift(results: ScoringResults) -> Section:
    """Compare the texts with the training texts; warn where they differ much."""
    counts, training = results.counts, results.checkpoint.training
    drift = Drift.of(counts, training)
    trained = training.get("learnt", {})
    trained_unknown = _shown(drift.trained_unknown)
    if drift.is_of_validation:
        trained_unknown += " (validation texts)"
    rows = [
        ("Tokens not in the vocabulary", _shown(drift.unknown), trained_unknown),
        ("Truncated texts", _shown(drift.truncated), _shown(drift.trained_truncated)),
        (
            "Tokens per text",
            _shown(share(counts["tokens"], counts["rows"]), "{:.1f}".format),
            _shown(share(trained.get("tokens"), trained.get("rows")), "{:.1f}".format),
        ),
    ]
    return Section(
        "Comparison with the training texts",
        "Texts of another kind, time or language than the training texts have more unknown words, "
        "and predictions for them are less reliable.",
        tables=[Table("Shares", ("", "these texts", "training texts"), rows, "lrr")],
        warnings=drift.warnings(results.max_tokens),
        notes="The model knows the words that were frequent in its training texts, so that few of "
        "their tokens are unknown. Where more are in the validation texts of the same corpus, "
        "which it has not learnt, that share is shown. Tokens are counted after truncation here, "
        "and before it in training.",
        is_narrow=True,
    )


def _classes(results: ScoringResults) -> Section:
    """The share of each class, here and among the training labels."""
    rows, names = results.class_rows, results.checkpoint.classes.names
    means = results.mean_probabilities
    trained = trained_rows(results.checkpoint.training, len(names))
    cells = [
        (
            names[i],
            f"{rows[i]:,}",
            percent_of(rows[i], rows.sum()),
            _shown(None if trained is None else trained[i] / trained.sum()),
            "–" if means is None else percent(means[i]),
        )
        for i in most_frequent(rows, CLASSES_LISTED)
    ]
    caption = "All classes" if len(cells) == len(rows) else f"The most frequent of {len(rows):,}"
    columns = ("class", "rows", "these texts", "training labels", "mean probability")
    return Section(
        "Classes",
        "The share of each class: of the rows that are predicted to be of it here, and of the rows "
        "that were labelled so in training. If the model is calibrated, the mean probability is a "
        "better estimate of the share: a row of which the model is unsure counts in part.",
        tables=[Table(caption, columns, cells, "lrrrr")],
        notes=f"The mean probability is that of {results.mean_of:,} rows: others have no sum."
        if 0 < results.mean_of < rows.sum()
        else "",
        is_narrow=True,
    )


def _probabilities(histogram: np.ndarray, classes: Classes) -> Section:
    """The histogram of the second of two classes, or of the winner among more."""
    bins = len(histogram)
    if len(classes) == 2:
        threshold = 0.5 if classes.threshold is None else classes.threshold
        title = f"Rows by {classes.names[1]} probability"
        caption = f"Rows are predicted {classes.names[1]} from {threshold:g}."
        text = f"The model is sure of rows near 0 and 1, and unsure of rows near {threshold:g}."
    else:
        threshold = 0.0
        title = "Rows by the probability of their class"
        caption = "A row has the class that is most probable."
        text = "The model is sure of rows near 1."
    is_second = np.arange(bins) >= np.floor(threshold * bins)

    def draw(figure: "Figure") -> None:
        axes = figure.add_subplot()
        _bars(axes, histogram, [BLUE if second else ORANGE for second in is_second])
        axes.set_xlabel("probability")
        axes.set_ylabel("rows")

    drawn = draw_chart(title, f"Rows in {bins} bins. {caption}", draw)
    charts = [drawn] if histogram.any() else []
    return Section("Probabilities", text, charts=charts, is_narrow=True)


def _shards(results: ScoringResults) -> Section:
    """All shards if they are few, else those that differ most from the whole."""
    rows, by_class = results.shard_rows, results.shard_class_rows
    scored = np.flatnonzero(rows)
    if len(scored) <= SHARDS_SHOWN:
        text = "Rows of each shard"
        if by_class is not None:
            text += f", and {shares_shown(by_class.shape[1])}"
        table = _shard_table("All shards with scored rows", results, scored)
        return Section("Shards", f"{text}.", tables=[table])
    number = f"{len(scored):,} shards have scored rows."
    if by_class is None:
        largest = np.argsort(-rows, kind="stable")[:SHARDS_SHOWN]
        return Section("Shards", number, tables=[_shard_table("The largest", results, largest)])
    shares = by_class[scored] / rows[scored, None]
    overall = results.class_rows / results.class_rows.sum()
    # In standard errors, so that tiny shards do not fill the table.
    squares = (shares - overall) ** 2 / np.maximum(overall, 1e-12)
    order = np.argsort(-rows[scored] * squares.sum(axis=1), kind="stable")[:SHARDS_SHOWN]
    drawn = 1 if len(overall) == 2 else int(overall.argmax())
    name = results.checkpoint.classes.names[drawn]
    return Section(
        "Shards",
        f"{number} The table shows those whose shares of the classes differ most from the overall "
        "ones.",
        charts=[_shares_of_shards(name, shares[:, drawn], overall[drawn], len(results.histogram))],
        tables=[_shard_table("Shards that differ most", results, scored[order])],
        notes="The difference is measured in standard errors, so that tiny shards do not fill the "
        "table. Rows of a shard are often of one time or source.",
    )


def _shard_table(caption: str, results: ScoringResults, shards: np.ndarray) -> Table:
    """Rows of shards, and the shares of the most frequent classes; `shards: int64[n]`, indices."""
    by_class = results.shard_class_rows
    paths = [results.shards[i] for i in shards]
    common = _common_directory(paths) if len(paths) > 1 else ""
    if common:
        caption += f", in {_end(common)}"
    shown = [] if by_class is None else most_frequent(results.class_rows)
    cells = []
    for i in shards:
        rows = results.shard_rows[i]
        shares = [] if by_class is None else [percent_of(by_class[i, k], rows) for k in shown]
        path = results.shards[i].removeprefix(f"{common}/") if common else results.shards[i]
        cells.append((_end(path), f"{rows:,}", *shares))
    names = [short(results.checkpoint.classes.names[k]) for k in shown]
    return Table(caption, ("shard", "rows scored", *names), cells, "lr" + "r" * len(shown))


def _common_directory(paths: Sequence[str]) -> str:
    """The directory or URI that all paths are below; "": there is none."""
    levels = zip(*(path.split("/")[:-1] for path in paths), strict=False)
    same = itertools.takewhile(lambda names: len(set(names)) == 1, levels)
    common = "/".join(names[0] for names in same)
    return "" if common.endswith(":/") else common  # Buckets of one store.


def _shares_of_shards(name: str, shares: np.ndarray, overall: float, bins: int) -> Chart:
    """Draw how many shards have which share, float64[shards], of the rows of a class."""

    def draw(figure: "Figure") -> None:
        axes = figure.add_subplot()
        _bars(axes, np.histogram(shares, bins, (0, 1))[0], BLUE)
        axes.axvline(overall, color=GREY, linestyle="--")
        axes.set_xlabel("share of the shard's rows")
        axes.set_ylabel("shards")

    title = f"Shards by their share of {name} rows"
    return draw_chart(title, f"{title}. The dashed line is the overall share.", draw)


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
        cells = [(reason, f"{rows:,}", percent_of(rows, rejected)) for reason, rows in reasons]
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
        tables.append(Table("A sample", columns, samples, "lrtt"))
    if unreadable:
        shards = [(_end(shard), reason) for shard, reason in unreadable[:UNREADABLE_SHOWN]]
        caption = f"Shards that could not be read: the first of {len(unreadable):,}"
        tables.append(Table(caption, ("shard", "reason"), shards, "ll"))
    return Section(
        "Rejected rows",
        f"{quantity(rejected, 'row')} and {quantity(len(unreadable), 'shard')} could not be "
        "scored.",
        tables=tables,
        notes="_rejected/ has them with shard, row number, reason and raw bytes. The sample is "
        "from the first rows of a few files there; \\x.. is a byte that is not UTF-8.",
    )


def _left_aside(kinds: Mapping[str, int]) -> list[Section]:
    """Files that were not read; nothing if there are none."""
    if not kinds:
        return []
    cells = [(kind, f"{number:,}") for kind, number in sorted(kinds.items())[:REASONS_SHOWN]]
    table = Table("By kind", ("kind", "files"), cells, "lr")
    text = f"{quantity(sum(kinds.values()), 'file')} of the input are no shards, and were not read."
    notes = (
        "Documents beside data, such as README.txt, and files of other formats. --format tells the "
        "format of files whose names do not."
    )
    return [Section("Skipped files", text, tables=[table], notes=notes, is_narrow=True)]


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
            date(run.began),
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
        "Time and throughput of the last runs.",
        charts=charts,
        tables=tables if cells else [],
        notes="Seconds are counted while parts are scored: without starting Ray and counting rows, "
        "but with starting the actors. A part counts when it is written.",
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
        thousands(axes)

    return draw_chart("Rows per second", "Rows per second over the last run.", draw)


def _reading(results: ScoringResults, rejected: bool) -> Section:
    directory = results.directory
    keys = results.flags.get("partition_by")
    names = [f"{key}=*" for key in keys] if isinstance(keys, tuple) else []
    pandas, more = ["import pandas as pd"], ""
    if names:
        # By itself, pandas cannot read keys of which a directory has none.
        pandas.append("import pyarrow.dataset as ds")
        more = ', partitioning=ds.partitioning(flavor="hive")'
    pandas += ["", f"scored = pd.read_parquet({directory!r}{more})"]
    if rejected:
        path = storage.join(directory, "_rejected")
        pandas.append(f"rejected = pd.read_parquet({path!r}{more})")
    code = ["\n".join(pandas)]
    if "://" not in directory:
        parts = storage.join(directory, *names, "part-*.parquet").replace("'", "''")
        column = results.winner_column
        code.append(f"SELECT {column}, count(*)\nFROM read_parquet('{parts}') GROUP BY {column};")
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
    thousands(axes)


def _shown(value: float | None, form: Callable[[float], str] = percent) -> str:
    return "not recorded" if value is None else form(value)


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
