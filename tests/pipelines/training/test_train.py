import dataclasses
import hashlib
import json
import multiprocessing
import os
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray.data

from pipelines import train
from pipelines.console import progress
from pipelines.errors import Failure
from pipelines.sources import pieces
from pipelines.sources.labelled import LabelledReader
from pipelines.sources.listing import find_labelled
from pipelines.sources.options import ReadOptions
from pipelines.sources.split import Split
from pipelines.training import cache as prepared
from pipelines.training import cache_sample as sample
from pipelines.training.batches import TrainingBatches
from pipelines.training.best_checkpoint import losses as curve
from pipelines.training.cache import prepare
from pipelines.training.config import TrainConfig
from pipelines.training.corpus_spec import CorpusSpec
from pipelines.training.cross_fit import cross_fit
from pipelines.training.initial_weights import InitialWeights
from pipelines.training.job import main
from pipelines.training.ray_job import add_bigrams_and_initial_weights
from pipelines.training.run_directory import alone_in, has_checkpoints, write_flags
from pipelines.training.settings import Settings, make_settings
from pipelines.training.tensorflow_cluster import set_cluster
from pipelines.training.trainer_setup import make_trainer
from pipelines.training.unlabelled import UnlabelledShards
from pipelines.training.validation import measure
from sentiment.checkpoint import Checkpoint, load, save
from sentiment.classes import Classes
from sentiment.errors import InputError
from sentiment.text.tokenizer import UNKNOWN, Tokenizer
from testing.generated import save_checkpoint, write_shards
from testing.programs import run
from testing.waiting import free_ports


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    directory = tmp_path_factory.mktemp("corpus")
    write_shards(directory, rows=1200, shards=3)
    return directory


def config(corpus: Path, root: Path, name: str, **flags: object) -> TrainConfig:
    paths = {"data_dir": corpus, "checkpoints_root": root, "summaries_dir": root / "logs"}
    small = {"stopwords_file": None, "hidden_size": 8, "embedding_size": 6, "run_name": name}
    return TrainConfig(**{k: str(v) for k, v in paths.items()} | small | flags)


def reader_of(flags: TrainConfig) -> LabelledReader:
    return LabelledReader(flags.text_column, flags.label_column)


def losses(root: Path, name: str) -> list[float]:
    lines = [json.loads(line) for line in (root / "logs" / name / "metrics.jsonl").open()]
    return [line["loss"] for line in lines if "loss" in line]


def learn(rank: int, addresses: list[str], settings: Settings, path: Path) -> None:
    """One worker, as a process of its own that TensorFlow alone connects to the others."""
    set_cluster(addresses, rank)
    trainer = make_trainer(settings, threads=1)
    # It leaves nothing behind: the losses are those of a run without.
    crossed = cross_fit(
        trainer, settings, settings.rows("train"), None, [1, 30], rank, len(addresses)
    )
    batches = TrainingBatches(settings.rows("train"), settings.batch_size, settings.random_state)
    own = batches.worker_batches(0, settings.steps, rank, len(addresses))
    losses = [float(trainer.step(batch, step, step, 0.01)) for step, batch in enumerate(own, 1)]
    if rank == 0:
        first, last = (crossed.logits[step].tolist() for step in (1, 30))
        path.write_text(json.dumps([losses, crossed.targets.tolist(), first, last]))


def learnt_by(workers: int, settings: Settings, path: Path) -> list[multiprocessing.Process]:
    """Start the workers; worker 0 writes its losses and what `cross_fit` found to the path."""
    addresses = [f"127.0.0.1:{port}" for port in free_ports(workers)]
    context = multiprocessing.get_context("spawn")
    processes = [
        context.Process(target=learn, args=(rank, addresses, settings, path), daemon=True)
        for rank in range(workers)
    ]
    for process in processes:
        process.start()
    return processes


