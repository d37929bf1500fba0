"""What scoring makes of every kind of input, and what it refuses."""

import bz2
import gzip
import json
import re
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from socket import gethostname

import numpy as np
import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.parquet as pq
import pytest
import ray
import ray.data

from pipelines import score
from pipelines.errors import Failure, ShardChanged, Unavailable
from pipelines.scoring import ray_executor
from pipelines.scoring.commit import PartWriter
from pipelines.scoring.config import ScoreConfig
from pipelines.scoring.counting import inspect_shard
from pipelines.scoring.job import InputChanged, main
from pipelines.scoring.part_data import PartTask, TokenizedPart
from pipelines.scoring.plan import Part, Piece
from pipelines.scoring.planner import make_plan
from pipelines.scoring.reader import PartReader
from pipelines.scoring.scorer import PartScorer
from pipelines.sources.listing import find_shards
from pipelines.sources.options import ReadOptions
from pipelines.sources.rows import Span
from pipelines.sources.shard import Shard
from sentiment.classes import Classes
from sentiment.errors import InputError
from sentiment.model.inference import inference
from sentiment.predictor import load
from sentiment.scorer import Scorer
from testing.generated import save_checkpoint, texts_and_labels, write_shards

HEAD = b"id,text\n"


def parquet(**columns: pa.Array) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink, compression="none")
    return sink.getvalue().to_pybytes()


def config(root: Path, **flags: object) -> ScoreConfig:
    paths = {"checkpoints_dir": root / "model", "output": root / "scored"}
    return ScoreConfig(
        **{"input": (str(root / "corpus"),)} | {k: str(v) for k, v in paths.items()} | flags
    )


def contents(directory: Path) -> dict[str, bytes]:
    """The files that a reader sees, and the rejected ones."""
    files = [*directory.glob("*.parquet"), *directory.glob("_rejected/*")]
    return {str(path.relative_to(directory)): path.read_bytes() for path in files}


@pytest.fixture
def small(tmp_path):
    save_checkpoint(tmp_path / "model")
    write_shards(tmp_path / "corpus", rows=300, shards=3)
    return tmp_path


FLAGS = {"text_column": "SentimentText", "keep_columns": ("id",), "part_rows": 80}


def test_what_is_missing_or_new_is_scored_and_nothing_else(small, local_ray, capsys):
    main(config(small, **FLAGS))
    whole = contents(small / "scored")
    assert len(whole) == 3
    (small / "scored" / "part-000001.parquet").unlink()
    (small / "scored" / "_SUCCESS").unlink()
    untouched = (small / "scored" / "part-000000.parquet").stat().st_mtime_ns
    capsys.readouterr()
    main(config(small, **FLAGS))
    assert "Scoring 100 rows in 1 part (2 are there) ..." in capsys.readouterr().out
    assert contents(small / "scored") == whole

    write_shards(small / "corpus" / "more", rows=50, shards=1, seed=1)
    main(config(small, **FLAGS))
    assert "Scoring 50 rows in 1 part (3 are there) ..." in capsys.readouterr().out
    after = contents(small / "scored")
    assert {name: after[name] for name in whole} == whole
    assert set(after) - set(whole) == {"part-000003.parquet"}
    assert (small / "scored" / "part-000000.parquet").stat().st_mtime_ns == untouched


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"input": ("nowhere",)}, "nowhere does not exist"),
        ({"checkpoints_dir": "nowhere"}, "nowhere is not a checkpoint"),
        ({"use_gpu": True}, "--use_gpu: 0 GPUs here"),
    ],
)
def test_what_cannot_be_scored_is_refused_and_leaves_nothing(small, local_ray, flags, said):
    with pytest.raises(InputError) as refusal:
        main(config(small, **FLAGS | flags))
    assert said in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert contents(small / "scored") == {}


