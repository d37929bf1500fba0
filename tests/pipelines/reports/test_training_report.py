"""The report and the model card say what was measured, of any texts, labels and history."""

import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from pipelines.evaluate import EvaluateConfig, main
from pipelines.reports.model_card import CARD, MARK, model_card
from pipelines.reports.training_report import MODEL, QUOTED, WORST, Evaluation, _by_length, report
from sentiment import checkpoint, storage
from sentiment.checkpoint import Checkpoint
from sentiment.metrics import measure
from testing.browser import look, needs_chromium
from testing.generated import save_checkpoint, texts_and_labels, write_shards
from testing.programs import run
from tests.pipelines.reports.test_page import HOSTILE, POLICY, Elements

TRAINING = {
    "flags": {
        "data_dir": "corpora/tweets",
        "text_column": "SentimentText",
        "label_column": "Sentiment",
        "encoding": "utf-8",
        "random_state": 0,
        "test_size": 0.2,
        "run_name": None,
    },
    "rows": {"train": 760, "validation": 40, "test": 200},
    "positive": {"train": 300, "validation": 15, "test": 80},
    "sample_below": None,
    "longest": 20,
    "best": {"step": 200, "validation_accuracy": 0.8, "validation_loss": 0.5},
    "losses": [{"step": 2 * n, "loss": 1 / n} for n in range(1, 151)],
    "validations": [
        {"step": step, "validation_accuracy": 0.8, "validation_loss": loss}
        for step, loss in ((100, 0.6), (200, 0.5), (300, 0.55))
    ],
    "versions": {"keras": "3.15.1"},
}

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
def model(tmp_path_factory) -> Checkpoint:
    return replace(save_checkpoint(tmp_path_factory.mktemp("model")), training=TRAINING)


def evaluation(model: Checkpoint, texts, labels, probabilities, **more) -> Evaluation:
    labels, probabilities = np.array(labels, np.int8), np.array(probabilities, np.float32)
    answers = {MODEL: probabilities, "majority class": np.full(len(labels), 0.4)}
    tokens = np.array([len(text.split()) for text in texts])
    fields = {"name": "tweets", "data_dir": "corpora/tweets", "held_out": True} | more
    return Evaluation(
        checkpoint=model,
        texts=texts,
        labels=labels,
        tokens=tokens,
        answers=answers,
        **fields,
    )


def many(model: Checkpoint, rows: int = 200, **more) -> Evaluation:
    """Texts whose probabilities are fair, all hostile ones among them, most wrong."""
    texts, labels = texts_and_labels(rows)
    random = np.random.default_rng(1)
    probabilities = np.clip(0.5 + 0.25 * (2 * labels - 1) + random.normal(0, 0.2, rows), 0.01, 0.99)
    for i, hostile in enumerate(HOSTILE):
        texts[3 * i], probabilities[3 * i] = hostile, 1 - labels[3 * i]
    return evaluation(model, texts, labels, probabilities, **more)


@pytest.fixture(scope="module")
def whole(model) -> tuple[Evaluation, bytes]:
    return many(model), report(many(model))


def test_the_report_says_what_was_measured(whole):
    found, page = whole
    text = Elements(page).text
    metrics = measure(found.labels, found.probabilities)
    assert f"<dd>{metrics.accuracy:.1%}</dd>" in page.decode()
    for value in (metrics.auc, metrics.log_loss, metrics.calibration_error):
        assert f"{value:.3f}" in text
    for said in ("200 held-out rows of corpora/tweets", "760 (39.5% positive)", "3.15.1"):
        assert said in text
    assert found.checkpoint.model_hash in text
    assert all(f"--{name}" in text for name in TRAINING["flags"])
    assert re.findall(r'<title id="[^"]+">([^<]+)', page.decode()) == CHARTS
    for rows in metrics.confusion.flat:
        assert f">{rows}<" in page.decode()


def test_the_same_numbers_give_the_same_bytes(whole):
    found, page = whole
    assert report(replace(found)) == page
    assert model_card(replace(found)) == model_card(found)


