"""Texts without a known word are counted, and no part has other bytes for that."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.scoring.output import Output
from pipelines.scoring.part_file import METADATA
from sentiment.text.tokenizer import UNKNOWN
from testing.generated import save_checkpoint
from testing.lake import Lake

COUNTS = {"rows", "rejected", "truncated", "positive", "tokens", "unknown"}


def test_texts_without_a_known_word_are_counted(tmp_path):
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

    # A part is what it was in versions that did not count; one that is verified is not counted.
    footer = json.loads(pq.read_metadata(part).metadata[METADATA])
    assert footer["counts"].keys() == COUNTS
    assert not {"wordless", "probability_sums"} & footer.keys()
    (lake.scored / "_manifest" / "parts-00000.parquet").unlink()
    lake.put("b.csv", word, word)
    lake.night()
    totals = Output(str(lake.scored)).records.totals()
    assert (totals.counts["rows"], totals.wordless, totals.wordless_of) == (9, 2, 2)
