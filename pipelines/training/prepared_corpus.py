"""Corpus: counts, vocabulary and files of a prepared corpus, as `corpus.json` holds them."""

import json
from dataclasses import asdict, dataclass, field

import numpy as np

from pipelines.sources.labels import shown
from pipelines.sources.left_out import LeftOut
from sentiment import storage


@dataclass(frozen=True)
class Corpus:
    """A prepared corpus: labelled texts as token ids, in three splits."""

    directory: str
    """Path or URI of its files."""
    rows: dict[str, int]
    """Rows in `train`, `validation` and `test`."""
    classes: tuple[str, ...]
    """Names of the classes, in order."""
    labels: dict[str, list[int]]
    """Rows of each class in `train`, `validation` and `test`; of soft labels the largest counts."""
    soft_labels: bool
    """Whether the labels are probabilities."""
    usable: int
    """Rows that can be learnt from, those that a sample leaves out included."""
    left_out: LeftOut
    """The others."""
    longest: int
    """Tokens of the longest text."""
    longest_row: str
    """Where the longest text stands: `SHARD, row NUMBER`."""
    sample_below: int | None
    """See `Split.sample_below`."""
    vocabulary: tuple[str, ...]
    """The token of each id."""
    unknown: int
    """Tokens of the training texts that have no id of their own."""
    lengths: list[list[int]]
    """Of the training texts: pairs of a number of tokens and how many texts have it, ascending."""
    files: dict[str, list[str]]
    """Names of the files of `train` and `validation`, in order."""
    validation_tokens: int = 0
    """Tokens of the validation texts; 0 in corpora of earlier versions."""
    validation_unknown: int = 0
    """Tokens of the validation texts that have no id of their own."""
    unlabelled: int = 0
    """Texts of the sample of `--unlabelled`; 0: there is none."""
    unlabelled_rejected: int = 0
    """Rows of `--unlabelled` that hold no text that can be used."""
    label_values: list[list[str]] = field(default_factory=list)
    """The labels of each class, normalized; []: of soft labels, and in corpora of earlier
    versions."""
    sizes: dict[str, int] = field(default_factory=dict)
    """Bytes of each file; {} in corpora of earlier versions."""

    def to_json(self) -> bytes:
        """The content of `corpus.json`: all but the directory."""
        content = asdict(self)
        del content["directory"]
        return json.dumps(content).encode()

    @staticmethod
    def from_json(directory: str, content: bytes) -> "Corpus":
        """The corpus of a directory, from what its `corpus.json` holds.

        Raises one of UNREADABLE for content that `to_json` has not written.
        """
        fields = json.loads(content)
        fields["vocabulary"], fields["classes"] = map(
            tuple, (fields["vocabulary"], fields["classes"])
        )
        left_out = fields.pop("left_out")
        left_out["first"] = tuple(left_out["first"])
        return Corpus(directory=directory, left_out=LeftOut(**left_out), **fields)

    def description(self) -> list[str]:
        """Lines that say which classes there are, and which rows are left out."""
        rows = np.sum([self.labels[name] for name in self.labels], axis=0)
        by_class = dict(zip(self.classes, rows.tolist(), strict=True))
        counted = ", rows by the most probable one" if self.soft_labels else ""
        lines = [f"{len(self.classes):,} classes{counted}: {shown(by_class)}", str(self.left_out)]
        never = [name for name, n in zip(self.classes, self.labels["train"], strict=True) if not n]
        if never and not self.soft_labels:
            lines.append(f"No training rows of: {', '.join(never)}"[:500])
        if self.unlabelled:
            left_out = f" ({self.unlabelled_rejected:,} rows are null, malformed or not text)"
            lines.append(
                f"Unlabelled texts to learn words from: {self.unlabelled:,}"
                + (left_out if self.unlabelled_rejected else "")
            )
        return [line for line in lines if line]

    def damage(self) -> str:
        """What is wrong with the files, as far as their sizes tell, in a few words; "": nothing."""
        there = {entry.base_name: entry.size for entry in storage.entries(self.directory)}
        for name, size in self.sizes.items():
            if name not in there:
                return f"{name} is missing"
            if there[name] != size:
                return f"{name} has {there[name]:,} bytes and not {size:,}"
        return ""

    @property
    def key(self) -> str:
        """Hash of the shards and settings that the corpus was prepared from."""
        return self.directory.rpartition("/")[2]

    @property
    def tokens(self) -> int:
        """Tokens of the training texts."""
        return sum(length * texts for length, texts in self.lengths)

    def longer_than(self, tokens: int) -> int:
        """Number of training texts with more than `tokens` tokens."""
        return sum(texts for length, texts in self.lengths if length > tokens)
