"""pipelines.fetch: sentiment140 from a local server, complete or not at all; misuse."""

import csv
import io
import os
import random
import resource
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import pipelines
from pipelines.corpora.config import FetchConfig
from pipelines.corpora.download import BLOCK_BYTES
from pipelines.corpora.job import main
from pipelines.corpora.sentiment140 import MEMBERS, check_known
from pipelines.errors import Failure
from pipelines.sources.listing import find_shards
from pipelines.sources.names import FETCHED
from pipelines.training.stop_words import read_stop_words
from sentiment.errors import InputError
from sentiment.text.tokenizer import Tokenizer
from testing.programs import refused
from testing.waiting import wait_until
from testing.web_server import Mirror

ROOT = Path(pipelines.__file__).parents[1]
TRAIN, TEST = MEMBERS["sentiment140"].name, MEMBERS["sentiment140-test"].name


def tweets(rows, polarities):
    """Rows as in the archive: all characters of Latin-1, quotes, commas, newlines, entities."""
    draw = random.Random(rows)
    characters = [chr(code) for code in range(1, 256)] + ['"', ",", "\r", "\n", "&amp;", '"",']
    for number in range(rows):
        text = "".join(draw.choices(characters, k=draw.randrange(140)))
        polarity = polarities[number % len(polarities)]
        yield [polarity, 10**9 + number, "Mon Apr 06 2009", "NO_QUERY", f"user{number}", text]


TRAIN_ROWS = list(tweets(5_000, [0, 4]))
TEST_ROWS = list(tweets(300, [4, 0, 2]))


def archive(
    train=TRAIN_ROWS, test=TEST_ROWS, names=(TRAIN, TEST), compression=zipfile.ZIP_DEFLATED
) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", compression) as zipped:
        for name, rows in zip(names, (train, test), strict=True):
            text = io.StringIO()
            csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows(rows)
            zipped.writestr(name, text.getvalue().encode("latin-1"))
        zipped.writestr("../../escaped.txt", "a hostile name")
    return content.getvalue()


ARCHIVE = archive()


@pytest.fixture
def mirror():
    with Mirror(ARCHIVE) as mirror:
        yield mirror


def command(*arguments):
    return [sys.executable, "-m", "pipelines.fetch", *map(str, arguments)]


def environment(**more):
    return os.environ | {"PYTHONPATH": str(ROOT)} | more


def run(*arguments, cwd, timeout=60, env=None, **options):
    return subprocess.run(
        command(*arguments),
        cwd=cwd,
        env=env or environment(),
        timeout=timeout,
        capture_output=True,
        text=True,
        **options,
    )


def complaint(done, code):
    """The one line of a program that failed."""
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith("error: ")
    return last


def sentiment140(mirror, place):
    main(FetchConfig("sentiment140", output=str(place), url=mirror.url))


def rows_of(directory):
    files = sorted(directory.glob("*.parquet"))
    return [tuple(row.values()) for file in files for row in pq.read_table(file).to_pylist()]


def check(place):
    """Both tables are complete, and there is nothing else."""
    for directory, rows in (place, TRAIN_ROWS), (place.with_name(f"{place.name}-test"), TEST_ROWS):
        expected = [(row[1], int(row[0] == 4), row[5]) for row in rows if row[0] != 2]
        assert rows_of(directory) == expected
        assert [Path(shard.path).name for shard in find_shards([str(directory)], "--x")] == [
            "tweets-00000.parquet"
        ]
        schema = pq.read_schema(directory / "tweets-00000.parquet")
        assert schema.names == ["ItemID", "Sentiment", "SentimentText"]
        assert list(map(str, schema.types)) == ["int64", "int8", "string"]
    assert sorted(path.name for path in place.parent.iterdir()) == [
        place.name,
        f"{place.name}-test",
    ]


