"""A checkpoint's model as an ONNX graph: padded token ids -> probabilities. Needs onnx alone.

    ids -> words' and bigrams' embeddings, added -> LSTM -> mean over the text's own tokens
        -> dense -> softmax

The bigram of a word is looked up by a number for the pair of ids, in ONNX's `LabelEncoder`. Mean,
dense layer and softmax are computed in float64, as in `sentiment.model.kernel`.

Sizes: n texts, `length` tokens in the longest, W words, B bigrams, E numbers per embedding, H units
per LSTM, K classes.
"""

import json
from collections.abc import Mapping

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from sentiment.checkpoint import Checkpoint
from sentiment.errors import InputError
from sentiment.text.bigrams import NONE
from sentiment.text.tokenizer import PADDING

INPUT, OUTPUT = "ids", "probabilities"
"""ids: int64[n, length], each text's word ids, padded with 0 on the right; probabilities:
float32[n, K]. Any n and length, 0 included."""

OPERATORS, ML_OPERATORS, IR = 17, 2, 8
"""Versions of ONNX that runtimes have had since 2022."""

MAX_BYTES = 2**31 - 2**20
"""Largest model: a protobuf message has less than 2 GiB."""

_KERAS_GATES = (0, 3, 1, 2)
"""ONNX has the gates i, o, f, c; Keras i, f, c, o."""


