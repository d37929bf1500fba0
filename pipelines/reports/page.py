"""Numbers -> one HTML page of charts and tables that needs nothing but itself to be read.

No scripts and nothing from a network; charts are inline SVG, whose colours are the page's, light
or dark. The same contents give the same bytes.
"""

import hashlib
import io
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from pipelines.console.terminal import UNSAFE

if TYPE_CHECKING:  # Takes a second to load: only where a chart is drawn.
    from markupsafe import Markup
    from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, PURPLE = "#0072b2", "#d55e00", "#009e73", "#aa4499"
GREY = "#777777"
"""For what is compared with: a diagonal, a share that chance would have."""

WIDTH = 400
"""Of a chart, in its own units. Its letters are 11 of them high, and can be read on a telephone."""

LONGEST = 2000
"""Characters of any one text on a page: whatever a corpus holds, a page stays small."""

_LINE = "#cccccc"
_VARIABLES = {
    BLUE: "var(--blue)",
    ORANGE: "var(--orange)",
    GREEN: "var(--green)",
    PURPLE: "var(--purple)",
    GREY: "var(--grey)",
    _LINE: "var(--line)",
    "#000000": "currentColor",
}
"""What the page draws in place of a colour; the template has the values."""


@dataclass(frozen=True)
class Chart:
    """A drawing, as `chart` makes it."""

    svg: "Markup"
    caption: str


@dataclass(frozen=True)
class Table:
    """Cells as text. A table that is wider than the page scrolls within itself."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[object]]
    align: str
    """For each column `l`, for words, or `r`, for numbers, which then do not break."""


@dataclass(frozen=True)
class Section:
    """A heading, how to read what follows, and what follows: warnings, charts side by side,
    tables, and lines to copy."""

    heading: str
    text: str
    charts: Sequence[Chart] = ()
    tables: Sequence[Table] = ()
    warnings: Sequence[str] = ()
    code: Sequence[str] = ()


def page(
    title: str,
    lead: str,
    sections: Sequence[Section],
    facts: Sequence[tuple[str, object]] = (),
) -> bytes:
    """The page as UTF-8. Every text may hold anything: it is escaped, cut at `LONGEST`, and has
    U+FFFD for what cannot be seen.

    Args:
        lead: One paragraph below the title.
        facts: Names and values of the few numbers that matter most, shown large.
    """
    import jinja2
    from markupsafe import Markup

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("pipelines.reports", "."),
        autoescape=True,
        finalize=lambda value: value if isinstance(value, Markup) else shorten(value, LONGEST),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    template = environment.get_template("page.html.jinja")
    return template.render(title=title, lead=lead, facts=facts, sections=sections).encode()


def shorten(value: object, characters: int) -> str:
    """A text of at most so many characters that can be printed: with `…` where it was cut, and
    U+FFFD for control characters, turns of direction and lone surrogates."""
    text = str(value)
    if len(text) > characters:
        text = text[: characters - 1].rstrip() + "…"
    return UNSAFE.sub(lambda found: found[0] if found[0] in "\t\n" else "\ufffd", text)


def chart(title: str, caption: str, draw: Callable[["Figure"], None], height: int = 260) -> Chart:
    """What `draw` draws on a figure, `WIDTH` by `height`.

    Args:
        title: What a reader who does not see the chart is told; another for each of a page.
        caption: Below it, for all.
        draw: Given the empty figure. Words are the program's own, never a corpus's: a font may
            lack their letters. Colours are those of this module; any other is the same on a light
            and a dark page.
    """
    # It would tell the user where it keeps its list of fonts, and that it makes one.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)

    import matplotlib.style
    from markupsafe import Markup
    from matplotlib.figure import Figure

    style = {
        "axes.axisbelow": True,
        "axes.edgecolor": GREY,
        "axes.facecolor": "none",
        "axes.grid": True,
        "axes.prop_cycle": f"cycler('color', {[BLUE, ORANGE, GREEN, PURPLE]})",
        "axes.spines.right": False,
        "axes.spines.top": False,
        "figure.facecolor": "none",
        "font.size": 11,
        "grid.color": _LINE,
        "grid.linewidth": 0.6,
        "legend.frameon": False,
        "svg.fonttype": "none",
        "text.parse_math": False,
    }
    name = "chart-" + hashlib.sha256(title.encode(errors="replace")).hexdigest()[:10]
    style["svg.hashsalt"] = name
    written = io.StringIO()
    # Not what a matplotlibrc of this machine says.
    with matplotlib.style.context(["default", style]):
        figure = Figure(figsize=(WIDTH / 72, height / 72), layout="constrained")
        draw(figure)
        unsigned = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(written, format="svg", metadata=unsigned)
    return Chart(Markup(_inline(written.getvalue(), title, name)), caption)


def _inline(svg: str, title: str, name: str) -> str:
    """Matplotlib's document as an element of a page that holds others of other names."""
    root = ElementTree.fromstring(svg)
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        attributes = {name.rpartition("}")[2]: value for name, value in element.items()}
        # Groups are numbered alike in every chart. What is referred to is salted with the name.
        if element.tag == "g":
            attributes.pop("id", None)
        if "style" in attributes:
            attributes["style"] = _themed(attributes["style"])
        element.attrib.clear()
        element.attrib.update(attributes)
    root.remove(next(child for child in root if child.find("style") is not None))
    for attribute in ("width", "height", "version"):
        del root.attrib[attribute]
    root.attrib.update({"role": "img", "aria-labelledby": name})
    heading = ElementTree.Element("title", {"id": name})
    heading.text = shorten(title, LONGEST)
    root.insert(0, heading)
    return ElementTree.tostring(root, encoding="unicode")


def _themed(style: str) -> str:
    """With the page's colours and letters."""
    kept = [rule for rule in style.split("; ") if not rule.startswith("font-family")]
    themed = "; ".join(kept)
    for color, variable in _VARIABLES.items():
        themed = themed.replace(color, variable)
    return themed