def test_one_part_is_scored_without_ray(small, monkeypatch, local_ray):
    flags = FLAGS | {"part_rows": 1000}
    with monkeypatch.context() as without:
        # Whatever would start it fails.
        without.setattr("pipelines.scoring.ray_executor.session", None)
        main(config(small, **flags))
    found = contents(small / "scored")
    assert "part-000000.parquet" in found
    assert "part-000001.parquet" not in found

    # Its bytes are those that an actor on Ray writes.
    monkeypatch.setattr(ray_executor.RayExecutor, "score", score_on_ray)
    main(config(small, **flags | {"output": str(small / "on ray")}))
    expected = contents(small / "on ray")["part-000000.parquet"]
    assert found["part-000000.parquet"] == expected


def score_on_ray(executor, tasks, number, worker, say):
    executor._start()
    return executor._stream(tasks, number, worker)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"text_column": "words"}, "shard-0.csv has no column 'words'; its columns: id, Sentiment"),
        ({"keep_columns": ("id", "name")}, "--keep_columns name: no shard has that column"),
        ({"keep_columns": None}, "the input has a column 'Sentiment'"),
    ],
)
def test_columns_that_no_shard_has_are_refused_before_ray_loads(small, monkeypatch, flags, said):
    # Whatever would import it fails.
    monkeypatch.setitem(sys.modules, "pipelines.scoring.ray_executor", None)
    with pytest.raises(InputError, match=re.escape(said)):
        main(config(small, **FLAGS | flags))
    assert contents(small / "scored") == {}
    # Where a shard of some has them, the job takes over.
    rest = small / "corpus" / "zz.csv"
    rest.write_text("words,name,id,SentimentText\nhi,1,2,hello\n")
    if flags != {"keep_columns": None}:
        with pytest.raises(ImportError):
            main(config(small, **FLAGS | flags))


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        ({"part_rows": 0}, "--part_rows is 0"),
        ({"num_actors": 0}, "--num_actors is 0"),
        ({"num_actors": (3, 2)}, "--num_actors is 3 2; it must be two numbers of at least 1"),
        ({"max_rejected": "many"}, "--max_rejected is many"),
        ({"max_rejected": "-1%"}, "--max_rejected is -1%"),
        ({"encoding": "klingon"}, "--encoding klingon"),
    ],
)
def test_impossible_flags_are_refused_by_name(tmp_path, flags, named):
    with pytest.raises(InputError, match=named):
        config(tmp_path, **flags)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"text_column": "words"}, "no column 'words'"),
        ({"keep_columns": ("id", "name")}, "--keep_columns name"),
        ({"partition_by": ("day",)}, "--partition_by"),
        ({"by": ("name",)}, "--by name"),
        # What only all shards tell.
        ({"keep_columns": None}, "'sentiment', which the output adds"),
        # What only Ray tells.
        ({"part_rows": 10, "num_actors": 100}, "--num_actors 100: this machine has"),
        ({"use_gpu": True}, "--use_gpu: 0 GPUs here"),
    ],
)
def test_overwrite_removes_nothing_where_it_is_refused(small, flags, said, local_ray):
    main(config(small, **FLAGS | {"part_rows": 1000}))
    before = contents(small / "scored")
    if flags == {"keep_columns": None}:
        for path in (small / "corpus").iterdir():
            path.unlink()
        (small / "corpus" / "a.csv").write_text("id,SentimentText\n1,hi\n")
        (small / "corpus" / "b.csv").write_text("id,SentimentText,sentiment\n1,hi,x\n")
    with pytest.raises(InputError, match=re.escape(said)):
        main(config(small, **FLAGS | {"part_rows": 1000} | flags, overwrite=True))
    assert contents(small / "scored") == before
    assert (small / "scored" / "_SUCCESS").exists()


@pytest.mark.parametrize(
    ("flags", "said"),
    [({"num_actors": 100}, "--num_actors 100"), ({"use_gpu": True}, "--use_gpu: 0 GPUs here")],
)
def test_a_job_that_the_machine_cannot_carry_leaves_no_plan(small, flags, said, local_ray):
    with pytest.raises(InputError, match=re.escape(said)):
        main(config(small, **FLAGS | flags))
    assert [path for path in (small / "scored").rglob("*") if path.is_file()] == []


