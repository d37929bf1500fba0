"""The prepared corpus: the same for labels in any form; which rows are left out, and when not."""

import dataclasses
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.errors import Failure
from pipelines.sources.labelled import LabelledReader
from pipelines.sources.labels import LabelMap
from pipelines.sources.left_out import LeftOut
from pipelines.sources.listing import find_labelled
from pipelines.sources.options import ReadOptions
from pipelines.sources.split import Split
from pipelines.training import cache, copies
from pipelines.training.batches import CachedRows
from pipelines.training.cache import prepare
from pipelines.training.cache_steps import write_file
from pipelines.training.config import TrainConfig
from pipelines.training.corpus_spec import CorpusSpec
from pipelines.training.prepared_corpus import Corpus
from sentiment.errors import InputError
from testing.generated import texts_and_labels
from testing.properties import examples

TEXTS, LABELS = texts_and_labels(400)


def write(directory: Path, *labels: list | pa.Array, texts=TEXTS) -> Path:
    """Shards with equal parts of the rows, one for each of these columns; lists become CSV."""
    directory.mkdir()
    size = len(texts) // len(labels)
    for number, column in enumerate(labels):
        part = slice(number * size, (number + 1) * size)
        table = pa.table({"y": column[part], "text": texts[part]})
        if isinstance(column, list):
            pacsv.write_csv(table, directory / f"{number}.csv")
        else:
            pq.write_table(table, directory / f"{number}.parquet")
    return directory


def prepared(
    directory: Path, labels=(), max_rejected="1%", n_samples=None, soft_labels=False
) -> Corpus:
    reader = LabelledReader("text", "y", ReadOptions(), LabelMap.parse(labels), soft_labels)
    shards, cache = find_labelled(str(directory), "--data_dir").shards, str(directory / "_prepared")
    split = Split(0, 0.2)
    spec = CorpusSpec(shards, reader, split, n_samples=n_samples, min_share=0.001)
    return prepare(spec, cache, max_rejected)


def files(corpus: Corpus) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path(corpus.directory).glob("*.arrow")}


def labels_of(corpus: Corpus) -> list[int]:
    found = []
    for name in (*corpus.files["train"], *corpus.files["validation"]):
        with pa.ipc.open_file(Path(corpus.directory, name)) as file:
            found += file.read_all()["label"].to_pylist()
    return found


def targets_of(corpus: Corpus) -> np.ndarray:
    rows = CachedRows(corpus.directory, corpus.files["train"], 99, (1,) * len(corpus.classes))
    return np.concatenate([batch.targets for batch in rows.by_length(64, len(rows))])


WORDS = [("No", "yes ")[label] for label in LABELS]
FORMS = {
    "words": [WORDS],
    "booleans": [pa.array(LABELS == 1)],
    "integers and words": [pa.array(LABELS), WORDS],
    "floats, booleans as text, a dictionary": [
        pa.array(LABELS.astype(float)),
        [("FALSE", "TRUE")[label] for label in LABELS],
        pa.array(WORDS).dictionary_encode(),
        pa.array(LABELS, pa.int32()).cast(pa.decimal128(12, 2)),
    ],
}


@pytest.mark.parametrize("form", FORMS)
def test_the_cache_is_the_same_whatever_the_form_of_the_labels(tmp_path, form):
    numbers = prepared(write(tmp_path / "numbers", pa.array(LABELS)))
    other = prepared(write(tmp_path / "other", *FORMS[form]))
    assert files(other) == files(numbers)
    assert other.classes == numbers.classes == ("negative", "positive")
    assert other.labels == numbers.labels
    assert other.rows == {name: sum(rows) for name, rows in other.labels.items()}
    assert sum(map(sum, other.labels.values())) == 400
    positive = numbers.labels["train"][1] + numbers.labels["validation"][1]
    assert sum(labels_of(other)) == positive


