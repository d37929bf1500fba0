"""ThresholdRule: what `--threshold_for` asks for."""

import math
from dataclasses import dataclass

from sentiment.errors import InputError


@dataclass(frozen=True)
class ThresholdRule:
    """What a threshold is to reach: `precision=0.9` or `recall=0.9`, of the second class."""

    metric: str
    least: float

    @staticmethod
    def parse(text: str) -> "ThresholdRule":
        """The rule of a flag's value. Raises InputError if it is none."""
        metric, _, value = text.partition("=")
        try:
            least = float(value)
        except ValueError:
            least = math.nan
        if metric not in ("precision", "recall") or not 0 < least < 1:
            raise InputError(
                f"--threshold_for {text} is not precision=X or recall=X with X between 0 and 1"
            )
        return ThresholdRule(metric, least)
