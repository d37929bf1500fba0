"""Outages of the input during a job: no row is rejected, and the same command completes."""

import errno
import os
from pathlib import Path

import pytest

from pipelines.errors import Failure, Unavailable
from pipelines.scoring import part_worker
from pipelines.scoring.config import ScoreConfig
from pipelines.scoring.executor import LocalExecutor
from pipelines.scoring.file_listing import Listing
from pipelines.scoring.job import PartsFailed, run
from pipelines.scoring.output import Output
from pipelines.sources.listing import find_shards
from sentiment.checkpoint import load
from sentiment.errors import InputError
from testing.faulty_files import Faults, faulty
from testing.generated import save_checkpoint, write_shards
from testing.programs import contents

ERRNOS = (
    *(errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ECONNRESET, errno.ECONNREFUSED),
    *(errno.EACCES, errno.EPERM, errno.ENOTCONN, errno.ENOMEM, errno.EMFILE, errno.EAGAIN),
    *(errno.EBADMSG, errno.ENXIO, errno.EREMOTEIO, errno.EKEYEXPIRED),
)
ERRORS = {os.strerror(number): OSError(number, os.strerror(number)) for number in ERRNOS} | {
    f"HTTP status {status}": OSError(f"AWS Error UNKNOWN (HTTP status {status}) during GetObject")
    for status in (400, 401, 403, 408, 429, 500, 503)
}
ERRORS |= {"of no kind that is known": ZeroDivisionError("x")}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("outages")
    save_checkpoint(root / "model")
    write_shards(root / "corpus", rows=300, shards=6)
    score(root, "whole")
    return root


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    pauses: list[float] = []
    monkeypatch.setattr(part_worker.time, "sleep", pauses.append)
    return pauses


def score(root: Path, output: str) -> Output:
    flags = {"text_column": "SentimentText", "keep_columns": ("id",), "part_rows": 60}
    config = ScoreConfig(checkpoints_dir="", input=(), output="", max_rejected="0", **flags)
    shards = find_shards([str(root / "corpus")], "--input")
    scored = Output(str(root / output))
    run(config, load(str(root / "model")), scored, shards, LocalExecutor())
    return scored


CALLS_OF_PLANNING = {"open": 6, "read": 11, "stat": 8}
"""At least so many calls, and not many more: of the six shards, three are Parquet."""


@pytest.mark.parametrize("kind", ERRORS)
@pytest.mark.parametrize(
    ("at", "planned"),
    [("open", False), ("read", False), ("open", True), ("read", True), ("stat", True)],
)
def test_an_outage_rejects_nothing_and_the_same_command_completes(
    root, tmp_path, kind, at, planned
):
    output = str(tmp_path / "scored")
    faults = Faults(at, ERRORS[kind], after=CALLS_OF_PLANNING[at] + 2 if planned else 1)
    with faulty(faults, str(root / "corpus")), pytest.raises(Failure) as failure:
        score(root, output)
    message = str(failure.value)
    assert message.endswith("run the same command again")
    assert "\n" not in message
    assert isinstance(failure.value, PartsFailed) == planned
    assert not (tmp_path / "scored" / "_SUCCESS").exists()
    assert list((tmp_path / "scored").glob("_rejected/*")) == []
    score(root, output)
    assert contents(tmp_path / "scored") == contents(root / "whole")


def test_an_error_that_goes_away_costs_nothing_but_a_pause(root, tmp_path, no_pauses):
    class Once(Faults):
        def come(self, name: str) -> bool:
            cut = False
            try:
                cut = super().come(name)
            finally:
                if name == self.at and self.calls[name] > self.after:
                    self.at = ""
            return cut

    with faulty(Once("read", ERRORS["HTTP status 403"], after=13), str(root / "corpus")):
        score(root, str(tmp_path / "scored"))
    assert contents(tmp_path / "scored") == contents(root / "whole")
    assert no_pauses == [part_worker.FIRST_PAUSE_SECONDS]


def test_parts_that_fail_are_named_and_the_others_are_done(root, tmp_path):
    shard = sorted((root / "corpus").iterdir())[3]
    with (
        faulty(Faults("open", ERRORS["HTTP status 503"], after=1), str(shard)),
        pytest.raises(PartsFailed) as failure,
    ):
        score(root, str(tmp_path / "scored"))
    message = str(failure.value)
    assert message.startswith("1 of 6 parts failed; the first: part-000003 of ")
    assert str(shard) in message
    assert "HTTP status 503" in message
    assert message.endswith("(attempts: 3): run the same command again")
    assert len(list((tmp_path / "scored").glob("part-*"))) == 5
    score(root, str(tmp_path / "scored"))
    assert contents(tmp_path / "scored") == contents(root / "whole")


def test_an_output_whose_keys_expire_fails_and_is_no_misuse(root, tmp_path, monkeypatch):
    """The parts are what failed; and whoever tries again while the exit code is 1 goes on."""
    shard = sorted((root / "corpus").iterdir())[3]
    expired = OSError("AWS Error UNKNOWN during ListObjectsV2 operation: ExpiredToken")
    below = Listing.below

    def listed(directory):
        if len(list((tmp_path / "scored").glob("part-*"))) == 5:
            raise PermissionError(str(expired))
        return below(directory)

    monkeypatch.setattr(Listing, "below", listed)
    with (
        faulty(Faults("open", expired, after=1), str(shard)),
        pytest.raises(PartsFailed, match=r"^1 of 6 parts failed; the first: part-000003 of "),
    ):
        score(root, str(tmp_path / "scored"))
    monkeypatch.undo()
    output = Output(str(tmp_path / "scored"))
    monkeypatch.setattr(Listing, "below", listed)
    with pytest.raises(Unavailable, match=r"ExpiredToken$"):
        output.look()
    with pytest.raises(InputError, match=r"ExpiredToken$"):
        Output(str(tmp_path / "scored"))


@pytest.mark.parametrize(
    ("error", "attempts"),
    [(Unavailable("away"), 3), (OSError("away"), 3), (KeyError("bug"), 3), (Failure("no"), 1)],
)
def test_what_would_be_the_same_again_is_not_tried_again(root, error, attempts, no_pauses):
    (task,) = [part_worker.PartTask("part-000000", ())]
    calls = []

    def work():
        calls.append(1)
        raise error

    result = part_worker._with_retries(work, task, 3)
    assert len(calls) == attempts
    assert str(error).strip("'") in result.error
    assert no_pauses == [2.0, 8.0][: attempts - 1]