def test_files_of_a_dialect_in_directories_that_are_chosen_make_the_same_corpus(tmp_path):
    lines = [f"{label}|'{text}'" for label, text in zip(LABELS, TEXTS, strict=True)]
    for year, header in (("2023", "9|an older text"), ("2024", "\n".join(lines))):
        (tmp_path / "lake" / f"year={year}").mkdir(parents=True)
        (tmp_path / "lake" / f"year={year}" / "000000_0").write_text(header + "\n")
    config = TrainConfig(
        data_dir=str(tmp_path / "lake"),
        where=("year>=2024",),
        delimiter="|",
        quote="'",
        columns=("y", "text"),
        format="csv",
    )
    shards = find_labelled(config.data_dir, "--data_dir", config.where, has_format=True).shards
    reader = LabelledReader("text", "y", config.read_options())
    spec = CorpusSpec(shards, reader, Split(0, 0.2), min_share=0.001)
    plain = prepared(write(tmp_path / "plain", LABELS.tolist()))
    made = prepare(spec, str(tmp_path / "cache"))
    assert files(made) == files(plain)
    assert made.vocabulary == plain.vocabulary
    assert made.validation_tokens > 0
    assert made.validation_unknown == plain.validation_unknown
    # The directory's name says how the shards were read.
    other = dataclasses.replace(spec, reader=dataclasses.replace(reader, options=ReadOptions()))
    assert other.key != spec.key


def test_stars_are_mapped_or_are_five_classes(tmp_path):
    stars = [1 + 3 * int(label) + number % 2 for number, label in enumerate(LABELS)]
    stars[:40] = [3] * 40
    directory = write(tmp_path / "stars", pa.array(stars), stars)
    each = prepared(directory)
    assert each.classes == ("1", "2", "3", "4", "5")
    assert each.label_values == [["1"], ["2"], ["3"], ["4"], ["5"]]
    assert sorted(set(labels_of(each))) == [0, 1, 2, 3, 4]
    assert each.left_out == LeftOut()
    mapped = prepared(directory, ("good=4,5", "bad=1,2"))
    assert (mapped.classes, mapped.label_values) == (("good", "bad"), [["4", "5"], ["1", "2"]])
    assert mapped.left_out == LeftOut(unnamed={"3": 40})
    assert sum(map(sum, mapped.labels.values())) == 360
    assert [sum(each.labels[name][3:]) for name in each.labels] == [
        mapped.labels[name][0] for name in mapped.labels
    ]
    with pytest.raises(InputError, match=r"--labels good=6: no row .* 3 \(40 rows\)"):
        prepared(directory, ("bad=1,2,4,5", "good=6"))


def test_a_corpus_that_is_there_is_the_one_that_was_prepared(tmp_path):
    texts = [*TEXTS[:-2], None, None]
    directory = write(tmp_path / "corpus", pa.array([None, *LABELS[1:]]), texts=texts)
    first = prepared(directory)
    assert first.left_out.unlabelled == 1
    assert first.left_out.rejected == {"text is null": 2}
    assert first.description() == [
        f"2 classes: {first.description()[0].partition(': ')[2]}",
        "Rows left out: 1 without a label; 2 that cannot be used: 2 text is null; "
        f"{directory}/0.parquet, row 399: text is null",
    ]
    assert prepared(directory) == first
    for _ in range(2):
        with pytest.raises(InputError, match="2 of 399 labelled rows cannot be used, more than"):
            prepared(directory, max_rejected="1")


def test_too_many_bad_rows_stop_before_a_cache_is_written(tmp_path):
    directory = write(tmp_path / "corpus", pa.array(LABELS), texts=[*TEXTS[:-9], *[None] * 9])
    with pytest.raises(InputError, match=r"9 of 400 labelled .* --max_rejected 2.3% leaves them"):
        prepared(directory)
    assert not list(directory.glob("_prepared/*/*"))
    assert prepared(directory, max_rejected="2.3%").usable == 391


def test_the_classes_are_those_of_the_whole_corpus_not_of_a_sample(tmp_path):
    labels = [*[0, 4] * 199, 2, 2]
    corpus = prepared(write(tmp_path / "corpus", labels), n_samples=20)
    assert corpus.classes == ("0", "2", "4")
    assert sum(corpus.rows.values()) == 20
    assert corpus.usable == 400


def test_ids_are_no_labels(tmp_path):
    with pytest.raises(InputError, match=r"--label_column y: 400 values in 400 rows are no cl"):
        prepared(write(tmp_path / "few", [*range(400)]))
    many = write(tmp_path / "many", [*range(2000)], texts=TEXTS * 5)
    with pytest.raises(InputError, match=r"0\.csv: column 'y' has more than 1,000 values"):
        prepared(many)


