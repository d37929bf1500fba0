"""Labelled shards in, scored Parquet out, by the programs as a user runs them.

Killed at any moment, training ends with the bytes of a run that was left alone.
"""

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.fs as pafs
import pyarrow.parquet as pq
import pytest
import ray
import safetensors.numpy
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from pipelines.training import metrics_files
from pipelines.training.batches import CachedRows, TrainingBatches
from sentiment import checkpoint, storage
from sentiment.model.inference import inference
from testing.bucket_servers import Troubled
from testing.generated import write_shards
from testing.programs import contents, end, run, undated, words
from testing.waiting import wait_until

pytestmark = [pytest.mark.slow(15), pytest.mark.ray, pytest.mark.process]

ROWS, STEPS, EVERY = 4000, 120, 10


def training(root: Path | str, workers: int = 2) -> list[object]:
    """Flags of a run that reads and writes all its files below a directory or URI."""
    return [
        *("--data_dir", f"{root}/corpus", "--checkpoints_root", f"{root}/checkpoints"),
        *("--summaries_dir", f"{root}/logs", "--cache_dir", f"{root}/cache"),
        *("--run_name", "model", "--stopwords_file", "None", "--num_workers", workers),
        # The same threads, and so the same bits, on a Ray of two CPUs and on that of any machine.
        *("--cpus_per_worker", 1),
        *("--train_steps", STEPS, "--validate_every", EVERY, "--keep_checkpoints", 1),
        *("--hidden_size", 16, "--embedding_size", 16, "--bidirectional", "--bigrams", 500),
        *("--initial_vectors", "cooccurrence", "--word_keep_prob", 0.95, "--calibrate"),
    ]


@pytest.fixture(scope="module")
def cluster(local_ray):
    """What has programs join a Ray that is there, as `ray job submit` does."""
    return {"RAY_ADDRESS": ray.get_runtime_context().gcs_address}


@pytest.fixture(scope="module")
def trained(tmp_path_factory, cluster):
    """A corpus of mixed shards, and a run of two workers on it."""
    root = tmp_path_factory.mktemp("trained")
    table = write_shards(root / "corpus", rows=ROWS, shards=4)
    return root, table, run("train", *training(root), **cluster)


@pytest.fixture(scope="module")
def scored(trained, cluster):
    root, _, _ = trained
    done = run(
        "score",
        *("--checkpoints_dir", root / "checkpoints" / "model", "--input", root / "corpus"),
        *("--output", root / "scored", "--text_column", "SentimentText"),
        *("--num_actors", 2, "--part_rows", 700, "--keep_columns", "id"),
        **cluster,
    )
    return root / "scored", done


def test_training_says_how_it_goes(trained):
    root, _, done = trained
    lines = undated(done.stdout).splitlines()
    assert done.stderr == ""
    assert lines[-1] == f"Model saved in: {root}/checkpoints/model"
    assert any(line.startswith(f"step {STEPS}/{STEPS}, loss ") for line in lines)
    assert sum(line.startswith("validation after step") for line in lines) == STEPS // EVERY
    assert list((root / "logs" / "model").glob("events.out.tfevents.*"))
    metrics = [json.loads(line) for line in (root / "logs" / "model" / "metrics.jsonl").open()]
    assert [line["step"] for line in metrics if "loss" in line] == list(range(1, STEPS + 1))
    validated = [line["step"] for line in metrics if "validation_loss" in line]
    assert validated == list(range(EVERY, STEPS + 1, EVERY))


