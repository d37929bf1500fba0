"""Texts without labels: which are sampled, and what a corpus and word vectors have of them."""

import dataclasses
import pickle
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.sources import pieces
from pipelines.sources.labelled import LabelledReader
from pipelines.sources.listing import find_shards
from pipelines.sources.options import ReadOptions
from pipelines.sources.split import Split
from pipelines.training import cache_sample
from pipelines.training.cache import prepare
from pipelines.training.config import TrainConfig
from pipelines.training.corpus_spec import CorpusSpec
from pipelines.training.prepared_corpus import Corpus
from pipelines.training.unlabelled import FIRST_PIECES, UnlabelledShards
from sentiment.errors import InputError
from sentiment.text.tokenizer import Tokenizer
from testing.generated import texts_and_labels, write_shards

TEXTS, _ = texts_and_labels(600, seed=1)
SPLIT = Split(0, 0.2)


def shards_of(directory: Path, column: str = "text") -> UnlabelledShards:
    shards = find_shards([str(directory)], "--unlabelled")
    return UnlabelledShards(tuple(shards), column, ReadOptions())


def write(directory: Path, *parts: list[str | None] | pa.Array) -> UnlabelledShards:
    directory.mkdir()
    for number, part in enumerate(parts):
        pq.write_table(pa.table({"text": part}), directory / f"{number}.parquet")
    return shards_of(directory)


def sampled(shards: UnlabelledShards, **limits: Any) -> list[str]:
    return [text.decode() for text in shards.sample(Tokenizer(), SPLIT, **limits).texts.to_pylist()]


@pytest.mark.parametrize("limits", [{}, {"max_texts": 40}, {"max_bytes": 3000}, {"max_texts": 1}])
def test_a_sample_has_the_smallest_hashes_however_the_texts_are_sharded(tmp_path, limits):
    hashes = SPLIT.sampling_hashes(Tokenizer().tokens(pa.array(TEXTS)).hashes)
    expected, size = [], 0
    for text in np.array(TEXTS)[np.argsort(hashes)]:
        size += len(text)
        if len(expected) == limits.get("max_texts") or size > limits.get("max_bytes", size):
            break
        expected.append(str(text))
    assert sampled(write(tmp_path / "one", TEXTS), **limits) == expected
    parts = [TEXTS[400:], *([text] for text in TEXTS[300:400]), TEXTS[:300]]
    assert sampled(write(tmp_path / "many", *parts), **limits) == expected


def test_a_sample_is_the_same_of_pieces_and_in_any_order_of_them(tmp_path, monkeypatch):
    whole = sampled(write(tmp_path / "one", TEXTS), max_texts=40)
    pq.write_table(pa.table({"text": TEXTS}), tmp_path / "one" / "0.parquet", row_group_size=30)
    monkeypatch.setattr(pieces, "PIECE_BYTES", 1)
    calls = []

    def backwards(function, items):
        calls.append(len(items))
        return reversed([function(pickle.loads(pickle.dumps(each))) for each in items])

    assert sampled(shards_of(tmp_path / "one"), run=backwards, max_texts=40) == whole
    # The shard is counted, then pieces are read, each time as many as before.
    assert calls == [1, FIRST_PIECES, FIRST_PIECES, 20 - 2 * FIRST_PIECES]


@pytest.fixture(scope="module")
def corpora(tmp_path_factory) -> tuple[Corpus, Corpus, list[str]]:
    """A corpus without and with unlabelled texts, and these texts: `splendid` stands for `great`,
    which labelled texts have, too."""
    directory = tmp_path_factory.mktemp("corpus")
    write_shards(directory, rows=300, shards=2)
    texts = [text.replace("great", "splendid") for text in TEXTS] + TEXTS + ["rare"]
    shards, cache = find_shards([str(directory)], "--data_dir"), str(directory / "_prepared")
    reader = LabelledReader("SentimentText", "Sentiment")
    unlabelled = write(directory / "_unlabelled", texts)
    made = [
        prepare(CorpusSpec(shards, reader, SPLIT, min_share=0.001, unlabelled=each), cache)
        for each in (None, unlabelled)
    ]
    again = prepare(
        CorpusSpec(shards, reader, SPLIT, min_share=0.001, unlabelled=unlabelled), cache
    )
    assert again == made[1]
    return made[0], made[1], texts


def test_a_corpus_has_the_words_and_ids_of_unlabelled_texts(corpora):
    alone, corpus, texts = corpora
    assert corpus.key != alone.key
    assert set(alone.vocabulary) < set(corpus.vocabulary)
    assert "splendid" in set(corpus.vocabulary) - set(alone.vocabulary)
    assert "rare" not in corpus.vocabulary  # It is in one of 1,201 texts: below --min_share.
    same = dataclasses.replace(
        corpus, directory="", vocabulary=(), unknown=0, unlabelled=0, sizes={}
    ) == dataclasses.replace(alone, directory="", vocabulary=(), unknown=0, sizes={})
    assert same, "rows, classes and files do not change"
    assert corpus.unlabelled == len(texts)
    assert corpus.description()[-1] == "Unlabelled texts to learn words from: 1,201"

    ids = [
        ids[start:stop].tolist()
        for ids, offsets in cache_sample._unlabelled(corpus)
        for start, stop in pairwise(offsets)
    ]
    tokens = Tokenizer().encoder(list(corpus.vocabulary))(pa.array(texts))
    bounds = pairwise(tokens.offsets)
    assert sorted(ids) == sorted(tokens.ids[start:stop].tolist() for start, stop in bounds)


def test_a_sample_that_is_damaged_is_taken_again(corpora, capsys):
    _, corpus, _ = corpora
    path = Path(corpus.directory, "unlabelled.arrow")
    whole = path.read_bytes()
    assert corpus.sizes[path.name] == len(whole)
    path.write_bytes(whole[:-1])
    assert f"{path.name} has {len(whole) - 1:,} bytes and not" in corpus.damage()
    path.write_bytes(whole)
    assert corpus.damage() == ""


def test_a_word_of_unlabelled_texts_only_has_the_vector_of_words_used_like_it(corpora, monkeypatch):
    _, corpus, _ = corpora
    vectors = cache_sample.word_vectors(corpus, 20, 16)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    place = corpus.vocabulary.index
    near = unit @ unit[place("splendid")]
    assert near[place("great")] > 0.9 > max(near[place("awful")], near[place("word3")])
    for at_once in (1, 100):
        monkeypatch.setattr(cache_sample, "CHUNK_TOKENS", at_once)
        np.testing.assert_array_equal(cache_sample.word_vectors(corpus, 20, 16), vectors)


def test_unlabelled_texts_need_initial_vectors_that_read_them():
    with pytest.raises(InputError, match="--unlabelled needs --initial_vectors cooccurrence"):
        TrainConfig(unlabelled="texts")