@examples(50)
@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 2)), min_size=1, max_size=40),
    st.randoms(),
)
def test_the_order_depends_on_the_rows_alone(tmp_path_factory, rows, random):
    """Each row is there, and no order of the same rows makes another file."""
    written = []
    for number in range(2):
        random.shuffle(rows)
        table = pa.table(
            {
                "file": np.zeros(len(rows), np.int64),
                "hash": np.array([hash_ for hash_, _ in rows], np.uint64),
                "copy": np.full(len(rows), -1),
                "label": np.array([label for _, label in rows], np.int16),
                "ids": pa.array([[hash_] for hash_, _ in rows], pa.large_list(pa.int32())),
            }
        )
        directory = tmp_path_factory.mktemp(f"cache{number}")
        write_file(table, 1, str(directory))
        written.append((directory / "train-00000.arrow").read_bytes())
    assert written[0] == written[1]
    found = pa.ipc.open_file(written[0]).read_all()
    columns = [found[name].to_pylist() for name in ("hash", "label", "ids")]
    assert sorted(zip(*columns, strict=True)) == sorted((h, label, [h]) for h, label in rows)


def test_copies_of_a_text_are_spread_evenly(tmp_path):
    """3% of the rows are one text, and of each label."""
    rows, copies = 100_000, 3_000
    hashes = np.random.default_rng(0).integers(0, 2**64, rows, np.uint64)
    hashes[:copies] = hashes[0]
    labels = np.arange(rows) % 2
    table = {"file": np.zeros(rows, np.int64), "hash": hashes, "copy": np.full(rows, -1)}
    table["label"] = labels.astype(np.int16)
    table["ids"] = pa.array([[2]], pa.large_list(pa.int32())).take(np.zeros(rows, np.int64))
    write_file(pa.table(table), 1, str(tmp_path))
    found = pa.ipc.open_file(tmp_path / "train-00000.arrow").read_all()
    is_copy = found["hash"].to_numpy() == hashes[0]
    for kind in (is_copy, is_copy & (found["label"].to_numpy() == 1)):
        windows = kind[:98_304].reshape(-1, 16_384).mean(axis=1)
        np.testing.assert_allclose(windows, kind.mean(), rtol=0.2)


@pytest.mark.parametrize("soft", [False, True])
def test_many_copies_of_a_text_are_in_all_files_however_they_are_sharded(
    tmp_path, monkeypatch, soft
):
    monkeypatch.setattr(cache, "FILE_ROWS", 40)
    monkeypatch.setattr(copies, "FEW_COPIES", 30)
    texts = ["much was said" if n % 2 else text for n, text in enumerate(TEXTS)]
    labels = LABELS.tolist()
    if soft:
        labels = [[1 - p, p] for p in PROBABILITIES]
    made = [
        prepared(write(tmp_path / f"{shards}", *[pa.array(labels)] * shards, texts=texts))
        for shards in (1, 4, 8)
    ]
    for other in made[1:]:
        assert files(other) == files(made[0])
        assert (other.labels, other.unknown) == (made[0].labels, made[0].unknown)
    found = [
        pa.ipc.open_file(content).read_all()["hash"].to_numpy()
        for name, content in files(made[0]).items()
        if "validation" not in name
    ]
    assert sum(map(len, found)) == made[0].rows["train"] > 320
    (much,) = np.unique(np.concatenate(found))[
        np.unique(np.concatenate(found), return_counts=True)[1] > 100
    ]
    each = [np.count_nonzero(hashes == much) for hashes in found]
    assert len(each) == 9
    assert sum(each) == 200
    assert 8 <= min(each) <= max(each) <= 40
    # The copies are not side by side in a file.
    runs = [np.diff(np.flatnonzero(hashes == much)).max() for hashes in found]
    assert np.median(runs) >= 3


PROBABILITIES = np.where(LABELS == 1, 0.875, 0.25)
SOFT = {
    "numbers, by the flag": [pa.array(PROBABILITIES), PROBABILITIES.astype(str).tolist()],
    "lists": [pa.array([[1 - p, p] for p in PROBABILITIES])],
    "structs and lists": [
        pa.array([{"Positive": p, "negative": 1 - p} for p in PROBABILITIES]),
        pa.array([[1 - p, p] for p in PROBABILITIES], pa.list_(pa.float32(), 2)),
    ],
}


