"""From bucket to bucket of Google's, on fake-gcs-server, through Google's own library."""

import pyarrow.fs as pafs
import pytest

from pipelines.scoring.config import ScoreConfig
from pipelines.scoring.job import main
from sentiment import arrow_errors, buckets, storage
from testing.generated import save_checkpoint, write_shards
from testing.programs import refused


@pytest.fixture(scope="module")
def job(tmp_path_factory, google):
    """A model and a corpus with a row to reject, on the disk and in a bucket."""
    root = tmp_path_factory.mktemp("job")
    save_checkpoint(root / "model")
    write_shards(root / "corpus", rows=900, shards=3)
    (root / "corpus" / "short.csv").write_text("id,Sentiment,SentimentText\n1,0,hi\n2\n")
    filesystem, inner = storage.resolve(google.uri())
    pafs.copy_files(str(root), inner, None, filesystem)
    return root


@pytest.mark.parametrize("bucket", ["gs://corpora", "gs://anonymous@corpora"])
def test_what_is_written_is_read(bucket, google):
    # Uploads go in pieces of 8 MiB.
    for number, content in enumerate([b"one", b"", bytes(range(256)) * 80_000]):
        path = storage.join(bucket, "written", f"{number} %20 é.bin")
        storage.write(path, content)
        assert storage.read(path) == content
        assert storage.exists(path)
    directory = storage.join(bucket, "written")
    assert sorted(storage.names(directory)) == [f"{number} %20 é.bin" for number in range(3)]
    assert storage.exists(directory)
    storage.remove(path)
    assert not storage.exists(path)
    with pytest.raises(FileNotFoundError):
        storage.read(path)

    # Not to a file of that name below the working directory, either.
    with pytest.raises(ValueError, match="object store"):
        storage.append(storage.join(directory, "added"), b"one")


def test_an_error_while_writing_leaves_nothing(google):
    path = google.uri("half", "file")

    def fail():
        with storage.writing(path) as file:
            file.write(b"half")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert storage.names(google.uri("half")) == []
    assert storage.write_new(path, b"first")
    assert not storage.write_new(path, b"second")
    assert storage.read(path) == b"first"


@pytest.mark.parametrize("bucket", ["gs://corpora", "gs://anonymous@corpora"])
def test_scoring_is_that_of_the_disk(bucket, google, job, tmp_path, capsys):
    def scored(root: str, output: str) -> dict[str, list]:
        shared = {"text_column": "SentimentText", "keep_columns": ("id",)}
        paths = {"checkpoints_dir": f"{root}/model", "input": (f"{root}/corpus",)}
        main(ScoreConfig(**paths, output=output, **shared))
        assert "901 rows scored" in capsys.readouterr().out
        found = storage.read(f"{output}/part-000000.parquet"), storage.read(f"{output}/_SUCCESS")
        main(ScoreConfig(**paths, output=output, **shared))
        assert capsys.readouterr().out.startswith("Nothing to do")
        return found

    output = bucket + "/scored-" + str(len(bucket))
    assert scored(bucket, output)[0] == scored(bucket, str(tmp_path / "disk"))[0]
    assert storage.names(f"{output}/_rejected") == ["part-000000.parquet"]
    manifest = storage.join(output, "_manifest")
    for name in storage.names(manifest):
        assert google.key.encode() not in storage.read(storage.join(manifest, name))


@pytest.mark.parametrize(
    ("path", "environment", "said"),
    [
        ("gs://no-such-bucket/x", {}, "bucket 'no-such-bucket' not found"),
        ("gs://anonymous@no-such-bucket/x", {}, "bucket 'no-such-bucket' not found"),
        ("gs://somebody@corpora/corpus", {}, "credentials or options in the URI"),
        ("gs://anonymous@/corpus", {}, "does not name a bucket"),
        ("gs://corpora/none", {}, "none"),
        ("{corpus}", {"GOOGLE_APPLICATION_CREDENTIALS": "/none.json"}, "/none.json"),
    ],
)
@pytest.mark.parametrize("flag", ["--input", "--checkpoints_dir", "--output"])
def test_what_a_bucket_refuses_is_said_in_one_line(
    flag, path, environment, said, google, job, monkeypatch
):
    if (flag, path) == ("--output", "gs://corpora/none"):
        path = "gs://no-such-bucket/none"
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    path = path.format(corpus=google.uri("corpus"))
    paths = {"--checkpoints_dir": job / "model", "--input": job / "corpus"}
    paths |= {"--output": job / "refused", "--text_column": "SentimentText", flag: path}
    words = (word for item in paths.items() for word in item)
    line = refused("score", *words, code=1 if environment and flag != "--output" else 2)
    assert said in line
    assert google.key not in line


@pytest.mark.slow(8)
def test_a_server_that_is_away_is_asked_again_for_a_while(google, monkeypatch):
    path, first = google.uri("patience"), google.uri("first")
    assert storage.read(first) == b"there from the start"
    for work in (lambda: storage.write(path, b"x"), lambda: storage.read(first)):
        google.stop()
        # By a process of its own: Arrow holds Python up while it waits for a file to be opened.
        google.start(after=1)
        work()
    google.stop()
    monkeypatch.setattr(buckets, "GOOGLE_RETRY_TIME", buckets.GOOGLE_RETRY_TIME / 60)
    buckets.bucket.cache_clear()
    with pytest.raises(OSError, match="UNAVAILABLE") as caught:
        storage.read(first)
    assert arrow_errors.is_outage(caught.value.__cause__)
    buckets.bucket.cache_clear()