@pytest.mark.slow(40)
@pytest.mark.timeout(600)  # Three runs.
def test_any_number_of_workers_has_the_same_loss_curve(
    corpus, tmp_path, local_ray, capsys, mlflow_store
):
    """One and three as plain TensorFlow processes, two as workers of Ray Train."""
    flags = {"train_steps": 100, "dropout_keep_prob": 1.0, "batch_size": 64}
    two = config(corpus, tmp_path, "of2", num_workers=2, mlflow_experiment="tweets", **flags)
    # As another program calls it, which has a Ray of its own.
    before = dict(os.environ)
    assert train.run(two, quiet=True) == f"{tmp_path}/of2"
    assert capsys.readouterr().out == ""
    assert ray.is_initialized()
    assert os.environ == before
    assert ray.data.DataContext.get_current().enable_progress_bars
    reader, shards = reader_of(two), find_labelled(str(corpus), "--data_dir").shards
    split, cache = Split(two.random_state, two.test_size), f"{corpus}/_prepared"
    prepared_corpus = prepare(CorpusSpec(shards, reader, split), cache)
    settings = make_settings(two, prepared_corpus, str(tmp_path))
    # A batch that three do not share evenly.
    processes = [p for n in (1, 3) for p in learnt_by(n, settings, tmp_path / f"of{n}.json")]
    for process in processes:
        process.join(200)
        assert process.exitcode == 0
    (one, targets, *crossed), (three, same_targets, *same_crossed) = (
        json.loads((tmp_path / f"of{n}.json").read_text()) for n in (1, 3)
    )
    assert len(one) == 100
    assert max(one[-10:]) < 0.5 < min(one[:10])
    np.testing.assert_allclose(three, one, atol=1e-4)
    np.testing.assert_allclose(losses(tmp_path, "of2"), one, atol=1e-4)

    # Models that did not learn a row answer it, better after more steps.
    assert targets == same_targets
    assert len(targets) == prepared_corpus.rows["train"]
    np.testing.assert_allclose(same_crossed, crossed, atol=1e-3)
    first, last = (measure(1, np.array(targets), np.array(found), True) for found in crossed)
    assert last["validation_loss"] < first["validation_loss"] - 0.05

    # A run that is finished is left alone, and continued only with its own flags.
    capsys.readouterr()
    main(two)
    said = f"Run of2 is finished: nothing to do.\nModel saved in: {tmp_path}/of2\n"
    assert capsys.readouterr().out == said
    with pytest.raises(InputError, match="--train_steps is 4, but run of2 was started with 100"):
        main(dataclasses.replace(two, train_steps=4))
    # It goes on where it ended, as if it had been told at first.
    main(dataclasses.replace(two, train_steps=110, num_workers=1))
    assert "Run of2 goes on: --train_steps is 110; it was 100\n" in capsys.readouterr().out
    assert [len(losses(tmp_path, "of2")), len(one)] == [110, 100]
    np.testing.assert_allclose(losses(tmp_path, "of2")[:100], one, atol=1e-4)
    assert load(f"{tmp_path}/of2").training["flags"]["train_steps"] == 110
    # MLflow has one run with each step once, and the checkpoint.
    (tracked,) = mlflow_store.runs("tweets")
    points = mlflow_store.client.get_metric_history(tracked.info.run_id, "train/loss")
    assert [(point.step, point.value) for point in points] == [
        *enumerate(losses(tmp_path, "of2"), 1)
    ]
    files = mlflow_store.files(tracked, "checkpoint")
    assert files == {path.name: path.read_bytes() for path in (tmp_path / "of2").iterdir()}


