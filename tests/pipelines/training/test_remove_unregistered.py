"""After a run, checkpoints that Ray Train does not know go; whatever else is there stays."""

import pyarrow.fs as pafs
import pytest
import ray.train

from pipelines.training.run_checkpoints import remove_unregistered

KNOWN, UNKNOWN = "checkpoint_2026-01-02_03-04-05.678901", "checkpoint_2026-01-02_03-04-06.000000"
SNAPSHOT = "checkpoint_manager_snapshot.json"


@pytest.fixture
def run(tmp_path):
    (tmp_path / SNAPSHOT).write_text("{}")
    for name in (KNOWN, UNKNOWN):
        (tmp_path / name).mkdir()
        (tmp_path / name / "state.safetensors").touch()
    return tmp_path


def left(run, known: str = KNOWN) -> set[str]:
    registered = [ray.train.Checkpoint(str(run / known), pafs.LocalFileSystem())]
    remove_unregistered(pafs.LocalFileSystem(), str(run), registered)
    return {path.name for path in run.iterdir()}


def test_an_upload_that_was_broken_off_goes(run):
    assert left(run) == {KNOWN, SNAPSHOT}


@pytest.mark.parametrize(
    "name", ["checkpoint_of_mine", "checkpoint_2026", "notes", f"{UNKNOWN}.backup", "flags.json"]
)
def test_directories_of_other_names_stay(run, name):
    (run / name).mkdir()
    (run / name / "progress.json").touch()
    assert left(run) == {KNOWN, SNAPSHOT, name}


def test_a_directory_with_a_file_that_training_does_not_write_stays(run):
    (run / UNKNOWN / "notes.txt").touch()
    assert left(run) == {KNOWN, UNKNOWN, SNAPSHOT}


def test_nothing_goes_where_ray_names_its_files_otherwise(run):
    (run / KNOWN).rename(run / "ckpt-1")
    assert left(run, "ckpt-1") == {"ckpt-1", UNKNOWN, SNAPSHOT}
    (run / "ckpt-1").rename(run / KNOWN)
    (run / SNAPSHOT).rename(run / "snapshot.json")
    assert left(run) == {KNOWN, UNKNOWN, "snapshot.json"}
