"""The documents agree with the tree: links, commands, and the table of modules."""

import re
import shlex
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
import tyro
from markdown_it import MarkdownIt

from pipelines.corpora.config import FetchConfig
from pipelines.evaluation.config import EvaluateConfig
from pipelines.export import ExportConfig
from pipelines.predict import PredictConfig
from pipelines.publish import PublishConfig
from pipelines.scoring.audit import VerifyConfig
from pipelines.scoring.config import ScoreConfig
from pipelines.scoring.status import StatusConfig
from pipelines.training.config import TrainConfig

ROOT = Path(__file__).parents[1]
CONFIGS = {
    "export": ExportConfig,
    "evaluate": EvaluateConfig,
    "status": StatusConfig,
    "verify": VerifyConfig,
    "fetch": FetchConfig,
    "predict": PredictConfig,
    "publish": PublishConfig,
    "score": ScoreConfig,
    "train": TrainConfig,
}
PAGES = sorted(
    path for pattern in ("*.md", "docs/**/*.md", "data/README.md") for path in ROOT.glob(pattern)
)


def inline(page: Path) -> Iterator[tuple[str, object]]:
    """The kind of each heading or paragraph, and its parsed content."""
    tokens = MarkdownIt("commonmark").enable("table").parse(page.read_text())
    for before, token in pairwise(tokens):
        if token.type == "inline":
            yield before.type, token


def anchors(page: Path) -> set[str]:
    """The fragments that GitHub gives the headings of a page."""
    found: list[str] = []
    for kind, token in inline(page):
        if kind == "heading_open":
            text = "".join(child.content for child in token.children)
            slug = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
            found.append(f"{slug}-{found.count(slug)}" if slug in found else slug)
    return set(found)


def links(page: Path) -> list[str]:
    """What a page links to, save other sites."""
    found = [
        str(child.attrs.get("href") or child.attrs.get("src"))
        for _, token in inline(page)
        for child in token.children
        if child.type in ("link_open", "image")
    ]
    return [target for target in found if not re.match(r"[a-z]+:", target)]


def broken(page: Path) -> list[str]:
    """The links of a page that lead nowhere."""
    found = []
    for link in links(page):
        name, _, fragment = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        if not target.exists() or (fragment and fragment not in anchors(target)):
            found.append(link)
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page):
    assert broken(page) == []


def test_a_link_that_leads_nowhere_is_found(tmp_path):
    (tmp_path / "other.md").write_text("# A `b` & C!\n# A `b` & C!\n")
    (tmp_path / "page.md").write_text(
        "[1](other.md#a-b--c) [2](other.md#a-b--c-1) [3](other.md#a) [4](none.md) [5](#top)\n"
        "`[6](code.md)` [7](https://example.com/none) ![8](none.png)\n\n# Top\n"
    )
    assert broken(tmp_path / "page.md") == ["other.md#a", "none.md", "none.png"]


def test_every_page_is_reached_from_the_readme():
    reached, following = set(), [ROOT / "README.md"]
    while following:
        page = following.pop()
        if page in reached:
            continue
        reached.add(page)
        targets = [(page.parent / link.partition("#")[0]).resolve() for link in links(page)]
        following += [target for target in targets if target.suffix == ".md"]
    files = {path for path in (ROOT / "docs").rglob("*") if path.is_file()}
    assert {path for path in (*PAGES, *files) if path.suffix == ".md"} - reached == set()
    others = {path for path in files if path.suffix != ".md"}
    shown = {(page.parent / link).resolve() for page in reached for link in links(page)}
    assert others - shown == set()


def test_contributing_names_every_module_and_no_other():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    rows = re.findall(r"^\|.*\| `(sentiment|pipelines)/` (.*) \|$", text, re.MULTILINE)
    named = [
        f"{package}/{name}.py" for package, row in rows for name in re.findall(r"`([\w/]+)`", row)
    ]
    there = [
        str(path.relative_to(ROOT))
        for package in ("pipelines", "sentiment")
        for path in (ROOT / package).rglob("*.py")
        if path.name != "__init__.py"
    ]
    assert set(named) == set(there)
    assert len(named) == len(there)


def commands(page: Path) -> list[tuple[str, str]]:
    """The programs that the page's code blocks call, with their arguments."""
    blocks = re.findall(r"^```\w*\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)
    lines = "".join(blocks).replace("\\\n", " ")
    return re.findall(r"python -m pipelines\.(\w+) ([^#>\n]*)", lines)


COMMANDS = [
    pytest.param(program, arguments, id=f"{page.name}: {program} {arguments[:40]}")
    for page in PAGES
    for program, arguments in commands(page)
]


def test_the_readme_has_a_command_of_every_kind_of_program():
    shown = {program for program, _ in commands(ROOT / "README.md")}
    assert shown >= {"train", "evaluate", "score", "predict"}


@pytest.mark.parametrize(("program", "arguments"), COMMANDS)
def test_a_command_has_flags_that_its_program_knows(program, arguments):
    tyro.cli(CONFIGS[program], args=shlex.split(arguments), use_underscores=True)
