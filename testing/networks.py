"""Random networks and texts, and the formula that every implementation of a network computes."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from sentiment.checkpoint import Checkpoint
from sentiment.classes import Classes
from sentiment.network import BACKWARD, FORWARD, Network, weight_shapes
from sentiment.text.tokenizer import SPECIALS

BOTH = (FORWARD, BACKWARD)


def probabilities(network: Network, ids: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """The probability of each class for each text, as the formula says: float64[n, K].

    Text by text and token by token, in float64: an LSTM (Hochreiter and Schmidhuber 1997) with a
    forget gate (Gers et al. 2000), the mean of its outputs, a dense layer, and the softmax.

    Args:
        network: any.
        ids: int[tokens], the words of all texts, one text after another.
        offsets: int[n + 1], where each text begins in `ids`, and the end of the last.
    """
    w = {name: value.astype(np.float64) for name, value in network.weights.items()}
    pairs = network.bigrams(np.asarray(ids, np.int32), np.asarray(offsets, np.int64))
    embedded = w["embedding"][ids] + (pairs > 0)[:, None] * w["embedding"][pairs]
    found = np.empty((len(offsets) - 1, network.classes))
    for row, (start, end) in zip(found, pairwise(offsets), strict=True):
        ways = {FORWARD: embedded[start:end], BACKWARD: embedded[start:end][::-1]}
        sums = [_summed_outputs(w, name, ways[name]) for name in network.lstms]
        logits = np.concatenate(sums) / max(end - start, 1) @ w["dense/kernel"] + w["dense/bias"]
        powers = np.exp(logits - logits.max())
        row[:] = powers / powers.sum()
    return found


def _summed_outputs(w: dict[str, np.ndarray], name: str, inputs: np.ndarray) -> np.ndarray:
    """The sum of an LSTM's outputs: float64[H]. `inputs`: float64[tokens, E]."""
    h = c = total = np.zeros(len(w[f"{name}/recurrent_kernel"]))
    for x in inputs:
        gates = x @ w[f"{name}/kernel"] + h @ w[f"{name}/recurrent_kernel"] + w[f"{name}/bias"]
        i, f, g, o = np.split(gates, 4)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        total = total + h
    return total


def sigmoid(x: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-x)), without overflow."""
    return 0.5 + 0.5 * np.tanh(x / 2)


def random_weights(
    vocabulary: int,
    embedding: int,
    hidden: int,
    seed: int = 0,
    scale: float = 0.5,
    recurrence: float = 1.0,
    names: tuple[str, ...] = (FORWARD,),
    classes: int = 2,
) -> dict[str, np.ndarray]:
    """Normally distributed weights.

    Up to a recurrence of 1 or so roundings die away in time; from 4 on they grow: chaos.
    """
    random = np.random.default_rng(seed)
    shapes = weight_shapes(vocabulary, embedding, hidden, names, classes)
    recurrent = [f"{name}/recurrent_kernel" for name in names]
    scales = dict.fromkeys(shapes, scale) | dict.fromkeys(recurrent, recurrence / hidden**0.5)
    return {
        name: random.normal(0, scales[name], shape).astype(np.float32)
        for name, shape in shapes.items()
    }


def random_vocabulary(words: int, bigrams: int, seed: int = 0) -> tuple[str, ...]:
    """So many words, the special tokens among them, and up to so many bigrams."""
    names = [*SPECIALS, *(f"w{number}" for number in range(2, words))][:words]
    random = np.random.default_rng(seed)
    pairs = {tuple(pair) for pair in random.integers(2, words, (bigrams, 2)).tolist()}
    return (*names, *(f"w{first} w{second}" for first, second in sorted(pairs)))


KINDS: dict[str, dict[str, Any]] = {
    "forward": {},
    "forward, bigrams, three classes": {"bigrams": 60, "classes": 3},
    "both ways": {"names": BOTH},
    "both ways, bigrams, three classes": {"names": BOTH, "bigrams": 60, "classes": 3},
}
"""Every option of a network, as arguments of `random_checkpoint`."""


def random_checkpoint(
    words: int = 30,
    bigrams: int = 0,
    embedding: int = 12,
    hidden: int = 17,
    names: tuple[str, ...] = (FORWARD,),
    classes: int = 2,
) -> Checkpoint:
    """A checkpoint of random weights, whose probabilities differ from text to text."""
    vocabulary = random_vocabulary(words, bigrams)
    weights = random_weights(len(vocabulary), embedding, hidden, names=names, classes=classes)
    weights["dense/kernel"] *= np.float32(10)
    return Checkpoint(weights, vocabulary, classes=Classes(tuple("abc"[:classes])))


def random_texts(
    words: int, lengths: Sequence[int] | np.ndarray, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Ids: int32[tokens] and offsets: int64[n + 1] of texts of these lengths."""
    offsets = np.cumsum([0, *lengths], dtype=np.int64)
    ids = np.random.default_rng(seed).integers(0, words, offsets[-1], dtype=np.int32)
    return ids, offsets


def flat(texts: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Ids: int32[tokens] and offsets: int64[n + 1] of texts, each a list of ids."""
    ids = np.array([token for text in texts for token in text], np.int32)
    return ids, np.cumsum([0, *map(len, texts)], dtype=np.int64)
