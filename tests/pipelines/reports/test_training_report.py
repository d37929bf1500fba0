"""The training report shows what was measured, for any texts, labels and history."""

import base64
import math
import re
import shlex
from dataclasses import replace

import numpy as np
import pytest
import tyro
from hypothesis import given
from hypothesis import strategies as st

from pipelines.reports.training_report import (
    QUOTED_CHARACTERS,
    WORST_TEXTS,
    _by_length,
    _lead,
    training_report,
)
from pipelines.reports.training_run import LossPoint, TrainingRun
from pipelines.training.config import TrainConfig
from sentiment.metrics import measure
from testing.browser import look, needs_chromium
from testing.evaluation_results import RUN, evaluated
from testing.hostile import HOSTILE
from tests.pipelines.reports.test_page import POLICY, Elements

CHARTS = [
    "Loss by step",
    "Validation accuracy by step",
    "ROC curve",
    "Precision and recall",
    "Confusion matrix",
    "Reliability diagram",
    "Accuracy by length",
]


@pytest.fixture(scope="module")
def report(results) -> bytes:
    return training_report(results)


def test_the_report_says_what_was_measured(results, report):
    text = Elements(report).text
    metrics = measure(results.labels, results.probabilities)
    assert f"<dd>{metrics.accuracy:.1%}</dd>" in report.decode()
    for value in (metrics.auc, metrics.log_loss, metrics.calibration_error):
        assert f"{value:.3f}" in text
    for words in ("200 held-out rows of corpora/tweets", "760 (39.5% positive)", "3.15.1"):
        assert words in text
    assert results.checkpoint.model_hash in text
    assert re.findall(r'alt="([^"]+)"', report.decode()) == CHARTS
    svg = "".join(drawings(report))
    for rows in metrics.confusion.flat:
        assert f">{rows}<" in svg


def drawings(report: bytes) -> list[str]:
    """The SVG of each chart."""
    encoded = re.findall(rb'src="data:image/svg\+xml;base64,([^"]+)"', report)
    return [base64.b64decode(each).decode() for each in encoded]


def test_the_flags_are_a_command_that_training_takes(results, report):
    command = Elements(report).text.partition("python -m ")[2].partition("\n\n")[0]
    program, *flags = shlex.split(command.replace("\\\n", ""))
    assert program == "pipelines.train"
    config = tyro.cli(TrainConfig, args=flags, use_underscores=True)
    assert {name: getattr(config, name) for name in results.run.flags} == results.run.flags


def test_the_same_numbers_give_the_same_bytes(results, report):
    assert training_report(replace(results)) == report


def test_the_most_wrong_are_quoted_worst_first_and_cut(report):
    cells = re.findall(
        r'<td class="r" dir="auto">([01])</td>\s*<td class="r" dir="auto">([\d.]+)</td>'
        r'\s*<td class="l" dir="auto">([^<]*)</td>',
        report.decode(),
    )
    off = [abs(int(label) - float(probability)) for label, probability, _ in cells]
    assert len(cells) == WORST_TEXTS
    assert off == sorted(off, reverse=True)
    assert min(off) >= 0.5
    assert f"{'W' * (QUOTED_CHARACTERS - 1)}…" in report.decode()
    assert "W" * QUOTED_CHARACTERS not in report.decode()
    assert len(report) < 200_000


@pytest.mark.parametrize(
    ("texts", "labels", "probabilities"),
    [
        (["one text"], [1], [0.9]),
        ([""], [0], [0.9]),
        (["a b", "c"], [1, 1], [0.2, 1.0]),
        (["a", "b c d"], [0, 0], [0.0, 0.5]),
        (["a", "b"], [0, 1], [0.5, 0.5]),
        (["a", "b", "c", "d"], [0, 0, 1, 1], [0.1, 0.2, 0.8, 0.9]),
    ],
)
@pytest.mark.filterwarnings("error")
def test_few_texts_and_one_class(model, texts, labels, probabilities):
    bare = TrainingRun(RUN.flags, RUN.rows, RUN.positive)
    text = Elements(training_report(evaluated(model, texts, labels, probabilities, run=bare))).text
    assert "holds no history" in text
    assert ("Receiver operating" in text) == (len(set(labels)) == 2)
    assert "nan" not in text


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("losses", "validations"),
    [
        ([], RUN.validations),
        (RUN.losses, []),
        ([LossPoint(1, math.nan)], RUN.validations[:1]),
    ],
)
def test_a_history_that_is_not_whole(model, losses, validations):
    run = replace(RUN, losses=losses, validations=validations)
    report = training_report(evaluated(model, ["a"], [0], [0.1], run=run)).decode()
    assert ("Validation accuracy" in report) == bool(validations)


@given(st.lists(st.tuples(st.integers(0, 5000), st.booleans()), min_size=1))
def test_every_text_is_in_the_bin_of_its_length(rows):
    tokens, right = map(np.array, zip(*rows, strict=True))
    bins = list(_by_length(tokens, right))
    ranges = [[int(end) for end in name.split("–")] for name, _, _ in bins]
    assert ranges == sorted(ranges)
    for ends, (_, hits, texts) in zip(ranges, bins, strict=True):
        here = (tokens >= ends[0]) & (tokens <= ends[-1])
        assert (hits, texts) == (right[here].sum(), here.sum())
    assert sum(texts for _, _, texts in bins) == len(rows)


def test_the_corpus_of_training_is_recognised(model):
    warning = "The model was trained on most of these rows"
    texts = (["a", "b"], [0, 1], [0.1, 0.9])
    assert warning in _lead(evaluated(model, *texts, held_out=False))
    assert warning not in _lead(evaluated(model, *texts, held_out=False, data_dir="others"))
    assert warning not in _lead(evaluated(model, *texts))


@pytest.mark.process
@needs_chromium
def test_the_report_in_a_browser(report, model, tmp_path):
    hostile = "".join(text[:300] for text in HOSTILE)
    run = replace(RUN, flags=dict.fromkeys(RUN.flags, hostile), versions={hostile: hostile})
    results = evaluated(model, [hostile], [1], [0.2], run=run, name=hostile, data_dir=hostile)
    single = POLICY.sub(b"", training_report(results))
    pages = {
        "wide": (report, 1000),
        "narrow": (report, 360),
        "bare": (POLICY.sub(b"", report), 360),
    }
    looked = look(tmp_path, pages | {"single": (single, 360)})
    assert looked.console == []
    assert looked.requests == []
    for name, frame in looked.frames.items():
        assert frame["scroll_width"] == frame["width"]
        assert frame["scripts"] == 0
        assert not frame["hacked"]
        charts = CHARTS if name != "single" else [CHARTS[i] for i in (0, 1, 4, 5, 6)]
        assert [figure["title"] for figure in frame["figures"]] == charts
        for figure in frame["figures"]:
            assert figure["box"][0] > 300
            assert figure["drawn"] > 0.03
    assert "<script>hacked = true</script>" in looked.frames["wide"]["text"]