def test_the_model_finds_the_planted_signal(trained):
    root, _, _ = trained
    model = root / "checkpoints" / "model"
    done = run("evaluate", "--checkpoints_dir", model, "--baseline")
    table = {
        line[:30].strip(): line[30:].split()
        for line in done.stdout.splitlines()
        if line.startswith(("this", "TF", "maj"))
    }
    assert float(table["this model"][0].rstrip("%")) > 90
    assert float(table["TF-IDF + logistic regression"][0].rstrip("%")) > 90
    assert 40 < float(table["majority class"][0].rstrip("%")) < 60
    training = json.loads((model / "training.json").read_text())
    metrics = [json.loads(line) for line in (root / "logs" / "model" / "metrics.jsonl").open()]
    # Of so few steps, each.
    assert training["losses"] == [line for line in metrics if "loss" in line]
    page = (model / "report.html").read_text()
    assert all(f'alt="{name} by step"' in page for name in ("Loss", "Validation accuracy"))
    rows = training["rows"]
    assert f"{rows['test']:,} held-out rows" in done.stdout
    assert "Training held out" not in done.stdout
    assert sum(rows.values()) == ROWS
    assert abs(rows["test"] - 800) < 100


def test_every_row_is_in_the_output_once(trained, scored):
    _, table, _ = trained
    output, done = scored
    result = pads.dataset(output, format="parquet").to_table()
    assert result.schema.names == ["id", "positive_probability", "sentiment"]
    assert result.schema.field("positive_probability").type == pa.float32()
    # CSV holds text, so a column that is in CSV and Parquet shards is text in all of the output.
    assert sorted(int(i) for i in result["id"].to_pylist()) == table["id"].to_pylist()
    assert f"{ROWS:,} rows scored" in done.stdout
    assert done.stderr == ""
    totals = json.loads((output / "_SUCCESS").read_text())
    assert (totals["rows"], totals["rejected"]) == (ROWS, 0)


def test_a_text_scores_the_same_in_train_score_and_predict(trained, scored):
    root, table, _ = trained
    output, _ = scored
    model = checkpoint.load(str(root / "checkpoints" / "model"))
    tokens = model.encoder()(table["SentimentText"])
    assert len(model.words) < len(model.vocabulary)
    probabilities = inference(model.network)(tokens.ids, tokens.offsets)
    result = pads.dataset(output, format="parquet").to_table()
    order = np.argsort([int(i) for i in result["id"].to_pylist()])
    scored_as = result["positive_probability"].to_numpy()[order]
    np.testing.assert_array_equal(scored_as, probabilities[:, 1])
    answers = np.array(result["sentiment"].to_pylist())[order]
    assert (answers == np.where(probabilities[:, 1] >= 0.5, "positive", "negative")).all()

    texts = table["SentimentText"].to_pylist()[:5]
    done = run("predict", "--checkpoints_dir", root / "checkpoints" / "model", *texts)
    shown = [line.split("\t") for line in done.stdout.splitlines()]
    winning = [f"{p:.6f}" for p in probabilities[:5].max(axis=1)]
    assert shown == [list(line) for line in zip(answers[:5], winning, texts, strict=True)]

    # Training read the same ids: the cache holds exactly those of its rows, by their hash.
    corpus = next((root / "cache").glob("*/train-00000.arrow"))
    cached = pa.ipc.open_file(pa.memory_map(str(corpus))).read_all()
    ids = {h: tokens.ids[a:b].tolist() for h, a, b in _rows(tokens)}
    assert cached["ids"].to_pylist() == [ids[h] for h in cached["hash"].to_pylist()]


def _rows(tokens):
    return zip(tokens.hashes.tolist(), tokens.offsets[:-1], tokens.offsets[1:], strict=True)


def test_parts_are_in_input_order_and_say_where_they_come_from(trained, scored):
    root, table, _ = trained
    output, _ = scored
    model = checkpoint.load(str(root / "checkpoints" / "model"))
    ids = []
    parts = sorted(output.glob("part-*.parquet"))
    assert len(parts) == 4
    for part in parts:
        provenance = json.loads(pq.read_metadata(part).metadata[b"sentiment.part"])
        assert provenance["model_hash"] == model.model_hash
        assert provenance["counts"]["rows"] == sum(rows for _, _, rows in provenance["pieces"])
        ids += [int(i) for i in pq.read_table(part)["id"].to_pylist()]
    assert ids == table["id"].to_pylist()


