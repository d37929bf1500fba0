"""Fetch a corpus: build its directories in a hidden place, then move and describe them."""

import fcntl
import itertools
import os
import shlex
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pipelines.corpora.config import FetchConfig, require_usable
from pipelines.corpora.crowdflower import LAYOUT, make_crowdflower
from pipelines.corpora.fetch_record import read_marker, write_marker
from pipelines.corpora.sentiment140 import make_sentiment140
from pipelines.errors import Failure
from sentiment.errors import InputError, on_one_line


def main(config: FetchConfig) -> None:
    """Download the corpus if it is not there yet, and print what there is.

    Raises InputError for flags that cannot work and for a directory that holds something else;
    Failure if the corpus cannot be downloaded, checked or written.
    """
    require_usable(config)
    output = config.output or f"data/{config.name}"
    place = Path(os.path.realpath(os.path.expanduser(output)))
    places: dict[str, Path] = {config.name: place}
    if config.name == "sentiment140":
        places["sentiment140-test"] = place.with_name(place.name + "-test")
    try:
        missing = [corpus for corpus, path in places.items() if not _is_there(path, corpus)]
        if missing:
            with _workplace(place, output) as work:
                if config.name == "crowdflower":
                    made = make_crowdflower(work)
                else:
                    made = make_sentiment140(work, config.url)
                for corpus in reversed(missing):
                    write_marker(work / corpus, made[corpus])
                    os.rename(work / corpus, places[corpus])
        else:
            print("already there, nothing to do")
    except OSError as error:
        reason = on_one_line(error)
        raise Failure(f"--output {output} could not be written: {reason}") from error
    for path in places.values():
        _describe(path)
    print(f"next: python -m pipelines.train --data_dir {shlex.quote(str(_shortened(place)))}")


def _is_there(place: Path, corpus: str) -> bool:
    """Whether `place` holds `corpus` as it was fetched; False: it does not exist or is empty.

    Raises InputError for anything else: it belongs to the user and stays as it is.
    """
    if not os.path.lexists(place) or (place.is_dir() and not any(place.iterdir())):
        return False
    fetched = read_marker(place)
    if fetched is None:
        raise InputError(
            f"{place} exists and was not made by this program: move it away or pass another "
            "--output"
        )
    if fetched.corpus != corpus:
        raise InputError(f"{place} holds {fetched.corpus}, not {corpus}: pass another --output")
    if corpus == "crowdflower" and fetched.layout != LAYOUT:
        raise InputError(
            f"{place} was fetched by a version of this program whose files differ: delete it and "
            "run the same command again"
        )
    for name, file in fetched.files.items():
        path = place / name
        if not path.is_file() or path.stat().st_size != file.bytes:
            problem = "has changed since it was fetched" if path.exists() else "is missing"
            raise InputError(f"{path} {problem}: delete {place} and run the same command again")
    return True


@contextmanager
def _workplace(place: Path, output: str) -> Iterator[Path]:
    """Context manager: a hidden directory beside `place`, for one process at a time.

    After an error its files (partial downloads) stay for the next run; its directories go, and so
    do those above it that it has made.
    """
    work = place.with_name(f".{place.name}.partial")
    made = [path for path in work.parents if not os.path.exists(path)]
    try:
        work.mkdir(parents=True, exist_ok=True)
        lock = os.open(work, os.O_RDONLY)
    except OSError as error:
        raise InputError(f"--output {output} cannot be written: {error}") from None
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"another fetch is writing to {output}: wait until it ends") from None
        _remove_directories(work)
        try:
            yield work
            shutil.rmtree(work, ignore_errors=True)
        finally:
            _remove_directories(work)
            with suppress(OSError):  # Not empty: it holds a partial download.
                for path in (work, *made):
                    path.rmdir()
    finally:
        os.close(lock)


def _remove_directories(parent: Path) -> None:
    for path in parent.glob("*/"):
        shutil.rmtree(path, ignore_errors=True)


def _shortened(path: Path) -> Path:
    """The path relative to the working directory, if it is below it."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _describe(place: Path) -> None:
    """Print the corpus's source and terms, and the rows and columns of its files."""
    fetched = read_marker(place)
    if fetched is None:
        raise Failure(f"{place} was removed while this program was running")
    print(f"{_shortened(place)}, from {fetched.source}; {fetched.terms}")
    for columns, group in itertools.groupby(fetched.files.items(), lambda item: item[1].columns):
        files = dict(group)
        first, last = next(iter(files)), next(reversed(files))
        name = first if first == last else f"{first} to {Path(last).name}"
        rows = sum(file.rows for file in files.values())
        print(f"  {name}: {rows:,} rows of {', '.join(columns)}")
