"""Sections of the training report that quote texts: of any probability, and the worst mistakes."""

from collections.abc import Iterable, Sequence

import numpy as np

from pipelines.reports.evaluation_results import MODEL, EvaluationResults, Weight
from pipelines.reports.examples import EXAMPLES_ORDER, examples
from pipelines.reports.page import Section, Table, shorten
from sentiment.errors import on_one_line

MISTAKES = 20
"""Wrongly predicted texts that are quoted."""

WEIGHTS_OF_TEXT = 3
"""Words and pairs that are shown for a text."""

MISLEADING_WORDS, MIN_TEXTS = 20, 2
"""Words and pairs in the table of all texts, and the least texts that each is in."""

QUOTED_CHARACTERS = 280
MAX_WORD_CHARACTERS = 40


def by_probability(results: EvaluationResults) -> Section:
    """Texts of high, middling and low probabilities, right or wrong."""
    names, labels, answers = results.classes.names, results.labels, results.answers[MODEL]
    is_binary = len(names) == 2
    rows = []
    for group, i in examples(results.classes, results.probabilities, answers):
        probability = f"{results.probabilities[i, 1 if is_binary else answers[i]]:.3f}"
        answer, label = names[answers[i]], names[labels[i]]
        rows.append((group, label, answer, probability, _quoted(results.texts[i])))
    of = f"{names[1]} probability" if is_binary else "probability"
    columns = ("model is", "label", "answer", of, "text")
    text = "What the model is sure of, and what it cannot decide: right and wrong answers."
    table = Table(f"Texts by probability. {EXAMPLES_ORDER}", columns, rows, "lllrt")
    return Section("Texts by probability", text, tables=[table])


def mistakes(results: EvaluationResults) -> list[Section]:
    """The wrong answers to whose label the model gives the least probability, and the words that
    they rest on."""
    names, labels, answers = results.classes.names, results.labels, results.answers[MODEL]
    worst = results.worst
    if not worst:
        return [Section("Worst mistakes", "All predictions are right.")]
    weighed = results.weights or [()] * len(worst)
    rows = [
        (
            names[labels[i]],
            names[answers[i]],
            f"{results.probabilities[i, answers[i]]:.3f}",
            _quoted(results.texts[i]),
            ", ".join(f"{_word(w.words)} {w.probability:.3f}" for w in heavy[:WEIGHTS_OF_TEXT])
            or "–",
        )
        for i, heavy in zip(worst[:MISTAKES], weighed, strict=False)
    ]
    text = "Look for wrong labels, irony and mixed feelings."
    notes = (
        "These are the wrong answers to whose label the model gives the least probability. The "
        "probability is that of the answer. The answer rests on the words, and pairs of "
        "neighbours, without which it is least probable: that probability stands beside them. It "
        "is measured by occlusion: the words are left out, and the model reads the text again. "
        f"Texts are cut at {QUOTED_CHARACTERS} characters."
    )
    header = ("label", "answer", "probability", "text", "rests on: probability without")
    table = Table("Worst first: by the probability of the label", header, rows, "llrtt")
    sections = [Section("Worst mistakes", text, tables=[table], notes=notes)]
    misleading = _misleading([names[answers[i]] for i in worst], weighed)
    if misleading:
        text = (
            f"Words on which several of the {len(worst):,} worst mistakes rest: without them "
            "the wrong answer is less probable."
        )
        notes = (
            "Without the word or pair, the odds of the wrong answer, p / (1 - p), are divided by "
            "this number (the geometric mean over the texts)."
        )
        columns = ("word or pair", "wrong answer", "texts", "odds divided by")
        table = Table("Heaviest first", columns, misleading, "llrr")
        sections.append(
            Section("Misleading words", text, tables=[table], notes=notes, is_narrow=True)
        )
    return sections


def _misleading(
    answers: Sequence[str], weighed: Iterable[Sequence[Weight]]
) -> list[tuple[str, str, str, str]]:
    """Word, answer, texts and the change of odds, by the sum of the falls in all texts."""
    falls: dict[tuple[str, str], list[float]] = {}
    for answer, heavy in zip(answers, weighed, strict=True):
        for weight in heavy:
            falls.setdefault((weight.words, answer), []).append(weight.fall)
    ordered = sorted(falls.items(), key=lambda item: -sum(item[1]))
    return [
        (_word(words), answer, f"{len(each):,}", f"{np.exp(np.mean(each)):.1f}")
        for (words, answer), each in ordered
        if len(each) >= MIN_TEXTS
    ][:MISLEADING_WORDS]


def _quoted(text: str) -> str:
    return shorten(on_one_line(text), QUOTED_CHARACTERS)


def _word(words: str) -> str:
    return shorten(words, MAX_WORD_CHARACTERS)
