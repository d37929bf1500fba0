"""Files that are seen whole or not at all, by whoever writes at the same time."""

import multiprocessing
import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from sentiment import storage
from sentiment.errors import InputError


class Stopped(Exception):
    pass


@pytest.mark.parametrize(
    ("parts", "path"),
    [
        (("a", "b"), "a/b"),
        (("a/", "b", "c"), "a/b/c"),
        (("/", "b"), "/b"),
        (("", "b"), "b"),
        (("s3://bucket", "b"), "s3://bucket/b"),
        (("s3://bucket/a/", "b"), "s3://bucket/a/b"),
    ],
)
def test_join(parts, path):
    assert storage.join(*parts) == path


def test_absolute_leaves_a_uri_as_it_is(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert storage.absolute("a/../b") == str(tmp_path / "b")
    assert storage.absolute("~/b") == str(tmp_path / "home" / "b")
    assert storage.absolute("s3://bucket/a") == "s3://bucket/a"


@pytest.mark.parametrize("uri", ["nowhere://x/y", "http://x/y", "://x", "file://host/x"])
def test_a_uri_that_cannot_be_used_is_named(uri):
    with pytest.raises(InputError, match="is not a usable path or URI") as caught:
        storage.read(uri)
    assert str(caught.value).startswith(uri)


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("s3://bucket//a", "s3://bucket//a has a name that is empty, between two slashes"),
        ("s3:///a", "s3:///a does not name a bucket"),
        ("s3://bucket/a?.csv", "credentials or options in the URI: .*; of a name, write . as %3F"),
    ],
)
def test_what_is_wrong_with_the_uri_of_a_bucket_is_named(uri, said):
    with pytest.raises(InputError, match=said):
        storage.resolve(uri)


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("hdfs://nn:8020/texts", "hdfs:// is not supported, .*: copy the files there"),
        ("abfss://c@acct.dfs.core.windows.net/texts", "abfss:// is not supported, .*azcopy"),
        ("s3a://bucket/texts", "s3a:// is not supported, .*: write s3://bucket/texts, which is"),
        ("gcs://bucket/texts", "write gs://bucket/texts"),
        ("https://host/a.csv", "https:// is not supported, .*: download the files"),
    ],
)
def test_a_uri_of_another_tool_says_what_to_write_instead(uri, said):
    with pytest.raises(InputError, match=said) as caught:
        storage.resolve(uri)
    assert "AWS_" not in str(caught.value)


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("s3:/bucket/x", "write s3://bucket/x"),
        ("s3:bucket/x", "write s3://bucket/x"),
        ("S3://bucket/x", "write s3://bucket/x"),
        ("GS:/anonymous/x", "write gs://anonymous/x"),
        ("file:/data/x", "write /data/x"),
        ("FILE:///data/x", "write /data/x"),
        ("hf:/owner/name", "write hf://owner/name"),
        ("HF://owner/name", "write hf://owner/name"),
        ("dbfs:/mnt/x", "dbfs:// is not supported, .*: write /dbfs/mnt/x on a machine"),
        ("S3A:/bucket/x", "s3a:// is not supported, .*: write s3://bucket/x, which"),
        ("hdfs:/x", "hdfs:// is not supported, .*: copy"),
        ("oss://bucket/x", "oss:// is not supported, only local paths, s3:// and gs://$"),
    ],
)
def test_a_uri_that_is_misspelt_says_what_to_write(path, said):
    for use in (storage.resolve, storage.absolute)[: 1 if "://" in path else 2]:
        with pytest.raises(InputError, match=f"^{path} is not a usable path or URI: {said}"):
            use(path)


def test_a_misspelt_uri_shows_no_secret():
    with pytest.raises(InputError) as caught:
        storage.resolve("s3:/key:secret/secret@bucket/x?secret")
    assert str(caught.value) == ("s3:/bucket/x is not a usable path or URI: write s3://bucket/x")


