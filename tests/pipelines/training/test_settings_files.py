"""Flags out of presets and YAML files: flags override them, and what no flag can be is named."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.console.flags import parse
from pipelines.training.config import TrainConfig
from pipelines.training.settings_files import (
    PRESETS,
    parsed,
    preset_hint,
    presets_help,
    written,
)
from sentiment.errors import InputError


def flags(*arguments: object) -> TrainConfig:
    return parse(TrainConfig, "train", None, [str(argument) for argument in arguments])


@pytest.fixture
def file(tmp_path):
    def write(content: str) -> str:
        path = tmp_path / "mine.yaml"
        path.write_text(content)
        return str(path)

    return write


def test_quick_is_the_flags_defaults():
    assert flags("--preset", "quick") == dataclasses.replace(TrainConfig(), preset="quick")


def test_flags_override_a_file_which_overrides_a_preset(file):
    path = file("epochs: 7\nlearning_rate: 1e-3\nhidden_size: 9\nlabels: [a=1, b=2]\n")
    found = flags("--preset=best", "--config", path, "--hidden_size", 11)
    assert (found.epochs, found.hidden_size, found.labels) == (7, 11, ("a=1", "b=2"))
    assert found.learning_rate == 0.001
    assert found.bidirectional
    assert not flags("--preset", "best", "--no_bidirectional").bidirectional
    # Steps that are asked for are not replaced by a preset's epochs.
    assert flags("--preset", "best", "--train_steps", 5).epochs is None


@pytest.mark.parametrize(
    ("preset", "rows", "fitting"),
    [
        ("best", 2_999, "small"),
        ("best", 3_000, None),
        ("small", 2_999, None),
        ("small", 3_000, "best"),
        ("quick", 2_999, None),
        (None, 3_000, None),
    ],
)
def test_a_preset_for_another_number_of_rows_is_named(preset, rows, fitting):
    said = preset_hint(preset, rows)
    assert said.startswith(f"--preset {fitting} is made for {rows:,} rows") == (fitting is not None)
    assert bool(said) == (fitting is not None)


@pytest.mark.parametrize("preset", PRESETS)
def test_help_shows_what_the_presets_set(preset):
    found = flags("--preset", preset)
    shown = presets_help(80)
    for name, value in dataclasses.asdict(found).items():
        if name != "preset" and value != getattr(TrainConfig(), name):
            assert f"--{name}" in shown


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("epochs: three", "epochs is 'three': .*integer"),
        ("epochs: 3.5", "epochs is 3.5: .*integer"),
        ("bidirectional: 1", "bidirectional is 1: .*boolean"),
        ("epochz: 3", "sets epochz, which no file may: did you mean epochs"),
        ("run_name: x", "sets run_name, which no file may"),
        ("schedule: cosine", "schedule is 'cosine'"),
        ("epochs: 3\nbigrams: 1\nepochs: 4", "line 3 sets epochs again"),
        ("- epochs", "not a YAML mapping"),
        ("epochs", "not a YAML mapping"),
        ("", "not a YAML mapping"),
        ("epochs: [", "is not YAML"),
        ("2026-01-99: 1", "is not YAML: day is out of range"),
        ("[" * 5000, "is not YAML"),
        ("!!python/object/apply:os.system ['true']", "is not YAML"),
        ("hidden_size: 0", "--hidden_size is 0"),
    ],
)
def test_what_no_flag_can_be_is_named(file, content, said):
    with pytest.raises(InputError, match=said):
        flags("--config", file(content))


def test_a_file_that_is_not_there_and_a_preset_that_is_none(tmp_path):
    with pytest.raises(InputError, match=r"--config .* cannot be read"):
        flags("--config", tmp_path / "none.yaml")
    with pytest.raises(InputError, match="--preset is bes; it must be one of best, small, quick"):
        flags("--preset", "bes")


@given(
    st.builds(
        TrainConfig,
        text_column=st.text(min_size=1),
        labels=st.sampled_from([(), ("a=1,2", "b=0"), ("null=1", "yes=no", "c= 3 ")]),
        stopwords_file=st.none() | st.text(min_size=1),
        learning_rate=st.floats(1e-9, 1e9),
        calibrate=st.booleans(),
        epochs=st.none() | st.integers(1, 10**9),
    )
)
def test_what_a_run_leaves_sets_the_same_flags(config):
    values = parsed(TrainConfig, written(config, "a run"), "config.yaml")
    assert TrainConfig(**values) == config


def test_flags_that_train_another_model_from_scratch_say_so():
    same, other = written(TrainConfig(), "night"), written(TrainConfig(), "night", True)
    assert b"To train the same model again:\n" in same
    assert b"(maybe another model: this run went on with more steps or other patience):\n" in other
    assert parsed(TrainConfig, other, "config.yaml") == parsed(TrainConfig, same, "config.yaml")
