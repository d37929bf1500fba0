"""Probabilities of a few texts, from the arguments or from the lines of standard input.

    python -m pipelines.predict --checkpoints_dir checkpoints/demo "what a day" "oh no :("

Runs in one process, without Ray and TensorFlow.
"""

import sys
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from tyro.conf import Positional

import sentiment
from pipelines.console import command
from pipelines.console.standard_input import lines_of
from pipelines.console.terminal import printable


@dataclass(frozen=True)
class PredictConfig:
    """Print the probability that each text is positive: a line per text, separated by a tab.

    It is the probability that `pipelines.score` computes by default, which truncates texts longer
    than 512 tokens."""

    checkpoints_dir: str
    """Directory or URI of a checkpoint, as `pipelines.train` printed it."""
    texts: Positional[tuple[str, ...]] = ()
    """Texts; none: the lines of standard input."""


def main(config: PredictConfig) -> None:
    """Print a line per text, as soon as the text is there."""
    model = sentiment.load(config.checkpoints_dir)
    arguments = [text.encode("utf-8", "surrogateescape") for text in config.texts]
    place = "text" if arguments else "standard input, line"
    output, printed = sys.stdout.buffer, 0
    for texts in [arguments] if arguments else lines_of(sys.stdin.buffer):
        valid: list[str] = []
        with suppress(UnicodeDecodeError):
            for text in texts:
                valid.append(text.decode())
        for line, probability in zip(valid, model.predict(valid), strict=True):
            line = line.replace("\n", " ")
            # Through a pipe the text goes as it came.
            line = printable(line) if output.isatty() else line
            output.write(f"{probability:.6f}\t{line}\n".encode())
        output.flush()
        printed += len(valid)
        if len(valid) < len(texts):
            raise sentiment.InputError(f"{place} {printed + 1} is not valid UTF-8")


def load() -> command.Program[Any]:
    """The program and its flags."""
    return main, PredictConfig


if __name__ == "__main__":
    command.run(load)
