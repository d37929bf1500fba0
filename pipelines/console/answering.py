"""Whether the servers of the buckets that flags name answer: looked at before a program begins."""

from collections.abc import Iterator
from dataclasses import fields
from typing import Any

from pipelines.console.waiting import standard_error, waiting
from pipelines.errors import Failure
from sentiment.buckets import require_server

SCHEMES = ("s3", "gs")

ANSWER_SECONDS = 2.0
"""A server that takes longer is said to be silent."""


def require_answers(flags: Any) -> None:
    """Raise a Failure, after some 10 seconds, if nobody answers where a bucket of a flag is.

    A request would be retried for minutes, without a word. `flags`: a dataclass.
    """
    asked = set()
    for uri in _uris(flags):
        scheme = uri.partition("://")[0]
        if scheme in asked:
            continue
        asked.add(scheme)
        try:
            require_answer(uri, uri)
        except OSError as error:
            raise Failure(
                f"{uri} cannot be reached: {error}: run the same command again"
            ) from error


def require_answer(path: str, name: str) -> None:
    """Raise an OSError, after some 10 seconds, if nobody answers where the bucket of a URI is.

    Args:
        path: A URI, or a local path, of which nothing is asked.
        name: Whose answer a line says to be missing meanwhile.
    """
    scheme, separator, _ = path.partition("://")
    if separator and scheme in SCHEMES:
        words = f"{name}: no answer yet, trying for some 10 s"
        with waiting(words, ANSWER_SECONDS, standard_error):
            require_server(scheme)


def _uris(flags: Any) -> Iterator[str]:
    """The URIs of buckets among the values of flags."""
    for field in fields(flags):
        value = getattr(flags, field.name)
        for each in value if isinstance(value, tuple) else (value,):
            if isinstance(each, str) and each.partition("://")[0] in SCHEMES and "://" in each:
                yield each
