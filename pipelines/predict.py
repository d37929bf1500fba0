"""Classes of a few texts, from the arguments or from the lines of standard input.

    python -m pipelines.predict --checkpoints_dir checkpoints/demo "what a day" "oh no :("

Runs in one process, without Ray and TensorFlow.
"""

import sys
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from tyro.conf import Positional

import sentiment
from pipelines.console import command
from pipelines.console.standard_input import lines_of
from pipelines.console.terminal import printable


@dataclass(frozen=True)
class PredictConfig:
    """Print the class of each text, its probability and the text: a line per text, tabs in between.

    They are what `pipelines.score` computes by default, which truncates texts longer than 512
    tokens."""

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
        for line, winner, probability in zip(valid, *_answers(model, valid), strict=True):
            line = line.replace("\n", " ")
            # Through a pipe the text goes as it came.
            line = printable(line) if output.isatty() else line
            output.write(f"{winner}\t{probability:.6f}\t{line}\n".encode())
        output.flush()
        printed += len(valid)
        if len(valid) < len(texts):
            raise sentiment.InputError(f"{place} {printed + 1} is not valid UTF-8")


def _answers(model: sentiment.Predictor, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """The class of each text, and its probability."""
    probabilities = model.predict_proba(texts)
    winners = model.winners(probabilities)
    return np.array(model.classes, object)[winners], probabilities[np.arange(len(texts)), winners]


def load() -> command.Program[Any]:
    """The program and its flags."""
    return main, PredictConfig


if __name__ == "__main__":
    command.run(load)