def test_a_local_name_may_have_a_colon(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for path in ("a:b", "2024:01/x", "run:1/a:b", "./s3:/x", "C:/x"):
        storage.write(path, b"content")
        assert storage.read(path) == b"content"
        assert storage.absolute(path) == os.path.abspath(path)


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_what_is_written_is_read(scheme, tmp_path):
    path = f"{scheme}{tmp_path}/a/b.bin"
    assert not storage.exists(path)
    assert storage.names(f"{scheme}{tmp_path}/a") == []
    for content in (b"one", b"", bytes(range(256)) * 1000):
        storage.write(path, content)
        assert storage.read(path) == content
    assert (tmp_path / "a" / "b.bin").read_bytes() == content
    assert storage.exists(path)
    assert storage.exists(f"{scheme}{tmp_path}/a")
    assert storage.names(f"{scheme}{tmp_path}/a") == ["b.bin"]
    storage.remove(path)
    assert not storage.exists(path)


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_a_name_is_joined_as_it_is(scheme, tmp_path):
    path = storage.join(f"{scheme}{tmp_path}", "city=a%2Fb%20c", "100%.bin")
    storage.write(path, b"one")
    assert (tmp_path / "city=a%2Fb%20c" / "100%.bin").read_bytes() == b"one"


def test_reading_nothing_raises_as_open_does(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(FileNotFoundError):
        storage.read(str(tmp_path / "none"))
    with pytest.raises(NotADirectoryError):
        storage.read(str(tmp_path / "file" / "none"))
    with pytest.raises(OSError, match="directory"):
        storage.read(str(tmp_path))


def test_a_directory_that_comes_and_goes_is_there_or_is_not(tmp_path):
    directory = tmp_path / "a"
    with ThreadPoolExecutor(1) as pool:
        found = pool.submit(lambda: [storage.names(str(directory)) for _ in range(5000)])
        while not found.done():
            directory.mkdir()
            directory.rmdir()
    assert found.result() == [[]] * 5000


def test_names_are_those_of_files_and_directories_but_hidden_ones(tmp_path):
    for name in ("b", ".hidden", "_a"):
        (tmp_path / name).touch()
    (tmp_path / "directory" / "below").mkdir(parents=True)
    assert sorted(storage.names(str(tmp_path))) == ["_a", "b", "directory"]


def test_an_error_while_writing_leaves_what_was_there(tmp_path):
    path = tmp_path / "file"

    def stop():
        with storage.writing(str(path)) as file:
            file.write(b"half")
            raise Stopped

    with pytest.raises(Stopped):
        stop()
    assert list(tmp_path.iterdir()) == []
    storage.write(str(path), b"whole")
    with pytest.raises(Stopped):
        stop()
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == b"whole"


def test_a_file_that_is_being_written_is_not_seen(tmp_path):
    path = tmp_path / "file"
    for before, after in ((None, b"first"), (b"first", b"second")):
        with storage.writing(str(path)) as file:
            file.write(after)
            file.flush()
            assert storage.names(str(tmp_path)) == ([] if before is None else ["file"])
            if before is not None:
                assert path.read_bytes() == before
        assert path.read_bytes() == after


def test_readers_see_one_whole_content_or_another(tmp_path):
    path = str(tmp_path / "file")
    contents = {bytes([i]) * 100_000 for i in range(20)}
    storage.write(path, min(contents))
    with ThreadPoolExecutor(4) as pool:
        written = [pool.submit(storage.write, path, content) for content in contents]
        seen = {storage.read(path) for _ in range(200)}
        for each in written:
            each.result()
    assert seen <= contents
    assert storage.names(str(tmp_path)) == ["file"]


def test_append_adds_to_the_end(tmp_path):
    path = tmp_path / "new" / "file"
    for added in (b"one", b"", b"two"):
        storage.append(str(path), added)
    assert path.read_bytes() == b"onetwo"


def test_write_new_writes_once(tmp_path):
    path = str(tmp_path / "a" / "file")
    assert storage.write_new(path, b"first")
    assert not storage.write_new(path, b"second")
    assert storage.read(path) == b"first"
    assert os.listdir(tmp_path / "a") == ["file"]


def _claim(path: str, barrier, claims) -> None:
    content = str(os.getpid()).encode() * 50_000
    barrier.wait()
    claims.put((storage.write_new(path, content), content[:100]))


@pytest.mark.process
def test_one_of_several_processes_writes_a_new_file(tmp_path):
    context = multiprocessing.get_context("spawn")
    path, barrier, claims = str(tmp_path / "file"), context.Barrier(4), context.Queue()
    processes = [context.Process(target=_claim, args=(path, barrier, claims)) for _ in range(4)]
    for process in processes:
        process.start()
    claimed = [claims.get(timeout=60) for _ in processes]
    for process in processes:
        process.join()
    [winner] = [content for won, content in claimed if won]
    assert storage.read(path)[:100] == winner
    assert os.listdir(tmp_path) == ["file"]


def test_one_of_several_threads_writes_a_new_file(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        for number in range(20):
            path = str(tmp_path / f"{number}")
            contents = [bytes([i]) for i in range(8)]
            won = list(pool.map(storage.write_new, [path] * 8, contents))
            assert won.count(True) == 1
            assert storage.read(path) == contents[won.index(True)]
    assert len(os.listdir(tmp_path)) == 20


def test_a_directory_is_made_and_left_empty(tmp_path):
    storage.require_writable(str(tmp_path / "a" / "b"), "--output")
    assert os.listdir(tmp_path / "a" / "b") == []


@pytest.mark.parametrize("directory", ["{}/file", "{}/file/below", "nowhere://x", "/proc/none"])
def test_where_nothing_can_be_written_the_flag_is_named(directory, tmp_path):
    (tmp_path / "file").touch()
    directory = directory.format(tmp_path)
    with pytest.raises(InputError) as caught:
        storage.require_writable(directory, "--output")
    assert str(caught.value).startswith(f"--output {directory} cannot be written to: ")
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("said", "raised"),
    [
        ("AWS Error NETWORK_CONNECTION during PutObject operation: no route", OSError),
        ("AWS Error SERVICE_UNAVAILABLE during PutObject operation: later", OSError),
        ("google::cloud::Status(UNAVAILABLE: no connection)", OSError),
        ("AWS Error ACCESS_DENIED during PutObject operation: no", InputError),
        ("[Errno 30] Read-only file system", InputError),
    ],
)
def test_an_outage_while_a_directory_is_tried_is_no_misuse(said, raised, monkeypatch):
    def failing(path):
        raise OSError(said)

    monkeypatch.setattr(storage, "resolve", failing)
    with pytest.raises(raised) as caught:
        storage.require_writable("s3://bucket/x", "--output")
    assert type(caught.value) is raised
    assert str(caught.value) == f"--output s3://bucket/x cannot be written to: {said}"
