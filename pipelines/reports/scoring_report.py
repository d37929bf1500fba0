"""Totals, runs' records and a few rejected rows -> `_manifest/report.html` of a scored output.

Whatever the corpus, the page is bounded: totals come from the footers, which are read anyway
(`pipelines.scoring.totals`); of shards only the distribution and the extremes are shown, of runs
the last ones, and of rejected rows the first of a few files. Rows rejected are counted by reason
in the footers, not by reading `_rejected/`, which may hold as many rows as the corpus.
"""

import itertools
import json
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.console.terminal import quantity
from pipelines.reports.page import BLUE, GREY, ORANGE, Chart, Section, Table, chart, page
from pipelines.score import ScoreConfig
from pipelines.scoring.output import REPORT, Output
from pipelines.scoring.totals import BINS, OTHER, Totals, kind_of
from pipelines.sources.parquet import COLUMN_BUFFER_BYTES
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

REASONS_SHOWN, UNREADABLE_SHOWN, RUNS_SHOWN = 20, 10, 10

FILES_READ, ROWS_READ = 5, 100
"""Files of rejected rows, and the first rows of each."""

SAMPLES, SAMPLES_A_REASON = 20, 3
"""Rejected rows shown."""

RAW_BYTES = 64 * 2**20
"""Of a file's raw rows; those of a larger one are not shown: a single row may be most of it."""

WIDEST = 160
"""Characters of a path, or of a row's raw bytes."""

SPANS = 60
"""Of a run's seconds, with the rows/s of each."""


def write(
    config: ScoreConfig, checkpoint: Checkpoint, output: Output, totals: Totals, stopped: str
) -> None:
    """Write the report of what `totals` were read from; `stopped`: why the job ended early."""
    content = make(config, checkpoint, output, totals, stopped)
    storage.write(storage.join(output.directory, "_manifest", REPORT), content)


def make(
    config: ScoreConfig, checkpoint: Checkpoint, output: Output, totals: Totals, stopped: str
) -> bytes:
    """The page; the arguments are those of `write`."""
    counts, planned, unreadable = totals.counts, len(output.parts), output.unreadable()
    shards = len({shard.path for plan in output.plans for shard in plan.shards})
    lead = (
        f"{quantity(counts['rows'], 'row')} of {quantity(shards, 'shard')} in "
        f"{output.directory}, scored with the model {checkpoint.model_hash[:12]}. Written "
        f"{_date(time.time())} by version {version('sentiment-pipelines')}. "
    )
    if stopped:
        lead += f"The job was stopped with {totals.parts:,} of {planned:,} parts done: {stopped}."
    else:
        lead += "Nothing was missing then; whether that is so now, _SUCCESS says."
    facts = [
        ("rows scored", f"{counts['rows']:,}"),
        ("positive", _percent(counts["positive"], counts["rows"])),
        ("rows rejected", f"{counts['rejected']:,}"),
        ("shards that could not be read", f"{len(unreadable):,}"),
        ("texts cut", f"{counts['truncated']:,}"),
        ("tokens", f"{counts['tokens']:,}"),
    ]
    sections = [
        _drift(config, checkpoint, totals),
        _probabilities(totals),
        _shards(output, totals),
        _rejected(output, totals, unreadable),
        _course(list(_runs(output))),
        _reading(output.directory, counts["rejected"] or len(unreadable)),
        _settings(config, checkpoint),
    ]
    if totals.silent:
        earlier = (
            f"{totals.silent:,} of {quantity(totals.parts, 'part')} were written by an earlier "
            "version. They count in the totals; probabilities, shards and reasons below lack them."
        )
        sections[0] = Section(**vars(sections[0]) | {"warnings": [earlier, *sections[0].warnings]})
    return page(f"Scored: {_end(output.directory)}", lead, sections, facts)


