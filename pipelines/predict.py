"""Probabilities of a few texts, from the arguments or a line each from standard input.

    python -m pipelines.predict --checkpoints_dir checkpoints/demo "what a day" "oh no :("

One process, without Ray and TensorFlow.
"""

import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, BinaryIO

import tyro

from pipelines.console import command
from pipelines.console.terminal import printable
from sentiment.errors import InputError
from sentiment.predictor import load

BYTES_AT_A_TIME = 2**20


@dataclass(frozen=True)
class PredictConfig:
    """Print the probability that each text is positive, a text a line, separated by a tab: what
    `pipelines.score` gives it, which by default takes the first 512 tokens of a longer one."""

    checkpoints_dir: str
    """Directory or URI of a checkpoint, as `pipelines.train` printed it."""
    texts: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """Texts; none: the lines of standard input."""


def main(config: PredictConfig) -> None:
    """Print a line a text."""
    model = load(config.checkpoints_dir)
    output = sys.stdout.buffer
    # Through a pipe go the bytes that came.
    on_screen = output.isatty()
    shown = 0

    def show(texts: list[bytes], kind: str) -> None:
        nonlocal shown
        valid = []
        with suppress(UnicodeDecodeError):
            for text in texts:
                valid.append(text.decode())
        for text, probability in zip(texts, model.predict(valid), strict=False):
            shown_text = text.replace(b"\n", b" ")
            if on_screen:
                shown_text = printable(shown_text.decode()).encode()
            output.write(b"%.6f\t%s\n" % (probability, shown_text))
        output.flush()
        shown += len(valid)
        if len(valid) < len(texts):
            raise InputError(f"{kind} {shown + 1} is not valid UTF-8")

    if config.texts:
        show([text.encode("utf-8", "surrogateescape") for text in config.texts], "text")
        return
    for lines in _lines(sys.stdin.buffer):
        show(lines, "standard input, line")


def _lines(stream: BinaryIO) -> Iterator[list[bytes]]:
    """The lines of a stream without their ends: those that have come, as soon as they have."""
    begun = b""
    while some := stream.read1(BYTES_AT_A_TIME):
        *lines, begun = (begun + some).split(b"\n")
        if lines:
            yield [line.removesuffix(b"\r") for line in lines]
    if begun:
        yield [begun.removesuffix(b"\r")]


if __name__ == "__main__":
    command.run(main, PredictConfig)
