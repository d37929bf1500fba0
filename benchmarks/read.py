"""Measure how fast texts are read from each format, on one core, beside PyArrow's own readers.

    python -m benchmarks.read
    python -m benchmarks.read --rows 200000 --repeats 5

Both read a file of generated tweets from memory, in batches, and make Arrow arrays of its column
`text`; other columns are skipped. PyArrow has no reader of plain text: there it reads the lines as
CSV of one column. Times are those of the CPU.
"""

import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.json as pajson
import pyarrow.parquet as pq

from pipelines.console import command
from pipelines.sources.formats import FORMATS
from pipelines.sources.options import ReadOptions

BLOCK_BYTES = 8 * 2**20
"""Bytes that PyArrow reads at a time, as many as we do."""


@dataclass(frozen=True)
class ReadBenchmark:
    """Measure reading."""

    rows: int = 400_000
    """Rows of each file."""
    repeats: int = 9
    """Times that each file is read by each reader, in turns."""


def main(config: ReadBenchmark) -> None:
    """Print a table."""
    print("| format | MB | our reader, MB/s | PyArrow, MB/s | ratio |")
    print("| --- | --- | --- | --- | --- |")
    for name, content, ours, theirs in files(config.rows):
        megabytes = content.size / 1e6
        assert ours(content) == theirs(content) == config.rows
        seconds: list[tuple[float, float]] = []
        for _ in range(config.repeats):
            seconds.append((_timed(ours, content), _timed(theirs, content)))
        we, they = (statistics.median(column) for column in zip(*seconds, strict=True))
        ratio = statistics.median(theirs / ours for ours, theirs in seconds)
        print(
            f"| {name} | {megabytes:.1f} | {megabytes / we:,.0f} | {megabytes / they:,.0f} "
            f"| {ratio:.2f} |",
            flush=True,
        )


Reader = Callable[[pa.Buffer], int]
"""Reads the texts of a file, and returns their number."""


def files(rows: int) -> list[tuple[str, pa.Buffer, Reader, Reader]]:
    """Files: name, content, and the readers to compare."""
    texts = _texts(rows)
    table = pa.table(
        {"id": np.arange(rows), "user": [f"user{i % 1000}" for i in range(rows)], "text": texts}
    )
    plain = pa.BufferOutputStream()
    pacsv.write_csv(table, plain, pacsv.WriteOptions(quoting_style="needed"))
    quoted = pa.BufferOutputStream()
    pacsv.write_csv(table.select(["user", "text"]), quoted)
    lines = "".join(f"{json.dumps(row)}\n" for row in table.to_pylist()).encode()
    one_a_line = pacsv.ParseOptions(delimiter="\x01", quote_char=False)
    parquet = pa.BufferOutputStream()
    pq.write_table(table, parquet)
    return [
        ("CSV", plain.getvalue(), _ours("csv"), _csv(pacsv.ParseOptions(newlines_in_values=True))),
        (
            "CSV, all texts quoted",
            quoted.getvalue(),
            _ours("csv"),
            _csv(pacsv.ParseOptions(newlines_in_values=True)),
        ),
        ("JSON lines", pa.py_buffer(lines), _ours("json"), _json),
        (
            "text",
            pa.py_buffer("".join(f"{text}\n" for text in texts).encode()),
            _ours("text"),
            _csv(one_a_line, ["text"]),
        ),
        ("Parquet, Snappy", parquet.getvalue(), _ours("parquet"), _parquet),
    ]


def _texts(rows: int) -> list[str]:
    """Texts of 3 to 22 words; a third have quotes and commas."""
    random = np.random.default_rng(0)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    words = ["".join(random.choice(letters, size)) for size in random.integers(2, 10, 5000)]
    lengths = random.integers(3, 23, rows).tolist()
    chosen = iter(random.integers(0, len(words), sum(lengths)).tolist())
    texts = [" ".join(words[next(chosen)] for _ in range(length)) for length in lengths]
    return [f'{text}, "quoted", yes' if i % 3 == 0 else text for i, text in enumerate(texts)]


def _ours(name: str) -> Reader:
    def read(content: pa.Buffer) -> int:
        source = pa.BufferReader(content)
        batches = FORMATS[name].rows(source, "file", ["text"], ReadOptions(), None, ())
        return sum(len(rows.table["text"]) for rows in batches)

    return read


def _csv(parse: pacsv.ParseOptions, names: list[str] | None = None) -> Reader:
    def read(content: pa.Buffer) -> int:
        batches = pacsv.open_csv(
            pa.BufferReader(content),
            pacsv.ReadOptions(use_threads=False, block_size=BLOCK_BYTES, column_names=names),
            parse,
            pacsv.ConvertOptions(include_columns=["text"], column_types={"text": pa.string()}),
        )
        return sum(map(len, batches))

    return read


def _json(content: pa.Buffer) -> int:
    batches = pajson.open_json(
        pa.BufferReader(content),
        pajson.ReadOptions(use_threads=False, block_size=BLOCK_BYTES),
        pajson.ParseOptions(
            explicit_schema=pa.schema([("text", pa.string())]), unexpected_field_behavior="ignore"
        ),
    )
    return sum(map(len, batches))


def _parquet(content: pa.Buffer) -> int:
    file = pq.ParquetFile(pa.BufferReader(content))
    return sum(map(len, file.iter_batches(columns=["text"], use_threads=False)))


def _timed(read: Reader, content: pa.Buffer) -> float:
    began = time.process_time()
    read(content)
    return time.process_time() - began


if __name__ == "__main__":
    command.run(lambda: (main, ReadBenchmark))