def _drift(config: ScoreConfig, checkpoint: Checkpoint, totals: Totals) -> Section:
    """Shares of these texts beside those of the texts that the model learnt from."""
    counts, training = totals.counts, checkpoint.training
    # Older checkpoints, and parts, do not say.
    learnt = training.get("learnt", {})
    unknown = None if totals.silent else _share(counts["unknown"], counts["tokens"])
    truncated = _share(counts["truncated"], counts["rows"])
    learnt_unknown = _share(learnt.get("unknown"), learnt.get("tokens"))
    learnt_truncated = _share(learnt.get("truncated"), learnt.get("rows"))
    positive = [training.get(name, {}).get("train") for name in ("positive", "rows")]
    warnings = []
    if unknown is not None and learnt_unknown is not None:
        most = learnt_unknown + min(max(learnt_unknown, LEAST_UNKNOWN), MOST_UNKNOWN)
        if unknown > most:
            warnings.append(
                f"The vocabulary lacks {unknown:.1%} of the tokens of these texts, and "
                f"{learnt_unknown:.1%} of those the model learnt from; above {most:.1%} the texts "
                "are taken for ones of another kind. Label some of them, and measure the model "
                "on those by pipelines.evaluate --data_dir."
            )
    if None not in (truncated, learnt_truncated) and truncated > learnt_truncated + MOST_TRUNCATED:
        warnings.append(
            f"{truncated:.1%} of these texts were scored on their first {config.max_tokens} "
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
            _shown(_share(*positive)),
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


def _probabilities(totals: Totals) -> Section:
    def draw(figure: "Figure") -> None:
        axes = figure.add_subplot()
        _bars(axes, totals.histogram, [ORANGE] * (BINS // 2) + [BLUE] * (BINS - BINS // 2))
        axes.set_xlabel("probability of being positive")
        axes.set_ylabel("rows")

    drawn = chart(
        "Rows by probability of being positive",
        f"Rows in {BINS} bins. From 0.5 on the answer is positive.",
        draw,
    )
    return Section(
        "Probabilities",
        "Rows near 0 and 1 are those that the model is sure of, those near 0.5 it might as well "
        "have answered otherwise.",
        charts=[drawn] if totals.histogram.any() else [],
    )


def _shards(output: Output, totals: Totals) -> Section:
    """Few shards in full, many by the distribution of their shares and the extremes."""
    paths = [shard.path for plan in output.plans for shard in plan.shards]
    rows, positive = np.concatenate(totals.shards).T
    scored = np.flatnonzero(rows)
    shares = positive[scored] / rows[scored]
    whole = positive.sum() / max(rows.sum(), 1)

    def table(caption: str, places: np.ndarray) -> Table:
        cells = [
            (_end(paths[i]), f"{rows[i]:,}", _percent(positive[i], rows[i])) for i in scored[places]
        ]
        return Table(caption, ("shard", "rows scored", "positive"), cells, "lrr")

    if len(scored) <= SHARDS_SHOWN:
        shown = [table("All shards with rows that were scored", np.arange(len(scored)))]
        return Section("Shards", "The share of positive rows, shard by shard.", tables=shown)

    def draw(figure: "Figure") -> None:
        axes = figure.add_subplot()
        _bars(axes, np.histogram(shares, BINS, (0, 1))[0], BLUE)
        axes.axvline(whole, color=GREY, linestyle="--")
        axes.set_xlabel("share of positive rows")
        axes.set_ylabel("shards")

    drawn = chart(
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


def _rejected(output: Output, totals: Totals, unreadable: pa.Table) -> Section:
    rejected = totals.counts["rejected"]
    if not rejected and not len(unreadable):
        return Section("Rejected rows", "None: every row of every shard was scored.")
    named = Counter({reason: rows for reason, rows in totals.reasons.items() if reason != OTHER})
    shown = named.most_common(REASONS_SHOWN)
    rest = totals.reasons.total() - sum(rows for _, rows in shown)
    reasons = [*shown, (OTHER, rest)] if rest else shown
    tables = []
    if reasons:
        cells = [(reason, f"{rows:,}", _percent(rows, rejected)) for reason, rows in reasons]
        tables.append(Table("By reason", ("reason", "rows", "share"), cells, "lrr"))
    samples = list(itertools.islice(_samples(output), SAMPLES))
    if samples:
        columns = ("shard", "row", "reason", "the row, or its text")
        tables.append(Table("Some of them", columns, samples, "lrll"))
    if len(unreadable):
        cells = [
            (_end(row["shard"]), row["reason"])
            for row in unreadable.slice(0, UNREADABLE_SHOWN).to_pylist()
        ]
        caption = f"Shards that could not be read: the first of {len(unreadable):,}"
        tables.append(Table(caption, ("shard", "reason"), cells, "ll"))
    return Section(
        "Rejected rows",
        f"{quantity(rejected, 'row')} and {quantity(len(unreadable), 'shard')} could not be "
        "scored. They are in _rejected/, with shard, row number, reason and raw bytes. Samples "
        f"are of the first {ROWS_READ} rows of at most {FILES_READ} files there; \\x.. is a byte "
        "that is no UTF-8.",
        tables=tables,
    )


def _samples(output: Output) -> Iterator[tuple[str, str, str, str]]:
    """Some rejected rows, of as many reasons as the first rows of a few files have."""
    directory = storage.join(output.directory, "_rejected")
    names = sorted(name for name in storage.names(directory) if name.startswith("part-"))
    places = np.linspace(0, max(len(names) - 1, 0), min(len(names), FILES_READ)).astype(int)
    seen: Counter[str] = Counter()
    for place in places:
        for row in _first_rows(storage.join(directory, names[place])):
            kind = kind_of(row["reason"])
            seen[kind] += 1
            if seen[kind] <= SAMPLES_A_REASON:
                number = "" if row["row"] is None else f"{row['row']:,}"
                yield _end(row["shard"]), number, row["reason"], _safe(row["raw"])


def _first_rows(path: str) -> list[dict[str, Any]]:
    filesystem, inner = storage.resolve(path)
    with filesystem.open_input_file(inner) as source:
        file = pq.ParquetFile(source, buffer_size=COLUMN_BUFFER_BYTES)
        columns = file.schema_arrow.names
        groups = [file.metadata.row_group(i) for i in range(file.num_row_groups)]
        raw = columns.index("raw")
        if sum(group.column(raw).total_uncompressed_size for group in groups) > RAW_BYTES:
            del columns[raw]
        batch = next(file.iter_batches(ROWS_READ, columns=columns), None)
    return [{"raw": b"(not shown)", **row} for row in batch.to_pylist()] if batch else []


def _course(runs: list[dict[str, Any]]) -> Section:
    """Rows a second of the last run that scored any, and what the last runs did."""
    cells = [
        (
            _date(run["began"]),
            f"{run['seconds']:,.1f}",
            f"{run['parts']:,}",
            f"{run['rows']:,}",
            f"{run['rows/s']:,.0f}",
            f"{run['left']['rows']:,}",
        )
        for run in runs
    ]
    columns = ("began", "seconds", "parts", "rows", "rows/s", "rows left")
    tables = [Table("The last runs, and what each left to do", columns, cells, "lrrrrr")]
    charts = []
    for run in runs[:1]:
        points = [(0.0, 0), *run.get("course", []), (run["seconds"], run["rows"])]
        if len(points) > 5:
            charts.append(_rate(*np.array(points, float).T))
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

    return chart("Rows a second over the last run", "Rows a second over the last run.", draw)


def _runs(output: Output) -> Iterator[dict[str, Any]]:
    """The records of the last runs, the latest first, that read as such."""
    directory = storage.join(output.directory, "_manifest")
    names = [name for name in storage.names(directory) if name.startswith("run-")]
    names.sort(key=lambda name: (len(name), name), reverse=True)
    for name in names[:RUNS_SHOWN]:
        try:
            run = json.loads(storage.read(storage.join(directory, name)))
            if run["rows"]:
                yield run
        except (OSError, ValueError, KeyError, TypeError):
            continue


def _reading(directory: str, rejected: int) -> Section:
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


def _settings(config: ScoreConfig, checkpoint: Checkpoint) -> Section:
    rows = [("model", checkpoint.model_hash)]
    for name, value in asdict(config).items():
        several = isinstance(value, tuple)
        rows.append((f"--{name}", " ".join(map(str, value)) if several else str(value)))
    return Section(
        "Model and flags",
        "The model's hash is that of all its answers follow from.",
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


def _share(some: Any, of: Any) -> float | None:
    """None where either is not known, or there is nothing to have a share of."""
    numbers = isinstance(some, int) and isinstance(of, int)
    return some / of if numbers and of > 0 else None


def _shown(share: float | None, form: str = ".1%") -> str:
    return "not recorded" if share is None else format(share, form)


def _percent(some: int, of: int) -> str:
    return f"{some / of:.1%}" if of else ""


def _date(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))


def _end(path: str) -> str:
    """A path, by its end: the beginning is what paths have in common."""
    return path if len(path) <= WIDEST else f"…{path[1 - WIDEST :]}"


def _safe(raw: bytes | None) -> str:
    """Bytes as text, without what is no UTF-8 and what cannot be seen: as Python writes that."""
    if raw is None:
        return "null"
    # No character has more bytes.
    text = raw[: 4 * WIDEST].decode("utf-8", "backslashreplace")
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return shown if len(shown) <= WIDEST else f"{shown[: WIDEST - 1]}…"
