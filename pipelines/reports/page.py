"""Render a title, texts, charts and tables as one self-contained HTML page.

No scripts, nothing from a network; charts are SVG images inside the page. The same contents give
the same bytes.
"""

import base64
import io
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipelines.console.terminal import UNSAFE

if TYPE_CHECKING:  # Takes a second to load: only where a chart is drawn.
    from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, PURPLE = "#0072b2", "#c65300", "#00805d", "#aa4499"
GREY = "#777c84"
"""For reference lines: the diagonal, or what chance would reach."""

CHART_WIDTH_POINTS = 400
"""Letters of a chart are 11 points high, which can be read on a phone."""

MAX_TEXT_CHARACTERS = 2000
"""Longest text on a page, so that a page stays small whatever a corpus holds."""

_GRID = "#c8ccd1"


@dataclass(frozen=True)
class Chart:
    """A drawing; `draw_chart` makes it."""

    title: str
    caption: str
    url: str
    """The SVG as a data URL; "" if Matplotlib is not installed."""


@dataclass(frozen=True)
class Table:
    """Cells as text. A table wider than the page scrolls."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[object]]
    align: str
    """A letter for each column: `l` for words, `t` for texts, which need room, `r` for numbers,
    which are not wrapped."""
    shades: Sequence[Sequence[float]] = ()
    """For each row and column, -1 (orange) to 1 (blue): a heat map. None: no colours."""


@dataclass(frozen=True)
class Section:
    """A heading, a paragraph, and below it warnings, charts beside tables, code blocks."""

    heading: str
    text: str
    charts: Sequence[Chart] = ()
    tables: Sequence[Table] = ()
    warnings: Sequence[str] = ()
    code: Sequence[str] = ()
    notes: str = ""
    """What the numbers mean and how they are computed: shown by a click, and in print."""
    is_narrow: bool = False
    """Whether it stands beside the next such section where a screen has room for two."""


def page(
    title: str,
    lead: str,
    sections: Sequence[Section],
    facts: Sequence[tuple[str, object]] = (),
) -> bytes:
    """Render the page as UTF-8.

    Texts may come from strangers: they are escaped and shortened to `MAX_TEXT_CHARACTERS`, and
    U+FFFD replaces invisible characters.

    Args:
        lead: Paragraph below the title.
        facts: Names and values of the most important numbers, shown large.
    """
    import jinja2
    from markupsafe import Markup

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("pipelines.reports", "."),
        autoescape=True,
        finalize=lambda value: (
            value if isinstance(value, Markup) else shorten(value, MAX_TEXT_CHARACTERS)
        ),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    template = environment.get_template("page.html.jinja")
    return template.render(title=title, lead=lead, facts=facts, sections=sections).encode()


def shorten(value: object, characters: int) -> str:
    """Cut a text with `…`, and replace what is `UNSAFE`, but tabs and newlines, by U+FFFD."""
    text = str(value)
    if len(text) > characters:
        text = text[: characters - 1].rstrip() + "…"
    return UNSAFE.sub(lambda match: match[0] if match[0] in "\t\n" else "\ufffd", text)


def draw_chart(
    title: str, caption: str, draw: Callable[["Figure"], None], height: int = 260
) -> Chart:
    """Draw a chart with Matplotlib, `CHART_WIDTH_POINTS` wide. Without Matplotlib it stays empty.

    Args:
        title: Read to those who do not see the chart.
        caption: Shown below it.
        draw: Draws on an empty figure, in the colours of this module; a dark page inverts their
            lightness. It writes no text of a corpus: a font may lack its letters.
        height: In points.
    """
    # It would say where it caches its list of fonts.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)

    try:
        import matplotlib.style
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        return Chart(title, caption, url="")
    style = {
        "axes.axisbelow": True,
        "axes.edgecolor": GREY,
        "axes.facecolor": "none",
        "axes.grid": True,
        "axes.prop_cycle": f"cycler('color', {[BLUE, ORANGE, GREEN, PURPLE]})",
        "axes.spines.right": False,
        "axes.spines.top": False,
        "figure.facecolor": "none",
        "font.sans-serif": ["DejaVu Sans"],  # The browser's own where it lacks this one.
        "font.size": 11,
        "grid.color": _GRID,
        "grid.linewidth": 0.6,
        "legend.frameon": False,
        "svg.fonttype": "none",
        "svg.hashsalt": "constant",
        "text.parse_math": False,
    }
    svg = io.BytesIO()
    # Start from the defaults: a matplotlibrc of this machine must not change a page.
    with matplotlib.style.context(["default", style]):
        figure = Figure(figsize=(CHART_WIDTH_POINTS / 72, height / 72), layout="constrained")
        draw(figure)
        no_metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(svg, format="svg", metadata=no_metadata)
    encoded = base64.b64encode(svg.getvalue()).decode()
    return Chart(title, caption, f"data:image/svg+xml;base64,{encoded}")
