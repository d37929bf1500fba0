"""Sections of the scoring report on rows: by night, by partition, by day, by a column; a sample."""

import re
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from pipelines.console.terminal import percent, quantity
from pipelines.reports.class_shares import chart_names, most_frequent, shares_shown
from pipelines.reports.drift import Drift
from pipelines.reports.examples import EXAMPLES_ORDER, examples
from pipelines.reports.page import Chart, Section, Table, draw_chart, shorten
from pipelines.reports.scoring_results import Breakdown, Night, ScoringResults
from sentiment.errors import on_one_line

if TYPE_CHECKING:  # Loads where a chart is drawn.
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_HEADER_CHARACTERS = 30
"""Longest name of a class above a column."""

MAX_VALUE_CHARACTERS = 100

QUOTED_CHARACTERS = 280

VALUES_SHOWN, DAYS_SHOWN = 20, 31
"""Rows of a table: the most frequent values, or the last days."""

CLASSES_DRAWN = 4
"""Lines in a chart, of the most frequent classes."""

DAYS_DRAWN = 732

MIN_POINTS = 3
"""Nights or days that make a line."""

SECONDS_OF_DAY = 86_400

_NUMBER = re.compile(r"-?\d+(\.\d+)?")
_DAY = re.compile(r"\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])")


def nights(results: ScoringResults) -> list[Section]:
    """The last plans side by side; nothing if there is one."""
    if len(results.nights) < 2:
        return []
    shown = most_frequent(results.class_rows)
    names = results.checkpoint.classes.names
    training = results.checkpoint.training
    cells = []
    for night in reversed(results.nights):
        counts, drift = night.counts, Drift.of(night.counts, training)
        cells.append(
            (
                date(night.made),
                f"{counts['rows']:,}",
                f"{counts['rejected']:,}",
                percent_of(counts["rejected"], counts["rows"] + counts["rejected"]),
                "" if drift.unknown is None else percent(drift.unknown),
                "" if drift.truncated is None else percent(drift.truncated),
                *(percent_of(night.class_rows[k], counts["rows"]) for k in shown),
            )
        )
    columns = (
        *("planned", "rows", "rejected", "rejected", "unknown tokens", "truncated"),
        *(short(names[k]) for k in shown),
    )
    table = Table("The latest first", columns, cells, "l" + "r" * (len(columns) - 1))
    charts = [_of_nights(results, results.nights)] if len(results.nights) >= MIN_POINTS else []
    latest = Drift.of(results.nights[-1].counts, training).warnings(results.max_tokens)
    overall = Drift.of(results.counts, training).warnings(results.max_tokens)
    return [
        Section(
            "Nights",
            "What each plan added: there is one whenever the job finds new shards.",
            charts,
            [table],
            [f"The last night: {line}" for line in latest if line not in overall],
            notes="Unknown tokens are not in the model's vocabulary. If their share grows from "
            "night to night, the texts move away from those of the training; if the share of a "
            "class jumps, look at the texts of that night.",
        )
    ]


def breakdowns(results: ScoringResults) -> list[Section]:
    """Rows and shares of classes by the values of each column that was counted."""
    return [_breakdown(results, each) for each in results.breakdowns]


def _breakdown(results: ScoringResults, by: Breakdown) -> Section:
    rows = by.rows
    are_days = bool(len(by.values)) and all(
        value is None or _DAY.fullmatch(value) for value in by.values
    )
    if are_days:
        order = sorted(range(len(rows)), key=lambda i: by.values[i] or "", reverse=True)
        wanted, caption = DAYS_SHOWN, "the latest first"
    elif len(rows) <= VALUES_SHOWN and all(map(_is_number, by.values)):
        order = sorted(range(len(rows)), key=lambda i: float(by.values[i] or "inf"))
        wanted, caption = VALUES_SHOWN, "in order"
    else:
        order = np.argsort(-rows, kind="stable").tolist()
        wanted, caption = VALUES_SHOWN, "the most frequent first"
    shown = [] if by.class_rows is None else most_frequent(results.class_rows)
    cells = []
    for i in order[:wanted]:
        value = by.values[i]
        of_classes = [] if by.class_rows is None else [by.class_rows[i, k] for k in shown]
        cells.append(
            (
                "null" if value is None else shorten(value, MAX_VALUE_CHARACTERS) or '""',
                f"{rows[i]:,}",
                *(percent_of(part, rows[i]) for part in of_classes),
            )
        )
    names = [short(results.checkpoint.classes.names[k]) for k in shown]
    column = shorten(by.column, MAX_HEADER_CHARACTERS)
    left = f" ({len(cells):,} of {len(rows):,})" if len(cells) < len(rows) else ""
    header, align = (column, "rows", *names), "lr" + "r" * len(shown)
    tables = [Table(f"By {column}, {caption}{left}", header, cells, align)] if cells else []
    charts = []
    if are_days and by.class_rows is not None:
        days = [i for i in reversed(order) if by.values[i] is not None][-DAYS_DRAWN:]
        if len(days) >= MIN_POINTS:
            charts.append(_of_days(results, by, days))
    text = f"{quantity(len(rows), 'value')} of {column}"
    if by.class_rows is not None:
        text += f", with {shares_shown(by.class_rows.shape[1])}"
    text = f"{text}. {by.note}".strip()
    return Section(f"By {column}", text, charts, tables, is_narrow=True)


