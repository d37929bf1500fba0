"""A checkpoint and its answers to held-out texts -> a model card, as model hubs read it.

Markdown that begins with YAML: https://huggingface.co/docs/hub/model-cards. It quotes no text of
the corpus.
"""

import math
import re
from collections.abc import Sequence
from typing import Any

import yaml

from pipelines.reports.page import shorten
from pipelines.reports.training_report import (
    COMPARED,
    INTERVALS,
    MODEL,
    Evaluation,
    training_facts,
)
from sentiment.errors import on_one_line

CARD = "README.md"

MARK = "<!-- Written by pipelines.evaluate, which replaces it while this line is there. -->"

_SIGNIFICANT = re.compile(r"([\\`*_{}\[\]<>()#+!|~&$:@])")
"""What may mean more than itself in Markdown, its tables and its links."""

_LONGEST = 500
"""Characters of a cell."""


def model_card(evaluation: Evaluation) -> bytes:
    """The card, UTF-8. Texts in it are escaped, and say nothing but themselves."""
    front = yaml.safe_dump(_front(evaluation), sort_keys=False, allow_unicode=True)
    facts = [(said, _words(value)) for said, value in training_facts(evaluation.checkpoint)]
    flags = sorted(evaluation.checkpoint.training["flags"].items())
    results = [tuple(map(_words, row)) for row in evaluation.compared]
    confusion = [
        (f"labelled {label}", *(f"{rows:,}" for rows in row))
        for label, row in zip(
            ("negative", "positive"), evaluation.metrics[MODEL].confusion, strict=True
        )
    ]
    parts = [
        f"---\n{front}---",
        MARK,
        f"# {_words(evaluation.name)}",
        "An LSTM that says how probable it is that a short text is positive: embedding, LSTM, mean "
        "over the text's tokens, softmax. Trained by `pipelines.train`; report.html beside this "
        "file has the curves.",
        "## Use",
        '```\npython -m pipelines.predict --checkpoints_dir DIRECTORY "what a day :)"\n'
        "python -m pipelines.score --checkpoints_dir DIRECTORY --input shards --output scored\n```",
        "## Training",
        _table(("what", "value"), facts),
        "## Evaluation",
        f"On the {evaluation.metrics[MODEL].rows:,} rows that training held out. {INTERVALS}",
        _table(COMPARED, results),
        _table(("", "answered negative", "answered positive"), confusion),
        "## Limits",
        "The model knows no neutral: a text is positive from a probability of 0.5 on, and negative "
        "below. It has learnt the language, the topics and the labels of its corpus, and what it "
        "makes of others is not measured here.",
        "## Flags",
        _table(("flag", "value"), [(_words(f"--{name}"), _words(value)) for name, value in flags]),
    ]
    return ("\n\n".join(parts) + "\n").encode()


def _front(evaluation: Evaluation) -> dict[str, Any]:
    """The card's metadata, with the metrics as a `model-index`."""
    metrics = evaluation.metrics[MODEL]
    right, confused = int(metrics.confusion[1, 1]), int(metrics.confusion[[0, 1], [1, 0]].sum())
    measured = {
        ("accuracy", "Accuracy"): metrics.accuracy,
        ("f1", "F1"): 2 * right / max(2 * right + confused, 1),
        ("roc_auc", "AUC"): metrics.auc,
        ("log_loss", "Log loss"): metrics.log_loss,
        ("expected_calibration_error", "Expected calibration error"): metrics.calibration_error,
    }
    corpus = _plain(evaluation.data_dir.rstrip("/").rpartition("/")[2] or evaluation.data_dir)
    task = {"type": "text-classification", "name": "Sentiment analysis"}
    result = {
        "task": task,
        "dataset": {"type": corpus, "name": corpus, "split": "test"},
        "metrics": [
            {"type": kind, "name": name, "value": round(value, 6)}
            for (kind, name), value in measured.items()
            if math.isfinite(value)
        ],
    }
    return {
        "pipeline_tag": "text-classification",
        "tags": ["sentiment-analysis", "lstm"],
        "model-index": [{"name": _plain(evaluation.name), "results": [result]}],
    }


def _plain(value: object) -> str:
    """On one line, of what can be printed."""
    return shorten(on_one_line(value), _LONGEST)


def _words(value: object) -> str:
    return _SIGNIFICANT.sub(r"\\\1", _plain(value))


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