@pytest.mark.process
def test_ray_and_tensorflow_load_only_where_there_is_work(corpus, tmp_path):
    save_checkpoint(tmp_path / "finished")
    program = (
        "import sys\n"
        "from pipelines.training.config import TrainConfig\n"
        "from pipelines.training.job import main\n"
        f"main(TrainConfig(data_dir={str(corpus)!r}, checkpoints_root={str(tmp_path)!r}, "
        f"summaries_dir={str(tmp_path)!r}, run_name='finished', stopwords_file=None))\n"
        "print(sorted({'ray', 'tensorflow', 'keras'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    lines = ["Run finished is finished: nothing to do.", f"Model saved in: {tmp_path}/finished"]
    assert done.stdout.splitlines() == [*lines, "[]"], done.stderr


def test_a_finished_run_is_not_said_to_be_that_of_other_flags_or_rows(corpus, tmp_path, capsys):
    done = config(corpus, tmp_path, "done")
    model = dataclasses.replace(
        save_checkpoint(tmp_path / "done"), training={"flags": dataclasses.asdict(done)}
    )
    save(model, str(tmp_path / "done"))
    main(done)
    assert "Warning" not in capsys.readouterr().out
    with pytest.raises(InputError, match="--hidden_size is 99, but model done was trained with"):
        main(dataclasses.replace(done, hidden_size=99))
    run = tmp_path / "_runs" / "done"
    write_flags(done, "of other rows", {}, str(run))
    (run / "checkpoint_manager_snapshot.json").touch()
    main(done)
    said = "are not the ones that run done was started with (name, size or time differs); choose"
    assert said in capsys.readouterr().out
    # Flags that are refused, and a run that is finished, make no directory.
    assert not (tmp_path / "logs").exists()


def test_samples_are_of_what_training_sees(corpus, tmp_path, monkeypatch):
    source, shards = (
        LabelledReader("SentimentText", "Sentiment"),
        find_labelled(str(corpus), "-").shards,
    )
    made = prepare(CorpusSpec(shards, source, Split(0, 0.2), min_share=0.001), str(tmp_path))
    with pa.ipc.open_file(Path(made.directory, made.files["train"][0])) as file:
        texts = file.read_all()["ids"].to_pylist()
    monkeypatch.setattr(sample, "SAMPLE_TEXTS", 500)
    for at_once in (1, 100, 2**21):
        monkeypatch.setattr(sample, "CHUNK_TOKENS", at_once)
        found = [
            ids[start:stop].tolist()
            for ids, offsets in sample._texts(made, 3)
            for start, stop in pairwise(offsets)
        ]
        assert found == [text[:3] for text in texts[:500]]


def test_a_model_too_large_to_load_is_refused_before_it_is_trained(tmp_path):
    corpus = SimpleNamespace(vocabulary=("a",) * 100_000, files={"train": []}, longest=1)
    settings = SimpleNamespace(corpus=corpus, sequence_len=1)
    for size in ({"hidden_size": 20_000}, {"embedding_size": 20_000}):
        flags = config(tmp_path / "shards", tmp_path, "run", **size)
        with pytest.raises(InputError, match=r"make an? (table|embedding) of more than"):
            add_bigrams_and_initial_weights(settings, flags, None, str(tmp_path))


def test_initial_weights_that_are_damaged_are_made_again(tmp_path, capsys, monkeypatch):
    """Those of a run that is resumed; whole ones stay."""
    corpus = SimpleNamespace(vocabulary=("a", "b"), files={"train": []}, longest=1)
    settings = Settings(**dict.fromkeys(Settings.__dataclass_fields__) | {"corpus": corpus})
    flags = config(tmp_path / "shards", tmp_path, "run", initial_vectors="cooccurrence")
    made = InitialWeights(np.array([1], np.int32), np.ones((1, 6), np.float32))
    monkeypatch.setattr("pipelines.training.ray_job.of_words", lambda *_: made)
    (tmp_path / "checkpoint_manager_snapshot.json").touch()
    path = tmp_path / "initial.safetensors"
    other = dataclasses.replace(made, vectors=made.vectors * 2).to_bytes()
    for content, left in ((b"", made.to_bytes()), (other[:90], made.to_bytes()), (other, other)):
        path.write_bytes(content)
        found = add_bigrams_and_initial_weights(settings, flags, None, str(tmp_path))
        assert path.read_bytes() == left
        assert found.initial == str(path)
        said = capsys.readouterr().out
        assert (f"Warning: {path} is damaged (" in said) == (content != left)


def test_the_cache_is_the_same_however_the_rows_are_sharded(
    tmp_path, local_ray, monkeypatch, capsys
):
    """And whether one process made it or Ray Data, of whole shards or of pieces of them.

    Ray Data takes long, so it is said how far it is.
    """
    monkeypatch.setattr(progress, "SHOWN_AFTER_SECONDS", -1)
    monkeypatch.setattr(pieces, "PIECE_BYTES", 500)
    caches = []
    for shards, local_bytes in ((1, prepared.LOCAL_BYTES), (3, prepared.LOCAL_BYTES), (6, 0)):
        monkeypatch.setattr(prepared, "LOCAL_BYTES", local_bytes)
        directory = tmp_path / f"{shards}"
        write_shards(directory, rows=1200, shards=shards)
        for path in directory.glob("*.parquet"):
            pq.write_table(pq.read_table(path), path, row_group_size=30)
        source = LabelledReader("SentimentText", "Sentiment")
        found = find_labelled(str(directory), "--data_dir").shards
        cache = str(directory / "c")
        spec = CorpusSpec(found, source, Split(3, 0.2), ("word7",), n_samples=900, min_share=0.05)
        caches.append(prepare(spec, cache))
        assert sum(caches[-1].rows.values()) == 900
    said = capsys.readouterr().out.splitlines()
    for label in ("Reading", "Counting words", "Writing token ids"):
        assert any(re.match(rf"{label}: 0\.\d of 0\.\d MB", line) for line in said), said
    for other in caches[1:]:
        assert other.vocabulary == caches[0].vocabulary
        assert other.files == caches[0].files
        assert (other.unknown, other.lengths) == (caches[0].unknown, caches[0].lengths)
        for name in ("train-00000.arrow", "validation-00000.arrow"):
            files = [Path(cache.directory, name).read_bytes() for cache in (caches[0], other)]
            assert files[0] == files[1]
    with pa.ipc.open_file(Path(caches[0].directory, "train-00000.arrow")) as file:
        texts = file.read_all()["ids"].to_pylist()
    assert caches[0].rows["train"] == sum(number for _, number in caches[0].lengths) == len(texts)
    assert caches[0].tokens == sum(map(len, texts))
    assert caches[0].unknown == sum(ids.count(UNKNOWN) for ids in texts) > 0
    for longest in (0, 9, 100):
        assert caches[0].longer_than(longest) == sum(len(ids) > longest for ids in texts)


def test_a_sample_of_texts_without_labels_is_the_same_in_tasks_of_ray(
    corpus, local_ray, monkeypatch
):
    shards = tuple(find_labelled(str(corpus), "--data_dir").shards)
    texts = UnlabelledShards(shards, "SentimentText", ReadOptions())
    found = []
    for local_bytes in (prepared.LOCAL_BYTES, 0):
        monkeypatch.setattr(prepared, "LOCAL_BYTES", local_bytes)
        found.append(prepared._unlabelled_sample(texts, Tokenizer(), Split(0, 0.2)))
    assert found[0].texts.equals(found[1].texts)
    others = dataclasses.replace(texts, text_column="text")
    with pytest.raises(InputError, match="has no column 'text'"):
        prepared._unlabelled_sample(others, Tokenizer(), Split(0, 0.2))


def made_at_once(barrier, shards: str, caches: list[str], name: str) -> None:
    for cache in caches:
        found = find_labelled(shards, "--data_dir").shards
        barrier.wait(60)
        source = LabelledReader("SentimentText", "Sentiment")
        made = prepare(CorpusSpec(found, source, Split(0, 0.2)), cache)
        # At once: the other may still be writing.
        names = [*made.files["train"], *made.files["validation"]]
        hashed = [hashlib.sha256(Path(made.directory, n).read_bytes()).hexdigest() for n in names]
        Path(f"{cache}-{name}").write_text(json.dumps([made.key, made.rows, hashed]))


@pytest.mark.process
def test_runs_that_make_the_same_cache_at_once_do_not_disturb_each_other(corpus, tmp_path):
    context = multiprocessing.get_context("spawn")
    barrier, caches = context.Barrier(3), [str(tmp_path / f"{turn}") for turn in range(8)]
    processes = [
        context.Process(target=made_at_once, args=(barrier, str(corpus), caches, name), daemon=True)
        for name in "abc"
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    found = {Path(f"{cache}-{name}").read_text() for cache in caches for name in "abc"}
    assert len(found) == 1
    for cache in caches:
        names = sorted(path.name for path in Path(cache).glob("*/*"))
        assert names == ["corpus.json", "train-00000.arrow", "validation-00000.arrow"]


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        ({"batch_size": 0}, "--batch_size is 0"),
        ({"test_size": 1.0}, "--test_size is 1.0"),
        ({"dropout_keep_prob": 0.0}, "--dropout_keep_prob is 0.0"),
        ({"random_state": -1}, "--random_state is -1"),
        ({"learning_rate": 0.0}, "--learning_rate is 0.0"),
        ({"num_workers": 8, "batch_size": 4}, "--batch_size is 4"),
        ({"num_workers": (2, 8), "batch_size": 4}, "--batch_size is 4"),
        ({"num_workers": (3, 2)}, "--num_workers is 3 2"),
        ({"num_workers": 0}, "--num_workers is 0"),
        ({"encoding": "klingon"}, "--encoding klingon"),
        ({"run_name": "../up"}, "--run_name is ../up"),
        ({"run_name": "café"}, "--run_name is café"),
        ({"run_name": 300 * "a"}, "--run_name is aaa"),
        ({"truncate": True}, "--truncate needs --sequence_len"),
    ],
)
def test_impossible_flags_are_refused_by_name(flags, named):
    with pytest.raises(InputError, match=named.replace(".", r"\.")):
        TrainConfig(**flags)


