"""Temperature scaling (Guo et al. 2017): divide the logits so that probabilities are calibrated."""

import numpy as np
import scipy.optimize

MAX_TEMPERATURE = 2.0
"""Upper bound of the temperature; the lower bound is 1 / MAX_TEMPERATURE. With few texts the
optimum is unbounded."""

OUTPUT_WEIGHTS = ("dense/kernel", "dense/bias")
"""Names of the weights that the logits are linear in."""


def temperature(against: np.ndarray) -> float:
    """The divisor of the logits that minimises the mean cross-entropy.

    Args:
        against: float64[n], logit of the wrong class minus logit of the right class.
    """
    limit = np.log(MAX_TEMPERATURE)
    optimum = scipy.optimize.minimize_scalar(
        lambda log: np.logaddexp(0, against / np.exp(log)).mean(),
        bounds=(-limit, limit),
        method="bounded",
    )
    return float(np.exp(optimum.x))


def calibrated(weights: dict[str, np.ndarray], divisor: float) -> dict[str, np.ndarray]:
    """The weights by name, float32, changed so that the model's logits are divided."""
    divided = {name: weights[name] / np.float32(divisor) for name in OUTPUT_WEIGHTS}
    return weights | divided
