"""How a trained model behaves on sentences that it has not seen: what every user will try first.

Sentences are generated, of clauses such as "my phone is not very good". In half of them a word
negates, so single words tell nothing. What is tested follows from the rule of labels and from that
of tokens; the model learns in this process, as a worker of `pipelines.train` does.
"""

from collections.abc import Callable
from functools import cache
from random import Random

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

import sentiment
from sentiment.checkpoint import Checkpoint, save
from sentiment.model.batch import Batch, pad
from sentiment.text import vocabulary
from sentiment.text.tokenizer import Tokenizer

# Bounds on a trained model hold with room, but training rounds otherwise on other CPUs.
pytestmark = pytest.mark.cpu

SUBJECTS = ("this", "it", "the film", "my phone", "our room", "that song", "the food", "her book")
VERBS = ("is", "was", "seems", "looks")
NEGATIONS = ("", "not", "never", "hardly")
ADVERBS = ("", "", "very", "really", "so")
GOOD = ("good", "great", "lovely", "nice", "funny", "perfect")
BAD = ("bad", "awful", "ugly", "boring", "sad", "terrible")
FILLERS = ("today", "again", "at home", "for us", "i think", "@anna", "https://t.co/x1", "lol")
LONGEST = 20
"""Words of a sentence, at most."""

PHRASES = [f"{subject} {verb}" for subject in SUBJECTS for verb in VERBS]
COUNTS = (1, 2, 2, 3, 3)
"""Of clauses; long sentences are often too long."""

ROWS, STEPS, BATCH = 8000, 800, 100

MARGIN = 0.1
"""How far an answer may move that should not. Every word more moves the mean over the words: of
8,000 sentences it moved none by more than 0.031."""

Predict = Callable[[list[str]], np.ndarray]
"""Texts -> the probability that each is positive, float (n,)."""


def seen(phrase: str, adjective: str) -> bool:
    """Whether the two are ever in a clause together in training: of one in five they are not."""
    return (PHRASES.index(phrase) + (*GOOD, *BAD).index(adjective)) % 5 > 0


UNSEEN = [(phrase, word) for phrase in PHRASES for word in (*GOOD, *BAD) if not seen(phrase, word)]


def clause(phrase: str, negation: str, adverb: str, adjective: str) -> str:
    return " ".join(filter(None, (phrase, negation, adverb, adjective)))


@cache
def corpus() -> tuple[list[str], np.ndarray]:
    """Sentences of one to three clauses, and whether more of them praise than blame."""
    draw = Random(0)
    texts, labels = [], []
    while len(texts) < ROWS:
        words, praise = [], 0
        clauses = range(draw.choice(COUNTS))
        pairs = [(draw.choice(PHRASES), draw.choice((*GOOD, *BAD))) for _ in clauses]
        for phrase, adjective in pairs:
            negation = draw.choice(("", draw.choice(NEGATIONS[1:])))
            words += [clause(phrase, negation, draw.choice(ADVERBS), adjective)]
            words += draw.sample(FILLERS, draw.randrange(3))
            praise += 1 if (adjective in GOOD) == (negation == "") else -1
        text = " ".join(words)
        if praise and len(text.split()) <= LONGEST and all(seen(*pair) for pair in pairs):
            texts.append(text)
            labels.append(praise > 0)
    return texts, np.array(labels, np.int32)


