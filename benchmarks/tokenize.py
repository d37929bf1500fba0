"""Tokenizing, texts -> ids: the compiled pass next to plain Python with `re`, on one core.

    python -m benchmarks.tokenize
    python -m benchmarks.tokenize --texts tweets.parquet --column text

Without --texts: tweets of 75 characters from a seeded generator. Both look up the same vocabulary,
in turns, after one run that is not counted. The plain one does part of the rules only.
"""

import re
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from html import unescape

import numpy as np
import pyarrow as pa

from pipelines.console import command
from pipelines.console.flags import require
from pipelines.sources.listing import find_shards
from sentiment.text import vocabulary
from sentiment.text.tokenizer import UNKNOWN, Tokenizer

GENERATED = 200_000
LENGTH = 75
SAMPLE = 20_000
"""So many texts plain Python takes in a repeat: it is some twenty times slower."""

WORDS = 20_000
ODDITIES = (
    ":)", ":(", ":-)", ";D", "<3", "xD", "!!!", "?", "...", "&amp;", "&quot;", "#fail", "#win",
    "@some_user", "@friend", "http://t.co/Ab3dE", "www.example.com/page", "don't", "it's",
    "soooo", "yesss", "LOL", "😂", "❤️", "café", "10/10",
)  # fmt: skip

PATTERN = re.compile(
    r"(?P<url>(?:https?://|www\.)[^\s<>\"]*[^\s<>\".,:;!?)])|(?P<user>(?<!\w)@\w+)|#\w+"
    r"|[:;=][-^o']?[()\[\]{}/\\|*dpo]+|</?3+|\^[_.-]?\^|[!?]|[\u2600-\u27bf\U0001f300-\U0001faff]"
    r"|\.\.+|(?<=\w)\.(?!\S)|,(?!\S)|[^\W_]+(?:'[^\W_]+)*"
)
REPEATED = re.compile(r"([^\W\d])\1{2,}")


@dataclass(frozen=True)
class TokenizeBenchmark:
    """Measure the tokenizer beside plain Python, on one core."""

    texts: str | None = None
    """A shard, or a directory of them; None: tweets are generated."""
    column: str = "text"
    """Their column of texts."""
    repeats: int = 9
    """Times that each is measured."""

    def __post_init__(self) -> None:
        require(self.repeats >= 1, "repeats", self.repeats, "at least 1")


def plain_python(texts: list[str], ids: dict[str, int]) -> list[list[int]]:
    """The usual way: the same kinds of tokens, by a regular expression, text by text."""
    found = []
    for text in texts:
        text = REPEATED.sub(r"\1\1", unescape(text).lower().replace("’", "'"))
        tokens = (
            f"<{match.lastgroup}>" if match.lastgroup else match[0]
            for match in PATTERN.finditer(text)
        )
        found.append([ids.get(token, UNKNOWN) for token in tokens])
    return found


def tweets(count: int, seed: int = 0) -> pa.Array:
    """Texts of LENGTH characters: words as frequent as Zipf's law has them, and oddities."""
    random = np.random.default_rng(seed)
    letters = np.array(list("etaoinshrdlucmfwygpbvk"))
    lengths = random.choice(len(_SHARES), WORDS, p=np.array(_SHARES) / 100) + 1
    words = ["".join(random.choice(letters, length)) for length in lengths]
    weights = 1 / np.arange(1, WORDS + 1)
    drawn = random.choice(WORDS, count * LENGTH // 4, p=weights / weights.sum())
    texts, text = [], ""
    for number, share in zip(drawn, random.random(len(drawn)), strict=True):
        word = words[number]
        if share < 0.1:
            word = ODDITIES[int(share * 10 * len(ODDITIES))]
        elif share < 0.2:
            word = word.capitalize() + ("," if share < 0.15 else ".")
        text = f"{text} {word}" if text else word
        if len(text) >= LENGTH:
            texts.append(text[:LENGTH])
            text = ""
    return pa.array(texts[:count], pa.string())


_SHARES = (4, 14, 20, 21, 14, 9, 7, 5, 3, 2, 1)
"""Percent of the words that have 1, 2, 3 ... letters."""


def read_texts(path: str, column: str, rows: int = sys.maxsize) -> pa.ChunkedArray:
    """The texts of a shard or a directory of them, the first so many."""
    shards, chunks = find_shards([path], "--texts"), []
    for some in (some for shard in shards for some in shard.rows([column], "utf-8")):
        chunks += some.table[column].cast(pa.string()).chunks
        if sum(map(len, chunks)) >= rows:
            break
    return pa.chunked_array(chunks, pa.string())[:rows]


def timed(work: Callable[[], object]) -> float:
    """Seconds that the work takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def line(name: str, rates: list[float], size: float) -> str:
    """Median and range of rates in texts a second, and megabytes of texts of `size` bytes."""
    median = statistics.median(rates)
    return (
        f"{name:<14} {median:>11,.0f} texts/s  (from {min(rates):,.0f} to {max(rates):,.0f})"
        f"  {median * size / 1e6:6.1f} MB/s"
    )


def main(config: TokenizeBenchmark) -> None:
    """Measure and print."""
    texts = read_texts(config.texts, config.column) if config.texts else tweets(GENERATED)
    tokens = Tokenizer().tokens(texts)
    words = vocabulary.build(vocabulary.document_frequencies(tokens.tokens), len(texts))
    encoder = Tokenizer().encoder(words)
    encoded = encoder(texts)
    sample = [text for text in texts.slice(0, SAMPLE).to_pylist() if text is not None]
    ids = {word: number for number, word in enumerate(words)}
    plain_python(sample, ids)

    compiled, plain = [], []
    for _ in range(config.repeats):
        compiled.append(len(texts) / timed(lambda: encoder(texts)))
        plain.append(len(sample) / timed(lambda: plain_python(sample, ids)))
    size = texts.nbytes / len(texts)
    print(
        f"{len(texts):,} texts, {size:.0f} bytes and {len(encoded.ids) / len(texts):.1f} tokens "
        f"on average, {len(words):,} words known"
    )
    print(line("Encoder", compiled, size))
    print(line("Python with re", plain, size))
    ratios = [fast / slow for fast, slow in zip(compiled, plain, strict=True)]
    print(f"ratio {statistics.median(ratios):.1f} (from {min(ratios):.1f} to {max(ratios):.1f})")


if __name__ == "__main__":
    command.run(main, TokenizeBenchmark)
