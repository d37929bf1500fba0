"""Names that a Parquet file gives to the numbers of its label column, as Hugging Face's datasets
are stored."""

import json
import shlex

import pyarrow as pa
import pyarrow.types as pat

from pipelines.sources.labels import LabelMap, listed, normalized
from sentiment.classes import is_usable

KEY = b"huggingface"
"""Of the metadata of the file's schema."""

_MAX_BYTES = 2**20
"""Longer metadata is not looked at."""


def unused_names(schema: pa.Schema, column: str) -> list[str]:
    """A line if the file's names for the labels 0, 1, ... are others than the classes will have."""
    names = _names(schema, column)
    if not names or column not in schema.names:
        return []
    if not pat.is_integer(schema.types[schema.names.index(column)]):
        return []
    numbers = [str(number) for number in range(len(names))]
    own = LabelMap.of_names(LabelMap.recognized(numbers).names)
    if own.indices([normalized(name) for name in names]).tolist() == list(range(len(names))):
        return []
    labels = [shlex.quote(f"{name}={number}") for number, name in enumerate(names)]
    return [
        f"The names that the file has for the labels of {column!r} are not used; "
        f"--labels {listed(labels, ' ')} says them"
    ]


def _names(schema: pa.Schema, column: str) -> list[str]:
    """The names, two or more; [] if there are none that can be those of classes."""
    content = (schema.metadata or {}).get(KEY, b"")
    if not content or len(content) > _MAX_BYTES:
        return []
    try:
        names = json.loads(content)["info"]["features"][column]["names"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return []
    is_good = isinstance(names, list) and len(names) > 1
    return names if is_good and all(is_usable(name) and "=" not in name for name in names) else []
