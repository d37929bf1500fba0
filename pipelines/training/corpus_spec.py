"""CorpusSpec: all that decides the content of a prepared corpus."""

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any

from pipelines.sources.labelled import LabelledReader
from pipelines.sources.options import ReadOptions
from pipelines.sources.shard import Shard
from pipelines.sources.split import Split
from pipelines.training.unlabelled import UnlabelledShards
from sentiment.text.tokenizer import RULES
from sentiment.text.vocabulary import MIN_SHARE

FORMAT = 7
"""Of the files of a prepared corpus."""

VERSION = f"{FORMAT}, {RULES}"
"""The part of a corpus's key that depends on the version of this package."""


@dataclass(frozen=True)
class CorpusSpec:
    """The shards and every setting that changes what a prepared corpus holds."""

    shards: list[Shard]
    """The labelled shards."""
    reader: LabelledReader
    """Reads them."""
    split: Split
    """Assigns texts to train, validation and test."""
    stop_words: tuple[str, ...] = ()
    """Words that the tokenizer leaves out."""
    n_samples: int | None = None
    """Rows to use at most; None: all."""
    min_share: float = MIN_SHARE
    """Share of the training texts, or of the sample of unlabelled ones, that a token must exceed to
    get an id."""
    unlabelled: UnlabelledShards | None = None
    """Other texts, whose words also get an id; None: there are none."""
    words: tuple[str, ...] = ()
    """Words that get an id in any case."""

    @property
    def key(self) -> str:
        """Name of the corpus's directory: 16 hex digits of a hash of all this."""
        reader = asdict(self.reader)
        # Another order is for evaluating only.
        del reader["probabilities_of"]
        settings = {
            "format": FORMAT,
            "tokenizer": RULES,
            "shards": [asdict(shard) for shard in self.shards],
            "source": _with_options(reader),
            "stop_words": self.stop_words,
            "split": asdict(self.split),
            "n_samples": self.n_samples,
            "min_share": self.min_share,
        }
        if self.unlabelled is not None:
            settings["unlabelled"] = _with_options(asdict(self.unlabelled))
        if self.words:
            settings["words"] = self.words
        return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]


def _with_options(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings with what their `options` say other than by default, and the encoding.

    Corpora of versions that lack some options are those of their defaults.
    """
    options, defaults = settings.pop("options"), asdict(ReadOptions())
    changed = {name: value for name, value in options.items() if value != defaults[name]}
    return {**settings, "encoding": options["encoding"], **changed}
