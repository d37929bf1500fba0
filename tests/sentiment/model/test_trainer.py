"""A step is that of Keras: the gradient of the whole batch, and RMSProp over every weight."""

import os
import tempfile

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.special import softmax

from sentiment.model.batch import Batch, WorkerBatch
from sentiment.model.keras_model import SentimentLSTM
from sentiment.model.trainer import Trainer
from sentiment.text.bigrams import Bigrams
from sentiment.text.tokenizer import SPECIALS

WORDS, EMBEDDING, HIDDEN = 40, 5, 4
NAMES = [*SPECIALS, *(f"w{number}" for number in range(2, WORDS))]
PAIRS = sorted(f"w{a} w{b}" for a in range(2, WORDS) for b in range(2, WORDS) if (a + b) % 3 == 0)
BIGRAMS = Bigrams(NAMES + PAIRS)
VOCABULARY = len(NAMES + PAIRS)
ROWS, CLASSES = 12, 3


def batch(seed: int, rows: int = ROWS) -> Batch:
    """Texts of 0 to 6 tokens out of half of the vocabulary, another half each time."""
    random = np.random.default_rng(seed)
    lengths = random.integers(0, 7, rows).astype(np.int32)
    known = random.permutation(np.arange(1, WORDS))[: WORDS // 2]
    ids = random.choice(known, (rows, 6)).astype(np.int32)
    ids[np.arange(6) >= lengths[:, None]] = 0
    # Of any targets: labels, soft labels, and rows with a weight.
    targets = random.dirichlet([0.5] * CLASSES, rows) * random.choice([0.5, 1, 3], (rows, 1))
    return Batch(ids, lengths, targets.astype(np.float32))


def part(each: Batch, rank: int = 0, workers: int = 1) -> WorkerBatch:
    return each.for_worker(rank, workers, pairs(each))


def pairs(each: Batch) -> np.ndarray:
    return each.bigram_ids(BIGRAMS)


def model(keep: float = 1.0) -> SentimentLSTM:
    return SentimentLSTM(
        VOCABULARY, EMBEDDING, HIDDEN, keep, 3, bidirectional=True, classes=CLASSES
    )


def trainer(keep: float = 1.0) -> Trainer:
    return Trainer(model(keep), tf.distribute.get_strategy(), random_state=5)


def keras_steps(batches: list[Batch], rate: float) -> tuple[SentimentLSTM, list[float]]:
    reference, optimizer, losses = model(), keras.optimizers.RMSprop(rate), []
    for each in batches:
        with tf.GradientTape() as tape:
            logits = reference([each.ids, pairs(each), each.lengths])
            of_rows = -tf.reduce_sum(each.targets * tf.math.log(tf.nn.softmax(logits)), axis=1)
            loss = tf.reduce_mean(of_rows)
        # Dense: of a sparse one Keras squares the summands of a row that occurs twice.
        gradients = map(tf.convert_to_tensor, tape.gradient(loss, reference.trainable_variables))
        optimizer.apply_gradients(zip(gradients, reference.trainable_variables, strict=True))
        losses.append(float(loss))
    return reference, losses


def test_steps_are_those_of_keras_with_a_dense_rmsprop():
    batches = [batch(seed) for seed in range(40)]
    reference, expected = keras_steps(batches, 0.01)
    ours = trainer()
    found = [
        float(ours.step(part(each), number, number, 0.01)) for number, each in enumerate(batches, 1)
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    weights = ours.model.export()
    for name, value in reference.export().items():
        assert np.abs(value - model().export()[name]).max() > 0.005
        np.testing.assert_allclose(weights[name], value, atol=2e-5, err_msg=name)


def test_training_leaves_no_files(tmp_path, monkeypatch):
    """TensorFlow's autograph writes one for each function that it converts, and leaves it."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    ours = trainer(0.6)
    ours.step(part(batch(0)), 1, 1, 0.01)
    ours.logits([part(batch(0))], 0, 1)
    tokens = np.zeros((2, 2, 3), np.int32)
    ours.model.probabilities(*tokens, np.full(2, 3, np.int32))
    assert os.listdir(tmp_path) == []


def test_the_parts_gradients_add_up_to_the_batchs():
    ours, whole = trainer(), batch(7, rows=11)
    seed = np.array([0, 0], np.int64)

    def gradient(rank, workers):
        rows = part(whole, rank, workers)
        inputs = (rows.unique_ids, rows.places, rows.lengths, rows.targets)
        return ours.gradient_function(*inputs, np.int32(rows.batch_rows), seed).numpy()

    for workers in (2, 3, 11, 13):
        total = sum(gradient(rank, workers) for rank in range(workers))
        np.testing.assert_allclose(total, gradient(0, 1), atol=1e-6)


def test_on_cpus_a_step_is_computed_by_our_lstm_and_not_by_keras(monkeypatch):
    totals = []
    for name in ("_summed_on_cpu", "_summed_by_keras"):
        method = getattr(SentimentLSTM, name)

        def noted(*inputs, name=name, method=method):
            totals.append(name)
            return method(*inputs)

        monkeypatch.setattr(SentimentLSTM, name, noted)
    trainer()
    assert totals == ["_summed_on_cpu", "_summed_on_cpu"]


@pytest.mark.parametrize("keep", [1.0, 0.6])
def test_a_restored_trainer_goes_on_to_the_last_bit(keep):
    straight, restored = trainer(keep), trainer(keep)
    for number in range(1, 5):
        straight.step(part(batch(number)), number, number, 0.01)
    hash_halfway, state = straight.hash(), straight.state()
    for number in range(5, 9):
        straight.step(part(batch(number)), number, number, 0.01)
    assert straight.hash() != hash_halfway
    # A file holds the state sorted by name.
    restored.restore(dict(sorted(state.items())))
    assert restored.hash() == hash_halfway
    for number in range(5, 9):
        restored.step(part(batch(number)), number, number, 0.01)
    assert restored.hash() == straight.hash()


def test_a_step_changes_every_weight_and_only_the_rows_of_its_tokens():
    ours, before = trainer(), model().export()
    each = batch(1, rows=40)
    ours.step(part(each), 1, 1, 0.01)
    after = ours.model.export()
    found = np.stack([each.ids, pairs(each)])
    used = np.isin(np.arange(VOCABULARY), found[found > 0])
    assert used[WORDS:].any()
    for name, value in after.items():
        changed = value != before[name]
        if name == "embedding":
            assert (changed.all(axis=1) == used).all()
            assert not changed[~used].any()
        else:
            assert changed.all()


def test_logits_are_the_models_for_all_rows_in_order():
    ours = trainer()
    batches = [batch(1), batch(2, rows=5)]
    expected = np.concatenate(
        [ours.model.probabilities(b.ids, pairs(b), b.lengths) for b in batches]
    )
    logits = ours.logits([part(b) for b in batches], 0, 1)
    assert logits.shape == (ROWS + 5, CLASSES)
    np.testing.assert_allclose(softmax(logits, axis=1), expected, atol=1e-6)