def sample(results: ScoringResults) -> list[Section]:
    """Rows of high, middling and low probabilities; nothing if rows may not be shown."""
    rows = results.sample
    if rows is None:
        return []
    classes = results.checkpoint.classes
    shown = 1 if len(classes) == 2 else rows.winners
    probabilities = rows.probabilities[np.arange(len(rows.cells)), shown]
    cells = [
        (
            group,
            short(classes.names[rows.winners[i]]),
            f"{probabilities[i]:.3f}",
            *(shorten(on_one_line(str(cell)), QUOTED_CHARACTERS) for cell in rows.cells[i]),
        )
        for group, i in examples(classes, rows.probabilities, rows.winners)
    ]
    of = f"{short(classes.names[1])} probability" if len(classes) == 2 else "probability"
    columns = ("model is", results.winner_column, of, *rows.columns)
    is_text = [name == results.flags["text_column"] for name in rows.columns]
    align = "llr" + "".join("t" if needs_room else "l" for needs_room in is_text)
    text = (
        f"The most and least sure of {quantity(len(rows.cells), 'random row')}, shown because of "
        "--show_samples: the same rows each time."
    )
    table = Table(f"Rows by probability. {EXAMPLES_ORDER}", columns, cells, align)
    return [Section("A sample", text, tables=[table])]


def _is_number(value: str | None) -> bool:
    return value is None or bool(_NUMBER.fullmatch(value))


def _of_nights(results: ScoringResults, nights: Sequence[Night]) -> Chart:
    rows = np.array([night.counts["rows"] for night in nights])
    by_class = np.stack([night.class_rows for night in nights])
    places = np.arange(len(nights))
    is_one_day = nights[-1].made - nights[0].made < SECONDS_OF_DAY
    form = "%H:%M" if is_one_day else "%m-%d"
    names = [time.strftime(form, time.gmtime(night.made)) for night in nights]

    def label(axes: "Axes") -> None:
        kept = np.unique(np.linspace(0, len(names) - 1, 8).round().astype(int))
        axes.set_xticks(kept, [names[i] for i in kept])
        axes.set_xlabel("night (UTC)")

    return _shares_over_time("Classes by night", results, places, rows, by_class, label)


def _of_days(results: ScoringResults, by: Breakdown, days: Sequence[int]) -> Chart:
    assert by.class_rows is not None
    places = np.array([by.values[i] for i in days], "datetime64[D]").astype(np.int64)

    def label(axes: "Axes") -> None:
        from matplotlib.ticker import MaxNLocator

        axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        axes.xaxis.set_major_formatter(lambda value, _: str(np.datetime64(int(value), "D")))
        axes.set_xlabel("day")

    return _shares_over_time(
        "Classes by day", results, places, by.rows[days], by.class_rows[days], label
    )


def _shares_over_time(
    title: str,
    results: ScoringResults,
    places: np.ndarray,
    rows: np.ndarray,
    by_class: np.ndarray,
    label: Callable[["Axes"], None],
) -> Chart:
    """Draw the share of each class and, below, the rows.

    Args:
        title: of the chart.
        results: whose classes they are.
        places: int64[n]: where each point is.
        rows: int64[n].
        by_class: int64[n, classes].
        label: names the places on an axis.
    """
    drawn = most_frequent(results.class_rows, CLASSES_DRAWN)
    names = chart_names(results.checkpoint.classes.names)
    shares = by_class / np.maximum(rows, 1)[:, None]
    shares[rows == 0] = np.nan

    def draw(figure: "Figure") -> None:
        from matplotlib.ticker import PercentFormatter

        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        marker = "o-" if len(places) <= DAYS_SHOWN else "-"
        for k in drawn:
            upper.plot(places, shares[:, k], marker, label=names[k])
        upper.set(ylabel="share of rows", ylim=(0, 1.03))
        upper.yaxis.set_major_formatter(PercentFormatter(1, 0))
        upper.legend()
        lower.bar(places, rows, 0.8)
        lower.set_ylabel("rows")
        thousands(lower)
        label(lower)

    caption = "The share of each class"
    if len(drawn) < len(names):
        caption = f"The share of the {len(drawn)} most frequent classes"
    named = [(names[k], results.checkpoint.classes.names[k]) for k in drawn]
    aliases = ", ".join(f"{alias} is {short(name)}" for alias, name in named if alias != name)
    caption = f"{caption}, and the rows.{f' {aliases}.' if aliases else ''}"
    return draw_chart(title, caption, draw, 320)


def thousands(axes: "Axes") -> None:
    """Show the values of the y-axis with commas."""
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.10g}")


def percent_of(part: int, whole: int) -> str:
    """`12.3%`, or "" of nothing."""
    return percent(part / whole) if whole else ""


def short(name: str) -> str:
    """The name of a class, above a column."""
    return shorten(name, MAX_HEADER_CHARACTERS)


def date(seconds: float) -> str:
    """A Unix time, to the second."""
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))
