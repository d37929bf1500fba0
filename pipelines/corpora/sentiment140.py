"""The corpus `sentiment140`: 1,600,000 tweets labelled by their emoticons, from its authors."""

import hashlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import pyarrow as pa

from pipelines.console.progress import Progress, megabytes
from pipelines.corpora.download import download, shown
from pipelines.corpora.fetch_record import FetchedCorpus
from pipelines.corpora.parquet_shards import write_shards
from pipelines.corpora.zipped_csv import numbered_rows, open_member
from pipelines.errors import Failure

URL = "https://cs.stanford.edu/people/alecmgo/trainingandtestdata.zip"
SHA256 = "004a3772c8a7ff9bbfeb875880f47f0679d93fc63e5cf9cff72d54a8a6162e57"
"""Of the authors' archive of 81,363,704 bytes, as TensorFlow Datasets records it."""

FIELDS = ("polarity", "id", "date", "query", "user", "text")
"""Columns of the CSV files in the archive, which have no header."""


@dataclass(frozen=True)
class Member:
    """A CSV file in the archive."""

    name: str
    labels: dict[str, int | None]
    """Polarity -> label; None: rows of this polarity are left out."""


MEMBERS = {
    "sentiment140": Member("training.1600000.processed.noemoticon.csv", {"0": 0, "4": 1}),
    "sentiment140-test": Member("testdata.manual.2009.06.14.csv", {"0": 0, "2": None, "4": 1}),
}
"""Directory -> the file that its rows come from."""

SHARD_ROWS = 200_000
ROWS_PER_UPDATE = 10_000
"""Rows between two updates of the progress bar."""

SCHEMA = pa.schema(
    [("ItemID", pa.int64()), ("Sentiment", pa.int8()), ("SentimentText", pa.string())]
)


def make_sentiment140(work: Path, url: str | None) -> dict[str, FetchedCorpus]:
    """Make the directories `work`/sentiment140 to train on and `work`/sentiment140-test to test on.

    Args:
        work: Directory for the corpus and the downloaded archive, which stays there unless it is
            damaged.
        url: Address of the archive; None: the authors' site, and the archive must have SHA256.

    Returns their records by their names. Raises Failure if the archive cannot be downloaded, is
    damaged, or does not hold the expected rows.
    """
    source = shown(url or URL)
    try:
        archive = download(url or URL, work)
    except Failure as failure:
        raise Failure(f"{failure}; --url takes the address of a mirror") from None
    try:
        sha256 = check_known(archive, source, required=url is None)
        fetched = {}
        for corpus, member in MEMBERS.items():
            label = f"reading {member.name}"
            with (
                open_member(archive, member.name, source) as (file, size),
                Progress(megabytes, label, sys.stderr) as progress,
            ):
                progress.say(label)
                progress.start(size)
                tweets = _tweets(file, member, progress)
                files = write_shards(tweets, SCHEMA, work / corpus, SHARD_ROWS)
            fetched[corpus] = FetchedCorpus(
                corpus=corpus,
                source=source,
                sha256=sha256,
                terms="no licence stated, please cite Go, Bhayani and Huang (2009)",
                files=files,
            )
    except Failure:
        archive.unlink()
        raise
    return fetched


def check_known(archive: Path, source: str, required: bool) -> str:
    """The archive's SHA-256. If it is not SHA256: Failure if `required`, else a note on stderr."""
    with open(archive, "rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    if sha256 != SHA256:
        difference = f"{source} has SHA-256 {sha256}, not the authors' {SHA256}"
        if required:
            raise Failure(f"{difference}; to use it anyway, pass --url {source}")
        print(f"note: {difference}", file=sys.stderr)
    return sha256


def _tweets(file: IO[bytes], member: Member, progress: Progress) -> Iterator[tuple[int, int, str]]:
    """ItemID, label and text of the rows whose polarity has a label. All rows are checked."""
    polarity_rows = dict.fromkeys(member.labels, 0)
    for number, row in numbered_rows(file, member.name, width=len(FIELDS)):
        polarity, item, _, _, _, text = row
        where = f"{member.name}, row {number}"
        if polarity not in member.labels:
            expected = " or ".join(member.labels)
            raise Failure(f"{where}: polarity is {polarity[:40]!r}, not {expected}")
        if not item.isdecimal() or len(item) > 18:
            raise Failure(f"{where}: id is {item[:40]!r}, not a number")
        polarity_rows[polarity] += 1
        label = member.labels[polarity]
        if label is not None:
            yield int(item), label, text
        if number % ROWS_PER_UPDATE == 0:
            progress.update(file.tell())
    progress.update(file.tell())
    for polarity, label in member.labels.items():
        if label is not None and not polarity_rows[polarity]:
            raise Failure(f"{member.name} has no row of polarity {polarity}")
