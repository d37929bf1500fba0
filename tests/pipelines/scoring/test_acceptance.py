"""`--max_rejected` judges what is new; what a night has accepted stays accepted, by its content."""

import os

import pytest

from pipelines.scoring.job import InputChanged, TooManyRejected
from pipelines.scoring.output import Output
from pipelines.scoring.success import accepted_plans
from testing.lake import Lake


@pytest.fixture
def lake(tmp_path, model):
    """An output with a good shard of 20 rows."""
    lake = Lake(tmp_path, model)
    lake.put("a.csv", *(f"0{i}" for i in range(20)))
    lake.night()
    return lake


def put_bad(lake, name="bad.csv"):
    """A shard whose three rows are good, malformed and malformed."""
    path = lake.corpus / name
    path.write_text("id,text\n90,word\n91\n92\n")
    return path


def put_unreadable(lake):
    (lake.corpus / "bad.parquet").write_bytes(b"PAR1")


def test_rows_are_judged_by_night_however_many_there_are_of_earlier_ones(lake):
    put_bad(lake)
    # Of all rows they are 9%.
    with pytest.raises(TooManyRejected, match=r"^2 of 3 new rows .*, once, by .* 66\.7%"):
        lake.night(max_rejected="20%")
    # A night that did not accept them leaves them to the next one, with what is new there.
    lake.put("b.csv", *(f"1{i}" for i in range(7)))
    with pytest.raises(TooManyRejected, match=r"^2 of 10 new rows "):
        lake.night()
    lake.night(max_rejected="20%")


@pytest.mark.parametrize("put", [put_bad, put_unreadable])
def test_what_was_accepted_once_stays_accepted(lake, put):
    put(lake)
    with pytest.raises(TooManyRejected, match="accept it, once, by"):
        lake.night()
    lake.night(max_rejected="100%")
    lake.put("b.csv", "10", "11")
    lake.night()
    # Also while the output follows the input.
    lake.put("b.csv", "10", "11", "12")
    with pytest.raises(InputChanged):
        lake.night()
    lake.night(sync=True)
    lake.put("c.csv", "20")
    lake.night(retry_rejected=True)
    # Others like it are judged.
    (lake.corpus / "worse.parquet").write_bytes(b"PAR1 too")
    with pytest.raises(TooManyRejected, match="1 shard could not be read"):
        lake.night()


def test_an_accepted_shard_is_known_by_its_content(lake):
    bad = put_bad(lake)
    small = lake.put("z.csv", "30")
    lake.night(max_rejected="100%")
    # It shares a part with one that changes, and so is scored again; and it is moved.
    assert len(lake.parts()) == 3
    lake.put(small.name, "30", "31")
    bad.rename(bad.with_name("moved.csv"))
    assert "Scored again to follow the input: 1 part" in lake.night(sync=True)
    assert lake.ids()["90"] == lake.ids()["31"] == 1
    # With another bad row it has another content.
    (lake.corpus / "moved.csv").write_text("id,text\n90,word\n91\n92\n93\n")
    with pytest.raises(TooManyRejected, match="3 of 4 new rows"):
        lake.night(sync=True)


def test_an_output_of_an_earlier_version_has_accepted_what_its_success_says(lake):
    put_bad(lake)
    lake.night(max_rejected="100%")
    accepted = lake.scored / "_manifest" / "accepted.json"
    assert accepted.exists()
    accepted.unlink()
    lake.put("b.csv", "10", "11")
    lake.night()
    # A broken _SUCCESS says nothing, and takes nothing back.
    success = lake.scored / "_SUCCESS"
    os.truncate(success, 5)
    output = Output(str(lake.scored))
    assert accepted_plans(output.directory, output.plans.digests) == 2
    lake.put("c.csv", "20", "21")
    put_bad(lake, "worse.csv").write_text("id,text\n94\n95\n")
    with pytest.raises(TooManyRejected, match="2 of 6 new rows"):
        lake.night()
