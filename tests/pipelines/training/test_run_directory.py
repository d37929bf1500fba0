"""A run is resumed with the flags and the corpus it was started with, or not at all."""

import dataclasses
import json
import re

import pytest

from pipelines.errors import Failure
from pipelines.training.config import TrainConfig
from pipelines.training.run_directory import (
    FLAGS,
    INITIAL,
    alone_in,
    changed_flags,
    contents,
    has_checkpoints,
    other_contents,
    require_trained_with,
    run_flags,
    takes_more_steps,
    was_shorter,
    write_flags,
)
from sentiment.errors import InputError
from testing.networks import random_checkpoint

CONFIG = TrainConfig(run_name="run", batch_size=64)
HASHES = {"stopwords_file": "ab", "initial_checkpoint": "cd"}


@pytest.fixture
def run(tmp_path):
    write_flags(CONFIG, "0123", HASHES, str(tmp_path / "run"))
    return tmp_path / "run"


@pytest.mark.parametrize("name", ["checkpoint_manager_snapshot.json", "renamed_by_ray", "ckpt-7"])
def test_whatever_ray_names_its_files_other_flags_are_refused(run, name):
    (run / name).touch()
    assert has_checkpoints(str(run))
    changed_flags(CONFIG, str(run))
    other = dataclasses.replace(CONFIG, batch_size=32)
    with pytest.raises(InputError, match="--batch_size is 32, but run run was started with 64"):
        changed_flags(other, str(run))
    free = dataclasses.replace(CONFIG, use_gpu=True, verbose=True, max_failures=9)
    assert changed_flags(free, str(run)) == {}
    assert other_contents(CONFIG, "0123", HASHES, str(run)) == ""
    said = other_contents(CONFIG, "4567", HASHES, str(run))
    assert "not the ones that run run was started with (name, size or time differs); " in said


def test_a_corpus_of_another_version_is_not_blamed_on_its_shards(run):
    (run / "checkpoint_manager_snapshot.json").touch()
    flags = json.loads((run / FLAGS).read_text())
    (run / FLAGS).write_text(json.dumps(flags | {"prepared_as": "6, 1"}))
    assert other_contents(CONFIG, "0123", HASHES, str(run)) == ""
    said = other_contents(CONFIG, "4567", HASHES, str(run))
    assert "another version of this package prepared" in said
    # Before 0.1.0, runs did not say of which version they were.
    del flags["prepared_as"]
    (run / FLAGS).write_text(json.dumps(flags))
    said = other_contents(CONFIG, "4567", HASHES, str(run))
    assert "(name, size or time differs, or another version of this package prepared them)" in said


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("stopwords_file", "--stopwords_file english: "),
        ("initial_checkpoint", "--initial_checkpoint m: "),
    ],
)
@pytest.mark.parametrize("key", ["0123", "4567"])  # A model may have the same words.
def test_what_was_replaced_under_its_name_is_named(run, name, said, key):
    flags = dataclasses.replace(CONFIG, initial_checkpoint="m")
    replaced = HASHES | {name: "ef"}
    assert other_contents(flags, key, replaced, str(run)) == ""
    (run / "checkpoint_manager_snapshot.json").touch()
    said += "what is there is not what run run was started with; choose another --run_name"
    assert other_contents(flags, key, replaced, str(run)) == said
    # Of a version that recorded no hashes, only the corpus tells.
    recorded = json.loads((run / FLAGS).read_text())
    del recorded["contents"]
    (run / FLAGS).write_text(json.dumps(recorded))
    found = other_contents(flags, key, replaced, str(run))
    unsure = "time differs, or --stopwords_file or --initial_checkpoint has other words);"
    assert unsure in found if key == "4567" else found == ""


def test_a_hash_is_that_of_the_words_and_the_model():
    assert contents(("a", "b"), None) != contents(("ab",), None)
    model = random_checkpoint()
    assert contents((), model) == contents((), None) | {"initial_checkpoint": model.model_hash}


