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

from pipelines.reports.evaluation_results import MODEL, Weight
from pipelines.reports.prediction_sections import by_length
from pipelines.reports.quoted_texts import MISTAKES, QUOTED_CHARACTERS, by_probability, mistakes
from pipelines.reports.training_report import _lead, _validated, training_report
from pipelines.reports.training_run import ClassCounts, LossPoint, TrainingRun, train_command
from pipelines.training.config import TrainConfig
from sentiment.classes import Classes
from testing.browser import look, needs_chromium
from testing.evaluation_results import RUN, evaluated, run_of, with_classes
from testing.hostile import HOSTILE
from tests.pipelines.reports.test_page import POLICY, Elements

CHARTS = [
    "ROC curve",
    "Precision and recall",
    "Reliability diagram",
    "Accuracy by length",
    "Loss by step",
    "Validation accuracy by step",
]


@pytest.fixture(scope="module")
def report(results) -> bytes:
    return training_report(results)


def test_the_report_says_what_was_measured(results, report):
    text = Elements(report).text
    metrics = results.metrics[MODEL]
    assert f"<dd>{metrics.accuracy:.1%}</dd>" in report.decode()
    for value in (metrics.auc, metrics.log_loss, metrics.calibration_error):
        assert f"{value:.3f}" in text
    for words in ("200 held-out rows of corpora/tweets", "760 (39.5% positive)", "3.15.1"):
        assert words in text
    assert results.checkpoint.model_hash in text
    assert "dropout makes them higher than validation losses of the same weights, overfitt" in text
    assert re.findall(r'alt="([^"]+)"', report.decode()) == CHARTS
    for label, name in enumerate(("negative", "positive")):
        counts = metrics.confusion[label]
        cells = [f"{rows} · {rows / counts.sum():.1%}" for rows in counts]
        assert re.search(rf"{name}\s+{cells[0]}\s+{cells[1]}", text)


def test_the_flags_are_a_command_that_training_takes(results, report):
    command = Elements(report).text.partition("python -m ")[2].partition("\n\n")[0]
    program, *flags = shlex.split(command.replace("\\\n", ""))
    assert program == "pipelines.train"
    config = tyro.cli(TrainConfig, args=flags, use_underscores=True)
    assert {name: getattr(config, name) for name in results.run.flags} == results.run.flags


def test_flags_of_several_values_and_files_of_flags(model):
    flags = {"labels": ["negative=1,2", "it's=4"], "preset": "best", "config": "gone.yaml"}
    words = train_command(RUN.flags | flags)
    config = tyro.cli(TrainConfig, args=shlex.split(" ".join(words[1:])), use_underscores=True)
    assert config.labels == ("negative=1,2", "it's=4")
    assert (config.preset, config.config) == (None, None)
    assert not [word for word in train_command({"labels": []}) if "labels" in word]


def test_the_same_numbers_give_the_same_bytes(results, report):
    assert training_report(replace(results)) == report


def test_the_most_wrong_are_quoted_worst_first_and_cut(report):
    cells = re.findall(
        r'<td class="l" dir="auto">(\w+)</td>\s*<td class="l" dir="auto">(\w+)</td>'
        r'\s*<td class="r" dir="auto">([\d.]+)</td>\s*<td class="t" dir="auto">([^<]*)</td>',
        report.decode().partition("Worst first")[2],
    )
    off = [float(probability) for _, _, probability, _ in cells]
    assert all(label != answer for label, answer, _, _ in cells)
    assert len(cells) == MISTAKES
    assert off == sorted(off, reverse=True)
    assert min(off) >= 0.5
    assert f"{'W' * (QUOTED_CHARACTERS - 1)}…" in report.decode()
    assert "W" * QUOTED_CHARACTERS not in report.decode()
    assert len(report) < 200_000


def test_what_mistakes_rest_on_is_shown(model):
    heavy = [Weight("not bad", 0.5, math.log(8)), Weight("<b>", 0.75, math.log(3))]
    results = evaluated(model, ["a", "b", "c"], [1, 1, 1], [0.1, 0.2, 0.9])
    results = replace(results, weights=[heavy, [Weight("not bad", 0.6, math.log(2))]])
    worst, misleading = mistakes(results)
    assert [row[3:] for row in worst.tables[0].rows] == [
        ("a", "not bad 0.500, <b> 0.750"),
        ("b", "not bad 0.600"),
    ]
    assert misleading.tables[0].rows == [("not bad", "negative", "2", "4.0")]
    bare, *others = mistakes(replace(results, weights=()))
    assert [row[4] for row in bare.tables[0].rows] == ["–", "–"]
    assert not others


