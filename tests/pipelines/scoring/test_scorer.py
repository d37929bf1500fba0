"""Texts without a known word are counted, and no part has other bytes for that."""

import json
import os

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.scoring.final_lines import say_totals
from pipelines.scoring.output import Output
from pipelines.scoring.part_file import METADATA
from sentiment.classes import Classes
from sentiment.text.tokenizer import UNKNOWN
from testing.generated import save_checkpoint
from testing.lake import Lake

COUNTS = {"rows", "rejected", "truncated", "positive", "tokens", "unknown"}


def test_texts_without_a_known_word_are_counted(tmp_path, capfd):
    model = save_checkpoint(tmp_path / "model")
    word = "lovely"
    assert word in model.words
    texts = [word, "", "!?", "neverseen", f"neverseen {word}", "neverseen unheard", f"{word} !"]
    tokens = model.encoder()(pa.array(texts))
    ids = np.split(tokens.ids, tokens.offsets[1:-1])
    wordless = sum(bool((each == UNKNOWN).all()) for each in ids)
    assert wordless == 4
    lake = Lake(tmp_path, model)
    rows = "\n".join(f'{i},"{text}"' for i, text in enumerate(texts))
    (lake.corpus / "a.csv").write_text(f"id,text\n{rows}\n")
    lake.night()
    totals = Output(str(lake.scored)).records.totals()
    assert (totals.wordless, totals.wordless_of) == (wordless, len(texts))

    # The probabilities are summed up beside them.
    (part,) = lake.scored.glob("part-*.parquet")
    positive = pq.read_table(part)["positive_probability"].to_numpy().mean(dtype=np.float64)
    np.testing.assert_allclose(totals.mean_probabilities, [1 - positive, positive], rtol=1e-12)

    # A part is what it was in versions that did not count.
    footer = json.loads(pq.read_metadata(part).metadata[METADATA])
    assert footer["counts"].keys() == COUNTS
    assert not {"wordless", "probability_sums"} & footer.keys()

    # The times of a copy change nothing: its parts are read, and are what was recorded.
    os.utime(part, (9, 9))
    lake.night()
    assert_equal(Output(str(lake.scored)).records.totals(), totals)

    # Without its record, a part tells its probabilities, but not those texts.
    (lake.scored / "_manifest" / "parts-00000.parquet").unlink()
    lake.put("b.csv", word, word)
    lake.night()
    totals = Output(str(lake.scored)).records.totals()
    assert (totals.counts["rows"], totals.wordless, totals.wordless_of) == (9, 2, 2)
    say_totals("scored", 50, totals, model.classes.names, 0)
    said = "2 texts (of 2 that were counted) without a word that the model knows"
    assert said in capfd.readouterr().out
    positive = pq.read_table(lake.scored)["positive_probability"].to_numpy().mean(dtype=np.float64)
    np.testing.assert_allclose(totals.mean_probabilities, [1 - positive, positive], rtol=1e-12)
    assert totals.mean_of == 9


def assert_equal(totals, expected):
    for name, value in vars(expected).items():
        np.testing.assert_equal(getattr(totals, name), value, name)


@pytest.mark.parametrize("classes", [2, 3, 25])
def test_a_part_tells_its_probabilities_as_they_were_summed_up(tmp_path, classes):
    """Also one with three classes; of 25 it has no column each."""
    names = Classes(tuple(f"class {k}" for k in range(classes)))
    lake = Lake(tmp_path, save_checkpoint(tmp_path / "model", classes=names))
    lake.put("a.csv", *(f" lovely {i}" for i in range(50)))
    lake.night()
    totals = Output(str(lake.scored)).records.totals()
    assert (totals.mean_probabilities is None) == (classes == 25)
    (lake.scored / "_manifest" / "parts-00000.parquet").unlink()
    lake.night()
    again = Output(str(lake.scored)).records.totals()
    np.testing.assert_array_equal(again.mean_probabilities, totals.mean_probabilities)