def test_scoring_again_has_nothing_to_do_and_other_flags_are_refused(trained, scored):
    root, _, _ = trained
    output, _ = scored
    before = contents(output)
    same = (
        *("--checkpoints_dir", root / "checkpoints" / "model", "--input", root / "corpus"),
        *("--output", output, "--text_column", "SentimentText", "--part_rows", 700),
        *("--keep_columns", "id"),
    )
    assert undated(run("score", *same).stdout).splitlines()[-1].startswith("Nothing to do")
    other = run("score", *same, "--max_tokens", 5, code=2)
    assert "started with another max_tokens (512, now 5)" in other.stderr
    foreign = run("score", *same, "--output", root / "checkpoints", code=2)
    assert "is not empty" in foreign.stderr
    assert before == contents(output)


def test_replicas_are_equal_only_because_their_gradients_are_summed(trained):
    """The run ended, so the replicas were equal (`Progress`); here each is trained alone."""
    root, _, _ = trained
    import keras
    import tensorflow as tf

    from sentiment.model.keras_model import SentimentLSTM

    directory = next((root / "cache").glob("*/corpus.json")).parent
    corpus = json.loads((directory / "corpus.json").read_text())
    rows = CachedRows(str(directory), corpus["files"]["train"], 64, (1, 1))
    batches = TrainingBatches(rows, 100, 0)
    weights = []
    for rank in (0, 1):
        model = SentimentLSTM(len(corpus["vocabulary"]), 16, 16, seed=0)
        optimizer = keras.optimizers.RMSprop(0.01)
        for step in range(3):
            part = batches.batch(step).for_worker(rank, 2)
            with tf.GradientTape() as tape:
                (ids,) = part.unique_ids[part.places]
                logits = model([ids, np.zeros_like(ids), part.lengths])
                losses = tf.nn.softmax_cross_entropy_with_logits(part.targets, logits)
                loss = tf.reduce_sum(losses) / 100
            gradients = tape.gradient(loss, model.trainable_variables)
            optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        weights.append(model.export())
    assert all((weights[0][name] != weights[1][name]).any() for name in weights[0])


# Training that is killed.


@contextmanager
def running(flags: list[object], log: Path, **environment: str) -> Iterator[subprocess.Popen]:
    """A run, killed with the Ray it has started at the end of the block, if it still runs."""
    with log.open("a") as file:
        job = subprocess.Popen(
            words("train", *flags), stdout=file, stderr=file, env=os.environ | environment
        )
    try:
        yield job
    finally:
        ray = psutil.Process(job.pid).children(recursive=True) if job.poll() is None else []
        # It first: it would start others in their place.
        job.kill()
        job.wait(timeout=60)
        end(ray)


def metrics(root: str) -> list[dict[str, float]]:
    return metrics_files.read(f"{root}/logs/model")


def steps_done(root: str) -> int:
    """Steps up to the last validation that is written down."""
    # None where a worker has died before the first checkpoint was known: training begins again.
    return max((line["step"] for line in metrics(root)), default=0)


def wait_for_step(root: str, job: subprocess.Popen, step: int) -> None:
    def is_done() -> bool:
        assert job.poll() is None, "the run has ended"
        # The file of a later step may be removed, and written again, after it was listed.
        with suppress(ValueError, FileNotFoundError):
            return steps_done(root) >= step
        return False

    wait_until(is_done, 200, f"step {step}", poll_seconds=0.2)


def workers(job: subprocess.Popen) -> list[psutil.Process]:
    processes = psutil.Process(job.pid).children(recursive=True)
    return [process for process in processes if "ray::RayTrainWorker" in process.name()]


def kept(root: Path) -> dict[int, Path]:
    """The states that a run has kept, by their step."""
    found = (root / "checkpoints" / "_runs" / "model").glob("checkpoint_*/progress.json")
    return {
        json.loads(path.read_text())["step"]: path.with_name("state.safetensors") for path in found
    }


def result(root: Path) -> dict[str, bytes]:
    return {
        "weights": (root / "checkpoints" / "model" / "weights.safetensors").read_bytes(),
        "state": kept(root)[STEPS].read_bytes(),
        "metrics": b"".join(metrics_files.changed(f"{root}/logs/model", {}).values()),
    }


