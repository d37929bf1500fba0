"""From bucket to bucket, on a real S3 server that slows down, goes away and refuses."""

import signal
from dataclasses import replace

import psutil
import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.fs as pafs
import pyarrow.parquet as pq
import pytest

from pipelines.errors import BadShard, Unavailable
from pipelines.scoring.config import ScoreConfig
from pipelines.scoring.counting import inspect_shard
from pipelines.scoring.executor import LocalExecutor
from pipelines.scoring.job import run as run_job
from pipelines.scoring.output import Output
from pipelines.scoring.part_data import PartTask
from pipelines.scoring.plan import Part, Piece
from pipelines.scoring.reader import PartReader
from pipelines.sources.listing import find, find_shards
from pipelines.sources.options import ReadOptions
from pipelines.sources.rows import Span
from sentiment import buckets, checkpoint, storage
from sentiment.errors import InputError
from testing.bucket_servers import KEY, SECRET, S3Server, Troubled
from testing.generated import write_job
from testing.programs import contents, end, refused, scoring, start, wait_for_parts
from testing.waiting import wait_until


@pytest.fixture(scope="module")
def job(tmp_path_factory, s3):
    """A model and a corpus with rows to reject, in a bucket."""
    root = tmp_path_factory.mktemp("job")
    write_job(root)
    filesystem, inner = storage.resolve(s3.uri())
    pafs.copy_files(str(root), inner, None, filesystem)
    return root


def one_process(s3: S3Server, output: str) -> None:
    """The job, part after part and without Ray."""
    model = checkpoint.load(s3.uri("model"))
    config = ScoreConfig(
        checkpoints_dir=s3.uri("model"),
        input=(s3.uri("corpus"),),
        output=output,
        text_column="SentimentText",
        keep_columns=("id",),
        part_rows=500,
    )
    shards = find_shards(config.input, "--input")
    run_job(config, model, Output(output), shards, LocalExecutor())


@pytest.mark.slow(45)
@pytest.mark.ray
@pytest.mark.timeout(600)
def test_scoring_survives_a_bucket_and_a_kill(job, s3, tmp_path):
    output, disk = s3.uri("scored"), str(tmp_path / "disk")
    one_process(s3, disk)
    expected = contents(disk)
    assert {"part-000000.parquet", "_SUCCESS"} < expected.keys()
    assert any(name.startswith("_rejected/part-") for name in expected)
    with Troubled(s3) as server:
        score_until_killed(s3, output, server)
        said = score_while_the_server_goes_away(s3, output, server)
        server.shutdown()
    assert "9,950 rows scored" in said
    assert contents(output) == expected
    require_no_key([*expected.values(), *manifests(output)])
    filesystem, inner = storage.resolve(output)
    schema = pads.dataset(inner, filesystem=filesystem, format="parquet").schema
    assert schema.names == ["id", "positive_probability", "sentiment"]


def score_until_killed(s3: S3Server, output: str, server: Troubled) -> None:
    """Score through a server that has too much to do, and kill the driver after five parts."""
    server.slow = True
    job = start("score", *scoring(s3.uri(), output, 500), AWS_ENDPOINT_URL=server.address)
    try:
        wait_for_parts(output, job, 5)
        ray = psutil.Process(job.pid).children(recursive=True)
    finally:
        job.send_signal(signal.SIGKILL)
    job.communicate()
    end(ray)
    assert server.slowed > 5
    server.slow = False
    assert "_SUCCESS" not in storage.names(output)


def score_while_the_server_goes_away(s3: S3Server, output: str, server: Troubled) -> str:
    """Score the rest while the server is away in the middle; return what the job printed.

    It comes back when each of the two actors has been cut off some five times: left alone, Arrow
    asks three times.
    """
    there = len(contents(output))
    job = start("score", *scoring(s3.uri(), output, 500), AWS_ENDPOINT_URL=server.address)
    wait_for_parts(output, job, there + 3)
    server.away = True
    wait_until(lambda: server.cut >= 10, 60, "10 requests that are cut off")
    server.away = False
    said, complained = job.communicate(timeout=200)
    assert (job.returncode, complained) == (0, "")
    return said