def test_overwrite_leaves_files_of_others_alone(small):
    (small / "scored").mkdir()
    (small / "scored" / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="is not empty, and no job of this program began there"):
        main(config(small, **FLAGS, overwrite=True))
    with pytest.raises(InputError, match=r"notes\.txt cannot be read"):
        main(config(small, **FLAGS, overwrite=True, output=str(small / "scored" / "notes.txt")))
    assert (small / "scored" / "notes.txt").read_text() == "mine"


def test_changed_input_or_model_is_refused_and_overwrite_begins_anew(small, local_ray):
    main(config(small, **FLAGS))
    (small / "scored" / "notes.txt").write_text("mine")
    save_checkpoint(small / "model", seed=1)
    with pytest.raises(InputError, match="started with another model "):
        main(config(small, **FLAGS))
    main(config(small, **FLAGS, overwrite=True))
    write_shards(small / "corpus", rows=301, shards=3)
    with pytest.raises(InputChanged, match="3 scored shards have changed"):
        main(config(small, **FLAGS))
    main(config(small, **FLAGS, overwrite=True))
    assert (
        len(pads.dataset(small / "scored", format="parquet", exclude_invalid_files=True).to_table())
        == 300
    )
    assert (small / "scored" / "notes.txt").read_text() == "mine"


def test_a_part_that_cannot_be_written_is_an_error_and_no_success(small, local_ray):
    output = small / "scored"
    (output / "_manifest").mkdir(parents=True)
    # A file of that name stands for whatever keeps the part from being written.
    (output / "_rejected").write_text("")
    (small / "corpus" / "short.csv").write_text("id,Sentiment,SentimentText\n1\n")
    with pytest.raises((Failure, InputError)):
        main(config(small, **FLAGS))
    assert not (output / "_SUCCESS").exists()


def read(
    tmp_path, kept: pa.Field, content: bytes, name: str = "a.parquet"
) -> Callable[[], TokenizedPart]:
    """A function that reads a part, all of one shard."""
    path = tmp_path / name
    path.write_bytes(content)
    (shard,) = find_shards([str(path)], "--input")
    rows = shard.count(ReadOptions()).rows
    model = save_checkpoint(tmp_path / "model")
    encoder = model.encoder()
    part = Part("part-000000", (Piece(0, Span(0, rows)),))
    reader = PartReader(encoder, "text", pa.schema([kept]), ReadOptions(), 512)
    return lambda: reader(PartTask.of(part, (shard,)))


# A string column of Parquet may hold any bytes: "a", an invalid one, "c".
WRONG = pa.Array.from_buffers(pa.string(), 3, pa.array([b"a", b"\xff", b"c"]).buffers())
NESTED = pa.ListArray.from_arrays(pa.array([0, 1, 2, 3], pa.int32()), WRONG)


@pytest.mark.parametrize(
    ("values", "kind", "reason"),
    [
        (pa.array(["1", "x", "3"]), pa.int64(), "does not convert from string to int64: "),
        (pa.array([1, 2**40, 3]), pa.int32(), "does not convert from int64 to int32: "),
        (pa.array([b"a", b"\xff", b"c"], pa.large_binary()), pa.string(), "is not valid UTF-8"),
        (WRONG, pa.string(), "is not valid UTF-8"),
        (NESTED, pa.list_(pa.string()), "is not valid UTF-8"),
    ],
    ids=["text", "number", "binary", "string", "list"],
)
def test_a_kept_value_that_does_not_convert_costs_its_row_alone(tmp_path, values, kind, reason):
    texts = pa.array(["hi", "you", "there"])
    read_part = read(tmp_path, pa.field("kept", kind), parquet(text=texts, kept=values))
    part = read_part()
    (row,) = part.rejected.to_pylist()
    assert (row["row"], row["raw"], part.rejected_rows) == (2, b"you", 1)
    assert row["reason"].startswith(f"column 'kept' {reason}")
    assert "\n" not in row["reason"]
    part.kept.validate(full=True)
    assert (len(part.kept), part.kept["kept"].type, part.kept["kept"].null_count) == (2, kind, 0)


