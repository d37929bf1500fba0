"""What a comparison of models comes to, in a sentence."""

from pipelines.console.terminal import percent
from pipelines.reports.evaluation_results import MAJORITY, MODEL, REGRESSION, EvaluationResults
from sentiment.metrics import PairedAccuracy

NEAR_MAJORITY = 0.05
"""A macro-F1 that is at most this much above that of the majority class shows little."""

LIKELY_CHANCE = 0.05
"""P-value from which a difference may be chance."""


def verdict(results: EvaluationResults) -> str:
    """How this model does compared with logistic regression, or else with the majority class."""
    rival = REGRESSION if REGRESSION in results.metrics else MAJORITY
    ours, theirs = results.metrics[MODEL], results.metrics[rival]
    if rival == MAJORITY:
        difference = ours.accuracy - theirs.accuracy
        than = f"{_points(difference)} {'more' if difference > 0 else 'less'} than"
        if not difference:
            than = "as many as"
        return (
            f"The model is right for {percent(ours.accuracy)} of the texts, {than} the majority "
            "class."
        )
    f1 = ours.macro_f1 - theirs.macro_f1
    paired = results.against(rival)
    macro_f1 = f"macro-F1 is {_points(f1)} {'higher' if f1 > 0 else 'lower'}"
    intervals = "do not overlap"
    if _overlap(ours.accuracy_interval, theirs.accuracy_interval):
        intervals = "overlap"
    return (
        f"The model {_difference(paired, rival)}; {macro_f1 if f1 else 'macro-F1 is the same'}. "
        f"The intervals of their accuracies {intervals}; by McNemar's test on the same texts the "
        f"difference {_chance(paired)}."
    )


def paired_verdict(name: str, rival: str, paired: PairedAccuracy) -> str:
    """How a model compares with a rival on the same texts."""
    if not paired.difference:
        return f"{name} is as accurate as {rival} ({format_p(paired.p_value)})."
    return f"{name} {_difference(paired, rival)}, which {_chance(paired)}."


def format_p(p_value: float) -> str:
    """`p = 0.012`, or `p < 0.001`."""
    return "p < 0.001" if p_value < 0.001 else f"p = {p_value:.3f}"


def majority_warning(results: EvaluationResults) -> str:
    """One line if the model hardly beats the majority class, by accuracy or macro-F1; else ""."""
    ours, majority = results.metrics[MODEL], results.metrics[MAJORITY]
    answer = results.classes.names[int(results.answers[MAJORITY][0])]
    weak = []
    low, high = ours.accuracy_interval
    if low <= majority.accuracy:
        weak.append(
            f"its accuracy is {percent(ours.accuracy)} ({low:.1%} to {high:.1%}), and to answer "
            f"{answer!r} every time gives {percent(majority.accuracy)}"
        )
    if ours.macro_f1 <= majority.macro_f1 + NEAR_MAJORITY:
        weak.append(
            f"its macro-F1 is {percent(ours.macro_f1)}, and that gives {percent(majority.macro_f1)}"
        )
    if not weak:
        return ""
    return (
        f"The model hardly beats the majority class: {'; '.join(weak)}. If it misses rare classes, "
        "train with --class_weight balanced."
    )


def _difference(paired: PairedAccuracy, rival: str) -> str:
    """`beats RIVAL by 0.7 points of accuracy`, of a second model against a first, the rival."""
    if not paired.difference:
        return f"is as accurate as {rival}"
    verb = "beats" if paired.difference > 0 else "loses to"
    return f"{verb} {rival} by {_points(paired.difference)} of accuracy"


def _chance(paired: PairedAccuracy) -> str:
    chance = "may be chance" if paired.p_value >= LIKELY_CHANCE else "is unlikely to be chance"
    return f"{chance} ({format_p(paired.p_value)})"


def _points(difference: float) -> str:
    """How far apart two shares are: `0.7 points`, or `less than 0.1 points`."""
    points = f"{100 * abs(difference):.1f}"
    return "less than 0.1 points" if points == "0.0" else f"{points} points"


def _overlap(one: tuple[float, float], other: tuple[float, float]) -> bool:
    return one[0] <= other[1] and other[0] <= one[1]
