"""Bytes of shards: what a file system does wrong is Unavailable, what a parser says is BadShard."""

import errno
import json
import os
import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.errors import BadShard, Unavailable
from pipelines.sources import shard_file
from pipelines.sources.labelled import LabelledReader
from pipelines.sources.options import ReadOptions
from pipelines.sources.shard import Shard
from sentiment.text.tokenizer import SPECIALS, Tokenizer
from testing.faulty_files import Faults, faulty
from testing.properties import examples

EXTENSIONS = (".csv", ".csv.gz", ".jsonl.zst", ".parquet")

NUMBERS = (
    *(errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ECONNRESET, errno.EACCES, errno.EPERM),
    *(errno.ENOENT, errno.EMFILE, errno.ENOMEM, errno.ENOTCONN),
)
ERRORS = [
    *(OSError(number, os.strerror(number)) for number in NUMBERS),
    OSError("AWS Error UNKNOWN (HTTP status 400) during HeadObject operation"),
    ValueError("Couldn't deserialize thrift"),
    pa.ArrowInvalid("Parquet magic bytes not found in footer"),
    KeyError("x"),
    RuntimeError(),
]
FAULTS = {
    f"{place} {type(error).__name__} {error}"[:50]: (at, error, after)
    for place, at, after in [
        *(("open", "open", 0), ("size", "size", 0), ("first read", "read", 0)),
        ("later read", "read", 1),
    ]
    for error in ERRORS
}
FAULTS |= {"cut": ("cut", None, 0), "cut later": ("cut", None, 1)}


def write(path: Path, rows: int = 60_000) -> Shard:
    """A shard that takes several reads."""
    ids = np.random.default_rng(0).integers(0, 2, rows).tolist()
    texts = [f"text {i * 7919 % 1_000_003}" for i in range(rows)]
    if path.suffix == ".parquet":
        pq.write_table(pa.table({"label": ids, "text": texts}), path, row_group_size=rows // 3)
    else:
        content = _text_content(path.name, ids, texts)
        for compression, extension in (("gzip", ".gz"), ("zstd", ".zst")):
            if path.suffix == extension:
                with pa.CompressedOutputStream(sink := pa.BufferOutputStream(), compression) as out:
                    out.write(content)
                content = sink.getvalue().to_pybytes()
        path.write_bytes(content)
    info = path.stat()
    return Shard(str(path), info.st_size, info.st_mtime_ns)


def _text_content(name: str, ids: list[int], texts: list[str]) -> bytes:
    rows = list(zip(ids, texts, strict=True))
    if ".csv" in name:
        return f"label,text\n{''.join(f'{i},{text}{chr(10)}' for i, text in rows)}".encode()
    return "".join(json.dumps({"label": i, "text": text}) + "\n" for i, text in rows).encode()


@pytest.fixture(scope="module", params=EXTENSIONS)
def shard(request, tmp_path_factory) -> Shard:
    return write(tmp_path_factory.mktemp("shards") / f"a{request.param}")


def read(shard: Shard) -> int:
    return sum(len(rows.numbers) for rows in shard.rows(["text"], ReadOptions()))


USES = {
    "rows": read,
    "count": lambda shard: shard.count(ReadOptions()),
    "schema": lambda shard: shard.schema(ReadOptions()),
    "fetch": lambda shard: shard.fetch(2**30),
    "labelled": lambda shard: list(
        LabelledReader("text", "label").read(shard, Tokenizer().encoder(SPECIALS))
    ),
}


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("fault", FAULTS)
def test_whatever_a_file_system_raises_is_unavailable(shard, use, fault):
    at, error, after = FAULTS[fault]
    with faulty(all_well := Faults()):
        USES[use](shard)
    if all_well.calls.get("read", 0) <= after:
        pytest.skip("one read does it")
    with faulty(Faults(at, error, after)), pytest.raises(Unavailable) as caught:
        USES[use](shard)
    said = str(caught.value)
    assert said.startswith(f"{shard.path} cannot be ")
    assert "\n" not in said
    if error is not None:
        assert (str(error) or type(error).__name__) in said


def test_what_is_well_is_read_as_it_is_without_faults(shard):
    with faulty(Faults()):
        assert read(shard) == shard.count(ReadOptions()).rows == 60_000
        assert shard.fetch(2**30).to_pybytes() == Path(shard.path).read_bytes()
        assert shard.fetch(100) is None


def test_an_error_that_a_parser_swallows_is_raised(shard):
    def ignore_errors() -> None:
        with shard_file.opened(shard.path) as source, suppress(Exception):
            source.read(10)

    error = OSError(errno.EIO, "Input/output error")
    with faulty(Faults("read", error)), pytest.raises(Unavailable, match="Input/output error"):
        ignore_errors()


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        pa.ArrowMemoryError("malloc of size 64 failed"),
        *(OSError(n, os.strerror(n)) for n in (errno.ENOMEM, errno.EMFILE, errno.EAGAIN)),
        OSError("Failed to launch worker thread: Resource temporarily unavailable"),
        RuntimeError("unknown"),
    ],
    ids=repr,
)
def test_a_parser_that_is_short_of_something_says_nothing_of_the_content(shard, error):
    with pytest.raises(Unavailable), shard_file.opened(shard.path):
        raise error


@pytest.mark.parametrize("error", [OSError("Corrupt snappy"), pa.ArrowInvalid("x"), zlib.error()])
def test_what_else_a_parser_raises_is_about_the_content(shard, error):
    expected = Unavailable if isinstance(error, zlib.error) else BadShard
    with pytest.raises(expected), shard_file.opened(shard.path):
        raise error


@examples(60)
@given(st.data())
def test_damage_is_the_shards_fault_or_goes_unseen(tmp_path_factory, data):
    """Truncated and altered files: never an outage, which would be tried again for ever."""
    path = tmp_path_factory.mktemp("damaged") / f"a{data.draw(st.sampled_from(EXTENSIONS))}"
    content = bytearray(Path(write(path, 3000).path).read_bytes())
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(0, len(content) - 1)) :]
    else:
        for _ in range(data.draw(st.integers(1, 5))):
            # Footers and headers are short, and most of what can go wrong is there.
            near_end = data.draw(st.booleans())
            place = data.draw(st.integers(0, min(600, len(content) - 1)))
            content[-1 - place if near_end else place] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    damaged = Shard(str(path), len(content), path.stat().st_mtime_ns)
    said = []
    for use in USES.values():
        try:
            use(damaged)
        except BadShard as error:
            said.append(str(error))
    assert all(message.startswith(str(path)) and "\n" not in message for message in said)


@pytest.mark.parametrize("extension", [".csv.gz", ".parquet"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_file_that_is_truncated_on_its_disk_is_a_bad_shard(tmp_path, extension, share):
    shard = write(tmp_path / f"a{extension}")
    content = Path(shard.path).read_bytes()
    whole_footer = content[-4096:] if extension == ".parquet" else b""
    Path(shard.path).write_bytes(content[: int(len(content) * share)] + whole_footer)
    with pytest.raises(BadShard):
        read(shard)


def test_flipped_bytes_in_pages_are_a_bad_shard(tmp_path):
    shard = write(tmp_path / "a.parquet")
    content = bytearray(Path(shard.path).read_bytes())
    middle = len(content) // 2
    content[middle : middle + 5000] = os.urandom(5000)
    Path(shard.path).write_bytes(content)
    with pytest.raises(BadShard):
        read(shard)