@pytest.fixture(scope="module")
def predict(tmp_path_factory) -> Predict:
    """Of the model that has learnt from the corpus, as it is loaded from its checkpoint."""
    import tensorflow as tf

    from sentiment.model.keras_model import SentimentLSTM
    from sentiment.model.trainer import Trainer

    texts, labels = corpus()
    tokenizer = Tokenizer()
    counted = vocabulary.document_frequencies(tokenizer.tokens(pa.array(texts)).tokens)
    words = vocabulary.build(counted, len(texts))
    tokens = tokenizer.encoder(words)(pa.array(texts))
    lengths = np.diff(tokens.offsets).astype(np.int32)
    model = SentimentLSTM(len(words), 16, 24, dropout_keep_prob=0.9, seed=0)
    trainer = Trainer(model, tf.distribute.get_strategy(), random_state=0)
    random = np.random.default_rng(0)
    for step in range(STEPS):
        rows = random.choice(len(texts), BATCH, replace=False)
        padded = pad(tokens.ids, tokens.offsets[rows], lengths[rows])
        targets = np.eye(2, dtype=np.float32)[labels[rows]]
        part = Batch(padded, lengths[rows], targets).for_worker(0, 1)
        trainer.step(part, step + 1, step, 0.01 * (1 - step / STEPS))
    directory = str(tmp_path_factory.mktemp("model") / "checkpoint")
    save(Checkpoint(model.export(), tuple(words)), directory)
    loaded = sentiment.load(directory)
    return lambda texts: loaded.predict_proba(texts)[:, 1]


def flips(predict: Predict) -> np.ndarray:
    """bool: for each unseen clause, whether it and its negations all get the right answer."""
    right = []
    for negation in NEGATIONS:
        for adverb in ("", "very"):
            texts = [clause(phrase, negation, adverb, word) for phrase, word in UNSEEN]
            wanted = np.array([(word in GOOD) == (negation == "") for _, word in UNSEEN])
            right.append((predict(texts) >= 0.5) == wanted)
    return np.all(right, axis=0)


def test_a_negation_turns_the_answer_round(predict):
    assert flips(predict).all()
    good, not_good = predict(["this is good", "this is not good"])
    assert good - not_good > 0.5


def test_single_words_do_not_tell_what_a_negation_does():
    texts, labels = corpus()
    model = make_pipeline(CountVectorizer(), LogisticRegression(max_iter=1000)).fit(texts, labels)
    assert not flips(lambda texts: model.predict_proba(texts)[:, 1]).any()


def opinions(praise: bool) -> st.SearchStrategy[str]:
    """A clause that praises, or one that blames, by a word or by another's negation."""

    def said(phrase: str, negation: str, adverb: str, which: int) -> str:
        adjectives = GOOD if praise == (negation == "") else BAD
        return clause(phrase, negation, adverb, adjectives[which])

    which = st.integers(0, len(GOOD) - 1)
    return st.builds(said, *map(st.sampled_from, (PHRASES, NEGATIONS, ADVERBS)), which)


@st.composite
def sentences(draw: st.DrawFn) -> str:
    """One to three clauses, all of one mind, and fillers between."""
    praise, words = draw(st.booleans()), []
    for _ in range(draw(st.integers(1, 3))):
        words += [draw(opinions(praise)), *draw(st.lists(st.sampled_from(FILLERS), max_size=2))]
    return " ".join(words)


@given(text=sentences())
def test_case_does_not_matter_to_the_last_bit(predict, text):
    written = [text, text.upper(), text.title(), text.swapcase(), text.capitalize()]
    assert len(set(predict(written).tolist())) == 1


@given(text=sentences(), ends=st.booleans())
def test_an_address_hardly_matters_and_which_one_not_at_all(predict, text, ends):
    addresses = ["https://example.com/not/bad?a=1", "www.example.org/awful", "http://t.co/Good"]
    with_one = [f"{text} {url}" if ends else f"{url} {text}" for url in addresses]
    plain, *found = predict([text, *with_one]).tolist()
    assert len(set(found)) == 1
    assert abs(found[0] - plain) <= MARGIN


@given(text=sentences(), more=st.lists(opinions(True), min_size=1, max_size=2))
def test_praise_at_the_end_lowers_no_answer_much(predict, text, more):
    before, after = predict([text, " ".join([text, *more])])
    assert after >= before - MARGIN


def test_blame_at_the_end_does_lower_answers(predict):
    texts = [f"{phrase} {word}" for phrase, word in UNSEEN if word in GOOD]
    worse = [f"{text} our room is terrible it is not nice" for text in texts]
    assert (predict(worse) < predict(texts) - MARGIN).all()
