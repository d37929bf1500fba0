"""Which labels are which class: by recognition, and by --labels."""

import unicodedata
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.sources.labels import (
    LabelMap,
    normalized,
    require_classes,
    require_rows,
    shown,
)
from pipelines.sources.left_out import LeftOut, require_few_rejected
from sentiment.classes import MAX_CLASSES
from sentiment.errors import InputError
from testing.properties import examples

NEGATIVE_POSITIVE = ("negative", "positive")
WORDS = st.text("abcXYZäß -_1", min_size=1, max_size=6).filter(str.strip)


@given(st.integers(-(10**12), 10**12), st.integers(0, 5))
def test_numbers_that_are_equal_are_one_label(number, zeros):
    forms = [
        f"{number}",
        f"{number}.0",
        f" {number}.{'0' * (zeros + 1)} ",
        f"{Decimal(number):.2f}",
    ]
    assert {normalized(form) for form in forms} == {str(number)}
    assert normalized(str(number / 4)) == normalized(f"{number / 4:.2f}") or abs(number) > 10**11


@given(WORDS)
def test_words_are_compared_without_case_and_blanks(word):
    assert normalized(f" {word.upper().lower()}\t") == normalized(word.upper().lower())
    assert normalized(normalized(word)) == normalized(word)


@given(WORDS | st.text(max_size=8))
def test_two_ways_to_write_a_letter_are_one_label(word):
    forms = {normalized(unicodedata.normalize(form, word)) for form in ("NFC", "NFD")}
    assert len(forms) == 1
    assert normalized("cafe\u0301") == "caf\u00e9"


@pytest.mark.parametrize("text", ["007", "1e3", "1_000", "٣", "1.2.3", "+", "--1", "1 000"])
def test_what_looks_like_a_number_only_stays_as_it_is(text):
    assert normalized(text) == text


@pytest.mark.parametrize(
    ("values", "negative", "positive"),
    [
        ("0 1", "0", "1"),
        ("-1 1", "-1", "1"),
        ("0 4", "0", "4"),
        ("false true", "false", "true"),
        ("no yes", "no", "yes"),
        ("neg pos", "neg", "pos"),
        ("negative positive", "negative", "positive"),
        ("1 false 0 true", "0 false", "1 true"),
    ],
)
def test_pairs_are_negative_and_positive(values, negative, positive):
    for order in (values.split(), values.split()[::-1]):
        found = LabelMap.recognized(order)
        assert found.names == NEGATIVE_POSITIVE
        assert found.values == (tuple(negative.split()), tuple(positive.split()))
        assert (
            str(found)
            == f"negative={','.join(found.values[0])} positive={positive.replace(' ', ',')}"
        )


@pytest.mark.parametrize(
    ("values", "names"),
    [
        ("0 1 2", "0 1 2"),
        ("-1 0 1", "-1 0 1"),
        ("0 1 4", "0 1 4"),
        ("0 2 4", "0 2 4"),
        ("1 true", "1 true"),
        ("10 9 -2.5 b a", "-2.5 9 10 a b"),
        ("positive neutral negative", "negative neutral positive"),
        ("yes no maybe", "maybe no yes"),
    ],
)
def test_other_values_are_each_a_class(values, names):
    found = LabelMap.recognized(values.split())
    assert found.names == tuple(names.split())
    assert found.indices(names.split()).tolist() == list(range(len(found.names)))
    assert LabelMap.of_names(found.names).indices(names.split()).min() >= 0


@given(st.sets(WORDS.map(normalized), min_size=2, max_size=20), st.randoms())
def test_the_classes_do_not_depend_on_the_order_of_the_values(values, random):
    shuffled = sorted(values)
    random.shuffle(shuffled)
    found = LabelMap.recognized(shuffled)
    assert found == LabelMap.recognized(values)
    assert (found.indices(shuffled) >= 0).all()
    assert {value for own in found.values for value in own} == values


