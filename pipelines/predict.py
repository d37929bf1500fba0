"""Classes of a few texts, from the arguments or from the lines of standard input.

    python -m pipelines.predict --checkpoints_dir checkpoints/demo "what a day" "oh no :("
    python -m pipelines.predict --checkpoints_dir checkpoints/demo --json < tweets.jsonl

Runs in one process, without Ray and TensorFlow.
"""

import json
import sys
from dataclasses import dataclass
from typing import Any

from tyro.conf import Positional

import sentiment
from pipelines.console import command
from pipelines.console.standard_input import lines_of
from pipelines.console.terminal import printable
from pipelines.console.waiting import compiling_said, standard_error, waiting

ADDED = {"label", "probabilities"}
"""Fields of the answers of --json."""


@dataclass(frozen=True)
class PredictConfig:
    """Print the class of each text, its probability and the text: a line per text, tabs in between.

    They are what `pipelines.score` computes by default, which truncates texts longer than 512
    tokens."""

    checkpoints_dir: str
    """Directory or URI of a checkpoint, as `pipelines.train` printed it; hf://OWNER/NAME: of the
    Hugging Face Hub."""
    texts: Positional[tuple[str, ...]] = ()
    """Texts; none: the lines of standard input."""
    json: bool = False
    """Read and write JSON lines: a line of standard input is a text in quotes, or an object with
    the text as --text_column; label and probabilities are added to it."""
    text_column: str = "text"
    """Name of the text in the objects of --json."""

    def __post_init__(self) -> None:
        if self.text_column in ADDED:
            raise sentiment.InputError(
                f"--text_column {self.text_column}: the answer adds a field of that name"
            )


@compiling_said(standard_error)
def main(config: PredictConfig) -> None:
    """Print a line per text, as soon as the text is there."""
    with waiting(f"Loading the model of {config.checkpoints_dir}", stream=standard_error):
        # Heavy; and not before `command.run` has said how Numba is to load.
        from pipelines.sources.rows import MAX_ROW_BYTES
        from sentiment.numba_cache import load_numba

        load_numba()
        model = sentiment.load(config.checkpoints_dir)
    arguments = [text.encode("utf-8", "surrogateescape") for text in config.texts]
    if not arguments and sys.stdin.isatty():
        print("Type a text and press Enter; Ctrl-D ends.", file=sys.stderr)
    place = "text" if arguments else "standard input, line"
    is_json_input = config.json and not arguments
    output, printed = sys.stdout.buffer, 0
    for lines in [arguments] if arguments else lines_of(sys.stdin.buffer, MAX_ROW_BYTES):
        rows: list[_Row] = []
        wrong: sentiment.InputError | None = None
        try:
            for line in lines:
                rows.append(_row(line, config.text_column, is_json_input))
        except ValueError as error:
            wrong = sentiment.InputError(f"{place} {printed + len(rows) + 1} {error}")
        texts = [row.text for row in rows]
        probabilities = model.predict_proba(texts)
        winners = model.winners(probabilities)
        for row, winner, answer in zip(rows, winners.tolist(), probabilities.tolist(), strict=True):
            name = model.classes[winner]
            if config.json:
                by_class = dict(zip(model.classes, (round(p, 6) for p in answer), strict=True))
                added = json.dumps({"label": name, "probabilities": by_class})
                # Fields go as they came: a number may have more digits than Python keeps.
                text = f"{row.json[:-1].rstrip()}, {added[1:]}"
            else:
                text = f"{name}\t{answer[winner]:.6f}\t{row.text}".replace("\n", " ")
                # Through a pipe the text goes as it came.
                text = printable(text) if output.isatty() else text
            output.write(f"{text}\n".encode())
        output.flush()
        printed += len(rows)
        if wrong:
            raise wrong


@dataclass(frozen=True)
class _Row:
    """A text, and the object that has it, as JSON."""

    text: str
    json: str


def _row(line: bytes, text_column: str, is_json: bool) -> _Row:
    """A line as a text and its object; ValueError says what is wrong with the line."""
    try:
        text = line.decode()
    except UnicodeDecodeError:
        raise ValueError("is not valid UTF-8") from None
    if not is_json:
        return _Row(text, json.dumps({text_column: text}))
    try:
        value = json.loads(text, parse_int=_integer)
    except ValueError:
        raise ValueError("is not JSON: give a text in quotes, or an object") from None
    except RecursionError:
        raise ValueError(
            "cannot be read as JSON: it has too many lists or objects inside each other"
        ) from None
    row = {text_column: value} if isinstance(value, str) else value
    if not isinstance(row, dict) or text_column not in row:
        raise ValueError(f"has no text {text_column!r}: --text_column names another")
    if not isinstance(row[text_column], str):
        raise ValueError(f"has no text in {text_column!r}, but {json.dumps(row[text_column])[:40]}")
    if added := ADDED & row.keys():
        raise ValueError(f"has a field {min(added)!r}, which the answer adds: rename it")
    try:
        row[text_column].encode()
    except UnicodeEncodeError:
        raise ValueError("is not valid Unicode") from None
    return _Row(row[text_column], json.dumps(row) if isinstance(value, str) else text.strip())


def _integer(digits: str) -> int | float:
    """A number of JSON, which only has to be told from a text: Python may refuse an int of more
    digits than these."""
    is_short = len(digits) <= sys.int_info.str_digits_check_threshold
    return int(digits) if is_short else float(digits)


def load() -> command.Program[Any]:
    """The program and its flags."""
    return main, PredictConfig


if __name__ == "__main__":
    command.run(load)
