"""The messages of docs/operations.md are those of the code."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
VALUE = "\0"


def literals(tree: ast.AST) -> Iterator[str]:
    """Every string of a module; VALUE stands for what is formatted into it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        elif isinstance(node, ast.JoinedStr):
            pieces = (
                each.value if isinstance(each, ast.Constant) else VALUE for each in node.values
            )
            yield "".join(map(str, pieces))


def messages() -> list[str]:
    """What stands in the first column of the tables below `## Messages`."""
    text = (ROOT / "docs" / "operations.md").read_text()
    section = text.partition("\n## Messages\n")[2].partition("\n## ")[0]
    first_cells = re.findall(r"^\| (`.*?`(?:, `.*?`)*)[^`]*? \|", section, re.MULTILINE)
    return [message for cell in first_cells for message in re.findall("`(.*?)`", cell)]


def is_in(message: str, strings: list[str]) -> bool:
    """Whether some string has the pieces of the message between `...`, in their order."""
    pattern = re.compile(".*".join(map(re.escape, message.split("..."))), re.DOTALL)
    return any(map(pattern.search, strings))


def test_each_message_is_in_the_code():
    strings = [
        literal
        for package in ("pipelines", "sentiment")
        for path in (ROOT / package).rglob("*.py")
        for literal in literals(ast.parse(path.read_text()))
    ]
    assert len(messages()) > 25
    assert [message for message in messages() if not is_in(message, strings)] == []
    assert not is_in("... is gone: it was never there", strings)