@examples(50)
@given(st.dictionaries(WORDS, st.lists(WORDS, min_size=1, max_size=4), min_size=2, max_size=6))
def test_a_map_is_parsed_as_it_is_written(classes):
    """Or refused, where a value or a name stands twice."""
    texts = [f" {name} = {', '.join(values)} " for name, values in classes.items()]
    every = [normalized(value) for values in classes.values() for value in values]
    names = [normalized(name) for name in classes]
    if len(set(every)) < len(every) or len(set(names)) < len(names):
        with pytest.raises(InputError, match="is named twice"):
            LabelMap.parse(texts)
        return
    found = LabelMap.parse([*texts, "dropped="])
    assert found.names == tuple(name.strip() for name in classes)
    for index, values in enumerate(classes.values()):
        upper = [normalized(value.upper().lower()) for value in values]
        assert (found.indices(upper) == index).all() or any("ß" in value for value in values)
    assert found.indices(["no such value"]).tolist() == [-1]


def test_a_name_alone_is_its_own_value():
    found = LabelMap.parse(["Bad", "good=good,1.0", "neutral="])
    assert found == LabelMap(("Bad", "good"), (("bad",), ("good", "1")))
    assert LabelMap.parse([]) is None


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        (["=1", "b=2"], "--labels '=1' has no name: write NAME=VALUE,VALUE"),
        (["a=1,,2", "b=3"], "--labels 'a=1,,2': a value is empty"),
        (["a=1,2", "b=2.0"], "the value 2 is named twice, for a and for b"),
        (["a=1,1.0", "b=2"], "the value 1 is named twice, for a and for a"),
        (["a=1", "A=2"], "the class A is named twice"),
        (["a=1", "neutral="], "classes with labels, not 1: write them like"),
        (
            [f"c{i}" for i in range(MAX_CLASSES + 1)],
            "classes with labels, not 1,001: write them like",
        ),
        (["x" * 201, "b"], "is not 1 to 200 printable characters"),
        (["a\tb", "b"], "class name 'a\\tb' is not 1 to 200 printable characters"),
    ],
)
def test_a_map_that_cannot_be_read_is_refused(texts, said):
    with pytest.raises(InputError) as caught:
        LabelMap.parse(texts)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ({}, "--label_column y: no row has a label"),
        ({"3": 7}, "--label_column y: every label is 3 (7 rows)"),
        ({str(i): 4 for i in range(30)}, "30 values in 120 rows are no classes: 0 (4 rows), 1 (4"),
        ({str(i): 9 for i in range(1001)}, "--label_column y has more than 1,000 values: 0 (9"),
    ],
)
def test_values_that_are_no_classes_are_shown(rows, said):
    with pytest.raises(InputError) as caught:
        require_classes(rows, "y")
    assert said in str(caught.value)
    assert ("--labels NAME=VALUE" in str(caught.value)) == (len(rows) > 1)
    require_classes({"1": 1, "2": 1}, "y")
    require_classes({str(i): 5 for i in range(1000)}, "y")


@pytest.mark.parametrize(
    ("others", "remedy"),
    [
        ("good bad", "--labels bad good leaves such rows out"),
        ("0 1", "--labels negative=0 positive=1 leaves such rows out"),
        ("so_so good", "--labels good 'so so' leaves such rows out"),
        ("good", "--labels NAME=VALUE,VALUE NAME=VALUE names the classes to learn, --soft_labels"),
    ],
)
def test_a_label_that_cannot_be_seen_is_refused_with_its_rows(others, remedy):
    rows = {value.replace("_", " "): 9 for value in others.split()} | {"good\u200b": 1, "\x07": 2}
    with pytest.raises(InputError) as caught:
        require_classes(rows, "y")
    assert str(caught.value).startswith(
        "--label_column y: a label has characters that cannot be seen, so it can be no class: "
        f"'\\x07' (2 rows), 'good\\u200b' (1 row); {remedy}"
    )


def test_a_class_without_rows_is_refused_with_what_there_is():
    labels = LabelMap.parse(["bad=1,2", "good=7"])
    require_rows(labels, {"bad": 3, "good": 1}, {"3": 8})
    with pytest.raises(InputError) as caught:
        require_rows(labels, {"bad": 30}, {"5": 1200, "4": 1})
    assert str(caught.value) == (
        "--labels good=7: no row has such a label; the labels that it does not name are "
        "5 (1,200 rows), 4 (1 row), and its classes have bad (30 rows)"
    )


def test_few_values_are_shown_the_most_frequent_first():
    assert shown({"b": 1, "a": 1, "c": 2}) == "c (2 rows), a (1 row), b (1 row)"
    assert shown({str(i): 1 for i in range(12)}).endswith("9 (1 row), ...")