@pytest.mark.process
@pytest.mark.parametrize(
    ("content", "flags", "said"),
    [
        (None, (), "--data_dir {data} does not exist"),
        ("", (), "--data_dir {data} holds no shards"),
        ("text,Sentiment\nhi,1\n", (), "has no column 'SentimentText'; its columns: text"),
        ("Sentiment,SentimentText\n1,hi\n", ("--test_size", "2"), "--test_size is 2.0"),
        (None, ("--run_name", "café"), "--run_name is café"),
        ("Sentiment,SentimentText\n1,hi\n", ("--stopwords_file", "none.txt"), "--stopwords_file"),
        ("Sentiment,SentimentText\n1,hi\n", ("--cache_dir", "/proc/no"), "--cache_dir /proc/no"),
        (
            "Sentiment,SentimentText\n1,hi\n",
            ("--initial_vectors", "no.txt"),
            "--initial_vectors no",
        ),
        (
            "Sentiment,SentimentText\n1,hi\n",
            ("--labels", "a=1", "b=2", "c=3", "--threshold", "0.3"),
            "--threshold is for two classes; the labels have 3: a, b, c",
        ),
    ],
)
def test_misuse_is_said_in_one_line_before_anything_starts(content, flags, said, tmp_path):
    data = tmp_path / "data"
    if content is not None:
        data.mkdir()
        if content:
            (data / "shard.csv").write_text(content)
    paths = ("--data_dir", data, "--checkpoints_root", tmp_path, "--summaries_dir", tmp_path)
    done = run("train", *paths, "--stopwords_file", "None", *flags, code=2)
    assert said.format(data=data) in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("rows", "flags", "said"),
    [
        (["1,good", "x,bad"], {"labels": ("b=0", "g=2")}, "--labels g=2: no row has such a label"),
        (["1,good", "0"], {}, "a.csv, row 2: 1 field where the header has 2"),
        (["1,good", "0,b\xe4d"], {}, "a.csv, row 2: SentimentText is not valid UTF-8"),
        ([f"1,word1 word2 {i}" for i in range(200)], {}, "every label is 1 (200 rows)"),
        (["1,word1 word2", "0,word3"] * 4, {}, "--batch_size 20"),
        ([f"1,a b c w{i % 9} {i}" for i in range(99)], {"sequence_len": 3}, "row 1 has 5 tokens"),
    ],
)
def test_rows_that_cannot_be_learnt_from_are_named(rows, flags, said, tmp_path, local_ray):
    data = tmp_path / "data"
    data.mkdir()
    lines = ["Sentiment,SentimentText", *rows, *(f"0,w{i % 9} {i}" for i in range(9))]
    if "every" in said:
        lines = ["Sentiment,SentimentText", *rows]
    (data / "a.csv").write_bytes("\n".join(lines).encode("latin-1"))
    with pytest.raises(InputError, match=re.escape(said)):
        main(config(data, tmp_path / "root", "refused", batch_size=20, **flags))