def test_texts_of_each_probability_are_quoted(model):
    probabilities = np.linspace(0.01, 0.99, 99)
    texts = [f"text {i}" for i in range(99)]
    strict = replace(model, classes=Classes(threshold=0.7))
    results = evaluated(strict, texts, [0] * 99, probabilities)
    (table,) = by_probability(results).tables
    assert [row[0] for row in table.rows[::5]] == ["sure: positive", "undecided", "sure: negative"]
    shown = [float(row[3]) for row in table.rows]
    assert shown[:5] == pytest.approx([0.99, 0.98, 0.97, 0.96, 0.95])
    assert sorted(shown[5:10]) == pytest.approx([0.68, 0.69, 0.7, 0.71, 0.72])
    assert shown[10:] == pytest.approx([0.01, 0.02, 0.03, 0.04, 0.05])
    assert [row[2] for row in table.rows] == ["positive" if p >= 0.7 else "negative" for p in shown]
    assert table.rows[0][4] == "text 98"


def test_a_text_is_sure_to_be_of_the_class_that_it_is_given(model):
    results = evaluated(model, ["a", "b"], [1, 1], np.array([0.6, 0.7]))
    (table,) = by_probability(results).tables
    assert {row[0] for row in table.rows} == {"sure: positive"}


def test_texts_of_each_class_are_quoted_and_those_between_two(model):
    names = ("a", "b", "c")
    probabilities = np.array([[0.9, 0.1, 0], [0.1, 0.8, 0.1], [0, 0.46, 0.54], [0, 0.1, 0.9]])
    results = evaluated(
        with_classes(model, Classes(names)), ["x"] * 4, [0] * 4, probabilities, run=RUN
    )
    (table,) = by_probability(replace(results, texts=list("wxyz"))).tables
    assert [(row[0], row[3], row[4]) for row in table.rows] == [
        ("sure: a", "0.900", "w"),
        ("sure: b", "0.800", "x"),
        ("sure: c", "0.900", "z"),
        ("sure: c", "0.540", "y"),
    ]


def test_the_rows_and_the_rule_of_validations_are_said(model):
    few = ClassCounts(train=(600, 1900), validation=(100, 30), test=(10, 10))
    run = replace(RUN, labels=few, flags=RUN.flags | {"calibrate": True, "batch_size": 100})
    strict = replace(model, classes=Classes(threshold=0.7707))
    text = Elements(training_report(evaluated(strict, ["a"], [0], [0.1], run=run))).text
    assert (
        "Accuracy of the most probable class on the validation rows and the training rows, "
        "cross-fitted. The model's threshold, 0.7707, does not count here."
    ) in text
    assert "130 (23.1% positive), and the training rows, cross-fitted" in text
    assert "Few rows validate, so the training rows do, too" in text
    assert _validated(run) == [700, 1930]
    # Without --calibrate, with more rows, or too few to leave a fifth out, none are.
    many = replace(few, validation=(100, 50))
    for other in (
        replace(run, flags=run.flags | {"calibrate": False}),
        replace(run, labels=many),
        replace(run, flags=run.flags | {"batch_size": 2000}),
        replace(run, flags=RUN.flags),
    ):
        text = Elements(training_report(evaluated(model, ["a"], [0], [0.1], run=other))).text
        assert "Accuracy of the most probable class on the validation rows.\n" in text
        assert "cross-fitted" not in text
        assert _validated(other) == list(other.labels.validation)


def test_a_scale_of_accuracy_is_whole(report):
    images = re.findall(r'src="data:image/svg[^,]+,([^"]+)" alt="([^"]+)"', report.decode())
    drawn = {title: base64.b64decode(image).decode() for image, title in images}
    for title in ("Validation accuracy by step", "Accuracy by length"):
        assert ">0%<" in drawn[title]
        assert ">100%<" in drawn[title]


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
    bare = TrainingRun(RUN.flags, RUN.classes, RUN.labels)
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
    bins = list(by_length(tokens, right))
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
        charts = CHARTS if name != "single" else CHARTS[2:]
        assert [figure["title"] for figure in frame["figures"]] == charts
        for figure in frame["figures"]:
            assert figure["box"][0] > 300
            assert figure["drawn"] > 0.03
    assert "<script>hacked = true</script>" in looked.frames["wide"]["text"]