def parts():
    counts = st.dictionaries(st.sampled_from("abcd"), st.integers(1, 9), max_size=4)
    first = st.lists(st.text("xyz", max_size=2), max_size=3).map(tuple)
    return st.builds(LeftOut, st.integers(0, 9), counts, counts, first)


@examples(50)
@given(st.lists(parts(), max_size=6), st.integers(0, 6))
def test_what_is_left_out_is_summed_in_any_grouping(left_out, cut):
    both = [LeftOut.merged(left_out[:cut]), LeftOut.merged(left_out[cut:])]
    assert LeftOut.merged(both) == LeftOut.merged(left_out)
    assert LeftOut.merged(left_out).rejected_rows == sum(
        sum(each.rejected.values()) for each in left_out
    )


def test_values_beyond_a_thousand_are_counted_together():
    many = [LeftOut(unnamed={str(i): 1}) for i in range(1500)]
    found = LeftOut.merged([*many, *many]).unnamed
    assert len(found) == 1001
    assert found["..."] == 1000
    assert sum(found.values()) == 3000


def test_what_is_left_out_is_one_line():
    assert str(LeftOut()) == ""
    left_out = LeftOut(1200, {"3": 5}, {"malformed": 1, "text is null": 2}, ("a.csv, row 2: x",))
    assert str(left_out) == (
        "Rows left out: 1,200 without a label; 5 with a label that no class has: 3 (5 rows); "
        "3 that cannot be used: 2 text is null, 1 malformed; a.csv, row 2: x"
    )


@pytest.mark.parametrize(
    ("max_rejected", "is_refused"),
    [("1%", True), ("0", True), ("14", True), ("15", False), ("1.5%", False), ("100%", False)],
)
def test_more_rejected_rows_than_allowed_are_refused_with_the_flag_that_accepts_them(
    max_rejected, is_refused
):
    left_out = LeftOut(10**6, {"3": 10**6}, {"malformed": 15}, ("a.csv, row 2: x", "b, row 1: y"))
    if not is_refused:
        require_few_rejected(left_out, 985, max_rejected)
        return
    with pytest.raises(InputError) as caught:
        require_few_rejected(left_out, 985, max_rejected)
    assert str(caught.value) == (
        f"15 of 1,000 labelled rows cannot be used, more than --max_rejected {max_rejected}: "
        "15 malformed; a.csv, row 2: x; b, row 1: y; --max_rejected 1.5% leaves them out"
    )


def test_indices_are_classes():
    labels = LabelMap(("a", "b"), (("1", "2"), ("3",)))
    found = labels.indices(["3", "1", "4", "2"])
    assert (found.dtype, found.tolist()) == (np.int64, [1, 0, -1, 0])


THREE = ("negative", "neutral", "positive")
STARS = LabelMap.parse(["negative=1,2", "positive=4,5"])


@pytest.mark.parametrize(
    ("known", "values", "expected"),
    [
        (LabelMap.of_names(NEGATIVE_POSITIVE), "0 1", "negative=0 positive=1"),
        (LabelMap.of_names(NEGATIVE_POSITIVE), "0 4", "negative=0 positive=4"),
        (LabelMap.of_names(NEGATIVE_POSITIVE), "positive neutral neg", None),
        (LabelMap.of_names(NEGATIVE_POSITIVE), "positive", None),
        (LabelMap.of_names(THREE), "no yes", "negative=no neutral= positive=yes"),
        (LabelMap.of_names(THREE), "negative neutral positive", None),
        (LabelMap.of_names(("1", "2")), "1 2", None),
        (LabelMap.of_names(("a", "b")), "a b c", None),
        (STARS, "1 2 4 5", None),
        (STARS, "1 2 3 4 5", None),
        (STARS, "0 1", "negative=0 positive=1"),
        (STARS, "positive neutral", "negative=negative,neg positive=positive,pos"),
        (
            LabelMap.parse(["negative=1", "neutral=3", "positive=5"]),
            "negative neutral positive",
            "negative=negative,neg neutral=neutral positive=positive,pos",
        ),
        (LabelMap.parse(["positive=0", "negative=1"]), "0 1", None),
    ],
)
def test_labels_of_other_texts_are_fitted_to_the_models_classes(known, values, expected):
    found = known.fitting(dict.fromkeys(values.split(), 1), "y")
    assert str(found) == (expected or str(known))
    assert found.names == known.names


