"""Compile all functions of the package for this machine's CPU, for instance in an image's build.

    python -m pipelines.compile_all

What is compiled is cached beside the code. A process that may not write there uses a copy.
"""

import numpy as np
import pyarrow as pa

from pipelines.sources.formats import FORMATS
from pipelines.sources.options import ReadOptions
from sentiment.checkpoint import Checkpoint
from sentiment.network import BACKWARD, FORWARD, weight_shapes
from sentiment.predictor import Predictor
from sentiment.text.tokenizer import SPECIALS, Tokenizer

_VOCABULARY = (*SPECIALS, "not", "good", "not good")
_SHARDS = {"csv": b"text\nnot good\n", "json": b'{"text":"not good"}\n', "text": b"not good\n"}


def main() -> None:
    """Score a text with a small model of each kind, and read a row of each text format."""
    Tokenizer(["the"]).tokens(pa.array(["not good"]))
    for lstms in ((FORWARD,), (FORWARD, BACKWARD)):
        shapes = weight_shapes(len(_VOCABULARY), 4, 4, lstms)
        weights = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
        for vocabulary in (_VOCABULARY, _VOCABULARY[:-1]):
            few = weights | {"embedding": weights["embedding"][: len(vocabulary)]}
            Predictor(Checkpoint(few, vocabulary)).predict_proba(["not good"])
    for name, content in _SHARDS.items():
        rows = FORMATS[name].rows(pa.BufferReader(content), name, ["text"], ReadOptions(), None, ())
        list(rows)


if __name__ == "__main__":
    main()
