"""A run goes on from the checkpoints that are whole, whatever a kill or a power cut has left.

After a run, checkpoints that Ray Train does not know go; whatever else is there stays."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pyarrow.fs as pafs
import pytest
import ray.train
import safetensors.numpy

from pipelines.cluster.ray_train_internals import SNAPSHOT, list_of_checkpoints
from pipelines.training.resume_state import PROGRESS, SCORE, STATE, RunProgress
from pipelines.training.run_checkpoints import mend_list, remove_unregistered

LOSSES = [0.5, 0.25, float("nan"), 0.25]
"""Of the validations after the steps 10, 20, 30 and 40."""

NAMES = [f"checkpoint_2026-01-02_03-04-0{second}.678901" for second in range(len(LOSSES))]
UNLISTED = "checkpoint_2026-01-02_03-04-09.000000"


def progress_until(number: int) -> RunProgress:
    """The progress that is saved with a checkpoint."""
    progress = RunProgress()
    for index, loss in enumerate(LOSSES[: number + 1], 1):
        validation = {"step": 10 * index, "validation_loss": loss, "validation_accuracy": 0.5}
        progress = progress.after(validation)
    return progress


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of four checkpoints on Ray Train's list, and a fifth that was cut off."""
    state = safetensors.numpy.save({"model/embedding": np.ones((40, 9), np.float32)})
    for number, name in enumerate(NAMES):
        (tmp_path / name).mkdir()
        progress = progress_until(number)
        content = {"step": progress.step, "validations": progress.validations}
        (tmp_path / name / PROGRESS).write_text(json.dumps(content))
        (tmp_path / name / STATE).write_bytes(state)
    (tmp_path / UNLISTED).mkdir()
    (tmp_path / UNLISTED / STATE).write_bytes(state[:100])
    reported = [(name, progress_until(number).reported()) for number, name in enumerate(NAMES)]
    (tmp_path / SNAPSHOT).write_text(list_of_checkpoints(reported, SCORE))
    return tmp_path


def known(run: Path) -> tuple[str, str, set[str]]:
    """The last checkpoint, the best one, and all, as Ray Train finds them."""
    result = ray.train.Result.from_path(run)
    best = result.get_best_checkpoint("validation_loss", "min")
    listed = {Path(checkpoint.path).name for checkpoint, _ in result.best_checkpoints}
    return Path(result.checkpoint.path).name, Path(best.path).name, listed


def test_a_list_of_whole_checkpoints_stays(run):
    before = (run / SNAPSHOT).read_bytes()
    assert mend_list(str(run), "night") == ""
    assert mend_list(str(run / "none"), "night") == ""
    assert (run / SNAPSHOT).read_bytes() == before
    # Of equals the first one is the best; a loss that is no number is never.
    assert known(run) == (NAMES[3], NAMES[1], set(NAMES))


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"checkpoint_results": 1}', "\udcff"])
def test_a_list_that_cannot_be_read_is_made_again(run, content):
    (run / SNAPSHOT).write_text(content, errors="surrogateescape")
    said = mend_list(str(run), "night")
    assert said.startswith(f"{run / SNAPSHOT} is damaged (")
    assert said.endswith("run night goes on after step 40, with the checkpoints that are whole")
    assert "\n" not in said
    assert known(run) == (NAMES[3], NAMES[1], set(NAMES))
    assert mend_list(str(run), "night") == ""


def test_a_list_that_is_lost_is_made_again(run):
    """A file that was never synced may be gone after a power cut."""
    (run / SNAPSHOT).unlink()
    said = mend_list(str(run), "night")
    assert said.startswith(f"{run / SNAPSHOT} is missing, {run / UNLISTED} is damaged (")
    assert said.endswith("run night goes on after step 40, with the checkpoints that are whole")
    assert known(run) == (NAMES[3], NAMES[1], set(NAMES))
    for name in [*NAMES, UNLISTED]:
        shutil.rmtree(run / name)
    (run / SNAPSHOT).unlink()
    assert mend_list(str(run), "night") == ""