def onnx_model(checkpoint: Checkpoint) -> onnx.ModelProto:
    """The model in ONNX, checked by ONNX. Its metadata has classes, threshold and model hash.

    Ids of a vocabulary's words are valid. A runtime refuses larger ones.

    Raises InputError for a model that is too large for one file.
    """
    if sum(value.nbytes for value in checkpoint.weights.values()) > MAX_BYTES:
        raise InputError(f"the model is too large for ONNX: it has more than {MAX_BYTES:,} bytes")
    model = helper.make_model(
        helper.make_graph(
            _nodes(checkpoint),
            "sentiment",
            [helper.make_tensor_value_info(INPUT, TensorProto.INT64, ["texts", "length"])],
            [
                helper.make_tensor_value_info(
                    OUTPUT, TensorProto.FLOAT, ["texts", len(checkpoint.classes)]
                )
            ],
            [numpy_helper.from_array(value, name) for name, value in _arrays(checkpoint).items()],
        ),
        producer_name="sentiment-pipelines",
        ir_version=IR,
        opset_imports=[
            helper.make_opsetid("", OPERATORS),
            helper.make_opsetid("ai.onnx.ml", ML_OPERATORS),
        ],
    )
    helper.set_model_props(
        model,
        {
            "classes": json.dumps(checkpoint.classes.names),
            "threshold": json.dumps(checkpoint.classes.threshold),
            "model_hash": checkpoint.model_hash,
        },
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def _arrays(checkpoint: Checkpoint) -> dict[str, np.ndarray]:
    """The constants of the graph by name: the weights in ONNX's order, and small numbers."""
    network = checkpoint.network
    weights, words, names = network.weights, network.words, network.lstms
    embedding = weights["embedding"]
    no_bigram = np.zeros((1, embedding.shape[1]), np.float32)
    arrays = {
        # Apart, so that a bigram's id is refused where a word's is expected.
        "words": embedding[:words],
        "bigrams": np.concatenate([no_bigram, embedding[words:]]),
        # [LSTMs, 4H, E], [LSTMs, 4H, H] and [LSTMs, 8H]: the second half of the biases is 0.
        "kernel": np.stack([_by_gate(weights[f"{name}/kernel"]).T for name in names]),
        "recurrent": np.stack([_by_gate(weights[f"{name}/recurrent_kernel"]).T for name in names]),
        "bias": np.stack([_by_gate(weights[f"{name}/bias"]) for name in names]),
        "dense": weights["dense/kernel"].astype(np.float64),
        "dense_bias": weights["dense/bias"].astype(np.float64),
    }
    arrays["bias"] = np.concatenate([arrays["bias"], np.zeros_like(arrays["bias"])], axis=1)
    integers: Mapping[str, list[int]] = {
        "pads": [0, 1, 1, 1],
        "first": [0],
        "second": [1],
        "last": [-1],
        "pair_factor": [words],
        "all_columns": [np.iinfo(np.int64).max],
    }
    arrays |= {name: np.array(value, np.int64) for name, value in integers.items()}
    if not network.bigrams:
        del arrays["bigrams"], arrays["pair_factor"]
    return arrays | {"padding": np.array(PADDING, np.int64), "one": np.array(1.0)}


def _by_gate(array: np.ndarray) -> np.ndarray:
    """The last axis, four gates of H numbers, in ONNX's order of gates."""
    gates = np.split(array, 4, axis=-1)
    return np.concatenate([gates[gate] for gate in _KERAS_GATES], axis=-1)


def _nodes(checkpoint: Checkpoint) -> list[onnx.NodeProto]:
    """The operations, in an order in which they can be computed."""
    node = helper.make_node
    return [
        # A column of padding on both sides, so that each word has one before it; and a text without
        # tokens, which is left out at the end: onnxruntime's LSTM crashes without any.
        node("Pad", [INPUT, "pads", "padding"], ["padded"]),
        node("Slice", ["padded", "second", "all_columns", "second"], ["second_ids"]),
        node("Slice", ["padded", "first", "last", "second"], ["first_ids"]),
        node("Equal", ["second_ids", "padding"], ["is_padding"]),
        node("Not", ["is_padding"], ["is_word"]),
        node("Cast", ["is_word"], ["is_word_int64"], to=TensorProto.INT64),
        node("ReduceSum", ["is_word_int64", "second"], ["lengths"], keepdims=0),
        node("Cast", ["lengths"], ["lengths_int32"], to=TensorProto.INT32),
        node("Gather", ["words", "second_ids"], ["embedded_words"]),
        *_bigram_nodes(checkpoint),
        # [length, n, E] -> [length, LSTMs, n, H]
        node("Transpose", ["embedded"], ["inputs"], perm=[1, 0, 2]),
        node(
            "LSTM",
            ["inputs", "kernel", "recurrent", "bias", "lengths_int32"],
            ["outputs"],
            hidden_size=checkpoint.network.units,
            direction="bidirectional" if len(checkpoint.network.lstms) == 2 else "forward",
        ),
        # The outputs beyond a text's end are 0. A text without tokens has a mean of 0.
        node("Cast", ["outputs"], ["outputs_float64"], to=TensorProto.DOUBLE),
        node("ReduceSum", ["outputs_float64", "first"], ["sums"], keepdims=0),
        node("Transpose", ["sums"], ["sums_by_text"], perm=[1, 0, 2]),
        node("Flatten", ["sums_by_text"], ["features"], axis=1),
        node("Cast", ["lengths"], ["lengths_float64"], to=TensorProto.DOUBLE),
        node("Max", ["lengths_float64", "one"], ["divisors"]),
        node("Unsqueeze", ["divisors", "second"], ["divisor_column"]),
        node("Div", ["features", "divisor_column"], ["means"]),
        node("MatMul", ["means", "dense"], ["products"]),
        node("Add", ["products", "dense_bias"], ["logits"]),
        node("Softmax", ["logits"], ["probabilities_float64"], axis=1),
        node("Slice", ["probabilities_float64", "first", "last", "first"], ["of_texts"]),
        node("Cast", ["of_texts"], [OUTPUT], to=TensorProto.FLOAT),
    ]


def _bigram_nodes(checkpoint: Checkpoint) -> list[onnx.NodeProto]:
    """From `embedded_words` to `embedded`: the embedding of the bigram that a word ends, added."""
    node = helper.make_node
    words = len(checkpoint.words)
    id_of = {word: number for number, word in enumerate(checkpoint.words)}
    pairs = [bigram.split(" ") for bigram in checkpoint.vocabulary[words:]]
    if not pairs:
        return [node("Identity", ["embedded_words"], ["embedded"])]
    return [
        node("Mul", ["first_ids", "pair_factor"], ["first_products"]),
        node("Add", ["first_products", "second_ids"], ["pair_numbers"]),
        node(
            "LabelEncoder",
            ["pair_numbers"],
            ["bigram_rows"],
            domain="ai.onnx.ml",
            keys_int64s=[id_of[first] * words + id_of[second] for first, second in pairs],
            values_int64s=list(range(1, len(pairs) + 1)),
            default_int64=NONE,
        ),
        node("Gather", ["bigrams", "bigram_rows"], ["embedded_bigrams"]),
        node("Add", ["embedded_words", "embedded_bigrams"], ["embedded"]),
    ]