ZERO_ONE = LabelMap(NEGATIVE_POSITIVE, (("0",), ("1",)))
MINUS_ONE = LabelMap(NEGATIVE_POSITIVE, (("-1",), ("1",)))
ZERO_FOUR = LabelMap(NEGATIVE_POSITIVE, (("0",), ("4",)))


@pytest.mark.parametrize(
    ("names", "values", "learnt", "expected"),
    [
        (NEGATIVE_POSITIVE, "0 1 ?", None, "negative=0 positive=1"),
        (NEGATIVE_POSITIVE, "no yes unsure 3", None, "negative=no positive=yes"),
        (NEGATIVE_POSITIVE, "1", None, "negative= positive=1"),
        (NEGATIVE_POSITIVE, "no ?", None, "negative=no positive="),
        (NEGATIVE_POSITIVE, "0 1 ?", ZERO_ONE, "negative=0 positive=1"),
        (NEGATIVE_POSITIVE, "1", ZERO_ONE, "negative=0 positive=1"),
        (NEGATIVE_POSITIVE, "-1 0 1", ZERO_ONE, "negative=0 positive=1"),
        (NEGATIVE_POSITIVE, "-1 0 1", MINUS_ONE, "negative=-1 positive=1"),
        (NEGATIVE_POSITIVE, "-1 ?", MINUS_ONE, "negative=-1 positive=1"),
        (NEGATIVE_POSITIVE, "0 2 4", ZERO_FOUR, "negative=0 positive=4"),
        (NEGATIVE_POSITIVE, "yes no ?", ZERO_ONE, "negative=no positive=yes"),
        (THREE, "0 1 ?", None, "negative=0 neutral= positive=1"),
    ],
)
def test_labels_beside_others_mean_what_they_did_in_training(names, values, learnt, expected):
    rows = dict.fromkeys(values.split(), 1)
    assert str(LabelMap.of_names(names).fitting(rows, "y", learnt)) == expected


@pytest.mark.parametrize(
    ("names", "values", "learnt"),
    [
        # 1 is negative in a scale of five, and neutral in one of three.
        (NEGATIVE_POSITIVE, "1 2 3 4 5", ZERO_ONE),
        (NEGATIVE_POSITIVE, "0 1 2 3 4", ZERO_ONE),
        (NEGATIVE_POSITIVE, "0 1 2", None),
        (NEGATIVE_POSITIVE, "0 2 4", ZERO_ONE),
        (NEGATIVE_POSITIVE, "-1 0 1", None),
        (NEGATIVE_POSITIVE, "-1 0", ZERO_ONE),
        (NEGATIVE_POSITIVE, "-1", ZERO_ONE),
        (THREE, "1", None),
        (("bad", "good"), "0 1", None),
    ],
)
def test_labels_that_may_mean_several_things_are_refused(names, values, learnt):
    with pytest.raises(InputError, match="no label is one of the model's classes"):
        LabelMap.of_names(names).fitting(dict.fromkeys(values.split(), 1), "y", learnt)


def test_labels_that_fit_no_class_are_refused_with_the_flag():
    with pytest.raises(InputError) as caught:
        LabelMap.of_names(NEGATIVE_POSITIVE).fitting({"2": 5, "4": 7}, "stars")
    assert str(caught.value) == (
        "--label_column stars: no label is one of the model's classes (negative, positive): "
        "4 (7 rows), 2 (5 rows); "
        "with --data_dir, --labels negative=VALUE,VALUE positive=VALUE ... says which"
    )
    known = LabelMap.of_names(THREE)
    assert known.fitting({}, "y") == known


def test_a_map_takes_the_order_of_the_models_classes():
    found = LabelMap.parse(["Positive=5", "negative=1"]).of_classes(THREE)
    assert found == LabelMap(THREE, (("1",), (), ("5",)))
    with pytest.raises(InputError, match="the model has no such class; its"):
        LabelMap.parse(["good=5", "negative=1"]).of_classes(THREE)


def test_a_map_keeps_its_order_and_takes_the_models_spelling():
    found = LabelMap.parse(["Positive", "negative"]).spelled_as(THREE)
    assert found == LabelMap(("positive", "negative"), (("positive",), ("negative",)))
    assert not found.has_labels
    assert LabelMap.parse(["positive=5", "negative"]).has_labels
