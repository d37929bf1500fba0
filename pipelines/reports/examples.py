"""Examples: texts that a model is sure of, and texts that it cannot decide."""

from collections.abc import Iterator

import numpy as np

from sentiment.classes import Classes

EXAMPLES = 5
"""Texts of each group."""

MAX_GROUPS = 6
"""Of more classes, the most frequent answers have a group each."""

EXAMPLES_ORDER = (
    "Sure: the highest probability first. Undecided: first the one nearest to the threshold or, of "
    "more than two classes, with the two best ones nearest to each other."
)
"""What a table of examples is sorted by."""


def examples(
    classes: Classes, probabilities: np.ndarray, answers: np.ndarray
) -> list[tuple[str, int]]:
    """Groups of probabilities, and the indices of their best examples, each text once.

    Args:
        classes: K classes.
        probabilities: float[n, K].
        answers: int[n]: the class of each text.
    """
    chosen: dict[int, str] = {}
    for group, order in _groups(classes, probabilities.astype(float), answers):
        new = [i for i in order.tolist() if i not in chosen][:EXAMPLES]
        chosen |= dict.fromkeys(new, group)
    return [(group, i) for i, group in chosen.items()]


def _groups(
    classes: Classes, probabilities: np.ndarray, answers: np.ndarray
) -> Iterator[tuple[str, np.ndarray]]:
    """Names of groups, and int[n]: texts, the best examples first."""
    names = classes.names
    if len(names) == 2:
        second, threshold = probabilities[:, 1], classes.threshold or 0.5
        highest, lowest = np.argsort(-second, kind="stable"), np.argsort(second, kind="stable")
        yield f"sure: {names[1]}", highest[answers[highest] == 1]
        yield "undecided", np.argsort(np.abs(second - threshold), kind="stable")
        yield f"sure: {names[0]}", lowest[answers[lowest] == 0]
        return
    counts = np.bincount(answers, minlength=len(names))
    frequent = np.argsort(-counts, kind="stable")[: MAX_GROUPS - 1]
    for k in np.sort(frequent[counts[frequent] > 0]):
        order = np.argsort(-probabilities[:, k], kind="stable")
        yield f"sure: {names[k]}", order[answers[order] == k]
    best_two = np.sort(probabilities, axis=1)[:, -2:]
    yield "undecided", np.argsort(best_two[:, 1] - best_two[:, 0], kind="stable")