def test_a_type_that_does_not_convert_at_all_costs_the_part_of_the_shard(tmp_path):
    content = parquet(text=pa.array(["hi", "you"]), kept=pa.array([[1], [2]]))
    part = read(tmp_path, pa.field("kept", pa.int64()), content)()
    (row,) = part.rejected.to_pylist()
    assert (row["row"], part.rejected_rows) == (None, 2)
    assert "column 'kept' does not convert" in row["reason"]
    assert row["reason"].endswith("(rows 1 to 2)")


def test_a_shard_that_changes_after_the_plan_is_not_scored(tmp_path):
    read_part = read(tmp_path, pa.field("id", pa.string()), HEAD + b"1,hi\n2,you\n", "a.csv")
    assert read_part().rejected_rows == 0
    (tmp_path / "a.csv").write_bytes(HEAD + b"1,hi\n2,yes\n")
    with pytest.raises(ShardChanged, match=r"a\.csv has changed since it was listed"):
        read_part()


@pytest.mark.parametrize(
    ("name", "encoding", "rows", "parts"),
    [
        ("a.csv", "utf-8", 5_000, 50),
        ("a.tsv", "UTF8", 5_000, 50),
        ("a.csv", "latin-1", 5_000, 16),
        ("a.csv", "utf-16", 5_000, 16),
        ("a.csv.gz", "utf-8", 5_000, 16),
        ("a.csv.gz", "utf-8", 1_200, 12),
        ("a.jsonl.zst", "utf-8", 40_000, 40),
        ("a.txt.bz2", "utf-8", 5_000, 16),
        ("a.jsonl", "utf-8", 5_000, 50),
        ("a.txt", "utf-8", 5_000, 50),
    ],
)
def test_shards_that_are_read_from_their_start_make_few_parts(
    tmp_path, name, encoding, rows, parts
):
    """Also those whose byte order mark says that they are no UTF-8."""
    line = '{"text":"a"}\n' if "json" in name else "a\n"
    head = "text\n" if "sv" in name else ""
    content = (head + rows * line).encode(encoding)
    path = tmp_path / name
    with pa.output_stream(path, compression="detect") as file:
        file.write(content)
    shard = Shard(str(path), path.stat().st_size, 0)
    given = "utf-8" if encoding == "utf-16" else encoding
    flags = {"text_column": "text", "keep_columns": None, "part_rows": 100, "encoding": given}
    counted = inspect_shard(shard, flags)
    made = make_plan([shard], [counted], flags, 0)
    assert len(made.parts) == parts
    assert sum(part.rows for part in made.parts) == rows


@pytest.mark.parametrize("part_rows", [100, 2], ids=["in this process", "on Ray"])
def test_a_corpus_of_nothing_but_texts(tmp_path, local_ray, part_rows):
    save_checkpoint(tmp_path / "model")
    (tmp_path / "texts.csv").write_text("text\nlovely\nsad,too many\nawful\ngreat\n")
    model, corpus, output = (str(tmp_path / name) for name in ("model", "texts.csv", "scored"))
    flags = {"part_rows": part_rows, "max_rejected": "25%"}
    main(ScoreConfig(checkpoints_dir=model, input=(corpus,), output=output, **flags))
    scored = pads.dataset(output, format="parquet").to_table()
    assert scored.schema.names == ["positive_probability", "sentiment"]
    assert len(scored) == 3
    rejected = pads.dataset(f"{output}/_rejected", format="parquet").to_table()
    assert rejected["row"].to_pylist() == [2]