def test_before_the_first_checkpoint_a_run_may_start_with_other_flags(run, tmp_path):
    (run / INITIAL).touch()
    (run / ".validate_storage_marker").touch()  # Ray Train's, before it does anything.
    for directory in (run, tmp_path / "none"):
        assert not has_checkpoints(str(directory))
        changed_flags(dataclasses.replace(CONFIG, batch_size=32), str(directory))
        assert other_contents(CONFIG, "4567", HASHES, str(directory)) == ""


@pytest.mark.parametrize("content", [None, b"", b"{", b"[1]", b"\xff", b'{"train_steps": "9"}'])
def test_checkpoints_of_unknown_flags_are_refused(run, content):
    (run / "checkpoint_manager_snapshot.json").touch()
    (run / FLAGS).unlink()
    if content is not None:
        (run / FLAGS).write_bytes(content)
    for check in (
        lambda: changed_flags(CONFIG, str(run)),
        lambda: other_contents(CONFIG, "0123", HASHES, str(run)),
    ):
        with pytest.raises(InputError, match=r"flags\.json.* cannot be read.*another --run_name"):
            check()


def test_a_run_of_a_version_that_lacks_a_flag_has_its_default(run):
    (run / "checkpoint_manager_snapshot.json").touch()
    flags = json.loads((run / FLAGS).read_text())
    del flags["schedule"]
    (run / FLAGS).write_text(json.dumps(flags))
    assert changed_flags(CONFIG, str(run)) == {}
    linear = dataclasses.replace(CONFIG, schedule="linear")
    with pytest.raises(InputError, match=r"--schedule is linear, but .* started with constant"):
        changed_flags(linear, str(run))


@pytest.mark.parametrize(
    ("started", "now", "line"),
    [
        ({"train_steps": 100}, {"train_steps": 200}, "--train_steps is 200; it was 100"),
        ({}, {"early_stopping": 3}, "--early_stopping is 3; it was None"),
        ({"epochs": 1}, {"epochs": 2}, "--epochs is 2; it was 1"),
        ({}, {"num_workers": 2}, "--num_workers is 2; it was 1; sums .* another order"),
        (
            {"num_workers": (2, 8)},
            {"num_workers": 2},
            "--num_workers is 2; it was 2 8; sums .* another order",
        ),
        ({}, {"num_workers": (1, 8)}, "--num_workers is 1 8; it was 1; sums .* another order"),
        ({}, {"cpus_per_worker": 2}, "--cpus_per_worker is 2; it was None; sums .* another order"),
        (
            {"schedule": "linear", "epochs": 1},
            {"schedule": "linear", "epochs": 2},
            "--epochs is 2; it was 1; the learning rate .* goes up again",
        ),
    ],
)
def test_a_run_may_go_on_with_more_steps_or_other_workers(tmp_path, started, now, line):
    run = tmp_path / "run"
    write_flags(dataclasses.replace(CONFIG, **started), "0123", HASHES, str(run))
    (run / "checkpoint_manager_snapshot.json").touch()
    (found,) = changed_flags(dataclasses.replace(CONFIG, **now), str(run)).values()
    assert re.fullmatch(line, found)


