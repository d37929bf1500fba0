"""What evaluation prints: aligned tables of any number of classes."""

import numpy as np
import pytest

from pipelines.evaluation.results import LISTED_CLASSES, print_classes, print_samples, print_table
from sentiment.classes import Classes
from sentiment.metrics import Metrics, measure
from testing.evaluation_results import evaluated, run_of, with_classes
from testing.generated import save_checkpoint


def measured(classes: int, rows: int = 2000) -> tuple[Metrics, tuple[str, ...]]:
    random = np.random.default_rng(0)
    labels = random.integers(0, classes, rows)
    probabilities = random.dirichlet(np.ones(classes), rows) + np.eye(classes)[labels] / 9
    names = tuple(f"class {k}" for k in range(classes))
    return measure(labels, probabilities, Classes(names)), names


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_classes_and_the_confusion_matrix(classes, capsys):
    metrics, names = measured(classes)
    print_classes(metrics, names)
    by_class, matrix = (part.split("\n") for part in capsys.readouterr().out.split("\n\n"))
    assert by_class[1].split() == ["class", "precision", "recall", "F1", "rows"]
    for k, line in enumerate(by_class[2:]):
        shares = (metrics.precision[k], metrics.recall[k], metrics.f1[k])
        counts = f"{metrics.confusion[k].sum():,}"
        assert line.split()[2:] == [*(f"{share:.1%}" for share in shares), counts]
    assert matrix[0] == "Confusion matrix: rows by label, columns by answer"
    cells = [[int(cell.replace(",", "")) for cell in line.split()[2:]] for line in matrix[2:-1]]
    np.testing.assert_array_equal(cells, metrics.confusion)
    assert max(map(len, matrix)) <= 100


def test_many_classes_show_their_most_frequent_confusions(capsys):
    metrics, names = measured(60)
    print_classes(metrics, names)
    by_class, confusions = capsys.readouterr().out.split("\n\n")
    assert len(by_class.strip().split("\n")) == 1 + LISTED_CLASSES + 1
    title, _, *lines = confusions.strip().split("\n")
    assert title == "Most frequent confusions"
    counts = [int(line.split()[-1]) for line in lines]
    wrong = metrics.confusion - np.diag(np.diag(metrics.confusion))
    assert counts == sorted(wrong.ravel(), reverse=True)[:10]
    words = [line.split() for line in lines]
    assert [wrong[int(label), int(answer)] for _, label, _, answer, _ in words] == counts


def test_samples_have_the_names_of_classes_and_the_probability_of_the_answer(tmp_path, capsys):
    classes = Classes(("bad", "so so", "good"))
    model = with_classes(save_checkpoint(tmp_path), classes)
    probabilities = [[0.1, 0.7, 0.2], [0.6, 0.3, 0.1]]
    texts = ["one\x1b[31m\ntext", "other"]
    results = evaluated(model, texts, [2, 0], probabilities, run=run_of(classes))
    print_samples(results, 5)
    assert capsys.readouterr().out.splitlines() == [
        "",
        "label  answer  probability  text",
        "good   so so         0.700  one\\x1b[31m text",
        "bad    bad           0.600  other",
    ]
    print_samples(results, 0)
    assert capsys.readouterr().out == ""


def test_letters_of_two_cells_are_aligned(capsys):
    print_table(("name", "rows"), [("ペット", "1"), ("pets", "20")], "lr")
    assert capsys.readouterr().out.splitlines() == ["name    rows", "ペット     1", "pets      20"]
