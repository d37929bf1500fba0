"""Corpus: counts, vocabulary and files of a prepared corpus, as `corpus.json` holds them."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Corpus:
    """A prepared corpus: labelled texts as token ids, in three splits."""

    directory: str
    """Path or URI of its files."""
    rows: dict[str, int]
    """Rows in `train`, `validation` and `test`."""
    positive: dict[str, int]
    """Rows with label 1 in each of them."""
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
