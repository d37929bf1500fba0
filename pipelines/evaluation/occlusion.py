"""Occlusion: the words and bigrams that an answer rests on.

A token is left out, and the model reads the text again. The token weighs as much as the log-odds of
the answer fall (Li, Monroe and Jurafsky 2016): the probability of a sure answer hardly falls for
any word. Pairs of neighbours are left out together.
"""

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from pipelines.reports.evaluation_results import Weight
from sentiment.checkpoint import Checkpoint
from sentiment.model.inference import inference
from sentiment.text.tokenizer import Tokenizer

MAX_TOKENS = 100
"""Tokens of a text, from its beginning, that are left out in turn. The later ones are not read."""

MIN_FALL = 0.2
"""Of log-odds, in nats; less is not worth a word."""

MIN_PAIR_FALL = 0.3
"""A pair counts if it weighs by so much more than its two tokens together."""


def weights(
    checkpoint: Checkpoint, texts: Sequence[str], answers: np.ndarray
) -> list[list[Weight]]:
    """What each answer rests on, the heaviest first; empty: no token weighs much.

    Args:
        checkpoint: the model.
        texts: n texts.
        answers: int[n]: the class of each answer.
    """
    column = pa.array([text.encode(errors="replace") for text in texts], pa.large_binary())
    tokens = Tokenizer(checkpoint.stop_words, checkpoint.rules).tokens(column).tokens.to_pylist()
    encoded = checkpoint.encoder()(column)
    infer = inference(checkpoint.network)
    found = []
    for words, answer, (start, stop) in zip(
        tokens, answers.tolist(), itertools.pairwise(encoded.offsets.tolist()), strict=True
    ):
        ids = encoded.ids[start:stop][:MAX_TOKENS]
        spans = [(i, i + size) for size in (1, 2) for i in range(len(ids) + 1 - size)]
        variants = [ids, *(np.delete(ids, slice(*span)) for span in spans)]
        offsets = np.cumsum([0, *map(len, variants)], dtype=np.int64)
        probabilities = infer(np.concatenate(variants), offsets)[:, answer].astype(float)
        log_odds = _log_odds(probabilities)
        left_out = zip(spans, probabilities[1:], log_odds[0] - log_odds[1:], strict=True)
        made = {span: Weight(" ".join(words[slice(*span)]), *each) for span, *each in left_out}
        found.append(_heaviest(made))
    return found


def _heaviest(weights: Mapping[tuple[int, int], Weight]) -> list[Weight]:
    """Those that weigh enough, by their spans of tokens: each token, and the pairs that are more
    than their tokens."""
    heavy: dict[str, Weight] = {}
    for (start, stop), weight in weights.items():
        alone = 0.0
        if stop - start == 2:
            alone = weights[start, start + 1].fall + weights[start + 1, stop].fall + MIN_PAIR_FALL
        if weight.fall >= max(alone, MIN_FALL):
            before = heavy.get(weight.words)
            if before is None or weight.fall > before.fall:
                heavy[weight.words] = weight
    return sorted(heavy.values(), key=lambda weight: -weight.fall)


def _log_odds(probabilities: np.ndarray) -> np.ndarray:
    # A float32 may be 0 or 1.
    clipped = np.clip(probabilities, 1e-7, 1 - 1e-7)
    log_odds: np.ndarray = np.log(clipped) - np.log1p(-clipped)
    return log_odds