@pytest.mark.parametrize(
    ("started", "given", "line"),
    [
        ({"train_steps": 10}, {"epochs": 9}, "--epochs is 9; it was --train_steps 10"),
        ({"epochs": 3}, {"train_steps": 50}, "--train_steps is 50; it was --epochs 3"),
    ],
)
def test_epochs_take_the_place_of_steps(tmp_path, started, given, line):
    """The one that is not given says nothing: 300 is but a default beside --epochs."""
    run = tmp_path / "run"
    write_flags(dataclasses.replace(CONFIG, **started), "0123", HASHES, str(run))
    assert not takes_more_steps(str(run), "run", 1, 640)
    (run / "checkpoint_manager_snapshot.json").touch()
    flags = dataclasses.replace(CONFIG, **given)
    assert list(changed_flags(flags, str(run)).values()) == [line]
    of_model = run_flags(dataclasses.replace(CONFIG, **started))
    assert list(changed_flags(flags, str(run), of_model).values()) == [line]
    # Of a run that was stopped on the way to these steps.
    write_flags(flags, "0123", HASHES, str(run))
    (still,) = changed_flags(flags, str(run), of_model).values()
    assert still == line.replace("it was", "the model that is there was trained with")
    write_flags(dataclasses.replace(CONFIG, **started), "0123", HASHES, str(run))
    now, before = line.split("; it was ")
    with pytest.raises(InputError, match=f"^{now}, but model run was trained with {before}, and"):
        require_trained_with(flags, of_model)
    # Of 640 rows, 64 in a batch.
    steps = 10 if "train_steps" in started else 30
    assert not takes_more_steps(str(run), "run", steps, 640)
    assert takes_more_steps(str(run), "run", steps + 1, 640)
    said = (
        f"these flags say {steps - 1} steps, but the run was started with {steps}: a run can only"
    )
    with pytest.raises(InputError, match=said):
        takes_more_steps(str(run), "run", steps - 1, 640)


def test_steps_beside_epochs_are_not_compared(tmp_path):
    run = tmp_path / "run"
    write_flags(dataclasses.replace(CONFIG, epochs=2, train_steps=9), "0123", HASHES, str(run))
    (run / "checkpoint_manager_snapshot.json").touch()
    flags = dataclasses.replace(CONFIG, epochs=2)
    assert changed_flags(flags, str(run)) == {}
    require_trained_with(flags, run_flags(dataclasses.replace(flags, train_steps=4)))


def test_a_run_takes_no_fewer_steps(run):
    (run / "checkpoint_manager_snapshot.json").touch()
    fewer = dataclasses.replace(CONFIG, train_steps=4)
    with pytest.raises(InputError, match=r"--train_steps is 4, but run run was started with 300"):
        changed_flags(fewer, str(run))


def test_a_run_that_was_made_longer_is_known(run):
    (run / "checkpoint_manager_snapshot.json").touch()
    assert not was_shorter(str(run))
    write_flags(CONFIG, "0123", HASHES, str(run), is_longer=True)
    # And again, when it is resumed with as many steps.
    write_flags(CONFIG, "0123", HASHES, str(run))
    assert was_shorter(str(run))
    assert changed_flags(CONFIG, str(run)) == {}


def test_a_finished_model_without_its_run_is_that_of_its_flags():
    require_trained_with(CONFIG, run_flags(CONFIG))
    require_trained_with(
        dataclasses.replace(CONFIG, num_workers=2, use_gpu=True), run_flags(CONFIG)
    )
    for name, value in {"hidden_size": 99, "train_steps": 1_000_000}.items():
        other = dataclasses.replace(CONFIG, **{name: value})
        with pytest.raises(InputError, match=f"--{name} is {value}, but model run was trained"):
            require_trained_with(other, run_flags(CONFIG))


def test_a_model_of_fewer_steps_than_its_run_was_to_take_is_not_done(run):
    (run / "checkpoint_manager_snapshot.json").touch()
    of_model = {"train_steps": 20, "batch_size": 64}
    line = "--train_steps is 300; the model that is there was trained with 20"
    assert changed_flags(CONFIG, str(run), of_model) == {"train_steps": line}
    assert changed_flags(CONFIG, str(run), run_flags(CONFIG)) == {}


def test_one_program_at_a_time_trains_a_run(run):
    with alone_in(str(run), "run"):
        with (
            pytest.raises(Failure, match="--run_name run: another program trains this run now"),
            alone_in(str(run), "run"),
        ):
            pass
        assert not has_checkpoints(str(run))
    with alone_in(str(run), "run"):
        pass