@pytest.mark.process
def test_sentiment140_is_fetched_once(mirror, tmp_path):
    done = run("sentiment140", "--url", mirror.url, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    check(tmp_path / "data" / "sentiment140")
    assert "python -m pipelines.train --data_dir data/sentiment140\n" in done.stdout
    assert "5,000 rows of ItemID, Sentiment, SentimentText" in done.stdout
    assert "200 rows of ItemID, Sentiment, SentimentText" in done.stdout
    assert "note: " in done.stderr  # it is not the authors' archive
    assert not list(tmp_path.parent.rglob("escaped.txt"))

    requests = len(mirror.ranges)
    again = run("sentiment140", "--url", mirror.url, cwd=tmp_path)
    assert again.returncode == 0
    assert again.stdout.startswith("already there, nothing to do\n")
    assert len(mirror.ranges) == requests


def test_only_a_deleted_directory_is_made_again(mirror, tmp_path):
    place = tmp_path / "corpus"
    sentiment140(mirror, place)
    written = (place / "tweets-00000.parquet").stat().st_mtime_ns
    for file in (tmp_path / "corpus-test").iterdir():
        file.unlink()
    sentiment140(mirror, place)
    check(place)
    assert (place / "tweets-00000.parquet").stat().st_mtime_ns == written


@pytest.mark.process
def test_a_404_is_not_retried_and_the_message_has_no_secret(mirror, tmp_path):
    mirror.statuses = [404]
    url = mirror.url.replace("http://", "http://user:password@") + "?signature=secret"
    done = run("sentiment140", "--url", url, cwd=tmp_path)
    line = complaint(done, 1)
    assert f"{mirror.url}: the server answers 404 Not Found; --url takes the address" in line
    assert "password" not in done.stderr
    assert "secret" not in done.stderr
    assert len(mirror.ranges) == 1
    assert list(tmp_path.iterdir()) == []


def damaged(how: str) -> bytes:
    if how == "cut short":
        return ARCHIVE[: len(ARCHIVE) // 2]
    if how == "one bit of the data":
        # Past the middle of the first member, so that many good rows come before.
        middle = zipfile.ZipFile(io.BytesIO(ARCHIVE)).getinfo(TRAIN).compress_size // 2
        return ARCHIVE[:middle] + bytes([ARCHIVE[middle] ^ 8]) + ARCHIVE[middle + 1 :]
    if how == "a checksum":
        entry = ARCHIVE.index(b"PK\x01\x02")
        return ARCHIVE[: entry + 16] + bytes(4) + ARCHIVE[entry + 20 :]
    if how == "a size":
        entry = ARCHIVE.index(b"PK\x01\x02")
        return ARCHIVE[: entry + 24] + (2**31).to_bytes(4, "little") + ARCHIVE[entry + 28 :]
    if how == "a polarity":
        plain = archive(compression=zipfile.ZIP_STORED)
        return plain.replace(b'\n"4","1000000001"', b'\n"5","1000000001"')
    return b"<html>no such page</html>"


def with_row(number, row):
    return [*TRAIN_ROWS[: number - 1], row, *TRAIN_ROWS[number:]]


ROW = TRAIN_ROWS[0]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (damaged("cut short"), "is not a complete zip file"),
        (damaged("one bit of the data"), "is not a complete zip file"),
        (damaged("a checksum"), "is not a complete zip file: Bad CRC-32"),
        (damaged("a polarity"), "is not a complete zip file: Bad CRC-32"),
        (damaged("a size"), "would unpack to 2,147,483,648 bytes"),
        (damaged("a page"), "is not a complete zip file"),
        (archive(names=(TRAIN, "other.csv")), f"is a zip file without {TEST}"),
        (
            archive(with_row(4321, ["3", *ROW[1:]])),
            f"{TRAIN}, row 4321: polarity is '3', not 0 or 4",
        ),
        (archive(with_row(77, ["2", *ROW[1:]])), f"{TRAIN}, row 77: polarity is '2', not 0 or 4"),
        (archive(with_row(9, ["0", "x9", *ROW[2:]])), f"{TRAIN}, row 9: id is 'x9', not a number"),
        (archive(with_row(8, ROW[:5])), f"{TRAIN}, row 8: 5 fields, not 6"),
        (archive(with_row(1, [*ROW[:5], "a" * 200_000])), f"{TRAIN}, row 1: field larger"),
        (archive(TRAIN_ROWS[::2]), f"{TRAIN} has no row of polarity 4"),
        (archive(test=[]), f"{TEST} has no row of polarity 0"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
def test_a_bad_archive_leaves_nothing(mirror, tmp_path, body, message):
    mirror.body = body
    with pytest.raises(Failure) as raised:
        sentiment140(mirror, tmp_path / "a" / "b" / "corpus")
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)
    assert list(tmp_path.iterdir()) == []
    mirror.body = ARCHIVE
    sentiment140(mirror, tmp_path / "corpus")
    check(tmp_path / "corpus")


def test_the_authors_address_must_have_the_known_archive(tmp_path):
    path = tmp_path / "archive.zip"
    path.write_bytes(ARCHIVE)
    with pytest.raises(Failure, match=r"has SHA-256 [0-9a-f]{64}, not the authors'"):
        check_known(path, "https://authors", required=True)


@pytest.mark.process
@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGINT])
def test_a_stopped_download_is_completed_by_the_same_command(mirror, tmp_path, signum):
    mirror.hold_after = 3 * BLOCK_BYTES
    arguments = "sentiment140", "--url", mirror.url, "--output", "corpus"
    first = subprocess.Popen(
        command(*arguments), cwd=tmp_path, env=environment(), stderr=subprocess.PIPE, text=True
    )
    try:
        assert mirror.held.wait(30)
        work = tmp_path / ".corpus.partial"
        wait_until(
            lambda: [file.stat().st_size for file in work.glob("*.partial")] == [3 * BLOCK_BYTES],
            seconds=10,
            what="what the server has sent is on the disk",
            poll_seconds=0.01,
        )
        if signum == signal.SIGINT:
            busy = run(*arguments, cwd=tmp_path)
            assert "another fetch is writing to corpus" in complaint(busy, 2)
    finally:
        first.send_signal(signum)
        stderr = first.communicate(timeout=30)[1]
    if signum == signal.SIGINT:
        assert first.returncode == 130
        assert stderr.splitlines()[-1] == "error: interrupted"
        assert "Traceback" not in stderr
    assert [path.name for path in tmp_path.iterdir()] == [".corpus.partial"]
    mirror.released.set()
    done = run(*arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert mirror.ranges[-1] == f"bytes={3 * BLOCK_BYTES}-"
    check(tmp_path / "corpus")


def test_the_rest_of_a_killed_conversion_is_removed(mirror, tmp_path):
    left = tmp_path / ".corpus.partial" / "sentiment140"
    left.mkdir(parents=True)
    (left / "tweets-00007.parquet").write_bytes(b"half a file")
    sentiment140(mirror, tmp_path / "corpus")
    check(tmp_path / "corpus")


@pytest.mark.process
def test_a_full_disk_is_a_failure_in_one_line(mirror, tmp_path):
    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (2 * BLOCK_BYTES, 2 * BLOCK_BYTES))

    arguments = "sentiment140", "--url", mirror.url, "--output", "corpus"
    done = run(*arguments, cwd=tmp_path, preexec_fn=limit)
    assert "--output corpus could not be written: " in complaint(done, 1)
    assert [path.name for path in tmp_path.iterdir()] == [".corpus.partial"]
    sentiment140(mirror, tmp_path / "corpus")
    assert mirror.ranges[-1] == f"bytes={2 * BLOCK_BYTES}-"
    check(tmp_path / "corpus")