def test_too_many_workers_are_refused_before_the_corpus_is_prepared(
    corpus, tmp_path, local_ray, capsys
):
    too_many = config(corpus, tmp_path, "many", num_workers=64, cache_dir=str(tmp_path / "cache"))
    with pytest.raises(InputError, match="--num_workers 64: this machine has 2 CPUs, which carry"):
        main(too_many)
    assert "Preparing" not in capsys.readouterr().out
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_curve_that_cannot_be_read_costs_no_model(tmp_path):
    assert curve(str(tmp_path)) == []
    for damaged in (b"{", b"1\n", b'{"loss": 1}\n', b"\xff", b'{"step": 1, "loss": "x"}\n'):
        (tmp_path / "metrics.jsonl").write_bytes(damaged)
        assert curve(str(tmp_path)) == []
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "loss": 0.5}\n')
    assert curve(str(tmp_path)) == [{"step": 1, "loss": 0.5}]


def test_a_finished_run_that_was_to_take_more_steps_goes_on(corpus, tmp_path, monkeypatch, capsys):
    """The same command again, after it was stopped on the way: the model that is there is older."""
    short = config(corpus, tmp_path, "longer", train_steps=20)
    flags = {"flags": dataclasses.asdict(short)}
    model = dataclasses.replace(save_checkpoint(tmp_path / "longer"), training=flags)
    save(model, str(tmp_path / "longer"))
    more = dataclasses.replace(short, train_steps=3000)
    run = tmp_path / "_runs" / "longer"
    shards = find_labelled(str(corpus), "--data_dir").shards
    rows = CorpusSpec(shards, reader_of(more), Split(more.random_state, more.test_size)).key
    write_flags(more, rows, {}, str(run))
    (run / "checkpoint_manager_snapshot.json").touch()

    def trained(*arguments: object) -> Checkpoint:
        best = {"step": 3000, "validation_loss": 0.5, "validation_accuracy": 0.8}
        record = {"rows": {"train": 900, "validation": 100}, "best": best, "validations": [best]}
        flags = {"flags": dataclasses.asdict(more)}
        return dataclasses.replace(model, training=flags | record)

    monkeypatch.setattr("pipelines.training.ray_job.run", trained)
    main(more)
    said = capsys.readouterr().out
    assert "--train_steps is 3000; the model that is there was trained with 20\n" in said
    assert "after step 3,000, loss 0.5000, accuracy 80.0%\n" in said
    assert load(str(tmp_path / "longer")).training["flags"]["train_steps"] == 3000
    # And then it is done.
    monkeypatch.setattr("pipelines.training.ray_job.run", pytest.fail)
    main(more)
    assert "Run longer is finished: nothing to do." in capsys.readouterr().out

    # A damaged model is none: the run makes it again. Validations do not know its threshold.
    (tmp_path / "longer" / "weights.safetensors").write_bytes(b"")
    model = dataclasses.replace(model, classes=Classes(threshold=0.7))
    monkeypatch.setattr("pipelines.training.ray_job.run", trained)
    main(more)
    said = capsys.readouterr().out
    assert re.search(r"Warning: .*weights\.safetensors.*: the run's own checkpoints make it", said)
    assert "after step 3,000, loss 0.5000, accuracy 80.0% at 0.5\n" in said
    load(str(tmp_path / "longer"))
    (tmp_path / "longer" / "weights.safetensors").write_bytes(b"")
    (run / "checkpoint_manager_snapshot.json").unlink()
    with pytest.raises(InputError, match=r"weights\.safetensors"):
        main(more)


