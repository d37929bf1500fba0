"""The table of docs/scaling.md is what its own lines of Python print."""

import io
import re
from contextlib import redirect_stdout
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"


def block_and_text() -> tuple[str, str]:
    document = (DOCS / "scaling.md").read_text()
    (block,) = re.findall(r"```python\n(.*?)```", document, re.DOTALL)
    return block, document.replace(block, "")


def test_the_table_is_what_its_lines_print():
    block, text = block_and_text()
    printed = io.StringIO()
    with redirect_stdout(printed):
        exec(compile(block, "scaling.md", "exec"), {})
    assert printed.getvalue().count("\n") == 7
    assert printed.getvalue() in text


def test_what_it_computes_from_was_measured():
    block, _ = block_and_text()
    measured = (DOCS / "benchmarks.md").read_text()
    rows, seconds = re.search(r"RATE = ([\d_]+) / ([\d.]+) / 2 ", block).groups()
    start = re.search(r"START = ([\d.]+) ", block)[1]
    assert f"{int(rows):,} sentences" in measured
    assert f"without start-up, of 2 x one core | A | {seconds} s, without {start} " in measured