def test_three_classes_are_scored_on_ray_as_predict_does(tmp_path, local_ray):
    classes = Classes(("negative", "neutral", "positive"))
    save_checkpoint(tmp_path / "model", seed=2, classes=classes, sureness=40)
    texts, _ = texts_and_labels(30)
    (tmp_path / "corpus").mkdir()
    pq.write_table(pa.table({"text": texts}), tmp_path / "corpus" / "a.parquet")
    # As another program calls it, which has a Ray of its own.
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    assert score.run(config(tmp_path, part_rows=10)).new_rows == 30
    assert ray.is_initialized()
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert ray.data.DataContext.get_current().enable_progress_bars
    scored = pads.dataset(tmp_path / "scored", format="parquet").to_table()
    assert len(list((tmp_path / "scored").glob("part-*"))) == 3
    model = load(str(tmp_path / "model"))
    assert scored["sentiment"].to_pylist() == model.predict(texts).tolist()
    probabilities = np.stack([scored[f"{name}_probability"] for name in classes.names], axis=1)
    np.testing.assert_array_equal(probabilities, model.predict_proba(texts))


def test_a_scorer_in_a_job_of_ray_data_gives_the_same(tmp_path, local_ray):
    classes = Classes(tuple(f"Thema {number}" for number in range(25)))
    save_checkpoint(tmp_path / "model", seed=2, classes=classes, sureness=40)
    # Of two batches one has a null, so that Ray joins blocks with and without.
    table = pa.table({"id": range(30), "text": [*texts_and_labels(29)[0], None]})
    scored = ray.data.from_arrow(table).map_batches(
        Scorer,
        fn_constructor_args=[str(tmp_path / "model")],
        batch_size=15,
        compute=ray.data.ActorPoolStrategy(size=1),
    )
    found = pa.concat_tables(ray.get(scored.to_arrow_refs())).sort_by("id")
    expected = Scorer(str(tmp_path / "model"))(table)
    # NumPy, whose arrays Ray hands over by default, has no null of a float but NaN.
    number = expected.column_names.index("probability")
    probability = expected["probability"].fill_null(float("nan"))
    expected = expected.set_column(number, "probability", probability)
    assert found.schema.types == expected.schema.types
    assert [str(column) for column in found.to_pylist()] == list(map(str, expected.to_pylist()))


def test_no_column_needs_to_be_kept(tmp_path, capsys, monkeypatch):
    save_checkpoint(tmp_path / "model")
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "texts.csv").write_text("id,text\n1,lovely\n2,sad\n")
    main(config(tmp_path, keep_columns=()))
    with monkeypatch.context() as without:
        # Where there is nothing to do, nothing imports Ray.
        without.setitem(sys.modules, "pipelines.scoring.ray_executor", None)
        main(config(tmp_path, keep_columns=()))
    assert "Nothing to do" in capsys.readouterr().out
    scored = pq.read_table(tmp_path / "scored" / "part-000000.parquet")
    assert scored.schema.names == ["positive_probability", "sentiment"]
    assert len(scored) == 2


def test_a_node_without_the_directory_of_a_shard_rejects_nothing(tmp_path):
    (tmp_path / "here").mkdir()
    read_part = read(tmp_path / "here", pa.field("id", pa.string()), HEAD + b"1,hi\n", "a.csv")
    (tmp_path / "here").rename(tmp_path / "elsewhere")
    with pytest.raises(Unavailable, match=f"every node must see it, and {gethostname()} does not"):
        read_part()


def test_a_node_with_an_output_directory_of_its_own_writes_no_part(tmp_path):
    part = read(tmp_path, pa.field("id", pa.string()), HEAD + b"1,hi\n", "a.csv")()
    staging = tmp_path / "_manifest" / ".staging-01234567"
    infer = inference(save_checkpoint(tmp_path / "m").network)
    writer = PartWriter(str(tmp_path), str(staging))
    scorer = PartScorer(infer, writer, ("plan",), "m", Classes())
    with pytest.raises(Failure, match=f"node {gethostname()} does not see {staging}"):
        scorer(part)
    assert not (tmp_path / "_manifest").exists()
    assert not (tmp_path / "part-000000.parquet").exists()
    staging.mkdir(parents=True)
    assert scorer(part).error == ""
    assert (tmp_path / "part-000000.parquet").exists()


