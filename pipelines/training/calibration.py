"""Temperature scaling (Guo et al. 2017): divide the logits so that probabilities are calibrated."""

import numpy as np
import scipy.optimize
from scipy.special import logsumexp

MAX_TEMPERATURE = 4.0
"""Upper bound of the temperature; the lower bound is 1 / MAX_TEMPERATURE. With few texts the
optimum is unbounded."""

OUTPUT_WEIGHTS = ("dense/kernel", "dense/bias")
"""Names of the weights that the logits are linear in."""


def cross_entropy(targets: np.ndarray, logits: np.ndarray) -> float:
    """The mean cross-entropy in nats.

    Args:
        targets: float[n, K], a probability of each class; a row that sums to w counts w times.
        logits: float[n, K].
    """
    logits = logits.astype(np.float64)
    losses = targets * (logsumexp(logits, axis=1, keepdims=True) - logits)
    return float(losses.sum() / targets.sum(dtype=np.float64))


def temperature(targets: np.ndarray, logits: np.ndarray) -> float:
    """The divisor of the logits that minimises `cross_entropy`. Arguments are its."""
    limit = np.log(MAX_TEMPERATURE)
    optimum = scipy.optimize.minimize_scalar(
        lambda log: cross_entropy(targets, logits / np.exp(log)),
        bounds=(-limit, limit),
        method="bounded",
    )
    return float(np.exp(optimum.x))


def calibrated(weights: dict[str, np.ndarray], divisor: float) -> dict[str, np.ndarray]:
    """The weights by name, float32, changed so that the model's logits are divided."""
    divided = {name: weights[name] / np.float32(divisor) for name in OUTPUT_WEIGHTS}
    return weights | divided