def manifests(output: str) -> list[bytes]:
    directory = f"{output}/_manifest"
    return [storage.read(f"{directory}/{name}") for name in storage.names(directory)]


def require_no_key(kept: list[bytes]) -> None:
    """Nobody's keys are in what is kept."""
    for content in kept:
        assert KEY.encode() not in content
        assert SECRET.encode() not in content


@pytest.mark.parametrize(
    ("path", "environment", "said"),
    [
        ("s3://no-such-bucket/x", {}, "s3://no-such-bucket/x"),
        ("{corpus}", {"AWS_SECRET_ACCESS_KEY": "wrong"}, "{corpus}"),
        ("{corpus}", {"AWS_ACCESS_KEY_ID": "nobody"}, "{corpus}"),
        (f"s3://{KEY}:{SECRET}@corpora/corpus", {}, "s3://corpora/corpus"),
        (f"s3://{KEY}:{SECRET}/{SECRET}@corpora/corpus", {}, "s3://corpora/corpus"),
        ("s3://corpora//corpus", {}, "s3://corpora//corpus"),
        ("{corpus}?region=elsewhere", {}, "{corpus}"),
    ],
)
@pytest.mark.parametrize(
    "flag",
    [
        *("train --data_dir", "train --cache_dir", "train --checkpoints_root"),
        *("train --summaries_dir", "score --checkpoints_dir", "score --input", "score --output"),
    ],
)
def test_what_a_bucket_refuses_is_said_in_one_line(
    path, environment, said, flag, job, s3, monkeypatch, tmp_path
):
    program, flag = flag.split()
    path, said = (value.format(corpus=s3.uri("corpus")) for value in (path, said))
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    paths = {
        "score": {"--checkpoints_dir": job / "model", "--input": job / "corpus"}
        | {"--output": tmp_path / "refused", "--text_column": "SentimentText"}
        | {"--keep_columns": "id"},
        "train": {"--data_dir": job / "corpus", "--stopwords_file": "None"}
        | dict.fromkeys(("--cache_dir", "--checkpoints_root", "--summaries_dir"), tmp_path),
    }[program] | {flag: path}
    reads = flag in ("--data_dir", "--checkpoints_dir", "--input")
    words = (word for item in paths.items() for word in item)
    line = refused(program, *words, code=1 if environment and reads else 2)
    assert said in line
    assert SECRET not in line
    assert not any(tmp_path.iterdir())


def test_what_a_server_that_is_away_holds_is_not_rejected(job, s3, monkeypatch):
    (shard,) = find_shards([s3.uri("corpus", "shard-1.parquet")], "--input")
    settings = {"encoding": "utf-8", "text_column": "SentimentText", "keep_columns": None}
    counted = inspect_shard(shard, settings)
    model = checkpoint.load(str(job / "model"))
    encoder = model.encoder()
    reader = PartReader(encoder, "SentimentText", pa.schema([]), ReadOptions(), 512)
    task = PartTask.of(Part("part-000000", (Piece(0, Span(0, counted.rows)),)), (shard,))
    assert reader(task).rejected_rows == 0

    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setattr(buckets, "S3_ATTEMPTS", 1)
    buckets.bucket.cache_clear()
    try:
        for use in (lambda: reader(task), lambda: inspect_shard(shard, settings)):
            with pytest.raises(Unavailable, match=shard.path):
                use()
    finally:
        buckets.bucket.cache_clear()


