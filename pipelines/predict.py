"""Probabilities of a few texts, from the arguments or a line each from standard input.

    python -m pipelines.predict --checkpoints_dir checkpoints/demo "what a day" "oh no :("

One process, without Ray and TensorFlow.
"""

import sys
from dataclasses import dataclass
from typing import Annotated

import pyarrow as pa
import tyro

from pipelines import cli
from sentiment.checkpoint import load
from sentiment.inference import inference
from sentiment.tokenizer import Tokenizer

LINES_AT_A_TIME = 10_000


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

    def show(texts: list[bytes]) -> None:
        encoded = encode(pa.array(texts, pa.large_binary()))
        for index in encoded.invalid[:1]:
            raise cli.InputError(f"text {shown + index + 1} is not valid UTF-8")
        for text, probability in zip(texts, infer(encoded.ids, encoded.offsets), strict=True):
            print(f"{probability:.6f}\t{text.decode()}")
        sys.stdout.flush()

    shown = 0
    if config.texts:
        show([text.encode("utf-8", "surrogateescape") for text in config.texts])
        return
    # A terminal or a pipe that waits for answers gets each line's at once.
    while lines := sys.stdin.buffer.readlines(1 if sys.stdin.isatty() else 2**20):
        show([line.rstrip(b"\r\n") for line in lines])
        shown += len(lines)


if __name__ == "__main__":
    cli.run(main, PredictConfig)