def lake(root: Path) -> list[str]:
    """A directory of shards in every format, a row each but one; the ids of the good rows."""
    rows = {
        "a.csv": b"id,text\n1,what a day\n",
        "B.CSV": b"id,text\n2,what a day\n",
        "c.csv.bz2": bz2.compress(b"id,text\n3,what a day\n"),
        "d.CSV.GZ": gzip.compress(b"id,text\n4,what a day\n"),
        "g.tsv": b"id\ttext\n5,5\twhat a day\n",
        "semicolons.csv": b"sep=;\nid;text\n6;what a day\n",
        "k.jsonl": b'{"id": 7, "text": "what a day", "year": "1999"}\n{"id": 8, "te',
        "l.text": b"what a day\n",
        "l.txt": b"id;text\n17;what a day\n",
        "m.csv": "id,text\n9,caf\u00e9\n".encode("utf-16"),
        "year=2024/n.json": b'{"text": "what a day", "id": "10"}\n',
        "000000_0": b"id,text\n11,what a day\n",
        "book.xlsx": b"PK",
        "_SUCCESS": b"",
    }
    for name, content in rows.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    for number, name in enumerate(["e.parquet.gzip", "h.parq", "i.pq", "j.PARQUET", "part-0"], 12):
        pq.write_table(pa.table({"id": [str(number)], "text": ["what a day"]}), root / name)
    return [*map(str, range(1, 5)), "5,5", "6", "7", "9", *map(str, range(10, 18))]


def test_a_lake_of_every_format_is_one_table(tmp_path, capsys):
    save_checkpoint(tmp_path / "model")
    ids = lake(tmp_path / "lake")
    model, corpus, output = (str(tmp_path / name) for name in ("model", "lake", "scored"))
    flags = {"checkpoints_dir": model, "input": (corpus,), "output": output}
    main(ScoreConfig(**flags, format="csv", max_rejected="10%"))
    said = capsys.readouterr().out
    assert f"1 file is no shard and was left aside: 1 .xlsx ({corpus}/book.xlsx)" in said
    scored = pads.dataset(output, format="parquet").to_table()
    assert scored.schema.names[:3] == ["id", "year", "positive_probability"]
    by_id = {row["id"]: row["year"] for row in scored.to_pylist()}
    assert by_id == dict.fromkeys([*ids, None]) | {"7": "1999", "10": "2024"}
    assert len(scored) == len(by_id)
    (rejected,) = pads.dataset(f"{output}/_rejected", format="parquet").to_table().to_pylist()
    assert (rejected["row"], rejected["raw"]) == (2, b'{"id": 8, "te')
    (record,) = (tmp_path / "scored" / "_manifest").glob("run-*.json")
    assert json.loads(record.read_text())["left_aside"] == {".xlsx": 1}
    with pytest.raises(InputError, match=r"another format \(csv, now None\)"):
        main(ScoreConfig(**flags))
    with pytest.raises(InputError, match="the next run would read what this one writes"):
        main(ScoreConfig(**{**flags, "output": f"{corpus}/scored"}))


def test_some_of_a_lake_is_scored(tmp_path, capsys):
    save_checkpoint(tmp_path / "model")
    for day, text in (("01", "hi"), ("02", "you")):
        directory = tmp_path / "in" / "year=2024" / f"day={day}"
        directory.mkdir(parents=True)
        (directory / "a.jsonl").write_text(f'{{"tweet": {{"text": "{text}", "id": 1}}}}\n')
    config = ScoreConfig(
        checkpoints_dir=str(tmp_path / "model"),
        input=(f"{tmp_path}/in/year=*/day=*/*.jsonl",),
        where=("day>1",),
        output=str(tmp_path / "scored"),
        text_column="tweet.text",
        keep_columns=("tweet.id", "day"),
    )
    main(config)
    (row,) = pads.dataset(config.output, format="parquet").to_table().to_pylist()
    assert (row["tweet.id"], row["day"]) == ("1", "02")
