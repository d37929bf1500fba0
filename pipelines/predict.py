"""Probabilities of a few texts, from the arguments or a line each from standard input.

    python -m pipelines.predict --checkpoints_dir checkpoints/demo "what a day" "oh no :("

One process, without Ray and TensorFlow.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, BinaryIO

import pyarrow as pa
import tyro

from pipelines import cli
from sentiment.checkpoint import load
from sentiment.errors import InputError
from sentiment.inference import inference
from sentiment.tokenizer import Tokenizer

BYTES_AT_A_TIME = 2**20


@dataclass(frozen=True)
class PredictConfig:
    """Print the probability that each text is positive, a text a line, separated by a tab."""

    checkpoints_dir: str
    """Directory or URI of a checkpoint, as `pipelines.train` printed it."""
    texts: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """Texts; none: the lines of standard input."""


def main(config: PredictConfig) -> None:
    """Print a line a text."""
    checkpoint = load(config.checkpoints_dir)
    encode = Tokenizer(checkpoint.stop_words).encoder(checkpoint.vocabulary)
    infer = inference(checkpoint.weights)
    output = sys.stdout.buffer
    # Through a pipe go the bytes that came.
    on_screen = output.isatty()
    shown = 0

    def show(texts: list[bytes], kind: str) -> None:
        nonlocal shown
        encoded = encode(pa.array(texts, pa.large_binary()))
        valid = encoded.invalid[0] if len(encoded.invalid) else len(texts)
        probabilities = infer(encoded.ids, encoded.offsets)[:valid]
        for text, probability in zip(texts[:valid], probabilities, strict=True):
            text = text.replace(b"\n", b" ")
            text = cli.printable(text.decode()).encode() if on_screen else text
            output.write(b"%.6f\t%s\n" % (probability, text))
        output.flush()
        shown += valid
        if valid < len(texts):
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
    cli.run(main, PredictConfig)