@pytest.mark.slow(30)
def test_a_run_does_not_go_on_from_a_model_that_was_replaced(corpus, tmp_path, local_ray, capsys):
    """Its words and their number may be the same, and then nothing else would tell."""
    start, words = tmp_path / "start", tmp_path / "words.txt"
    words.write_text("the\n")

    def save_start(*bigrams: str) -> None:
        model = save_checkpoint(start)
        entries = (*model.vocabulary, *bigrams)
        vectors = np.resize(model.weights["embedding"], (len(entries), 5))
        weights = {**model.weights, "embedding": vectors}
        save(Checkpoint(weights, entries, ("the",)), str(start))

    save_start("great word1", "sad word2")
    flags = {"initial_checkpoint": str(start), "embedding_size": 5, "stopwords_file": str(words)}
    four = config(corpus, tmp_path, "from", train_steps=4, **flags)
    five = dataclasses.replace(four, train_steps=5)
    main(four)
    before = {path.name: path.read_bytes() for path in (tmp_path / "from").iterdir()}
    save_start("great word1", "sad word3")
    replaced = (
        f"--initial_checkpoint {start}: what is there is not what run from was started with; "
        "choose another --run_name"
    )
    with pytest.raises(InputError, match=f"^{replaced}$"):
        main(five)
    # A model of other sizes is no reason to give others.
    save_checkpoint(start, hidden=9)
    with pytest.raises(InputError, match=f"^{replaced}$"):
        main(five)
    capsys.readouterr()
    main(four)
    said = f"nothing to do.\nWarning: {replaced} to train with what is there now\nModel saved in"
    assert said in capsys.readouterr().out
    save_start("great word1", "sad word2")
    words.write_text("the\na\n")
    with pytest.raises(InputError, match=f"^--stopwords_file {words}: what is there is not what"):
        main(five)
    assert before == {path.name: path.read_bytes() for path in (tmp_path / "from").iterdir()}
    # The model that it was started with: it goes on.
    words.write_text("the\n\n")
    main(five)
    assert load(str(tmp_path / "from")).training["best"]["step"] == 5


def test_a_run_is_trained_by_one_program_at_a_time(corpus, tmp_path):
    flags = config(corpus, tmp_path, "both")
    with (
        alone_in(str(tmp_path / "_runs" / "both"), "both"),
        pytest.raises(Failure, match="--run_name both: another program trains this run now: wait"),
    ):
        main(flags)
    assert not has_checkpoints(str(tmp_path / "_runs" / "both"))