def test_the_most_wrong_are_quoted_worst_first_and_cut(whole):
    _, page = whole
    cells = re.findall(
        r'<td class="r" dir="auto">([01])</td>\s*<td class="r" dir="auto">([\d.]+)</td>'
        r'\s*<td class="l" dir="auto">([^<]*)</td>',
        page.decode(),
    )
    off = [abs(int(label) - float(probability)) for label, probability, _ in cells]
    assert len(cells) == WORST
    assert off == sorted(off, reverse=True)
    assert min(off) >= 0.5
    assert f"{'W' * (QUOTED - 1)}…" in page.decode()
    assert "W" * QUOTED not in page.decode()
    assert len(page) < 200_000


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
    bare = {name: TRAINING[name] for name in ("flags", "rows", "positive", "sample_below")}
    found = evaluation(replace(model, training=bare), texts, labels, probabilities)
    page, card = report(found), model_card(found)
    both = len(set(labels)) == 2
    text = Elements(page).text
    assert "holds no history" in text
    assert ("Receiver operating" in text) == both
    assert "nan" not in text
    (entry,) = front(card)["model-index"]
    kinds = {metric["type"] for metric in entry["results"][0]["metrics"]}
    assert ("roc_auc" in kinds) == both
    assert "accuracy" in kinds


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("losses", "validations"),
    [
        ([], TRAINING["validations"]),
        (TRAINING["losses"], []),
        ([{"step": 1, "loss": math.nan}], TRAINING["validations"][:1]),
    ],
)
def test_a_history_that_is_not_whole(model, losses, validations):
    training = TRAINING | {"losses": losses, "validations": validations}
    found = evaluation(replace(model, training=training), ["a"], [0], [0.1])
    assert ("Validation accuracy" in report(found).decode()) == bool(validations)


def front(card: bytes) -> dict:
    """What a model hub reads of a card."""
    # As huggingface_hub's repocard.py finds it.
    block = re.search(r"^(\s*---[\r\n]+)([\S\s]*?)([\r\n]+---(\r\n|\r|\n|$))", card.decode())
    return yaml.safe_load(block[2])


def test_the_card_has_the_metrics_as_hubs_read_them(whole):
    found, _ = whole
    card = front(model_card(found))
    assert card["pipeline_tag"] == "text-classification"
    (entry,) = card["model-index"]
    assert entry["name"] == "tweets"
    (result,) = entry["results"]
    assert result["task"]["type"] == "text-classification"
    assert result["dataset"] == {"type": "tweets", "name": "tweets", "split": "test"}
    metrics = found.metrics[MODEL]
    right, labelled, answered = (
        metrics.confusion[1, 1],
        metrics.confusion[1].sum(),
        metrics.confusion[:, 1].sum(),
    )
    values = {metric["type"]: metric["value"] for metric in result["metrics"]}
    assert values == {
        "accuracy": pytest.approx(metrics.accuracy, abs=1e-6),
        "f1": pytest.approx(2 * right / (labelled + answered), abs=1e-6),
        "roc_auc": pytest.approx(metrics.auc, abs=1e-6),
        "log_loss": pytest.approx(metrics.log_loss, abs=1e-6),
        "expected_calibration_error": pytest.approx(metrics.calibration_error, abs=1e-6),
    }
    assert all(isinstance(value, float) for value in values.values())


def test_the_card_quotes_no_text(whole):
    found, _ = whole
    card = model_card(found).decode()
    assert not [text for text in found.texts if len(text) > 9 and text in card]


@pytest.mark.parametrize(
    "hostile", [*HOSTILE, "a|b", "[x](http://x)", "`|`", "a\n---\nb: 1", "- x"]
)
def test_no_name_means_more_than_itself_in_a_card(model, hostile):
    flags = TRAINING["flags"] | {"data_dir": hostile, "text_column": hostile}
    odd = replace(model, training=TRAINING | {"flags": flags | {hostile: "x"}})
    model = replace(model, training=TRAINING | {"flags": TRAINING["flags"] | {"more": "x"}})
    found = evaluation(odd, ["a", "b"], [0, 1], [0.1, 0.9], name=hostile, data_dir=hostile)
    plain = evaluation(model, ["a", "b"], [0, 1], [0.1, 0.9])
    card = model_card(found)
    assert front(card).keys() == front(model_card(plain)).keys()

    def shape(card: bytes) -> list[str]:
        markdown = MarkdownIt("commonmark").enable("table")
        blocks = markdown.parse(card.decode().partition("---\n\n")[2])
        kinds = [token.type for token in blocks]
        inline = {child.type for token in blocks for child in token.children or []}
        return [*kinds, *sorted(inline - {"text_special"})]

    assert shape(card) == shape(model_card(plain))
    assert len(card) < 20_000


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5000), st.booleans()), min_size=1))
def test_every_text_is_in_the_bin_of_its_length(rows):
    tokens, right = map(np.array, zip(*rows, strict=True))
    found = list(_by_length(tokens, right))
    ranges = [[int(end) for end in name.split("–")] for name, _, _ in found]
    assert ranges == sorted(ranges)
    for ends, (_, hits, texts) in zip(ranges, found, strict=True):
        here = (tokens >= ends[0]) & (tokens <= ends[-1])
        assert (hits, texts) == (right[here].sum(), here.sum())
    assert sum(texts for _, _, texts in found) == len(rows)


def test_a_corpus_that_was_learnt_from_is_said_to_be(model):
    texts = {"texts": ["a", "b"], "labels": [0, 1], "probabilities": [0.1, 0.9]}
    said = b"most of which it has learnt from"
    assert said in report(evaluation(model, **texts, held_out=False))
    assert said not in report(evaluation(model, **texts, held_out=False, data_dir="others"))
    assert said not in report(evaluation(model, **texts))