@pytest.mark.parametrize("size", [0, 3, 90])
@pytest.mark.parametrize("file", [STATE, PROGRESS])
def test_a_run_goes_on_before_a_checkpoint_that_was_cut_off(run, file, size):
    os.truncate(run / NAMES[3] / file, size)
    said = mend_list(str(run), "night")
    assert said.startswith(f"{run / NAMES[3]} is damaged (")
    assert said.endswith("run night goes on after step 30, with the checkpoints that are whole")
    assert known(run) == (NAMES[2], NAMES[1], set(NAMES[:3]))


def test_a_checkpoint_that_is_lost_is_named_and_the_next_best_is_the_best(run):
    shutil.rmtree(run / NAMES[1])
    (run / NAMES[0] / STATE).unlink()
    said = mend_list(str(run), "night")
    for name in NAMES[:2]:
        assert f"{run / name} is damaged (files are missing)" in said
    assert known(run) == (NAMES[3], NAMES[3], set(NAMES[2:]))


def test_without_any_that_is_whole_the_run_starts_again(run):
    for name in NAMES:
        (run / name / PROGRESS).write_text('{"step": 0, "validations": []}')
    said = mend_list(str(run), "night")
    assert said.endswith("run night starts again from its first step")
    assert not (run / SNAPSHOT).exists()
    # Until the run has written another list.
    assert mend_list(str(run), "night").endswith("run night starts again from its first step")


def test_a_checkpoint_that_a_server_does_not_give_is_not_damaged(run, monkeypatch):
    before = (run / SNAPSHOT).read_bytes()

    def unavailable(_: object) -> None:
        raise OSError("503")

    monkeypatch.setattr("pipelines.training.run_checkpoints.read_state", unavailable)
    with pytest.raises(OSError, match="503"):
        mend_list(str(run), "night")
    assert (run / SNAPSHOT).read_bytes() == before


@pytest.fixture
def ended(tmp_path: Path) -> Path:
    """A run that is done: a checkpoint on Ray Train's list, and one that is not."""
    (tmp_path / SNAPSHOT).write_text("{}")
    for name in (NAMES[0], UNLISTED):
        (tmp_path / name).mkdir()
        (tmp_path / name / "state.safetensors").touch()
    return tmp_path


def left(ended, known: str = NAMES[0]) -> set[str]:
    registered = [ray.train.Checkpoint(str(ended / known), pafs.LocalFileSystem())]
    remove_unregistered(pafs.LocalFileSystem(), str(ended), registered)
    return {path.name for path in ended.iterdir()}


def test_an_upload_that_was_broken_off_goes(ended):
    assert left(ended) == {NAMES[0], SNAPSHOT}


@pytest.mark.parametrize(
    "name", ["checkpoint_of_mine", "checkpoint_2026", "notes", f"{UNLISTED}.backup", "flags.json"]
)
def test_directories_of_other_names_stay(ended, name):
    (ended / name).mkdir()
    (ended / name / "progress.json").touch()
    assert left(ended) == {NAMES[0], SNAPSHOT, name}


def test_a_directory_with_a_file_that_training_does_not_write_stays(ended):
    (ended / UNLISTED / "notes.txt").touch()
    assert left(ended) == {NAMES[0], UNLISTED, SNAPSHOT}


def test_nothing_goes_where_ray_names_its_files_otherwise(ended):
    (ended / NAMES[0]).rename(ended / "ckpt-1")
    assert left(ended, "ckpt-1") == {"ckpt-1", UNLISTED, SNAPSHOT}
    (ended / "ckpt-1").rename(ended / NAMES[0])
    (ended / SNAPSHOT).rename(ended / "snapshot.json")
    assert left(ended) == {NAMES[0], UNLISTED, "snapshot.json"}
