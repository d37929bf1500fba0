"""Export a checkpoint to ONNX, with its tokenizer: a directory for programs that lack this package.

    python -m pipelines.export --checkpoints_dir checkpoints/demo --output exported

Needs no TensorFlow.
"""

import json
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from pipelines.cluster.submitted import require_lasting
from pipelines.console import command
from pipelines.errors import Failure
from sentiment import checkpoint, storage
from sentiment.arrow_errors import without_details
from sentiment.checkpoint import Checkpoint
from sentiment.errors import on_one_line

MODEL, TOKENIZER, REFERENCE = "model.onnx", "tokenizer.json", "tokenizer.py"


@dataclass(frozen=True)
class ExportConfig:
    """Write model.onnx (token ids in, probabilities out), tokenizer.json and tokenizer.py, the
    tokenizer in plain Python."""

    checkpoints_dir: str
    """Directory or URI of a checkpoint, as `pipelines.train` printed it."""
    output: str
    """Directory or URI for the three files, which replace those of an earlier export."""


def main(config: ExportConfig) -> None:
    """Load the checkpoint and write the files; the model last."""
    from sentiment.model.onnx_graph import onnx_model

    require_lasting(config.output, "--output")
    trained = checkpoint.load(config.checkpoints_dir)
    model = onnx_model(trained).SerializeToString()
    storage.require_writable(config.output, "--output")
    contents = {
        REFERENCE: files("sentiment.text").joinpath("reference.py").read_bytes(),
        TOKENIZER: tokenizer_file(trained),
        MODEL: model,
    }
    try:
        # The model of an earlier export answers otherwise with the tokenizer of this one.
        storage.remove_if_there(storage.join(config.output, MODEL))
        for name, content in contents.items():
            storage.write(storage.join(config.output, name), content)
    except IsADirectoryError:
        raise  # Its message names the directory that is in the way.
    except OSError as error:
        reason = without_details(on_one_line(error))
        raise Failure(
            f"--output {config.output} cannot be written: {reason}: run the same command again"
        ) from error
    print(f"Model:     {storage.join(config.output, MODEL)} ({len(model) / 1e6:,.1f} MB)")
    print(f"Tokenizer: {storage.join(config.output, TOKENIZER)}, for {REFERENCE} beside it")


def tokenizer_file(trained: Checkpoint) -> bytes:
    """What `sentiment.text.reference.Tokenizer` reads, and the names of the model's outputs."""
    from sentiment.predictor import MAX_TOKENS
    from sentiment.text.character_tables import character_tables

    content = {
        "classes": trained.classes.names,
        "threshold": trained.classes.threshold,
        "model_hash": trained.model_hash,
        "max_tokens": MAX_TOKENS,
        "stop_words": trained.stop_words,
        # The graph finds bigrams itself.
        "vocabulary": trained.words,
        **character_tables(trained.rules),
    }
    return (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode()


def load() -> command.Program[Any]:
    """The program and its flags."""
    return main, ExportConfig


if __name__ == "__main__":
    command.run(load)
