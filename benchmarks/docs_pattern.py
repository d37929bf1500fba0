"""Batch inference as in the documentation of Ray Data, with the same checkpoint.

    python -m benchmarks.docs_pattern CHECKPOINT INPUT OUTPUT

`read_parquet` -> `map_batches` with a class, in two actors, that cleans and splits texts in Python,
pads them to 64 tokens and calls Keras `predict` -> `write_parquet`.
"""

import re
import sys

import numpy as np
import ray

from sentiment import checkpoint

LENGTH = 64
WORD = re.compile(r"https?://\S+|[#@]?\w+(?:'\w+)*|[!?]|[:;]-?[()DP]")


class Predictor:
    """Scores batches with Keras. Each actor loads the model once."""

    def __init__(self, directory: str) -> None:
        from benchmarks.keras_model import WordsAlone

        loaded = checkpoint.load(directory)
        self.ids = {token: i for i, token in enumerate(loaded.vocabulary)}
        self.model = WordsAlone(loaded.weights)

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Add `positive_probability` and `sentiment` to a batch, and remove `text`."""
        padded = np.zeros((len(batch["text"]), LENGTH), np.int32)
        lengths = np.zeros(len(padded), np.int32)
        for row, text in enumerate(batch["text"]):
            tokens = [self.ids.get(token, 1) for token in WORD.findall(text.lower())][:LENGTH]
            padded[row, : len(tokens)] = tokens
            lengths[row] = len(tokens)
        logits = self.model.predict([padded, lengths], batch_size=256, verbose=0)
        positive = 1 / (1 + np.exp(logits[:, 0] - logits[:, 1]))
        batch["positive_probability"] = positive
        batch["sentiment"] = np.where(positive >= 0.5, "positive", "negative")
        del batch["text"]
        return batch


def main(model: str, source: str, target: str) -> None:
    """Score the column `text` of a directory's Parquet files."""
    (
        ray.data.read_parquet(source)
        .map_batches(
            Predictor,
            fn_constructor_args=(model,),
            batch_size=4096,
            compute=ray.data.ActorPoolStrategy(size=2),
            num_cpus=0.5,
        )
        .write_parquet(target)
    )


if __name__ == "__main__":
    ray.init("local")
    main(*sys.argv[1:])
