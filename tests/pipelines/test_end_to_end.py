"""Labelled shards in, scored Parquet out, by the programs as a user runs them."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.parquet as pq
import pytest
import ray

from pipelines.training.batches import CachedRows, TrainingBatches
from sentiment import checkpoint
from sentiment.model.inference import inference
from sentiment.text.tokenizer import Tokenizer
from testing.generated import write_shards
from testing.programs import run

pytestmark = [pytest.mark.slow(6), pytest.mark.ray, pytest.mark.process]


@pytest.fixture(scope="module")
def cluster(local_ray):
    """What has programs join a Ray that is there, as `ray job submit` does."""
    return {"RAY_ADDRESS": ray.get_runtime_context().gcs_address}


@pytest.fixture(scope="module")
def trained(tmp_path_factory, cluster):
    """A corpus of mixed shards, and a run of two workers on it."""
    root = tmp_path_factory.mktemp("trained")
    table = write_shards(root / "corpus", rows=4000, shards=4)
    done = run(
        "train",
        *("--data_dir", root / "corpus", "--checkpoints_root", root / "checkpoints"),
        *("--summaries_dir", root / "logs", "--cache_dir", root / "cache", "--run_name", "model"),
        *("--num_workers", 2, "--train_steps", 120, "--validate_every", 60),
        *("--hidden_size", 16, "--embedding_size", 16, "--stopwords_file", "None"),
        *("--bidirectional", "--bigrams", 500, "--initial_vectors", "cooccurrence"),
        *("--word_keep_prob", 0.95, "--calibrate"),
        **cluster,
    )
    return root, table, done


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
    lines = done.stdout.splitlines()
    assert done.stderr == ""
    assert lines[-1] == f"Model saved in: {root}/checkpoints/model"
    assert any(line.startswith("step 120/120, loss ") for line in lines)
    assert sum(line.startswith("validation after step") for line in lines) == 2
    assert list((root / "logs" / "model").glob("events.out.tfevents.*"))
    metrics = [json.loads(line) for line in (root / "logs" / "model" / "metrics.jsonl").open()]
    assert [line["step"] for line in metrics if "loss" in line] == list(range(1, 121))
    assert [line["step"] for line in metrics if "validation_loss" in line] == [60, 120]


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
    assert sum(rows.values()) == 4000
    assert abs(rows["test"] - 800) < 100


def test_every_row_is_in_the_output_once(trained, scored):
    _, table, _ = trained
    output, done = scored
    result = pads.dataset(output, format="parquet").to_table()
    assert result.schema.names == ["id", "positive_probability", "sentiment"]
    assert result.schema.field("positive_probability").type == pa.float32()
    # CSV holds text, so a column that is in CSV and Parquet shards is text in all of the output.
    assert sorted(int(i) for i in result["id"].to_pylist()) == table["id"].to_pylist()
    assert "4,000 rows scored" in done.stdout
    assert done.stderr == ""
    totals = json.loads((output / "_SUCCESS").read_text())
    assert (totals["rows"], totals["rejected"]) == (4000, 0)


def test_a_text_scores_the_same_in_train_score_and_predict(trained, scored):
    root, table, _ = trained
    output, _ = scored
    model = checkpoint.load(str(root / "checkpoints" / "model"))
    tokens = Tokenizer(model.stop_words).encoder(model.words)(table["SentimentText"])
    assert len(model.words) < len(model.vocabulary)
    expected = inference(model.weights, model.bigrams)(tokens.ids, tokens.offsets)
    result = pads.dataset(output, format="parquet").to_table()
    order = np.argsort([int(i) for i in result["id"].to_pylist()])
    probabilities = result["positive_probability"].to_numpy()[order]
    np.testing.assert_array_equal(probabilities, expected)
    answers = np.array(result["sentiment"].to_pylist())[order]
    assert (answers == np.where(expected >= 0.5, "positive", "negative")).all()

    texts = table["SentimentText"].to_pylist()[:5]
    done = run("predict", "--checkpoints_dir", root / "checkpoints" / "model", *texts)
    shown = [line.split("\t") for line in done.stdout.splitlines()]
    assert [text for _, text in shown] == texts
    assert [probability for probability, _ in shown] == [f"{p:.6f}" for p in expected[:5]]

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
    before = {path: path.read_bytes() for path in output.rglob("*") if path.is_file()}
    same = (
        *("--checkpoints_dir", root / "checkpoints" / "model", "--input", root / "corpus"),
        *("--output", output, "--text_column", "SentimentText", "--part_rows", 700),
        *("--keep_columns", "id"),
    )
    assert run("score", *same).stdout.startswith("Nothing to do")
    other = run("score", *same, "--max_tokens", 5, code=2)
    assert "started with another max_tokens (512, now 5)" in other.stderr
    foreign = run("score", *same, "--output", root / "corpus", code=2)
    assert "is not empty" in foreign.stderr
    assert before == {path: path.read_bytes() for path in output.rglob("*") if path.is_file()}


def test_replicas_are_equal_only_because_their_gradients_are_summed(trained):
    """The run ended, so the replicas were equal (`Progress`); here each is trained alone."""
    root, _, _ = trained
    import keras
    import tensorflow as tf

    from sentiment.model.keras_model import SentimentLSTM

    directory = next((root / "cache").glob("*/corpus.json")).parent
    corpus = json.loads((directory / "corpus.json").read_text())
    batches = TrainingBatches(CachedRows(str(directory), corpus["files"]["train"], 64), 100, 0)
    weights = []
    for rank in (0, 1):
        model = SentimentLSTM(len(corpus["vocabulary"]), 16, 16, seed=0)
        optimizer = keras.optimizers.RMSprop(0.01)
        for step in range(3):
            part = batches.batch(step).for_worker(rank, 2)
            with tf.GradientTape() as tape:
                (ids,) = part.unique_ids[part.places]
                logits = model([ids, np.zeros_like(ids), part.lengths])
                losses = tf.nn.sparse_softmax_cross_entropy_with_logits(part.labels, logits)
                loss = tf.reduce_sum(losses) / 100
            gradients = tape.gradient(loss, model.trainable_variables)
            optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        weights.append(model.export())
    assert all((weights[0][name] != weights[1][name]).any() for name in weights[0])
