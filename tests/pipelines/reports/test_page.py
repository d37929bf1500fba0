"""A page shows what it is given, runs none of it, and needs nothing but itself."""

import functools
import re
import sys
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipelines.reports.page import (
    GREEN,
    GREY,
    MAX_TEXT_CHARACTERS,
    ORANGE,
    PURPLE,
    Chart,
    Section,
    Table,
    draw_chart,
    page,
    shorten,
)
from testing.browser import look, needs_chromium
from testing.hostile import HOSTILE
from testing.properties import examples

POLICY = re.compile(rb"<meta http-equiv=.Content-Security-Policy.[^>]*>\n")


def curves(figure):
    axes = figure.add_subplot(xlabel="step", ylabel="loss")
    x = np.linspace(0, 1, 50)
    for power in (1, 2, 3, 4):
        axes.plot(x, x**power, label=f"power {power}")
    axes.plot([0, 1], [1, 0], "--", color=GREY)
    axes.errorbar([0.2, 0.8], [0.5, 0.5], [[0.1, 0.1], [0.2, 0.2]], fmt="o", color=GREEN)
    axes.legend()


def bars(figure):
    upper, lower = figure.subplots(2, 1, sharex=True)
    upper.bar([1, 2, 3], [3, 1, 2], color=ORANGE)
    lower.plot([1, 2, 3], [1, np.nan, 3], "o-", color=PURPLE)
    lower.text(2, 2, '<b>$x^2$</b> & "more"')


@functools.cache
def drawn() -> list[Chart]:
    return [draw_chart("Curves", "Caption", curves), draw_chart("Bars", "Caption", bars, 320)]


def sample(hostile: str = "plain") -> bytes:
    charts = [replace(one, caption=f"Caption {hostile}") for one in drawn()]
    rows = [(hostile, "1,000"), ("short", 7)]
    table = Table(f"Numbers {hostile}", ("text", "count"), rows, "lr")
    wide = Table("Wide", [f"column {i}" for i in range(40)], [range(40)], "r" * 40)
    sections = [
        Section("First", "How to read it.", charts, [table, wide]),
        Section(hostile, hostile),
    ]
    return page(f"Report {hostile}", hostile, sections, [("accuracy", "85.2%"), (hostile, 3)])


class Elements(HTMLParser):
    """The names of a page's elements and attributes, and its text."""

    def __init__(self, content: bytes) -> None:
        super().__init__()
        self.tags: list[tuple[str, tuple[str, ...]]] = []
        self.text = ""
        self.feed(content.decode())

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, tuple(name for name, _ in attributes)))

    def handle_data(self, data):
        self.text += data


@pytest.fixture(scope="module")
def plain():
    return Elements(sample()).tags


@pytest.mark.parametrize("hostile", HOSTILE)
def test_no_text_becomes_an_element_or_an_attribute(hostile, plain):
    assert Elements(sample(hostile)).tags == plain


@examples(100)
@example("\u2028")
@given(st.text(st.characters(codec=None), max_size=3 * 40))
def test_every_text_is_shown_as_it_is_but_for_what_cannot_be_seen(text):
    shown = Elements(page("title", text, [])).text
    expected = re.sub(
        "[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]", "\ufffd", text
    )
    assert expected in shown


@given(st.text(st.characters(codec=None)), st.integers(1, 50))
def test_shortened_texts_fit_and_can_be_written(text, characters):
    short = shorten(text, characters)
    assert len(short) <= characters
    short.encode()
    if len(text) <= characters:
        assert len(short) == len(text)
    else:
        assert short.endswith("…")


def test_the_same_contents_give_the_same_bytes_whatever_a_matplotlibrc_says():
    import matplotlib

    before = sample()
    with matplotlib.rc_context({"font.size": 30, "svg.fonttype": "path", "axes.facecolor": "red"}):
        drawn.cache_clear()
        assert sample() == before


def test_without_matplotlib_a_page_says_what_is_not_drawn(monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)  # As if not installed.
    content = page("Title", "", [Section("", "", [draw_chart("Curves", "Caption", curves)])])
    assert b"Curves: not drawn, because Matplotlib is not installed." in content
    assert b"<img" not in content


def test_a_page_is_small_whatever_it_shows():
    rows = [("x" * 10**6, "y" * 10**6)] * 100
    content = page(
        "t" * 10**6, "l" * 10**6, [Section("h", "", tables=[Table("", "ab", rows, "lr")])]
    )
    assert len(content) < 2 * 100 * MAX_TEXT_CHARACTERS + 50_000


def test_pages_of_nothing():
    assert b"<h1>Title</h1>" in page("Title", "", [])
    assert b"<tbody>" in page("Title", "", [Section("", "", tables=[Table("", (), (), "")])])


def luminance(color: str) -> float:
    """Relative, as WCAG 2.2 defines it, of `rgb(r, g, b)`."""
    channels = np.array([int(c) for c in re.findall(r"\d+", color)[:3]]) / 255
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def contrast(one: str, other: str) -> float:
    low, high = sorted(luminance(color) for color in (one, other))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.process
@needs_chromium
@pytest.mark.parametrize("dark", [False, True])
def test_in_a_browser(dark, tmp_path):
    everything = sample("".join(text[:300] for text in HOSTILE))
    bare, guarded = POLICY.subn(b"", everything)
    assert guarded == 1
    pages = {"wide": (everything, 1000), "narrow": (everything, 360), "bare": (bare, 360)}
    looked = look(tmp_path, pages, dark)
    assert looked.console == []
    assert looked.requests == []
    assert looked.frames.keys() == pages.keys()
    for frame in looked.frames.values():
        assert frame["scroll_width"] == frame["width"]
        assert frame["scripts"] == 0
        assert not frame["hacked"]
        assert frame["title"].startswith("Report <script>hacked")
        assert (luminance(frame["paper"]) < luminance(frame["ink"])) == dark
        assert contrast(frame["paper"], frame["ink"]) > 10
        assert [figure["title"] for figure in frame["figures"]] == ["Curves", "Bars"]
        for figure in frame["figures"]:
            width, height = figure["box"]
            assert figure["caption"].startswith("Caption")
            assert 300 < width <= min(frame["width"], 36 * 16)
            assert 0.6 < height / width < 0.85
            assert figure["drawn"] > 0.05
            # Blurred edges have many colours, of few pixels each.
            colors = [color for color, pixels in figure["colors"].items() if pixels > 400]
            pale = [color for color in colors if contrast(color, frame["paper"]) < 4]
            assert len(colors) >= 5
            assert len(pale) == 1  # The grid.


@pytest.mark.process
@needs_chromium
def test_the_browser_would_tell(tmp_path):
    content = sample()
    for added in (
        b"<script>hacked = true</script>",
        b"<img src='http://localhost/image.png'>",
        b"<div style='width: 2000px'>wide</div>",
    ):
        content = content.replace(b"</main>", added + b"</main>")
    looked = look(tmp_path, {"bare": (POLICY.sub(b"", content), 360), "guarded": (content, 360)})
    assert looked.frames["bare"]["hacked"]
    assert not looked.frames["guarded"]["hacked"]
    assert looked.requests == ["http://localhost/image.png"]
    assert any("Content Security Policy" in line for line in looked.console)
    assert all(frame["scroll_width"] > frame["width"] for frame in looked.frames.values())
