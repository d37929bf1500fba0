import tempfile
import time
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pytest

from pipelines.training import node_copies
from sentiment import storage


class Bucket:
    """Holds one object, and counts how often it is downloaded."""

    content = bytes(range(256)) * 1000
    downloads = 0

    def open_input_stream(self, _path):
        self.downloads += 1
        time.sleep(0.1)
        return pa.BufferReader(self.content)


@pytest.fixture
def bucket(monkeypatch, tmp_path):
    bucket = Bucket()
    monkeypatch.setattr(storage, "resolve", lambda path: (bucket, path))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return bucket


def files(tmp_path):
    return [path for path in tmp_path.glob("*/*") if path.suffix != ".lock"]


def test_the_workers_of_a_node_take_a_file_once(bucket, tmp_path):
    with ThreadPoolExecutor(4) as workers:
        maps = list(workers.map(node_copies.mapped, ["s3://cache/train-0.arrow"] * 4))
    assert bucket.downloads == 1
    node_copies.remove("s3://cache/train-0.arrow")
    assert not files(tmp_path)
    assert {file.read() for file in maps} == {bucket.content}


def test_what_a_killed_worker_leaves_is_used_or_written_anew(bucket, tmp_path):
    node_copies.mapped("s3://cache/a")
    (whole,) = files(tmp_path)
    # Killed before it had all: the part is no copy.
    whole.rename(whole.with_suffix(".part"))
    whole.with_suffix(".part").write_bytes(b"half")
    for _ in range(2):
        assert node_copies.mapped("s3://cache/a").read() == bucket.content
    assert bucket.downloads == 2
    assert files(tmp_path) == [whole]


def test_a_directory_of_somebody_else_is_not_used(bucket, tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.setattr(node_copies.os, "getuid", lambda: 12345)
    (tmp_path / "sentiment-cache-12345").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(PermissionError, match="belongs to another user"):
        node_copies.mapped("s3://cache/a")
    assert not bucket.downloads
