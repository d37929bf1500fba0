"""Train/validation/test split: which rows train, validate, test, or are left out of a sample.

Where few rows validate, training rows do, too: see `pipelines.training.cross_fit`.
"""

from dataclasses import dataclass

import numpy as np

from sentiment.text.tokenizer import mix

TRAIN, VALIDATION, TEST, LEFT_OUT = 0, 1, 2, 3

VALIDATION_SHARE = 0.05
"""Share of the rows not held out for testing that validate instead of train."""

FOLDS = 5
"""Of cross-fitting."""

CROSS_FIT_BELOW = 150
"""Validation rows. Twenty times as many train fast."""


def is_cross_fitted(calibrate: bool, train: int, validation: int, batch_size: int) -> bool:
    """Whether training rows validate as well, as too few others do for a temperature.

    Args:
        calibrate: whether a temperature is sought.
        train: training rows.
        validation: validation rows.
        batch_size: rows of a batch; the models of the folds need more.
    """
    return calibrate and validation < CROSS_FIT_BELOW and train * (FOLDS - 1) // FOLDS > batch_size


@dataclass(frozen=True)
class Split:
    """Assigns each text to train, validation or test by a hash of its normalised form.

    Equal texts are always on the same side, and the sides do not depend on the sharding.
    """

    random_state: int
    test_size: float
    """Share of the texts that test, in (0, 1)."""
    sample_below: int | None = None
    """Texts with a sampling hash of this or more are left out; None: all texts take part."""

    def __call__(self, hashes: np.ndarray) -> np.ndarray:
        """TRAIN, VALIDATION, TEST or LEFT_OUT for each text: `hashes: uint64[n]` to int8[n]."""
        uniform = mix(hashes, 3 * self.random_state) / 2.0**64
        limit = self.test_size + (1 - self.test_size) * VALIDATION_SHARE
        sides = np.where(
            uniform < self.test_size, TEST, np.where(uniform < limit, VALIDATION, TRAIN)
        )
        if self.sample_below is not None:
            sides[self.sampling_hashes(hashes) >= np.uint64(self.sample_below)] = LEFT_OUT
        return sides.astype(np.int8)

    def sampling_hashes(self, hashes: np.ndarray) -> np.ndarray:
        """Hashes for `--n_samples`, which takes the texts with the smallest ones: uint64[n]."""
        return mix(hashes, 3 * self.random_state + 1)
