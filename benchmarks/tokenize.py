"""Compare the tokenizer with plain Python and `re` on one core: texts -> token ids.

    python -m benchmarks.tokenize
    python -m benchmarks.tokenize --texts tweets.parquet --column text

Without --texts, tweets of 75 characters are generated. Both tokenizers use the same vocabulary and
run in turns, after one run that is not counted. The Python tokenizer has only a part of the rules.
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
from pipelines.console.flag_values import require
from pipelines.sources.listing import find_shards
from pipelines.sources.options import ReadOptions
from sentiment.text import vocabulary
from sentiment.text.tokenizer import UNKNOWN, Tokenizer

GENERATED = 200_000
LENGTH = 75
SAMPLE = 20_000
"""Texts that plain Python tokenizes in a repeat. It is 25 to 35 times slower."""

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
    """Compare the tokenizer with plain Python on one core."""

    texts: str | None = None
    """A shard or a directory of shards; None: tweets are generated."""
    column: str = "text"
    """Column that holds the texts."""
    repeats: int = 9
    """Measurements of each tokenizer."""

    def __post_init__(self) -> None:
        require(self.repeats >= 1, "repeats", self.repeats, "at least 1")


def plain_python(texts: list[str], ids: dict[str, int]) -> list[list[int]]:
    """Tokenize text by text with a regular expression for the same kinds of tokens."""
    rows = []
    for text in texts:
        text = REPEATED.sub(r"\1\1", unescape(text).lower().replace("’", "'"))
        tokens = (
            f"<{match.lastgroup}>" if match.lastgroup else match[0]
            for match in PATTERN.finditer(text)
        )
        rows.append([ids.get(token, UNKNOWN) for token in tokens])
    return rows


def tweets(count: int, seed: int = 0) -> pa.Array:
    """Generate texts of LENGTH characters: words with Zipf frequencies, and ODDITIES."""
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
"""Percentages of words that have 1, 2, 3 ... letters."""


def read_texts(path: str, column: str, rows: int = sys.maxsize) -> pa.ChunkedArray:
    """Read the first `rows` texts of a shard or a directory of shards."""
    shards, chunks = find_shards([path], "--texts"), []
    for rows_read in (batch for shard in shards for batch in shard.rows([column], ReadOptions())):
        chunks += rows_read.table[column].cast(pa.string()).chunks
        if sum(map(len, chunks)) >= rows:
            break
    return pa.chunked_array(chunks, pa.string())[:rows]


def timed(work: Callable[[], object]) -> float:
    """Call `work` and return the seconds that it took."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def line(name: str, rates: list[float], size: float) -> str:
    """One line: median and range of rates in texts/s, and MB/s for texts of `size` bytes."""
    median = statistics.median(rates)
    return (
        f"{name:<14} {median:>11,.0f} texts/s  (from {min(rates):,.0f} to {max(rates):,.0f})"
        f"  {median * size / 1e6:6.1f} MB/s"
    )


def main(config: TokenizeBenchmark) -> None:
    """Measure both tokenizers and print the rates."""
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
        f"on average, {len(words):,} words in the vocabulary"
    )
    print(line("Encoder", compiled, size))
    print(line("Python with re", plain, size))
    ratios = [fast / slow for fast, slow in zip(compiled, plain, strict=True)]
    print(f"ratio {statistics.median(ratios):.1f} (from {min(ratios):.1f} to {max(ratios):.1f})")


if __name__ == "__main__":
    command.run(lambda: (main, TokenizeBenchmark))
