"""Drift: how far scored texts differ from those that the model has learnt from."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipelines.console.terminal import percent

MIN_UNKNOWN_EXCESS, MAX_UNKNOWN_EXCESS = 0.02, 0.1
"""Warn if the share of unknown tokens is more than twice that of the training texts, or of the
validation texts if it is larger there; these bounds limit how far above it the threshold is. For
comparison: 2.0% of the tokens were unknown in the tweets of a training run, 2.9% in its held-out
tweets, 5.5% in film reviews."""

MAX_TRUNCATED_EXCESS = 0.01
"""Warn if the share of truncated texts exceeds that of the training texts by more."""


@dataclass(frozen=True)
class Drift:
    """Shares of scored texts and of training texts; None: not recorded, or there are none."""

    unknown: float | None
    """Tokens that the vocabulary lacks."""
    trained_unknown: float | None
    """The larger one of the shares in the texts that the model has learnt from, and in those of the
    same corpus that validated it."""
    is_of_validation: bool
    """Whether that is the share in the texts that validated it."""
    truncated: float | None
    """Texts that were truncated."""
    trained_truncated: float | None

    @staticmethod
    def of(counts: Mapping[str, int], training: Mapping[str, Any]) -> "Drift":
        """The shares, given sums of `PartCounts` by name, and a checkpoint's record of training."""
        # Older checkpoints do not have all counts.
        trained = training.get("learnt", {})
        # Of the training texts themselves a vocabulary of rare words, too, lacks next to nothing.
        held_out = share(trained.get("validation_unknown"), trained.get("validation_tokens"))
        own = share(trained.get("unknown"), trained.get("tokens"))
        is_of_validation = own is not None and held_out is not None and held_out > own
        return Drift(
            share(counts["unknown"], counts["tokens"]),
            held_out if is_of_validation else own,
            is_of_validation,
            share(counts["truncated"], counts["rows"]),
            share(trained.get("truncated"), trained.get("rows")),
        )

    def warnings(self, max_tokens: int) -> list[str]:
        """What a user should know of, each in one line; `max_tokens`: where texts are truncated."""
        warnings = []
        if self.unknown is not None and self.trained_unknown is not None:
            excess = min(max(self.trained_unknown, MIN_UNKNOWN_EXCESS), MAX_UNKNOWN_EXCESS)
            if self.unknown > self.trained_unknown + excess:
                texts = "validation" if self.is_of_validation else "training"
                warnings.append(
                    f"{percent(self.unknown)} of the tokens of these texts are not in the "
                    f"vocabulary; of the {texts} texts it was {percent(self.trained_unknown)}. "
                    f"Above {percent(self.trained_unknown + excess)} the texts are probably of "
                    "another kind, and the predictions less reliable. Label some of them and "
                    "measure the model on those with pipelines.evaluate --data_dir."
                )
        if (
            self.truncated is not None
            and self.trained_truncated is not None
            and self.truncated > self.trained_truncated + MAX_TRUNCATED_EXCESS
        ):
            warnings.append(
                f"{percent(self.truncated)} of these texts were truncated to their first "
                f"{max_tokens} tokens; of the training texts it was "
                f"{percent(self.trained_truncated)}."
            )
        return warnings


def drift_warnings(
    counts: Mapping[str, int], training: Mapping[str, Any], max_tokens: int
) -> list[str]:
    """The warnings of `Drift.of(counts, training)`."""
    return Drift.of(counts, training).warnings(max_tokens)


def share(part: object, whole: object) -> float | None:
    """part / whole; None where either is unknown or the whole is 0."""
    if isinstance(part, int) and isinstance(whole, int) and whole > 0:
        return part / whole
    return None