@needs_chromium
def test_the_report_in_a_browser(whole, model, tmp_path):
    _, page = whole
    hostile = "".join(text[:300] for text in HOSTILE)
    flags = dict.fromkeys(TRAINING["flags"], hostile)
    odd = replace(model, training=TRAINING | {"flags": flags, "versions": {hostile: hostile}})
    names = {"name": hostile, "data_dir": hostile}
    single = POLICY.sub(b"", report(evaluation(odd, [hostile], [1], [0.2], **names)))
    pages = {"wide": (page, 1000), "narrow": (page, 360), "bare": (POLICY.sub(b"", page), 360)}
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
            assert figure["drawn"] > 10
    assert "<script>hacked = true</script>" in looked.frames["wide"]["text"]


def save_trained(directory: str, corpus: Path) -> Checkpoint:
    """A checkpoint as if trained on a corpus that is split as training splits it."""
    save_checkpoint(corpus.parent / "seed")
    seed = checkpoint.load(str(corpus.parent / "seed"))
    flags = TRAINING["flags"] | {"data_dir": str(corpus)}
    made = replace(seed, training=TRAINING | {"flags": flags})
    checkpoint.save(made, directory)
    return made


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("corpora") / "tweets"
    write_shards(directory, rows=1000, shards=2)
    write_shards(directory.with_name("others"), rows=60, shards=2, seed=1)
    return directory


def test_evaluate_writes_report_and_card_beside_the_model(corpus, tmp_path):
    directory = tmp_path / "model"
    model = save_trained(str(directory), corpus)
    (directory / CARD).write_text(f"---\n---\n{MARK}\nof another time\n")
    done = run("evaluate", "--checkpoints_dir", directory, "--baseline", "--samples", 1)
    assert done.stderr == ""
    page, card = directory / "report.html", directory / CARD
    assert done.stdout.splitlines()[-1] == f"Report: {page}; model card: {card}"
    table = {line[:30].strip(): line[30:].split() for line in done.stdout.splitlines()}
    assert set(table) >= {MODEL, "TF-IDF + logistic regression", "majority class"}
    for name in (MODEL, "TF-IDF + logistic regression", "majority class"):
        assert all(value in Elements(page.read_bytes()).text for value in table[name])
    assert f"value: {float(table[MODEL][0].rstrip('%')) / 100:.2f}" in card.read_text()
    loaded = checkpoint.load(str(directory))
    assert loaded.model_hash == model.model_hash
    assert loaded.training == model.training
    assert {path.name for path in directory.iterdir()} == {*model.files(), "report.html", CARD}

    # Other texts have a report of their own, each by its path, and no card.
    before = {path.name: path.read_bytes() for path in directory.iterdir()}
    main(EvaluateConfig(str(directory), data_dir=str(corpus.with_name("others"))))
    (new,) = {path.name for path in directory.iterdir()} - before.keys()
    assert re.fullmatch(r"report-others-[0-9a-f]{6}\.html", new)
    assert before == {name: (directory / name).read_bytes() for name in before}
    assert "60 rows of" in Elements((directory / new).read_bytes()).text


def test_a_readme_of_other_origin_stays(corpus, tmp_path, capsys):
    directory = tmp_path / "model"
    save_trained(str(directory), corpus)
    (directory / CARD).write_text("# Mine\n")
    main(EvaluateConfig(str(directory)))
    assert (directory / CARD).read_text() == "# Mine\n"
    assert "is not of evaluate's making and was left as it is" in capsys.readouterr().out
    assert (directory / "report.html").exists()


def test_results_are_printed_where_no_report_can_be_written(corpus, tmp_path, capsys):
    directory = tmp_path / "model"
    save_trained(str(directory), corpus)
    (directory / "report.html" / "in the way").mkdir(parents=True)
    main(EvaluateConfig(str(directory)))
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith(MODEL) for line in lines)
    assert lines[-1].startswith(f"No report: {directory}/report.html cannot be written: ")
    assert not (directory / CARD).exists()
    assert not [path for path in directory.iterdir() if path.name.startswith(".")]


def test_reports_are_written_into_buckets(corpus, s3, capsys):
    directory = s3.uri("models", "run")
    model = save_trained(directory, corpus)
    main(EvaluateConfig(directory))
    said = f"Report: {directory}/report.html; model card: {directory}/{CARD}"
    assert capsys.readouterr().out.splitlines()[-1] == said
    assert storage.read(f"{directory}/report.html").startswith(b"<!doctype html>")
    assert front(storage.read(f"{directory}/{CARD}"))["model-index"][0]["name"] == "run"
    assert checkpoint.load(directory).model_hash == model.model_hash