@pytest.mark.parametrize("where", ["corpus", "corpus-test"])
def test_a_foreign_directory_is_refused_and_untouched(mirror, tmp_path, monkeypatch, where):
    monkeypatch.chdir(tmp_path)
    mine = tmp_path / where / "mine.csv"
    mine.parent.mkdir()
    mine.write_text("precious")
    line = refused("fetch", "sentiment140", "--url", mirror.url, "--output", "corpus")
    assert f"{mine.parent} exists and was not made by this program" in line
    assert "move it away or pass another --output" in line
    assert mine.read_text() == "precious"
    assert [path.name for path in tmp_path.iterdir()] == [where]
    assert mirror.ranges == []


def test_a_damaged_or_other_corpus_is_refused(mirror, tmp_path):
    place = tmp_path / "corpus"
    sentiment140(mirror, place)
    with pytest.raises(InputError, match="holds sentiment140, not crowdflower"):
        main(FetchConfig("crowdflower", output=str(place)))
    shard = place / "tweets-00000.parquet"
    content = shard.read_bytes()
    shard.write_bytes(content[:-1])
    with pytest.raises(InputError, match=r"00000.parquet has changed since it was fetched: delete"):
        sentiment140(mirror, place)
    shard.unlink()
    with pytest.raises(InputError, match=r"tweets-00000.parquet is missing: delete"):
        sentiment140(mirror, place)
    (place / FETCHED).write_text("[]")
    with pytest.raises(InputError, match="was not made by this program"):
        sentiment140(mirror, place)
    assert len(mirror.ranges) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sentiment140", "--output", "file/corpus"], "--output file/corpus cannot be written"),
        (["sentiment140", "--output", "file"], "file exists and was not made by this program"),
        (["sentiment140", "--output", "s3://bucket/x"], "--output 's3://bucket/x' is not a local"),
        (["sentiment140", "--output", "/"], "--output '/' is not a local directory"),
        (["sentiment140", "--url", "ftp://host/a.zip"], "is not an http:// or https:// address"),
        (["sentiment140", "--url", "https://[::1/a.zip"], "is not an http:// or https:// address"),
        (["crowdflower", "--url", "https://host/a.zip"], "--url works for sentiment140 only"),
    ],
)
def test_misuse_is_refused_in_one_line(tmp_path, monkeypatch, arguments, message):
    (tmp_path / "file").write_text("mine")
    monkeypatch.chdir(tmp_path)
    assert message in refused("fetch", *arguments)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.process
def test_help_and_an_unknown_corpus(tmp_path):
    assert "imdb" in refused("fetch", "imdb")
    page = run("--help", cwd=tmp_path).stdout
    for word in ("crowdflower", "38,158", "sentiment140", "1,600,000", "--output", "--url"):
        assert word in page


def test_stop_words_carry_no_sentiment():
    words = read_stop_words("english")
    assert list(words) == sorted(set(words))
    Tokenizer(words)  # refuses a word that is not one token
    assert words[:3] == (",", ".", "..")
    words = words[3:]
    assert all(part.isalpha() for word in words for part in word.split("'"))
    assert all(word == word.lower() and word.isascii() for word in words)
    assert 60 <= len(words) <= 110
    negations = {"no", "not", "nor", "never", "none", "nothing", "nobody", "cannot", "without"}
    degrees = {"very", "too", "so", "but", "only", "more", "most", "less", "least", "just"}
    feelings = {"like", "well", "good", "bad", "down", "against", "love"}
    assert not set(words) & (negations | degrees | feelings)
    assert not any(word.endswith("n't") for word in words)