@pytest.mark.parametrize("form", SOFT)
def test_soft_labels_are_learnt_as_they_are(tmp_path, form):
    one = prepared(write(tmp_path / "one", pa.array([[1 - p, p] for p in PROBABILITIES])))
    other = prepared(write(tmp_path / "other", *SOFT[form]), soft_labels=form.startswith("num"))
    assert files(other) == files(one)
    assert (other.classes, other.soft_labels) == (("negative", "positive"), True)
    hard = prepared(write(tmp_path / "hard", pa.array(LABELS)))
    assert other.labels == hard.labels
    # The same rows in the same order, so each target is known.
    expected = np.where(targets_of(hard) == 1, [[0.75, 0.875]], [[0.125, 0.25]])
    np.testing.assert_allclose(targets_of(other), expected)


def test_soft_labels_of_three_classes_have_the_order_of_their_names_or_of_the_flag(tmp_path):
    rows = [{"c": 0.5, "b": 0.25, "a": 0.25 * (1 - n % 2), "d": n % 2 / 4} for n in range(400)]
    directory = write(tmp_path / "soft", pa.array(rows))
    corpus = prepared(directory)
    assert corpus.classes == ("a", "b", "c", "d")
    # A class that is never the most probable one is a class.
    assert corpus.labels["train"][:2] == [0, 0]
    assert sorted(set(map(tuple, targets_of(corpus).tolist()))) == [
        (0, 0.25, 0.5, 0.25),
        (0.25, 0.25, 0.5, 0),
    ]
    mapped = prepared(directory, ("good=c,d", "bad=a,b"))
    assert sorted(set(map(tuple, targets_of(mapped).tolist()))) == [(0.5, 0.5), (0.75, 0.25)]


def test_labels_and_probabilities_in_one_corpus_are_refused(tmp_path):
    soft = pa.array([[1 - p, p] for p in PROBABILITIES])
    with pytest.raises(InputError, match="some shards hold probabilities and others labels"):
        prepared(write(tmp_path / "both", soft, pa.array(LABELS)))
    # A shard without any label is neither.
    nothing = prepared(write(tmp_path / "nothing", soft, pa.nulls(400)))
    assert (nothing.soft_labels, nothing.left_out.unlabelled) == (True, 200)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda cache: (cache / "corpus.json").write_bytes(b'{"rows": '), "corpus.json cannot be"),
        (lambda cache: (cache / "corpus.json").write_bytes(b"{}"), "corpus.json cannot be read"),
        (lambda cache: (cache / "corpus.json").write_bytes(b"[]"), "corpus.json cannot be read"),
        (lambda cache: (cache / "train-00000.arrow").unlink(), "train-00000.arrow is missing"),
        (lambda cache: os.truncate(cache / "train-00000.arrow", 99), "has 99 bytes and not "),
    ],
)
def test_a_damaged_cache_is_prepared_again(tmp_path, capsys, damage, said):
    directory = write(tmp_path / "corpus", pa.array(LABELS))
    whole = prepared(directory)
    content = files(whole)
    damage(Path(whole.directory))
    again = prepared(directory)
    assert f"Warning: {whole.directory} is damaged (" in (shown := capsys.readouterr().out)
    assert said in shown
    assert (again, files(again)) == (whole, content)
    assert prepared(directory) == whole
    assert capsys.readouterr().out == ""


def test_what_cannot_be_written_is_named(tmp_path):
    directory = write(tmp_path / "corpus", pa.array(LABELS))
    cache = Path(prepared(directory).directory)
    (cache / "train-00000.arrow").unlink()
    (cache / "train-00000.arrow" / "in the way").mkdir(parents=True)
    with pytest.raises(Failure, match=r"--cache_dir: .*_prepared/\w{16} cannot be written: "):
        prepared(directory)


def test_a_label_of_rejected_rows_only_is_none(tmp_path):
    """Else one row without a text would make 0 and 1 two of three classes, without an order."""
    texts = [*TEXTS[:399], None]
    labels = [*map(str, LABELS[:399]), "unknown"]
    corpus = prepared(write(tmp_path / "corpus", pa.array(labels), texts=texts), max_rejected="1%")
    assert corpus.classes == ("negative", "positive")
    assert corpus.left_out.rejected == {"text is null": 1}