@pytest.mark.timeout(600)
def test_a_worker_and_then_the_driver_killed(trained, tmp_path, s3):
    """With other shards, in a bucket whose server slows down and goes away."""
    (whole, _, _), killed, log = trained, tmp_path / "killed", tmp_path / "killed.log"
    write_shards(killed / "corpus", rows=ROWS, shards=5)
    bucket = s3.uri("trained")
    pafs.copy_files(str(killed), storage.resolve(bucket)[1], None, storage.resolve(bucket)[0])
    with Troubled(s3) as server:
        server.slow = True
        with running(training(bucket), log, AWS_ENDPOINT_URL=server.address) as job:
            wait_for_step(bucket, job, 2 * EVERY)
            workers(job)[-1].kill()
            wait_for_step(bucket, job, 4 * EVERY)
        assert job.returncode == -signal.SIGKILL
        done = steps_done(bucket)
        assert done < STEPS - EVERY
        assert server.slowed > 5

        with running(training(bucket), log, AWS_ENDPOINT_URL=server.address) as job:
            wait_for_step(bucket, job, done + 1)
            server.away = True
            # Left alone, Arrow asks three times.
            wait_until(lambda: server.cut >= 8, 100, "8 requests that are cut off")
            assert job.poll() is None
            server.away = False
            assert job.wait(timeout=200) == 0
        server.shutdown()
    pafs.copy_files(storage.resolve(bucket)[1], str(killed), storage.resolve(bucket)[0])
    found, expected = result(killed), result(whole)
    assert found == expected

    # The model is that of the best validation; that one and the last are kept.
    losses = {
        line["step"]: line["validation_loss"]
        for line in metrics(str(whole))
        if "validation_loss" in line
    }
    best = min(losses, key=losses.get)
    assert kept(killed).keys() == {best, STEPS}
    state = safetensors.numpy.load_file(kept(killed)[best])
    saved = checkpoint.load(f"{bucket}/checkpoints/model")
    np.testing.assert_array_equal(saved.weights["embedding"], state["model/embedding"])
    heat = saved.training["best"]["validation_temperature"]
    assert heat != 1
    kernel = state["model/dense/kernel"] / np.float32(heat)
    np.testing.assert_array_equal(saved.weights["dense/kernel"], kernel)
    assert len(saved.network.bigrams) == 500

    lines = undated(log.read_text()).splitlines()
    troubles = [line for line in lines if "attempt 2 of 4" in line]
    assert len(troubles) == 1, lines
    assert troubles[0].startswith("worker ")
    known = ("2 classes: ", "Preparing", "Run", f"{STEPS} steps", "no worker", "step")
    known += ("validation", "resuming", "Few rows validate")
    # If it takes seconds.
    known += ("Loading Ray", "Starting Ray", "Workers start", "Compiling", "Choosing", "Making")
    known += ("Best validation: ", "Next: ", "Model saved in: ", "error: this program was killed")
    assert [line for line in lines if not line.startswith((*known, *troubles))] == []

    accumulator = EventAccumulator(str(killed / "logs" / "model"), size_guidance={"tensors": 0})
    accumulator.Reload()
    assert [e.step for e in accumulator.Tensors("train/loss")] == list(range(1, STEPS + 1))
    validated = [e.step for e in accumulator.Tensors("validation/pr_curves")]
    assert validated == list(range(EVERY, STEPS + 1, EVERY))
    assert accumulator.Graph().node


def test_ctrl_c_twice_does_not_wait_for_training_to_stop(tmp_path, cluster):
    write_shards(tmp_path / "corpus", rows=ROWS, shards=1)
    log = tmp_path / "log"
    with running(training(tmp_path, workers=1), log, **cluster) as job:
        wait_until(lambda: "steps of 100 rows" in log.read_text(), 100, "the start of training")
        began = time.monotonic()
        while job.poll() is None and time.monotonic() - began < 5:
            # On a busy machine two may count as one; and the first alone ends it, given time.
            job.send_signal(signal.SIGINT)
            time.sleep(0.05)
        assert job.wait(timeout=0) == 130
    assert log.read_text().splitlines()[-1] == "error: interrupted twice"