def many(model, number: int, **named):
    """Results of a model of many classes, whose names are hostile, on 40 texts for each."""
    names = ("<script>hacked = true</script>", "ペット", "$x^2$ & 'y'", "-- %s {{ 7 * 7 }}")
    classes = Classes((*names, *(f"class {k}" for k in range(4, number)))[:number])
    random = np.random.default_rng(0)
    labels = random.integers(0, number, 40 * number)
    probabilities = random.dirichlet(np.ones(number), len(labels)) + np.eye(number)[labels] / 6
    texts = ["<b>bold</b> text"] * len(labels)
    return evaluated(
        with_classes(model, classes),
        texts,
        labels,
        probabilities / probabilities.sum(axis=1, keepdims=True),
        run=run_of(classes),
        **named,
    )


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("number", [3, 5, 12, 30])
def test_a_report_of_many_classes(model, number):
    results = many(model, number)
    report = training_report(results)
    elements, metrics = Elements(report), results.metrics[MODEL]
    assert not {"script", "b"} & {tag for tag, _ in elements.tags}
    for k, name in enumerate(results.classes.names):
        shares = (metrics.precision[k], metrics.recall[k], metrics.f1[k])
        scores = [f"{share:.1%}" for share in shares] + [f"{metrics.class_auc[k]:.3f}"]
        counts = [f"{metrics.confusion.sum(axis=axis)[k]}" for axis in (1, 0)]
        row = r"\s+".join(map(re.escape, (name, *counts, *scores)))
        assert re.search(row, elements.text), name
    assert ("Each class against the others" in elements.text) == (number <= 5)
    assert ("In charts, class 1 is <script>" in elements.text) == (number <= 5)
    assert ("Confusion matrix" in elements.text) == (number <= 12)
    assert ("Most frequent confusions" in elements.text) == (number == 30)
    assert "Each threshold" not in elements.text
    assert "Only answers of at least this probability" in elements.text
    assert f"Guessing gives {math.log(number):.2f}" in elements.text
    assert "nan" not in elements.text


def test_each_threshold_has_its_precision_and_recall(model):
    probabilities = np.array([0.05, 0.15, 0.25, 0.65, 0.65, 0.85], np.float32)
    strict = replace(model, classes=Classes(threshold=0.65))
    report = training_report(evaluated(strict, ["a"] * 6, [0, 0, 1, 0, 1, 1], probabilities))
    text = Elements(report).text
    rows = {
        "0.2": ("75.0%", "100.0%", "85.7%", "83.3%", "66.7%"),
        "0.65": ("66.7%", "66.7%", "66.7%", "66.7%", "50.0%"),
        "0.9": ("–", "0.0%", "0.0%", "50.0%", "0.0%"),
    }
    for threshold, shares in rows.items():
        assert re.search(r"\s+".join(map(re.escape, (threshold, *shares))), text), threshold
    assert "answered positive from a probability of 0.65" in text
    assert re.findall(r"\n(0\.\d+)\n", text.partition("Each threshold")[2])[:10] == [
        *("0.1", "0.2", "0.3", "0.4", "0.5", "0.6", "0.65", "0.7", "0.8", "0.9")
    ]


@pytest.mark.process
@needs_chromium
def test_reports_of_many_classes_in_a_browser(model, tmp_path):
    pages = {
        f"{number}-{width}": (POLICY.sub(b"", training_report(many(model, number))), width)
        for number, width in ((3, 1000), (3, 360), (12, 360), (30, 1000))
    }
    looked = look(tmp_path, pages, dark=True)
    assert looked.console == []
    assert looked.requests == []
    for name, frame in looked.frames.items():
        assert frame["scroll_width"] == frame["width"], name
        assert not frame["hacked"]
        curves = CHARTS[:2] if name.startswith("3-") else []
        shown = [figure["title"] for figure in frame["figures"]]
        assert shown == [*curves, *CHARTS[2:]]
        assert all(figure["drawn"] > 0.03 for figure in frame["figures"])