def test_a_small_shard_is_counted_by_one_request_and_alike(s3, monkeypatch, tmp_path):
    texts = pa.array(["a", "b", None] * 50)
    columns = {"text": texts.dictionary_encode(), "n": texts.cast(pa.large_string())}
    columns |= {
        "v": texts.cast(pa.string_view()),
        "t": pa.array([0] * 150, pa.timestamp("s", "UTC")),
    }
    pq.write_table(pa.table(columns), tmp_path / "some.parquet", row_group_size=40)
    content = (tmp_path / "some.parquet").read_bytes()
    (tmp_path / "bad.parquet").write_bytes(content[:-5] + b"x" + content[-4:])
    for name in ("some.parquet", "bad.parquet"):
        storage.write(s3.uri("alike", name), (tmp_path / name).read_bytes())
    bad, shard = find_shards([s3.uri("alike")], "--input")
    local, _ = find_shards([str(tmp_path)], "--input")[::-1]
    with pytest.raises(BadShard, match=r"bad\.parquet cannot be read as Parquet"):
        bad.count(ReadOptions())
    with Troubled(s3) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.address)
        buckets.bucket.cache_clear()
        try:
            storage.resolve(shard.path)
            before = server.seen
            assert shard.count(ReadOptions()) == local.count(ReadOptions())
            assert server.seen == before + 1
            # A shard that has grown since is read as it is.
            shorter = replace(shard, size=shard.size - 1)
            assert shorter.count(ReadOptions()) == local.count(ReadOptions())
        finally:
            buckets.bucket.cache_clear()
        server.shutdown()


def test_a_listing_leaves_out_what_is_hidden(s3):
    names = (
        "a.csv",
        "_b.csv",
        "sub/c.csv",
        "sub/_d/e.csv",
        "_prepared/f.csv",
        "z/z/.g/h.csv",
        "z/i",
    )
    for name in names:
        storage.write(s3.uri("hidden", name), b"text\n")
    shards = find_shards([s3.uri("hidden")], "--input")
    assert [shard.path for shard in shards] == [s3.uri("hidden", n) for n in ("a.csv", "sub/c.csv")]


def test_patterns_and_directories_with_values(s3):
    names = ("y=1/a.csv", "y=2/b.jsonl", "y=2/n%20o/c.csv", "000000_0", "d.xlsx", "_x/e.csv")
    for name in names:
        storage.write(s3.uri("lake", name), b"text\na\n")

    def paths(pattern, *where):
        found = find([s3.uri("lake", pattern)], "--input", where).shards
        return [shard.path.removeprefix(s3.uri("lake") + "/") for shard in found]

    assert paths("y=*/*.csv") == ["y=1/a.csv"]
    assert paths("**/*.csv") == ["y=1/a.csv", "y=2/n%20o/c.csv"]
    assert paths("y=[23]") == ["y=2/b.jsonl", "y=2/n%20o/c.csv"]
    assert paths("", "y>1") == ["y=2/b.jsonl", "y=2/n%20o/c.csv"]
    assert find([s3.uri("lake")], "--input").aside_counts == {"without extension": 1, ".xlsx": 1}
    (shard,) = find([s3.uri("lake", "y=1", "*")], "--input").shards
    assert shard.count(ReadOptions()).schema.names == ["text", "y"]


def test_what_lies_in_a_table_is_refused(s3):
    for name in ("delta/_delta_log/0.json", "delta/x=1/a.parquet", "plain/x=1/a.parquet"):
        storage.write(s3.uri("tables", name), b"text\n")
    for given in ("delta/x=1", "delta/x=1/a.parquet", "*/x=1", "de*/x=1/*"):
        with pytest.raises(InputError, match=r"tables/delta is a table of Delta Lake"):
            find([s3.uri("tables", given)], "--input")
    assert len(find([s3.uri("tables", "plain", "x=*")], "--input").shards) == 1


def test_patience_does_not_wear_out(s3, monkeypatch):
    """More retries than the hundred that Arrow's standard strategy allows a process, ever."""
    path = s3.uri("patience")
    storage.write(path, b"x" * 1000)
    with Troubled(s3, slow_every=2) as server:
        server.slow = True
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.address)
        buckets.bucket.cache_clear()
        try:
            for _ in range(60):
                assert len(storage.read(path)) == 1000
        finally:
            buckets.bucket.cache_clear()
        assert server.slowed > 110
        server.shutdown()
