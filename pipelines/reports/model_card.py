"""Model card: Markdown with YAML metadata, as model hubs read it.

Format: https://huggingface.co/docs/hub/model-cards. It quotes no text of the corpus.
"""

import math
import posixpath
import re
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from pipelines.reports.evaluation_results import (
    CLASS_COLUMNS,
    COMPARISON_COLUMNS,
    INTERVALS,
    MODEL,
    EvaluationResults,
    class_rows,
    metric_notes,
)
from pipelines.reports.page import shorten
from pipelines.reports.training_run import changed_rows, origin_warning, train_command
from pipelines.reports.verdict import verdict
from sentiment.classes import Classes
from sentiment.errors import on_one_line

CARD = "README.md"

MARK = "<!-- Written by pipelines.evaluate, which replaces it while this line is there. -->"

MAX_CELL_CHARACTERS = 500

MATRIX_CLASSES = 10
"""Most classes whose confusion matrix is shown."""


def model_card(results: EvaluationResults) -> bytes:
    """Render the card, UTF-8. Names and values from strangers are shown as code or on one line."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("pipelines.reports", "."),
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
    )
    flags = {
        name: value if isinstance(value, bool | list | tuple) else _without_directory(value)
        for name, value in results.run.flags.items()
    }
    command = " \\\n    ".join(_one_line(word) for word in train_command(flags))
    longest_fence = max(map(len, re.findall("`+", command)), default=0)
    names, metrics = results.classes.names, results.metrics[MODEL]
    confusion_columns = ("", *(f"answered {name}" for name in names))
    confusion = [
        (f"labelled {name}", *(f"{rows:,}" for rows in row))
        for name, row in zip(names, metrics.confusion, strict=True)
    ]
    return (
        environment.get_template("model_card.md.jinja")
        .render(
            metadata=yaml.safe_dump(_metadata(results), sort_keys=False, allow_unicode=True),
            mark=MARK,
            name=_inline(results.name),
            table=_table,
            facts=results.model_facts(_without_directory(results.run.flags["data_dir"])),
            rows=f"{results.metrics[MODEL].rows:,}",
            verdict=verdict(results),
            origin=_origin(results.run.flags),
            changed=changed_rows(results.run, metrics.rows),
            intervals=f"{INTERVALS} {metric_notes(results.classes)}",
            comparison_columns=COMPARISON_COLUMNS,
            comparison=results.comparison,
            class_columns=CLASS_COLUMNS,
            by_class=class_rows(metrics, names),
            confusion_columns=confusion_columns,
            # A wider table cannot be read.
            confusion=confusion if len(names) <= MATRIX_CLASSES else [],
            rule=_rule(results.classes),
            fence="`" * max(3, longest_fence + 1),
            command=command,
        )
        .encode()
    )


def _metadata(results: EvaluationResults) -> dict[str, Any]:
    """The card's YAML, with the metrics as a `model-index`."""
    metrics = results.metrics[MODEL]
    measured = [
        ("accuracy", "Accuracy", metrics.accuracy),
        ("f1", "Macro F1", metrics.macro_f1),
        ("roc_auc", "AUC", metrics.auc),
        ("log_loss", "Log loss", metrics.log_loss),
        ("expected_calibration_error", "Expected calibration error", metrics.calibration_error),
    ]
    corpus = _one_line(posixpath.basename(results.data_dir.rstrip("/")) or results.data_dir)
    result = {
        "task": {"type": "text-classification", "name": "Sentiment analysis"},
        "dataset": {"type": corpus, "name": corpus, "split": "test"},
        "metrics": [
            {"type": kind, "name": name, "value": round(value, 6)}
            | ({"args": {"average": "macro"}} if kind == "f1" else {})
            for kind, name, value in measured
            if math.isfinite(value)
        ],
    }
    return {
        "pipeline_tag": "text-classification",
        "tags": ["sentiment-analysis", "lstm"],
        "model-index": [{"name": _one_line(results.name), "results": [result]}],
    }


def _rule(classes: Classes) -> str:
    """Which class a text is answered with, as Markdown."""
    if len(classes) > 2:
        return "A text is answered with its most probable class, whether or not one fits it."
    first, second = map(_inline, classes.names)
    return (
        f"The model has two classes: a text is answered {second} from a probability of "
        f"{classes.threshold or 0.5:g}, and {first} below, whether or not one of them fits it."
    )


def _origin(flags: Mapping[str, object]) -> str:
    """The warning of a run that began from a model, as Markdown, without a directory."""
    origin = flags.get("initial_checkpoint")
    name = None if origin is None else _inline(_without_directory(origin))
    return origin_warning({"initial_checkpoint": name})


def _without_directory(value: object) -> str:
    """An absolute path of this machine by its last part; anything else as text."""
    text = str(value)
    return posixpath.basename(text.rstrip("/")) or text if text.startswith("/") else text


def _one_line(value: object) -> str:
    return shorten(on_one_line(value), MAX_CELL_CHARACTERS)


def _inline(value: object) -> str:
    """Markdown that shows a text literally: plain if no character has a meaning, else code."""
    text = _one_line(value)
    if not re.search(r"(?![<>]\d)[^\w ,.?%()–-]|_", text):  # <0.1% is no HTML, >99.9% no quote.
        return text
    if not re.search(r"[`|\\]", text):
        return f"`{text}`"
    return re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", text)  # Code cannot hold these in a table.


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head, *body = ([_inline(cell) for cell in row] for row in (columns, *rows))
    lines = [head, ["---"] * len(head), *body]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
