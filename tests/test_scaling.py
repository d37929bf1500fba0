"""The table of docs/scaling.md follows from what was measured."""

import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from testing.generated import save_checkpoint, texts_and_labels
from testing.programs import run

DOCS = Path(__file__).parents[1] / "docs"
SCALING = (DOCS / "scaling.md").read_text()
BENCHMARKS = (DOCS / "benchmarks.md").read_text()


def number(pattern: str, page: str) -> float:
    """The only number that the pattern's group finds on a page."""
    (text,) = re.findall(pattern, page)
    return float(text.replace(",", ""))


ROWS = number(r"the ([\d,]+) sentences of the 100,000 reviews", BENCHMARKS)
SECONDS = number(r"\| without start-up, .*? \| A \| ([\d.]+) s;", BENCHMARKS)
START_SECONDS = number(r"\| start-up: 100 rows in 4 parts \| A \| ([\d.]+) \(", BENCHMARKS)

PART_ROWS = int(number(r"\| part \| ([\d,]+) rows", SCALING))
BYTES_A_ROW = number(r"\| output \| ([\d,]+) bytes a part", SCALING) / PART_ROWS
NODE_VCPUS = number(r"\| node \| (\d+) vCPUs", SCALING)
NODE_DOLLARS_AN_HOUR = number(r"\| node \| .*?, ([\d.]+) USD an hour", SCALING)


def test_the_rate_and_the_start_up_are_those_of_the_benchmarks():
    assert number(r"\| rate \| ([\d,]+) rows/s", SCALING) == round(ROWS / SECONDS / 2)
    assert number(r"\| start-up \| ([\d.]+) s", SCALING) == START_SECONDS


@pytest.mark.parametrize("row", re.findall(r"^\| 10\^.*$", SCALING, re.MULTILINE))
def test_a_row_of_the_table_is_computed_from_the_constants(row):
    texts, nodes, *_ = (cell.strip() for cell in row.strip("|").split("|"))
    rows, vcpus = 10 ** int(texts.removeprefix("10^")), int(nodes) * NODE_VCPUS
    seconds = START_SECONDS + rows / (ROWS / SECONDS / 2 * vcpus)
    parts = rows // PART_ROWS
    cells = (
        texts,
        nodes,
        f"{vcpus:.0f}",
        f"{seconds:,.0f} s" if seconds < 600 else f"{seconds / 3600:.1f} h",
        f"{int(nodes) * NODE_DOLLARS_AN_HOUR * seconds / 3600:,.2f}",
        f"{parts:,}",
        f"{rows * BYTES_A_ROW / 1e9:,.1f} GB",
        f"{parts / seconds:,.0f}",
    )
    assert row == f"| {' | '.join(cells)} |"


def test_the_table_has_rows():
    assert len(re.findall(r"^\| 10\^", SCALING, re.MULTILINE)) == 5


@pytest.mark.process
def test_a_scored_row_takes_the_bytes_of_the_constant(tmp_path):
    rows = PART_ROWS // 4
    save_checkpoint(tmp_path / "model")
    (tmp_path / "input").mkdir()
    texts, _ = texts_and_labels(rows)
    table = pa.table({"id": range(rows), "text": texts})
    pq.write_table(table, tmp_path / "input" / "shard.parquet")
    flags = ("--checkpoints_dir", tmp_path / "model", "--input", tmp_path / "input")
    run("score", *flags, "--output", tmp_path / "scored", "--keep_columns", "id")
    (part,) = (tmp_path / "scored").glob("part-*.parquet")
    assert part.stat().st_size / rows == pytest.approx(BYTES_A_ROW, rel=0.1)
